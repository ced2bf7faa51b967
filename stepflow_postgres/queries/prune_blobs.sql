WITH gone AS (
    DELETE FROM stepflow._blobs AS blobs
    USING (
        SELECT id
        FROM stepflow._blobs
        WHERE touched_at < %(untouched_before)s
        ORDER BY touched_at
        LIMIT %(limit)s::bigint
        FOR UPDATE SKIP LOCKED
    ) AS old
    WHERE blobs.id = old.id AND blobs.touched_at < %(untouched_before)s
    RETURNING blobs.id
)
SELECT count(*)
FROM gone;
