SELECT item, outcome
FROM _results
WHERE run = (SELECT no FROM _runs WHERE id = ?) AND item > ?
ORDER BY item
LIMIT ?;
