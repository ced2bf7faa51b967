INSERT INTO _engines (owner, name, group_name, url, place, started_at)
VALUES (?, ?, ?, ?, ?, ?);
