SELECT no
FROM _deleted
LIMIT 10;
