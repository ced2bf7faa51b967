SELECT id
FROM _runs
WHERE key = ? AND parent_run IS NULL
ORDER BY no DESC
LIMIT 1;
