SELECT
    no, checkpoint, low_water,
    coalesce((SELECT max(first) FROM _entries WHERE run = no AND first <= :after + 1), 1) AS begin
FROM _runs
WHERE id = :run_id;
