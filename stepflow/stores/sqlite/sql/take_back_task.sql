DELETE FROM _offers
WHERE task_id = ? AND offered_by = ? AND answer IS NULL;
