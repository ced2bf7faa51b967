SELECT at, place_at, CAST(outcome AS BLOB) AS outcome, crc
FROM _results
WHERE at >= :base + :after AND at < :base + :after + :limit AND place_at = at + 1
UNION ALL
SELECT at, place_at, CAST(outcome AS BLOB) AS outcome, crc
FROM _results INDEXED BY _results_by_place
WHERE place_at > :base + :after AND place_at <= :base + :after + :limit AND place_at <> at + 1
ORDER BY place_at;
