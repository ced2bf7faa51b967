SELECT first, count, payload
FROM _entries
WHERE run = :run AND first = 1 AND :checkpoint > 1 AND count > :after
UNION ALL
SELECT first, count, payload
FROM _entries
WHERE
    run = :run AND has_inputs AND first >= :begin AND first > 1 AND first < :checkpoint
    AND first + count > :after + 1 AND max_item >= :low_water
UNION ALL
SELECT first, count, payload
FROM _entries
WHERE run = :run AND first >= max(:begin, :checkpoint) AND first + count > :after + 1
ORDER BY first
LIMIT :limit;
