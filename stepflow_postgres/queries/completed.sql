SELECT place, item, outcome
FROM stepflow._results
WHERE run_no = (SELECT no FROM stepflow._runs WHERE id = %(run_id)s) AND place > %(after)s::bigint
ORDER BY place
LIMIT %(limit)s::bigint;
