SELECT owner
FROM stepflow._engines
WHERE owner = ANY(%(owners)s);
