SELECT id
FROM stepflow._runs
WHERE parent_run IS NULL AND id >= %(prefix)s AND id < %(beyond)s
ORDER BY id
LIMIT 2;
