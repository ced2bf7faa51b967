SELECT place, item, outcome
FROM _results
WHERE run = (SELECT no FROM _runs WHERE id = ?) AND place > ?
ORDER BY place
LIMIT ?;
