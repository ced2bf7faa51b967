SELECT
    id AS run_id,
    root_id,
    flow_id,
    flow_name,
    status,
    parent_run AS parent_id,
    parent_item,
    parent_step,
    key,
    created_at,
    ended_at,
    ended_at - created_at AS duration_s,
    total,
    succeeded,
    failed,
    json_extract(error, '$.code') AS error_code,
    json_extract(error, '$.message') AS error_message
FROM _runs;
