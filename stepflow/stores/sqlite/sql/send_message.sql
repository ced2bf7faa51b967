INSERT INTO _inbox (id, run_id, kind, payload, sent_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING;
