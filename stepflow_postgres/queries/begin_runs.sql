-- A run that is there already, or whose key another run has, is left out. Keys come in one order, so that two statements
-- that want the same keys wait one for the other, not each for both.
WITH engine AS MATERIALIZED (
    SELECT owner
    FROM stepflow._engines
    WHERE owner = %(owner)s
    FOR KEY SHARE
),
fresh AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(new)s::json) AS fresh (
        at BIGINT, id TEXT, root_id TEXT, flow_id TEXT, flow_name TEXT, status TEXT, parent_run TEXT,
        parent_item BIGINT, parent_step BIGINT, parent_key TEXT, key TEXT, created_at DOUBLE PRECISION,
        ended_at DOUBLE PRECISION, total BIGINT, succeeded BIGINT, failed BIGINT, error TEXT, group_name TEXT,
        journal_format INTEGER, retry_of TEXT, is_sealed BOOLEAN, epoch BIGINT, last BIGINT, places BIGINT,
        checkpoint BIGINT, low_water BIGINT, digest TEXT, supersedes TEXT
    )
    WHERE
        EXISTS (SELECT FROM engine)
        -- No join, which would look at all runs where there were few when it was planned.
        AND (SELECT old.no FROM stepflow._runs AS old WHERE old.id = fresh.id) IS NULL
),
keyed AS (
    INSERT INTO stepflow._keys AS keys (digest, run_id)
    SELECT decode(digest, 'hex'), id
    FROM fresh
    WHERE digest IS NOT NULL
    ORDER BY digest
    ON CONFLICT (digest) DO UPDATE
    SET run_id = excluded.run_id
    WHERE
        keys.run_id = excluded.run_id
        OR keys.run_id = (SELECT fresh.supersedes FROM fresh WHERE fresh.id = excluded.run_id)
    RETURNING run_id
),
begun AS (
    INSERT INTO stepflow._runs (
        id, root_id, flow_id, flow_name, status, parent_run, parent_item, parent_step, parent_key, key, created_at,
        ended_at, total, succeeded, failed, error, group_name, journal_format, retry_of, is_sealed, owner, epoch,
        last, places, checkpoint, low_water
    )
    SELECT
        id, root_id, flow_id, flow_name, status, parent_run, parent_item, parent_step, parent_key, key, created_at,
        ended_at, total, succeeded, failed, error, group_name, journal_format, retry_of, is_sealed, %(owner)s, epoch,
        last, places, checkpoint, low_water
    FROM fresh
    WHERE digest IS NULL OR id IN (SELECT run_id FROM keyed)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING no, id
),
named AS (
    SELECT begun.no, fresh.at
    FROM begun
    INNER JOIN fresh ON fresh.id = begun.id
),
entered AS (
    INSERT INTO stepflow._entries (
        run_no, first, count, min_item, max_item, written_at, has_inputs, is_checkpoint, payload
    )
    SELECT
        named.no, given.first, given.count, given.min_item, given.max_item,
        extract(EPOCH FROM clock_timestamp())::float8, given.has_inputs, given.is_checkpoint, given.payload
    FROM unnest(
        %(of)s, %(firsts)s, %(counts)s, %(min_items)s, %(max_items)s, %(inputs)s, %(checkpoints)s, %(payloads)s
    ) AS given (at, first, count, min_item, max_item, has_inputs, is_checkpoint, payload)
    INNER JOIN named ON named.at = given.at
),
kept AS (
    INSERT INTO stepflow._results (run_no, item, place, outcome)
    SELECT named.no, given.item, given.place, given.outcome
    FROM unnest(%(results_of)s, %(items)s, %(item_places)s, %(outcomes)s) AS given (at, item, place, outcome)
    INNER JOIN named ON named.at = given.at
    ON CONFLICT (run_no, item) DO NOTHING
)
SELECT at, NULL AS holder
FROM named
UNION ALL
SELECT held.at, held.run_id AS holder
FROM (
    SELECT at, (SELECT run_id FROM stepflow._keys AS keys WHERE keys.digest = decode(fresh.digest, 'hex')) AS run_id
    FROM fresh
    WHERE digest IS NOT NULL AND id NOT IN (SELECT run_id FROM keyed)
) AS held
WHERE held.run_id IS NOT NULL;
