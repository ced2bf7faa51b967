INSERT OR IGNORE INTO _results (run, item, place, outcome)
VALUES (?, ?, ?, ?);
