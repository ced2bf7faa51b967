INSERT INTO stepflow._engines (owner, name, group_name, url, place, started_at, ttl_s, expires_at)
VALUES (
    %(owner)s, %(name)s, %(group)s, %(url)s, %(place)s, %(started_at)s, %(ttl_s)s,
    clock_timestamp() + make_interval(secs => %(ttl_s)s)
)
ON CONFLICT (owner) DO UPDATE SET expires_at = EXCLUDED.expires_at
RETURNING owner, name, group_name, url, place, started_at, EXTRACT(EPOCH FROM expires_at)::DOUBLE PRECISION
