UPDATE _engines
SET url = ?
WHERE owner = ?;
