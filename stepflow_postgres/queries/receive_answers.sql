SELECT offer.task_id, offer.attempt, offer.run_id, offer.answer
FROM stepflow._offers AS offer
JOIN stepflow._runs AS run ON run.id = offer.run_id
WHERE run.owner = %(owner)s AND offer.answer IS NOT NULL
ORDER BY offer.answered_at, offer.no
LIMIT %(limit)s
