DELETE FROM _deleted
WHERE no = ?;
