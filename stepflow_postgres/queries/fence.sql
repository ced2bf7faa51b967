-- A row that is locked belongs to a commit under way, or to another who fences it: it is left for the next time. What
-- comes back is those whose rows are still locked though they died long ago.
WITH dead AS MATERIALIZED (
    SELECT engine.owner, engine.expires_at + make_interval(secs => %(patience_s)s) < clock_timestamp() AS is_long_dead
    FROM stepflow._engines AS engine
    WHERE engine.expires_at < clock_timestamp()
        AND engine.owner <> %(owner)s
        AND EXISTS (
            SELECT FROM stepflow._runs AS run
            WHERE run.owner = engine.owner
                AND run.status IN ('running', 'paused')
                AND run.journal_format <= %(journal_format)s
                AND CASE
                    WHEN %(root_id)s::TEXT IS NOT NULL THEN run.root_id = %(root_id)s
                    ELSE run.group_name = (SELECT group_name FROM stepflow._engines WHERE owner = %(owner)s)
                END
        )
),
locked AS MATERIALIZED (
    SELECT engine.owner
    FROM stepflow._engines AS engine
    WHERE engine.owner IN (SELECT owner FROM dead) AND engine.expires_at < clock_timestamp()
    FOR UPDATE SKIP LOCKED
),
fenced AS (
    DELETE FROM stepflow._engines AS engine USING locked WHERE engine.owner = locked.owner
)
SELECT owner FROM dead WHERE is_long_dead AND owner NOT IN (SELECT owner FROM locked)
