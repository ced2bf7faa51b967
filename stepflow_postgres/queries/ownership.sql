SELECT
    run.owner, run.epoch,
    EXTRACT(EPOCH FROM engine.expires_at - clock_timestamp())::DOUBLE PRECISION,
    engine.owner, engine.name, engine.group_name, engine.url, engine.place, engine.started_at,
    EXTRACT(EPOCH FROM engine.expires_at)::DOUBLE PRECISION
FROM stepflow._runs AS run
LEFT JOIN stepflow._engines AS engine ON engine.owner = run.owner AND engine.expires_at > clock_timestamp()
WHERE run.id = %(run_id)s
