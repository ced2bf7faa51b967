INSERT INTO _entries (run, first, count, min_item, max_item, has_inputs, is_checkpoint, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);
