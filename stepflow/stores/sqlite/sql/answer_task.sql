UPDATE _offers
SET answer = ?, answered = (SELECT coalesce(max(answered), 0) + 1 FROM _offers)
WHERE task_id = ? AND attempt = ? AND answer IS NULL;
