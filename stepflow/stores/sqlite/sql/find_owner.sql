SELECT owner, epoch, status
FROM _runs
WHERE id = ?;
