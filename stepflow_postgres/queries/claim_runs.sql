-- The lock on a root run is the lock on its tree, whose runs have one owner. Who claims locks its own row too: it can't
-- be fenced meanwhile. The owners of unfinished runs are found by hopping through their index, from one to the next.
WITH RECURSIVE claimer AS MATERIALIZED (
    SELECT group_name FROM stepflow._engines WHERE owner = %(owner)s FOR KEY SHARE
),
owners AS (
    (
        SELECT run.owner
        FROM stepflow._runs AS run
        WHERE run.status IN ('running', 'paused')
        ORDER BY run.owner
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT run.owner
        FROM stepflow._runs AS run
        WHERE run.status IN ('running', 'paused') AND run.owner > owners.owner
        ORDER BY run.owner
        LIMIT 1
    )
    FROM owners
    WHERE owners.owner IS NOT NULL
),
gone AS MATERIALIZED (
    SELECT owners.owner
    FROM owners
    WHERE owners.owner IS NOT NULL
        AND NOT EXISTS (SELECT FROM stepflow._engines AS engine WHERE engine.owner = owners.owner)
),
orphans AS (
    SELECT run.root_id, run.owner
    FROM gone
    INNER JOIN stepflow._runs AS run ON run.owner = gone.owner
    WHERE run.status IN ('running', 'paused')
        AND CASE
            WHEN %(root_id)s::TEXT IS NOT NULL THEN run.root_id = %(root_id)s
            ELSE run.group_name = (SELECT group_name FROM claimer)
        END
    GROUP BY run.root_id, run.owner
    HAVING max(run.journal_format) <= %(journal_format)s
),
trees AS MATERIALIZED (
    SELECT root.no, root.id, root.owner
    FROM stepflow._runs AS root
    INNER JOIN orphans ON orphans.root_id = root.id AND orphans.owner = root.owner
    WHERE EXISTS (SELECT FROM claimer)
    ORDER BY root.id
    LIMIT %(limit)s
    FOR UPDATE OF root SKIP LOCKED
),
members AS (
    SELECT no FROM trees
    UNION
    SELECT run.no
    FROM stepflow._runs AS run
    INNER JOIN trees ON trees.owner = run.owner AND trees.id = run.root_id
    WHERE run.status IN ('running', 'paused')
),
locked AS MATERIALIZED (
    SELECT run.no
    FROM stepflow._runs AS run
    INNER JOIN members ON members.no = run.no
    ORDER BY run.no
    FOR NO KEY UPDATE OF run
)
UPDATE stepflow._runs AS run
SET
    owner = %(owner)s,
    epoch = run.epoch + 1,
    claims = run.claims + (run.status IN ('running', 'paused'))::INTEGER
FROM locked
WHERE run.no = locked.no
RETURNING run.id
