UPDATE stepflow._blobs
SET touched_at = greatest(touched_at, %(now)s)
WHERE id = %(id)s;
