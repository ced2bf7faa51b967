-- What is found is found once: as part of a join it might be looked for again for each row, and more be deleted.
WITH old AS MATERIALIZED (
    SELECT id
    FROM stepflow._blobs
    WHERE touched_at < %(untouched_before)s
    ORDER BY touched_at
    LIMIT %(limit)s::bigint
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM stepflow._blobs AS blobs
    USING old
    WHERE blobs.id = old.id AND blobs.touched_at < %(untouched_before)s
    RETURNING blobs.id
)
SELECT count(*)
FROM gone;
