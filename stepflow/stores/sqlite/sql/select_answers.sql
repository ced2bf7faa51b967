SELECT offers.task_id, offers.attempt, offers.run_id, offers.answer
FROM _offers AS offers
INNER JOIN _runs AS runs ON runs.id = offers.run_id
WHERE offers.answered IS NOT NULL AND runs.owner = ?
ORDER BY offers.answered
LIMIT ?;
