UPDATE stepflow._offers AS offer
SET claimed_by = NULL
FROM unnest(%(task_ids)s, %(attempts)s) AS given (task_id, attempt)
WHERE offer.task_id = given.task_id
    AND offer.attempt = given.attempt
    AND offer.claimed_by = %(owner)s
    AND offer.answer IS NULL
RETURNING offer.queue
