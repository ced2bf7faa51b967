-- One key has one run by its digest. Whether a run has one key was said twice: a second unique index is no part of
-- ON CONFLICT, so that two statements which began the same run at once could fail instead of one waiting for the other.
ALTER TABLE stepflow._keys DROP CONSTRAINT _keys_run_id_key;
CREATE INDEX _keys_by_run ON stepflow._keys (run_id);
