SELECT digest, run_id
FROM stepflow._keys
WHERE digest = ANY(%(digests)s);
