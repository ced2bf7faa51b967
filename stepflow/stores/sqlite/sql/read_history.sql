SELECT at, count, payload
FROM _entries
WHERE at >= :begin AND at < :base + 4294967296 AND at + count > :after
ORDER BY at
LIMIT :limit;
