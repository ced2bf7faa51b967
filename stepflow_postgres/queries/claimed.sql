WHERE
    owner = %(owner)s
    AND status IN ('running', 'paused')
    AND claims > 0
    AND (%(root_id)s::TEXT IS NULL OR root_id = %(root_id)s)
ORDER BY root_id, id
