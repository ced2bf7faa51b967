SELECT no << 32 AS base, places, CASE WHEN ended_at IS NOT NULL THEN total END AS expected
FROM _runs
WHERE id = ?;
