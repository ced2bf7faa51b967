INSERT INTO _offers (task_id, attempt, run_id, queue, body, offered_by)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (task_id) DO UPDATE
SET attempt = excluded.attempt, queue = excluded.queue, body = excluded.body, offered_by = excluded.offered_by,
    answer = NULL, answered = NULL
WHERE excluded.attempt > attempt;
