SELECT at, place_at, CAST(outcome AS BLOB) AS outcome, crc
FROM _results
WHERE
    at > (SELECT (no << 32) + :after FROM _runs WHERE id = :run_id)
    AND at < (SELECT (no + 1) << 32 FROM _runs WHERE id = :run_id)
ORDER BY at
LIMIT :limit;
