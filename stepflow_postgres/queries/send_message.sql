WITH run AS (
    SELECT id, owner FROM stepflow._runs WHERE id = %(run_id)s AND status IN ('running', 'paused')
),
sent AS (
    INSERT INTO stepflow._inbox (id, run_id, kind, payload, sent_at)
    SELECT %(id)s, run.id, %(kind)s, %(payload)s, clock_timestamp() FROM run
    ON CONFLICT (id) DO NOTHING
)
SELECT owner FROM run
