-- One write to one run that ends no item and changes nothing else of it: so are most commits of a run that is alone.
-- The numbers: epoch, first, last, count, min_item, max_item, has_inputs.
WITH advanced AS (
    UPDATE stepflow._runs
    SET last = (%(numbers)s)[3], claims = 0
    WHERE
        id = %(run)s
        AND owner = (SELECT owner FROM stepflow._engines WHERE owner = %(owner)s FOR KEY SHARE)
        AND epoch = (%(numbers)s)[1] AND last < (%(numbers)s)[2]
    RETURNING no
),
entered AS (
    INSERT INTO stepflow._entries (
        run_no, first, count, min_item, max_item, written_at, has_inputs, is_checkpoint, payload
    )
    SELECT
        no, (%(numbers)s)[2], (%(numbers)s)[4], (%(numbers)s)[5], (%(numbers)s)[6],
        extract(EPOCH FROM clock_timestamp())::float8, (%(numbers)s)[7] = 1, false, %(payload)s
    FROM advanced
)
SELECT 1 AS at, NULL AS holder
FROM advanced;
