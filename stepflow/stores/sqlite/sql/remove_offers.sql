DELETE FROM _offers
WHERE run_id IN (SELECT id FROM _runs WHERE id = :root_id OR (parent_run IS NOT NULL AND root_id = :root_id));
