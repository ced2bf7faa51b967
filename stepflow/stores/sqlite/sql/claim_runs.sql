UPDATE _runs
SET owner = :owner, epoch = epoch + 1
WHERE status IN ('running', 'paused') AND (:root_id IS NULL OR root_id = :root_id);
