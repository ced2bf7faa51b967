SELECT id
FROM stepflow._runs
WHERE parent_run IS NULL
ORDER BY id DESC
LIMIT 1;
