UPDATE stepflow._engines
SET expires_at = clock_timestamp() + make_interval(secs => ttl_s)
WHERE owner = %(owner)s
RETURNING ttl_s
