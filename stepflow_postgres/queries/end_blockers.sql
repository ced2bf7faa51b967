SELECT pg_terminate_backend(session.pid)
FROM pg_stat_activity AS session
WHERE session.pid = ANY (pg_blocking_pids(%(pid)s))
    AND session.xact_start < clock_timestamp() - make_interval(secs => %(patience_s)s)
