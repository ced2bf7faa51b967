UPDATE _runs
SET
    claims = 0, last = ?, places = ?,
    checkpoint = coalesce(?, checkpoint), low_water = coalesce(?, low_water),
    total = coalesce(?, total), succeeded = coalesce(?, succeeded), failed = coalesce(?, failed)
WHERE no = ?;
