DELETE FROM stepflow._offers WHERE task_id = ANY (%(task_ids)s) AND attempt <= %(through)s
