-- A row is looked at again once it is locked, but who lives is not: whoever came and claimed it since would look dead.
-- What `seen` says stays as it was, so such a row is left to that claimer.
WITH free AS MATERIALIZED (
    SELECT offer.no
    FROM stepflow._offers AS offer
    JOIN stepflow._offers AS seen ON seen.no = offer.no
    WHERE left(offer.queue, 100) = left(%(queue)s, 100)
        AND offer.queue = %(queue)s
        AND offer.answer IS NULL
        AND offer.claimed_by IS NOT DISTINCT FROM seen.claimed_by
        AND offer.offered_by <> %(owner)s
        AND offer.claimed_by IS DISTINCT FROM %(owner)s
        AND NOT EXISTS (
            SELECT FROM stepflow._engines AS claimer
            WHERE claimer.owner = offer.claimed_by AND claimer.expires_at > clock_timestamp()
        )
        AND EXISTS (
            SELECT FROM stepflow._engines AS offering
            WHERE offering.owner = offer.offered_by AND offering.expires_at > clock_timestamp()
        )
        AND EXISTS (SELECT FROM stepflow._engines AS me WHERE me.owner = %(owner)s)
    ORDER BY offer.no
    LIMIT %(limit)s
    FOR UPDATE OF offer SKIP LOCKED
)
UPDATE stepflow._offers AS offer
SET claimed_by = %(owner)s
FROM free
WHERE offer.no = free.no
RETURNING offer.no, offer.task_id, offer.attempt, offer.run_id, offer.body
