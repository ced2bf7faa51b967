DELETE FROM stepflow._deleted
WHERE no = ANY(%(nos)s);
