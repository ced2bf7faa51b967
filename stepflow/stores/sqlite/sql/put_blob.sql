INSERT INTO _blobs (id, type, filename, content, touched_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET touched_at = max(touched_at, excluded.touched_at);
