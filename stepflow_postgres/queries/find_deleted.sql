SELECT no
FROM stepflow._deleted
ORDER BY no
LIMIT %(limit)s::bigint;
