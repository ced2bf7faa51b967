INSERT INTO _runs (
    no, id, root_id, flow_id, flow_name, status, parent_run, parent_item, parent_step, parent_key, key,
    created_at, ended_at, total, succeeded, failed, error, group_name, journal_format, retry_of, is_sealed,
    owner, epoch, last, places, checkpoint, low_water
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
