INSERT OR IGNORE INTO _results (at, place_at, outcome, crc)
VALUES (?, ?, ?, ?);
