INSERT INTO _entries (at, count, min_item, max_item, has_inputs, is_checkpoint, payload, written_at, crc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);
