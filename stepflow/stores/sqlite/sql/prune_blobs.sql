DELETE FROM _blobs
WHERE id IN (SELECT id FROM _blobs WHERE touched_at < ? ORDER BY touched_at LIMIT ?);
