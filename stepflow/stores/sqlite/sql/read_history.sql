SELECT first, count, payload
FROM _entries
WHERE run = :run AND first >= :begin AND first + count > :after + 1
ORDER BY first
LIMIT :limit;
