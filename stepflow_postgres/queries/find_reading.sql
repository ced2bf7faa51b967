SELECT
    runs.no,
    runs.checkpoint,
    runs.low_water,
    (
        SELECT max(entries.first)
        FROM stepflow._entries AS entries
        WHERE entries.run_no = runs.no AND entries.first <= %(after)s + 1
    )
FROM stepflow._runs AS runs
WHERE runs.id = %(run_id)s;
