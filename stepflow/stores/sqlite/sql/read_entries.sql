SELECT at, count, min_item, max_item, has_inputs, is_checkpoint, payload, crc
FROM _entries
WHERE
    at > :base AND at <= :base + 2 AND at < :checkpoint AND at + count > :after
    AND (at = :base + 1 OR (has_inputs AND max_item >= :low_water))
UNION ALL
SELECT at, count, min_item, max_item, has_inputs, is_checkpoint, payload, crc
FROM _entries INDEXED BY _entries_inputs
WHERE
    has_inputs AND (at & 4294967295) > 2
    AND at >= :begin AND at < :checkpoint AND at + count > :after AND max_item >= :low_water
UNION ALL
SELECT at, count, min_item, max_item, has_inputs, is_checkpoint, payload, crc
FROM _entries
WHERE at >= max(:begin, :checkpoint) AND at < :base + 4294967296 AND at + count > :after
ORDER BY at
LIMIT :limit;
