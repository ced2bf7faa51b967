SELECT id
FROM _runs AS roots
WHERE
    id = ? AND parent_run IS NULL AND status NOT IN ('running', 'paused')
    AND NOT EXISTS (
        SELECT 1
        FROM _runs AS members
        WHERE
            members.parent_run IS NOT NULL AND members.root_id = roots.id
            AND members.status IN ('running', 'paused')
    );
