SELECT id
FROM _runs
WHERE parent_run IS NULL AND id >= ? AND id < ?
ORDER BY id
LIMIT 2;
