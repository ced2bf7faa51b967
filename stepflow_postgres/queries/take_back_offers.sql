DELETE FROM stepflow._offers AS offer
WHERE offer.task_id = ANY (%(task_ids)s)
    AND offer.offered_by = %(owner)s
    AND offer.answer IS NULL
    AND NOT EXISTS (
        SELECT FROM stepflow._engines AS claimer
        WHERE claimer.owner = offer.claimed_by AND claimer.expires_at > clock_timestamp()
    )
RETURNING offer.task_id
