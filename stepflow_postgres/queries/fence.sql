-- A row that is locked belongs to a commit under way, or to another that fences it: it is left for the next time.
WITH dead AS (
    SELECT engine.owner
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
    FOR UPDATE OF engine SKIP LOCKED
)
DELETE FROM stepflow._engines AS engine USING dead WHERE engine.owner = dead.owner
