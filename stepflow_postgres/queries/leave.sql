DELETE FROM stepflow._engines WHERE owner = %(owner)s
