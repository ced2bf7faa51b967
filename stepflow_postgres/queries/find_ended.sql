SELECT no
FROM stepflow._runs
WHERE id = %(root_id)s AND parent_run IS NULL AND ended_at IS NOT NULL;
