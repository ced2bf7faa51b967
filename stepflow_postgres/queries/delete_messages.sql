DELETE FROM stepflow._inbox WHERE id = ANY (%(ids)s)
