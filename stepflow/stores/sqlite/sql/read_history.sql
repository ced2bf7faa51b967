SELECT at, count, min_item, max_item, has_inputs, is_checkpoint, payload, crc
FROM _entries
WHERE
    at >= :begin AND at < :base + 4294967296 AND at + count > :after
    AND (:item IS NULL OR :item BETWEEN min_item AND max_item)
ORDER BY at
LIMIT :limit;
