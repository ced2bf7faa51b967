-- The one bound on `ended_at` is there for the index: what ended later is not looked at.
WITH beyond AS MATERIALIZED (
    SELECT ended_at, id
    FROM stepflow._runs
    WHERE parent_run IS NULL AND ended_at IS NOT NULL
    ORDER BY ended_at DESC, id DESC
    OFFSET %(keep)s::bigint
    LIMIT 1
)
SELECT root.no
FROM stepflow._runs AS root
WHERE
    root.parent_run IS NULL AND root.ended_at IS NOT NULL
    AND root.ended_at <= greatest(%(ended_before)s::float8, (SELECT ended_at FROM beyond))
    AND (root.ended_at < %(ended_before)s::float8 OR (root.ended_at, root.id) <= (SELECT ended_at, id FROM beyond))
    AND NOT EXISTS (
        SELECT
        FROM stepflow._runs AS member
        WHERE member.root_id = root.id AND member.parent_run IS NOT NULL AND member.status IN ('running', 'paused')
    )
ORDER BY root.ended_at, root.id
LIMIT %(limit)s::bigint;
