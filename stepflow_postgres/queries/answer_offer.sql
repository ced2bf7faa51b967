UPDATE stepflow._offers AS offer
SET answer = %(body)s, answered_at = clock_timestamp()
WHERE offer.task_id = %(task_id)s AND offer.attempt = %(attempt)s AND offer.answer IS NULL
RETURNING (SELECT run.owner FROM stepflow._runs AS run WHERE run.id = offer.run_id)
