UPDATE _runs
SET epoch = ?, owner = ?
WHERE no = ?;
