-- What comes back is those whose rows are locked.
WITH former AS MATERIALIZED (
    SELECT owner FROM stepflow._engines WHERE name = %(name)s AND owner <> %(owner)s
),
locked AS MATERIALIZED (
    SELECT owner FROM stepflow._engines WHERE owner IN (SELECT owner FROM former) FOR UPDATE SKIP LOCKED
),
fenced AS (
    DELETE FROM stepflow._engines AS engine USING locked WHERE engine.owner = locked.owner
)
SELECT owner FROM former WHERE owner NOT IN (SELECT owner FROM locked)
