UPDATE _runs
SET owner = :owner, epoch = epoch + 1, claims = claims + 1
WHERE
    (id = :root_id OR (parent_run IS NOT NULL AND root_id = :root_id))
    AND status IN ('running', 'paused');
