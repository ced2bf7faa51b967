SELECT owner, name, group_name, url, place, started_at, EXTRACT(EPOCH FROM expires_at)::DOUBLE PRECISION
FROM stepflow._engines
WHERE expires_at > clock_timestamp()
ORDER BY started_at, owner
