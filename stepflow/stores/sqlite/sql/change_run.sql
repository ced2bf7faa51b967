UPDATE _runs
SET
    claims = 0, last = ?, places = ?,
    checkpoint = coalesce(?, checkpoint), low_water = coalesce(?, low_water),
    total = coalesce(?, total), succeeded = coalesce(?, succeeded), failed = coalesce(?, failed),
    status = coalesce(?, status), ended_at = coalesce(?, ended_at), error = coalesce(?, error)
WHERE no = ?;
