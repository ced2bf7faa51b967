SELECT item, outcome
FROM stepflow._results
WHERE run_no = (SELECT no FROM stepflow._runs WHERE id = %(run_id)s) AND item > %(after)s::bigint
ORDER BY item
LIMIT %(limit)s::bigint;
