SELECT at, place_at, CAST(outcome AS BLOB) AS outcome, crc
FROM _results
WHERE at > :base + :after AND at < :base + 4294967296
ORDER BY at
LIMIT :limit;
