DELETE FROM _engines
WHERE owner = ?;
