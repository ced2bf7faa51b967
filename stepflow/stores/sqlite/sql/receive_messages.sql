SELECT inbox.id, inbox.run_id, inbox.kind, inbox.payload
FROM _inbox AS inbox
INNER JOIN _runs AS runs ON runs.id = inbox.run_id
WHERE runs.owner = ?
ORDER BY inbox.no
LIMIT ?;
