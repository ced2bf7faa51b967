-- The engine's row is locked first, with the first run that is looked at: a claim that fences the engine waits, or is
-- seen. Of the runs only those are written to whose row, as it is once it is locked, has the lease and ends before the
-- first entry.
WITH advanced AS (
    UPDATE stepflow._runs AS runs
    SET
        last = given.last,
        places = runs.places + given.places,
        checkpoint = coalesce(given.checkpoint, runs.checkpoint),
        low_water = coalesce(given.low_water, runs.low_water),
        status = coalesce(given.status, runs.status),
        ended_at = coalesce(given.ended_at, runs.ended_at),
        total = coalesce(given.total, runs.total),
        succeeded = coalesce(given.succeeded, runs.succeeded),
        failed = coalesce(given.failed, runs.failed),
        error = coalesce(given.error, runs.error),
        claims = 0
    FROM unnest(
        %(runs)s, %(epochs)s, %(begins)s, %(lasts)s, %(places)s, %(marks)s, %(low_waters)s,
        %(statuses)s, %(ends)s, %(totals)s, %(succeeded)s, %(failed)s, %(errors)s
    ) WITH ORDINALITY AS given (
        id, epoch, first, last, places, checkpoint, low_water,
        status, ended_at, total, succeeded, failed, error, at
    )
    WHERE
        runs.id = given.id AND runs.id = ANY(%(runs)s) AND runs.epoch = given.epoch
        AND runs.owner = (SELECT owner FROM stepflow._engines WHERE owner = %(owner)s FOR KEY SHARE)
        AND runs.last < given.first
    RETURNING given.at, runs.no, runs.places - given.places AS places
),
entered AS (
    INSERT INTO stepflow._entries (
        run_no, first, count, min_item, max_item, written_at, has_inputs, is_checkpoint, payload
    )
    SELECT
        advanced.no, given.first, given.count, given.min_item, given.max_item,
        extract(EPOCH FROM clock_timestamp())::float8, given.has_inputs, given.is_checkpoint, given.payload
    FROM unnest(
        %(of)s, %(firsts)s, %(counts)s, %(min_items)s, %(max_items)s, %(inputs)s, %(checkpoints)s, %(payloads)s
    ) AS given (at, first, count, min_item, max_item, has_inputs, is_checkpoint, payload)
    INNER JOIN advanced ON advanced.at = given.at
),
kept AS (
    INSERT INTO stepflow._results (run_no, item, place, outcome)
    SELECT advanced.no, given.item, advanced.places + given.place, given.outcome
    FROM unnest(%(results_of)s, %(items)s, %(item_places)s, %(outcomes)s) AS given (at, item, place, outcome)
    INNER JOIN advanced ON advanced.at = given.at
    ON CONFLICT (run_no, item) DO NOTHING
)
SELECT at, NULL AS holder
FROM advanced;
