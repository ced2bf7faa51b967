DELETE FROM _inbox
WHERE id = ?;
