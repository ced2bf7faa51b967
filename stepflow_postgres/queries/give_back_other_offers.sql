UPDATE stepflow._offers AS offer
SET claimed_by = NULL
WHERE left(offer.queue, 100) = left(%(queue)s, 100)
    AND offer.queue = %(queue)s
    AND offer.claimed_by = %(owner)s
    AND offer.answer IS NULL
    AND NOT EXISTS (
        SELECT FROM unnest(%(task_ids)s, %(attempts)s) AS known (task_id, attempt)
        WHERE known.task_id = offer.task_id AND known.attempt = offer.attempt
    )
RETURNING offer.no
