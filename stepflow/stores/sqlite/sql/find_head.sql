SELECT no, owner, epoch, last, places
FROM _runs
WHERE id = ?;
