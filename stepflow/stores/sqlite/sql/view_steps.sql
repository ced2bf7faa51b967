WITH aged AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id, item, step ORDER BY attempt DESC) AS age,
        sum(ready_ms) OVER (PARTITION BY run_id, item, step) AS ready_in_all_ms,
        sum(queued_ms) OVER (PARTITION BY run_id, item, step) AS queued_in_all_ms,
        sum(running_ms) OVER (PARTITION BY run_id, item, step) AS running_in_all_ms,
        sum(recording_ms) OVER (PARTITION BY run_id, item, step) AS recording_in_all_ms
    FROM attempts
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
