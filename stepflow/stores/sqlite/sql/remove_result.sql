DELETE FROM _results
WHERE at = ? AND place_at = ?;
