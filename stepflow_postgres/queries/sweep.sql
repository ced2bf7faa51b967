-- What engines that died long ago left: their rows, and messages and offers that nobody will ever look at.
WITH swept_engines AS (
    DELETE FROM stepflow._engines AS engine
    WHERE engine.expires_at < clock_timestamp() - make_interval(secs => %(older_s)s)
        AND NOT EXISTS (
            SELECT FROM stepflow._runs AS run
            WHERE run.owner = engine.owner AND run.status IN ('running', 'paused')
        )
),
swept_messages AS (
    DELETE FROM stepflow._inbox AS message
    USING stepflow._runs AS run
    WHERE run.id = message.run_id
        AND run.status NOT IN ('running', 'paused')
        AND message.sent_at < clock_timestamp() - make_interval(secs => %(older_s)s)
)
DELETE FROM stepflow._offers AS offer
USING stepflow._runs AS run
WHERE run.id = offer.run_id
    AND run.status NOT IN ('running', 'paused')
    AND run.ended_at < EXTRACT(EPOCH FROM clock_timestamp()) - %(older_s)s
