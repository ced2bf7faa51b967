-- From where the statement before it ended, since a scan from the beginning would meet all that is dead by now.
WITH gone AS (
    DELETE FROM stepflow._results
    WHERE ctid = ANY(ARRAY(
        SELECT dead.ctid
        FROM unnest(%(nos)s) AS deleted (no)
        CROSS JOIN LATERAL (
            SELECT rows.ctid
            FROM stepflow._results AS rows
            WHERE
                rows.run_no = deleted.no
                AND rows.item > CASE WHEN deleted.no = %(no)s::bigint THEN %(after)s::bigint ELSE -1 END
            ORDER BY rows.item
            LIMIT %(limit)s::bigint
        ) AS dead
        WHERE deleted.no >= %(no)s::bigint
        LIMIT %(limit)s::bigint
    ))
    RETURNING run_no, item
)
SELECT count(*) OVER (), run_no, item
FROM gone
ORDER BY run_no DESC, item DESC
LIMIT 1;
