INSERT INTO _runs (
    id, root_id, flow_id, flow_name, status, parent_run, parent_item, parent_step, parent_key, key,
    created_at, ended_at, total, succeeded, failed, error, owner, epoch
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
