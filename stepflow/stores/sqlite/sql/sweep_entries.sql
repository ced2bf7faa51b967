DELETE FROM _entries
WHERE at IN (SELECT at FROM _entries WHERE at >= :first AND at < :end LIMIT :limit);
