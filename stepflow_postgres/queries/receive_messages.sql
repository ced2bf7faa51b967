SELECT message.id, message.run_id, message.kind, message.payload
FROM stepflow._inbox AS message
JOIN stepflow._runs AS run ON run.id = message.run_id
WHERE run.owner = %(owner)s
ORDER BY message.no
LIMIT %(limit)s
