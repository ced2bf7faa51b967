-- Not those of which rows are left: another engine, which deletes them too, may yet be killed at it. One row is looked
-- for each time, as a join might read whole tables.
DELETE FROM stepflow._deleted AS deleted
WHERE
    no = ANY(%(nos)s)
    AND (SELECT run_no FROM stepflow._entries WHERE run_no = deleted.no LIMIT 1) IS NULL
    AND (SELECT run_no FROM stepflow._results WHERE run_no = deleted.no LIMIT 1) IS NULL;
