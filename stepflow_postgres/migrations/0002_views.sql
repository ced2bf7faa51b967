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
