-- One write to one run, as `advance_runs` takes many: nearly all commits of an engine with little to do are such.
-- The numbers: epoch, first, last, count, min_item, max_item, places, checkpoint, low_water, total, succeeded, failed,
-- has_inputs. The words: status, error.
WITH advanced AS (
    UPDATE stepflow._runs
    SET
        last = (%(numbers)s)[3],
        places = places + (%(numbers)s)[7],
        checkpoint = coalesce((%(numbers)s)[8], checkpoint),
        low_water = coalesce((%(numbers)s)[9], low_water),
        total = coalesce((%(numbers)s)[10], total),
        succeeded = coalesce((%(numbers)s)[11], succeeded),
        failed = coalesce((%(numbers)s)[12], failed),
        status = coalesce((%(words)s)[1], status),
        ended_at = coalesce((%(ended_at)s)[1], ended_at),
        error = coalesce((%(words)s)[2], error),
        claims = 0
    WHERE
        id = %(run)s
        AND owner = (SELECT owner FROM stepflow._engines WHERE owner = %(owner)s FOR KEY SHARE)
        AND epoch = (%(numbers)s)[1] AND last < (%(numbers)s)[2]
    RETURNING no, places - (%(numbers)s)[7] AS places
),
entered AS (
    INSERT INTO stepflow._entries (
        run_no, first, count, min_item, max_item, written_at, has_inputs, is_checkpoint, payload
    )
    SELECT
        no, (%(numbers)s)[2], (%(numbers)s)[4], (%(numbers)s)[5], (%(numbers)s)[6],
        extract(EPOCH FROM clock_timestamp())::float8, (%(numbers)s)[13] = 1, (%(numbers)s)[8] IS NOT NULL, %(payload)s
    FROM advanced
),
kept AS (
    INSERT INTO stepflow._results (run_no, item, place, outcome)
    SELECT advanced.no, given.item, advanced.places + given.at, given.outcome
    FROM advanced, unnest(%(items)s, %(outcomes)s) WITH ORDINALITY AS given (item, outcome, at)
    ON CONFLICT (run_no, item) DO NOTHING
)
SELECT 1 AS at, NULL AS holder
FROM advanced;
