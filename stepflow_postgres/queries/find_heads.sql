SELECT id, owner, epoch, last
FROM stepflow._runs
WHERE id = ANY(%(ids)s);
