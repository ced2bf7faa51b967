DELETE FROM _offers
WHERE task_id = ? AND attempt <= ?;
