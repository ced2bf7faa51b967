-- One run without a key, as `begin_runs` takes many. The words: id, root_id, flow_id, flow_name, status, parent_run,
-- parent_key, error, group_name, retry_of. The numbers: parent_item, parent_step, total, succeeded, failed,
-- journal_format, is_sealed, epoch, last, places, checkpoint, low_water. The times: created_at, ended_at.
WITH begun AS (
    INSERT INTO stepflow._runs (
        id, root_id, flow_id, flow_name, status, parent_run, parent_key, error, group_name, retry_of,
        parent_item, parent_step, total, succeeded, failed, journal_format, is_sealed, owner, epoch,
        last, places, checkpoint, low_water, created_at, ended_at
    )
    SELECT
        (%(words)s)[1], (%(words)s)[2], (%(words)s)[3], (%(words)s)[4], (%(words)s)[5], (%(words)s)[6],
        (%(words)s)[7], (%(words)s)[8], (%(words)s)[9], (%(words)s)[10],
        (%(numbers)s)[1], (%(numbers)s)[2], (%(numbers)s)[3], (%(numbers)s)[4], (%(numbers)s)[5],
        (%(numbers)s)[6], (%(numbers)s)[7] = 1, owner, (%(numbers)s)[8],
        (%(numbers)s)[9], (%(numbers)s)[10], (%(numbers)s)[11], (%(numbers)s)[12],
        (%(times)s)[1], (%(times)s)[2]
    FROM stepflow._engines
    WHERE owner = %(owner)s
    FOR KEY SHARE
    ON CONFLICT (id) DO NOTHING
    RETURNING no
),
entered AS (
    INSERT INTO stepflow._entries (
        run_no, first, count, min_item, max_item, written_at, has_inputs, is_checkpoint, payload
    )
    SELECT
        begun.no, given.first, given.count, given.min_item, given.max_item,
        extract(EPOCH FROM clock_timestamp())::float8, given.has_inputs, given.is_checkpoint, given.payload
    FROM
        begun,
        unnest(
            %(firsts)s, %(counts)s, %(min_items)s, %(max_items)s, %(inputs)s, %(checkpoints)s, %(payloads)s
        ) AS given (first, count, min_item, max_item, has_inputs, is_checkpoint, payload)
),
kept AS (
    INSERT INTO stepflow._results (run_no, item, place, outcome)
    SELECT begun.no, given.item, given.place, given.outcome
    FROM begun, unnest(%(items)s, %(outcomes)s) WITH ORDINALITY AS given (item, outcome, place)
    ON CONFLICT (run_no, item) DO NOTHING
)
SELECT 1 AS at, NULL AS holder
FROM begun;
