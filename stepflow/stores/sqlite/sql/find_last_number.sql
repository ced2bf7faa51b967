SELECT
    max(
        (SELECT coalesce(max(no), 0) FROM _runs),
        (SELECT coalesce(max(no), 0) FROM _deleted)
    ) AS no;
