UPDATE _runs
SET status = coalesce(?, status), ended_at = coalesce(?, ended_at), error = coalesce(?, error)
WHERE no = ?;
