-- From where the statement before it ended, since a scan from the beginning would meet all that is dead by now.
WITH gone AS (
    DELETE FROM stepflow._entries
    WHERE ctid = ANY(ARRAY(
        SELECT dead.ctid
        FROM unnest(%(nos)s) AS deleted (no)
        CROSS JOIN LATERAL (
            SELECT rows.ctid
            FROM stepflow._entries AS rows
            WHERE
                rows.run_no = deleted.no
                AND rows.first > CASE WHEN deleted.no = %(no)s::bigint THEN %(after)s::bigint ELSE -1 END
            ORDER BY rows.first
            LIMIT %(limit)s::bigint
        ) AS dead
        WHERE deleted.no >= %(no)s::bigint
        LIMIT %(limit)s::bigint
    ))
    RETURNING run_no, first
)
SELECT count(*) OVER (), run_no, first
FROM gone
ORDER BY run_no DESC, first DESC
LIMIT 1;
