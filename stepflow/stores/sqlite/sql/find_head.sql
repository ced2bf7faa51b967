SELECT no, epoch, last, places
FROM _runs
WHERE id = ?;
