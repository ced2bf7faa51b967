INSERT INTO stepflow._offers AS offer (task_id, attempt, run_id, queue, body, offered_by)
SELECT task_id, attempt, run_id, queue, body, %(owner)s
FROM unnest(%(task_ids)s, %(attempts)s, %(run_ids)s, %(queues)s, %(bodies)s)
    WITH ORDINALITY AS given (task_id, attempt, run_id, queue, body, place)
ORDER BY place
ON CONFLICT (task_id) DO UPDATE SET
    no = DEFAULT,
    attempt = EXCLUDED.attempt,
    run_id = EXCLUDED.run_id,
    queue = EXCLUDED.queue,
    body = EXCLUDED.body,
    offered_by = EXCLUDED.offered_by,
    claimed_by = NULL,
    answer = NULL,
    answered_at = NULL
WHERE offer.attempt < EXCLUDED.attempt
