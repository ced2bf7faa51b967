UPDATE _runs
SET owner = ?, epoch = epoch + 1
WHERE status IN ('running', 'paused');
