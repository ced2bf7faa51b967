DELETE FROM _results
WHERE at IN (SELECT at FROM _results WHERE at >= :first AND at < :end LIMIT :limit);
