WITH admitted AS (
    SELECT
        runs.id AS run_id,
        runs.no AS run,
        runs.status AS run_status,
        runs.error AS run_error,
        json_extract(event.value, '$[1]') + input.key AS item,
        -- Plain text ends at its first NUL: to read it to the letter would take time that grows with the number of items.
        CASE
            WHEN input.type IN ('object', 'array') THEN input.value
            WHEN input.type IN ('true', 'false', 'null') THEN input.type
            ELSE json_quote(input.value)
        END AS input
    FROM _runs AS runs
    INNER JOIN _entries AS entries ON entries.at > runs.no << 32 AND entries.at < (runs.no + 1) << 32
    INNER JOIN json_each(CAST(entries.payload AS TEXT)) AS event
    INNER JOIN json_each(event.value, '$[2]') AS input
    WHERE entries.has_inputs AND json_extract(event.value, '$[0]') = 'in'
)

SELECT
    admitted.run_id,
    admitted.item,
    CASE
        WHEN json_extract(results.outcome, '$.outcome') = 'success' THEN 'succeeded'
        WHEN results.outcome IS NOT NULL THEN 'failed'
        WHEN admitted.run_status IN ('running', 'paused') THEN 'open'
        ELSE admitted.run_status
    END AS status,
    results.place_at & 4294967295 AS place,
    admitted.input,
    -- The second path is nowhere, so that the first value stands in an array: as it was written, whatever its type.
    CASE
        WHEN json_extract(results.outcome, '$.outcome') = 'success'
            THEN substr(
                json_extract(results.outcome, '$.output', '$.nowhere'),
                2,
                length(json_extract(results.outcome, '$.output', '$.nowhere')) - 7
            )
    END AS output,
    json_extract(coalesce(results.outcome, admitted.run_error), '$.code') AS error_code,
    json_extract(coalesce(results.outcome, admitted.run_error), '$.message') AS error_message
FROM admitted
LEFT JOIN _results AS results ON results.at = (admitted.run << 32) + admitted.item;
