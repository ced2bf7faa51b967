SELECT first, count, payload
FROM (
    (
        SELECT first, count, payload
        FROM stepflow._entries
        WHERE
            run_no = %(no)s AND first = 1 AND first < %(checkpoint)s AND first + count > %(after)s + 1
    )
    UNION ALL
    (
        SELECT first, count, payload
        FROM stepflow._entries
        WHERE
            run_no = %(no)s AND has_inputs AND first > 1 AND first >= %(begin)s AND first < %(checkpoint)s
            AND first + count > %(after)s + 1 AND max_item >= %(low_water)s
        ORDER BY first
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT first, count, payload
        FROM stepflow._entries
        WHERE run_no = %(no)s AND first >= greatest(%(begin)s, %(checkpoint)s) AND first + count > %(after)s + 1
        ORDER BY first
        LIMIT %(limit)s
    )
) AS wanted
ORDER BY first
LIMIT %(limit)s;
