SELECT touched_at
FROM stepflow._blobs
WHERE id = %(id)s;
