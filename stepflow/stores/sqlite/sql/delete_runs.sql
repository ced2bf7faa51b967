DELETE FROM _runs
WHERE id = :root_id OR (parent_run IS NOT NULL AND root_id = :root_id);
