INSERT INTO stepflow._blobs AS blobs (id, type, filename, content, touched_at)
VALUES (%(id)s, %(type)s, %(filename)s, %(content)s, %(now)s)
ON CONFLICT (id) DO UPDATE
SET touched_at = greatest(blobs.touched_at, excluded.touched_at);
