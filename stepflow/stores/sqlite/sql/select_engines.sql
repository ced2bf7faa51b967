SELECT owner, name, group_name, url, place, started_at
FROM _engines
