SELECT runs.root_id
FROM _runs AS runs
LEFT JOIN _engines AS engines ON engines.owner = runs.owner
WHERE
    runs.status <> 'completed' AND runs.status IN ('running', 'paused')
    AND (:root_id IS NULL OR runs.root_id = :root_id)
GROUP BY runs.root_id
HAVING
    count(engines.owner) = 0
    AND max(runs.journal_format) <= :journal_format
    AND (:group_name IS NULL OR (min(runs.group_name) = :group_name AND max(runs.group_name) = :group_name))
ORDER BY runs.root_id
LIMIT :limit;
