UPDATE stepflow._engines
SET url = %(url)s
WHERE owner = %(owner)s
