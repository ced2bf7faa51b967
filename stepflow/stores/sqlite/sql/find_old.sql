SELECT id
FROM (
    SELECT id, status
    FROM _runs
    WHERE ended_at IS NOT NULL AND parent_run IS NULL
    ORDER BY ended_at, no
    LIMIT max(
        (SELECT count(*) FROM _runs WHERE ended_at < :ended_before AND parent_run IS NULL),
        coalesce(
            (
                SELECT count(*) - :keep
                FROM _runs
                WHERE :keep IS NOT NULL AND ended_at IS NOT NULL AND parent_run IS NULL
            ),
            0
        )
    )
) AS roots
WHERE
    status NOT IN ('running', 'paused')
    AND NOT EXISTS (
        SELECT 1
        FROM _runs AS members
        WHERE
            members.parent_run IS NOT NULL AND members.root_id = roots.id
            AND members.status IN ('running', 'paused')
    )
LIMIT :limit;
