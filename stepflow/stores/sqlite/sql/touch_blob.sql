UPDATE _blobs
SET touched_at = ?
WHERE id = ?;
