INSERT INTO _offers (task_id, attempt, run_id, queue, body)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (task_id) DO UPDATE
SET attempt = excluded.attempt, queue = excluded.queue, body = excluded.body, answer = NULL, answered = NULL
WHERE excluded.attempt > attempt;
