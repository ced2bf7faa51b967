-- Views stay as they are, and have the same columns in every store.
-- PostgreSQL takes JSON with a NUL in it (\u0000) and can hand on whole parts of an array, but can look into no object
-- of it and make no text of it. So values are handed on as they were written, and in a name, a code or a message that
-- is looked up a NUL becomes U+FFFD.

CREATE FUNCTION stepflow._readable(value TEXT) RETURNS JSON
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN strpos(value, '\u0000') = 0 THEN value
        ELSE regexp_replace(value, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')
    END::json
$$;

CREATE FUNCTION stepflow._text(value BYTEA) RETURNS TEXT
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT convert_from(value, 'UTF8')
$$;

CREATE VIEW stepflow.runs AS
SELECT
    id AS run_id,
    root_id,
    flow_id,
    flow_name,
    status,
    parent_run AS parent_id,
    parent_item,
    parent_step,
    key,
    group_name,
    retry_of,
    owner,
    claims,
    created_at,
    ended_at,
    ended_at - created_at AS duration_s,
    total,
    succeeded,
    failed,
    stepflow._readable(error) ->> 'code' AS error_code,
    stepflow._readable(error) ->> 'message' AS error_message
FROM stepflow._runs;

CREATE VIEW stepflow.items AS
WITH admitted AS (
    SELECT
        runs.id AS run_id,
        runs.no AS run_no,
        runs.status AS run_status,
        runs.error AS run_error,
        parts.fields[2]::text::bigint + input.at - 1 AS item,
        input.value::text AS input
    FROM stepflow._runs AS runs
    INNER JOIN stepflow._entries AS entries ON entries.run_no = runs.no
    CROSS JOIN LATERAL json_array_elements(stepflow._text(entries.payload)::json) AS event
    CROSS JOIN LATERAL (
        SELECT array_agg(field.value ORDER BY field.at) AS fields
        FROM json_array_elements(event) WITH ORDINALITY AS field (value, at)
    ) AS parts
    CROSS JOIN LATERAL json_array_elements(
        CASE WHEN parts.fields[1]::text = '"in"' THEN parts.fields[3] END
    ) WITH ORDINALITY AS input (value, at)
    WHERE entries.has_inputs
),

ended AS (
    SELECT
        admitted.*,
        results.place,
        stepflow._text(results.outcome) AS outcome
    FROM admitted
    LEFT JOIN stepflow._results AS results ON results.run_no = admitted.run_no AND results.item = admitted.item
)

SELECT
    run_id,
    item,
    CASE
        WHEN outcome LIKE '{"outcome":"success",%' THEN 'succeeded'
        WHEN outcome IS NOT NULL THEN 'failed'
        WHEN run_status IN ('running', 'paused') THEN 'open'
        ELSE run_status
    END AS status,
    place,
    input,
    -- The one field of a success, cut out: so it is as it was written.
    CASE
        WHEN outcome LIKE '{"outcome":"success","output":%'
            THEN substr(outcome, length('{"outcome":"success","output":') + 1, length(outcome) - 31)
    END AS output,
    error ->> 'code' AS error_code,
    error ->> 'message' AS error_message
FROM ended
CROSS JOIN LATERAL stepflow._readable(
    CASE WHEN outcome IS NULL THEN run_error WHEN outcome LIKE '{"outcome":"failed",%' THEN outcome END
) AS error;

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
        END::text::bigint AS at
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
        lead(written_ms) OVER of_step AS written_after_ms
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
    0::bigint AS queued_ms,
    at AS started_ms,
    CASE WHEN kind_after <> 'go' THEN at_after END AS ended_ms,
    CASE WHEN kind_after <> 'go' THEN at_after - at END AS running_ms,
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
