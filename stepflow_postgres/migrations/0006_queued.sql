-- The attempts tell how long a task was in a queue.
DROP VIEW IF EXISTS stepflow.steps;
DROP VIEW IF EXISTS stepflow.attempts;

CREATE VIEW stepflow.attempts AS
WITH named AS (
    SELECT
        runs.no AS run_no,
        runs.id AS run_id,
        runs.status AS run_status,
        runs.created_at,
        (
            SELECT array_agg(step.value ->> 'id' ORDER BY step.at)
            FROM stepflow._blobs AS blobs
            CROSS JOIN LATERAL json_array_elements(stepflow._readable(stepflow._text(blobs.content)) -> 'steps')
                WITH ORDINALITY AS step (value, at)
            WHERE blobs.id = runs.flow_id
        ) AS step_ids
    FROM stepflow._runs AS runs
),

facts AS (
    SELECT
        named.run_id,
        named.run_status,
        named.step_ids,
        (1000 * (entries.written_at - named.created_at))::bigint AS written_ms,
        entries.first + event.at - 1 AS position,
        parts.fields,
        parts.fields[1] #>> '{}' AS kind,
        CASE WHEN parts.fields[1]::text NOT IN ('"claim"', '"release"') THEN parts.fields[2]::text::bigint END AS item,
        CASE WHEN parts.fields[1]::text NOT IN ('"claim"', '"release"') THEN parts.fields[3]::text::bigint END AS step,
        CASE parts.fields[1]::text
            WHEN '"default"' THEN parts.fields[6]
            WHEN '"again"' THEN parts.fields[7]
            WHEN '"claim"' THEN parts.fields[4]
            WHEN '"release"' THEN parts.fields[2]
            ELSE parts.fields[5]
        END::text::bigint AS at,
        CASE parts.fields[1]::text
            WHEN '"default"' THEN parts.fields[7]
            WHEN '"again"' THEN parts.fields[8]
            WHEN '"ok"' THEN parts.fields[6]
            WHEN '"fail"' THEN parts.fields[6]
        END::text::bigint AS queued
    FROM named
    INNER JOIN stepflow._entries AS entries ON entries.run_no = named.run_no
    CROSS JOIN LATERAL json_array_elements(stepflow._text(entries.payload)::json) WITH ORDINALITY AS event (value, at)
    CROSS JOIN LATERAL (
        SELECT array_agg(field.value ORDER BY field.at) AS fields
        FROM json_array_elements(event.value) WITH ORDINALITY AS field (value, at)
    ) AS parts
    WHERE parts.fields[1]::text IN ('"go"', '"ok"', '"fail"', '"default"', '"again"', '"claim"', '"release"')
),

timed AS (
    SELECT
        *,
        max(CASE WHEN kind IN ('claim', 'release') THEN position END) OVER (PARTITION BY run_id) AS last_handover,
        max(CASE WHEN kind IN ('ok', 'fail', 'default') THEN at END) OVER (
            PARTITION BY run_id, item
            ORDER BY position
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS item_free_at
    FROM facts
),

pairs AS (
    SELECT
        *,
        lag(kind) OVER of_step AS kind_before,
        lag(fields) OVER of_step AS fields_before,
        lag(at) OVER of_step AS at_before,
        lead(kind) OVER of_step AS kind_after,
        lead(fields) OVER of_step AS fields_after,
        lead(at) OVER of_step AS at_after,
        lead(written_ms) OVER of_step AS written_after_ms,
        coalesce(lead(queued) OVER of_step, 0) AS queued_after
    FROM timed
    WINDOW of_step AS (PARTITION BY run_id, item, step ORDER BY position)
),

told AS (
    SELECT
        *,
        CASE
            WHEN kind_before = 'again' THEN at_before + trunc(1000 * fields_before[6]::text::float8)::bigint
            ELSE item_free_at
        END AS free_at,
        stepflow._readable(
            CASE kind_after
                WHEN 'fail' THEN fields_after[4]
                WHEN 'default' THEN fields_after[5]
                WHEN 'again' THEN fields_after[5]
            END::text
        ) AS error
    FROM pairs
    WHERE kind = 'go'
)

SELECT
    run_id,
    item,
    step,
    step_ids[step + 1] AS step_id,
    fields[4]::text::bigint AS attempt,
    CASE kind_after
        WHEN 'ok' THEN 'succeeded'
        WHEN 'fail' THEN 'failed'
        WHEN 'default' THEN 'defaulted'
        WHEN 'again' THEN 'retried'
        WHEN 'go' THEN 'lost'
        ELSE CASE
            WHEN last_handover > position THEN 'lost'
            WHEN run_status IN ('running', 'paused') THEN 'running'
            ELSE 'cancelled'
        END
    END AS status,
    CASE WHEN free_at IS NOT NULL THEN greatest(0, at - free_at) END AS ready_ms,
    CASE WHEN kind_after <> 'go' THEN queued_after END AS queued_ms,
    at AS started_ms,
    CASE WHEN kind_after <> 'go' THEN at_after END AS ended_ms,
    CASE WHEN kind_after <> 'go' THEN greatest(0, at_after - at - queued_after) END AS running_ms,
    CASE WHEN kind_after <> 'go' THEN greatest(0, written_after_ms - at_after) END AS recording_ms,
    CASE WHEN kind_after IN ('ok', 'default') THEN fields_after[4]::text END AS output,
    error ->> 'code' AS error_code,
    error ->> 'message' AS error_message,
    CASE WHEN kind_after = 'again' THEN fields_after[6]::text::float8 END AS retry_delay_s
FROM told;

CREATE VIEW stepflow.steps AS
WITH aged AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id, item, step ORDER BY attempt DESC) AS age,
        sum(ready_ms) OVER (PARTITION BY run_id, item, step)::bigint AS ready_in_all_ms,
        sum(queued_ms) OVER (PARTITION BY run_id, item, step)::bigint AS queued_in_all_ms,
        sum(running_ms) OVER (PARTITION BY run_id, item, step)::bigint AS running_in_all_ms,
        sum(recording_ms) OVER (PARTITION BY run_id, item, step)::bigint AS recording_in_all_ms
    FROM stepflow.attempts
)

SELECT
    run_id,
    item,
    step,
    step_id,
    attempt AS attempts,
    status,
    ready_in_all_ms AS ready_ms,
    queued_in_all_ms AS queued_ms,
    running_in_all_ms AS running_ms,
    recording_in_all_ms AS recording_ms,
    started_ms,
    ended_ms,
    output,
    error_code,
    error_message
FROM aged
WHERE age = 1;
