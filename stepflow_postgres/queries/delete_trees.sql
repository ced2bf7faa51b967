-- Root runs that have ended, all of whose sub-runs have, go with all that belongs to them; their events and results are
-- noted to follow in small statements. One that another deletes is left to it. A key goes back to the newest run that
-- is left of those that had it. Arrays, not joins: a join might read whole tables.
WITH roots AS MATERIALIZED (
    SELECT root.no, root.id, root.key
    FROM stepflow._runs AS root
    WHERE
        root.no = ANY(%(nos)s)
        AND root.status NOT IN ('running', 'paused')
        AND NOT EXISTS (
            SELECT
            FROM stepflow._runs AS member
            WHERE member.root_id = root.id AND member.parent_run IS NOT NULL AND member.status IN ('running', 'paused')
        )
    FOR UPDATE SKIP LOCKED
),
members AS MATERIALIZED (
    SELECT no, id
    FROM roots
    UNION ALL
    SELECT runs.no, runs.id
    FROM stepflow._runs AS runs
    INNER JOIN roots ON roots.id = runs.root_id
    WHERE runs.parent_run IS NOT NULL
),
noted AS (
    INSERT INTO stepflow._deleted (no)
    SELECT no
    FROM members
    ON CONFLICT DO NOTHING
),
messages AS (
    DELETE FROM stepflow._inbox
    WHERE run_id = ANY(ARRAY(SELECT id FROM members))
),
offers AS (
    DELETE FROM stepflow._offers
    WHERE run_id = ANY(ARRAY(SELECT id FROM members))
),
left_keys AS MATERIALIZED (
    SELECT
        roots.id,
        (
            SELECT max(other.id)
            FROM stepflow._runs AS other
            WHERE
                other.key = roots.key AND other.parent_run IS NULL AND other.id NOT IN (SELECT id FROM roots)
        ) AS heir
    FROM roots
    WHERE roots.key IS NOT NULL
),
inherited AS (
    UPDATE stepflow._keys AS keys
    SET run_id = left_keys.heir
    FROM left_keys
    WHERE keys.run_id = left_keys.id AND left_keys.heir IS NOT NULL
),
unused AS (
    DELETE FROM stepflow._keys AS keys
    USING left_keys
    WHERE keys.run_id = left_keys.id AND left_keys.heir IS NULL
),
runs AS (
    DELETE FROM stepflow._runs
    WHERE no = ANY(ARRAY(SELECT no FROM members))
)
SELECT count(*)
FROM roots;
