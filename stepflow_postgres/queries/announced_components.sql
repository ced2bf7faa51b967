SELECT announced.listed
FROM stepflow._announced AS announced
JOIN stepflow._engines AS engine ON engine.owner = announced.owner
WHERE announced.digest = sha256(convert_to(%(queue)s, 'UTF8'))
    AND announced.owner <> %(owner)s
    AND engine.expires_at > clock_timestamp()
ORDER BY announced.owner
