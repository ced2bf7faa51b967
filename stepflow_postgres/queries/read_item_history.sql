SELECT first, count, payload
FROM stepflow._entries
WHERE
    run_no = %(no)s AND first >= %(begin)s AND first + count > %(after)s + 1
    AND min_item <= %(item)s AND max_item >= %(item)s
ORDER BY first
LIMIT %(limit)s;
