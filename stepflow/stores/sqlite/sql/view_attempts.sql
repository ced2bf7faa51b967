WITH events AS (
    SELECT
        runs.id AS run_id,
        runs.flow_id,
        runs.status AS run_status,
        CAST(1000 * (entries.written_at - runs.created_at) AS INTEGER) AS written_ms,
        (entries.at & 4294967295) + event.key AS position,
        json_extract(event.value, '$[0]') AS kind,
        json_extract(event.value, '$[1]') AS item,
        json_extract(event.value, '$[2]') AS step,
        event.value AS event
    FROM _runs AS runs
    INNER JOIN _entries AS entries ON entries.at > runs.no << 32 AND entries.at < (runs.no + 1) << 32
    INNER JOIN json_each(CAST(entries.payload AS TEXT)) AS event
),

facts AS (
    SELECT
        *,
        CASE kind
            WHEN 'default' THEN json_extract(event, '$[5]')
            WHEN 'again' THEN json_extract(event, '$[6]')
            ELSE json_extract(event, '$[4]')
        END AS at,
        CASE kind
            WHEN 'default' THEN json_extract(event, '$[6]')
            WHEN 'again' THEN json_extract(event, '$[7]')
            WHEN 'go' THEN NULL
            ELSE json_extract(event, '$[5]')
        END AS queued
    FROM events
    WHERE kind IN ('go', 'ok', 'fail', 'default', 'again', 'claim', 'release')
),

handed AS (
    SELECT
        *,
        max(CASE WHEN kind IN ('claim', 'release') THEN position END) OVER (PARTITION BY run_id) AS last_handover
    FROM facts
),

timed AS (
    SELECT
        *,
        max(CASE WHEN kind IN ('ok', 'fail', 'default') THEN at END) OVER (
            PARTITION BY run_id, item
            ORDER BY position
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS item_free_at
    FROM handed
),

pairs AS (
    SELECT
        *,
        lag(kind) OVER of_step AS kind_before,
        lag(event) OVER of_step AS event_before,
        lag(at) OVER of_step AS at_before,
        lead(kind) OVER of_step AS kind_after,
        lead(event) OVER of_step AS event_after,
        lead(at) OVER of_step AS at_after,
        lead(written_ms) OVER of_step AS written_after_ms,
        lead(queued) OVER of_step AS queued_after
    FROM timed
    WINDOW of_step AS (PARTITION BY run_id, item, step ORDER BY position)
)

SELECT
    pairs.run_id,
    pairs.item,
    pairs.step,
    json_extract(
        (SELECT CAST(blobs.content AS TEXT) FROM _blobs AS blobs WHERE blobs.id = pairs.flow_id),
        '$.steps[' || pairs.step || '].id'
    ) AS step_id,
    json_extract(pairs.event, '$[3]') AS attempt,
    CASE pairs.kind_after
        WHEN 'ok' THEN 'succeeded'
        WHEN 'fail' THEN 'failed'
        WHEN 'default' THEN 'defaulted'
        WHEN 'again' THEN 'retried'
        WHEN 'go' THEN 'lost'
        ELSE CASE
            WHEN pairs.last_handover > pairs.position THEN 'lost'
            WHEN pairs.run_status IN ('running', 'paused') THEN 'running'
            ELSE 'cancelled'
        END
    END AS status,
    max(
        0,
        pairs.at - CASE
            WHEN pairs.kind_before = 'again'
                THEN pairs.at_before + CAST(1000 * json_extract(pairs.event_before, '$[5]') AS INTEGER)
            ELSE pairs.item_free_at
        END
    ) AS ready_ms,
    CASE WHEN pairs.kind_after != 'go' THEN coalesce(pairs.queued_after, 0) END AS queued_ms,
    pairs.at AS started_ms,
    CASE WHEN pairs.kind_after != 'go' THEN pairs.at_after END AS ended_ms,
    CASE
        WHEN pairs.kind_after != 'go' THEN max(0, pairs.at_after - pairs.at - coalesce(pairs.queued_after, 0))
    END AS running_ms,
    CASE WHEN pairs.kind_after != 'go' THEN max(0, pairs.written_after_ms - pairs.at_after) END AS recording_ms,
    -- The second path is nowhere, so that the first value stands in an array: as it was written, whatever its type.
    CASE
        WHEN pairs.kind_after IN ('ok', 'default')
            THEN substr(
                json_extract(pairs.event_after, '$[3]', '$.nowhere'),
                2,
                length(json_extract(pairs.event_after, '$[3]', '$.nowhere')) - 7
            )
    END AS output,
    CASE pairs.kind_after
        WHEN 'fail' THEN json_extract(pairs.event_after, '$[3].code')
        WHEN 'default' THEN json_extract(pairs.event_after, '$[4].code')
        WHEN 'again' THEN json_extract(pairs.event_after, '$[4].code')
    END AS error_code,
    CASE pairs.kind_after
        WHEN 'fail' THEN json_extract(pairs.event_after, '$[3].message')
        WHEN 'default' THEN json_extract(pairs.event_after, '$[4].message')
        WHEN 'again' THEN json_extract(pairs.event_after, '$[4].message')
    END AS error_message,
    CASE pairs.kind_after WHEN 'again' THEN json_extract(pairs.event_after, '$[5]') END AS retry_delay_s
FROM pairs
WHERE pairs.kind = 'go';
