SELECT
    no << 32 AS base,
    checkpoint,
    low_water,
    last,
    (SELECT max(at) FROM _entries WHERE at > no << 32 AND at <= (no << 32) + :after + 1) AS begin
FROM _runs
WHERE id = :run_id;
