SELECT content, type, filename, touched_at
FROM _blobs
WHERE id = ?;
