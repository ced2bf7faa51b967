INSERT INTO stepflow._announced AS announced (queue, digest, owner, listed)
SELECT %(queue)s, sha256(convert_to(%(queue)s, 'UTF8')), owner, %(listed)s
FROM stepflow._engines
WHERE owner = %(owner)s
ON CONFLICT (digest, owner) DO UPDATE SET listed = EXCLUDED.listed
