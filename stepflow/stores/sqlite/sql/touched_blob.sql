SELECT touched_at
FROM _blobs
WHERE id = ?;
