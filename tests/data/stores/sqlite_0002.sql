PRAGMA application_id = 1397115991;
BEGIN TRANSACTION;
CREATE TABLE "_blobs" (
   "id" TEXT PRIMARY KEY,
   "type" TEXT NOT NULL,
   "filename" TEXT,
   "content" BLOB NOT NULL,
   "touched_at" REAL NOT NULL
);
INSERT INTO "_blobs" VALUES('54552e85d5762d45646392f9ce8543758ec7ba1657fd24201f95cb56325319de','flow',NULL,X'7B226E616D65223A226F6C64222C227374657073223A5B7B226964223A2261222C22636F6D706F6E656E74223A222F73686F7574222C22696E707574223A7B2224696E707574223A2224227D7D2C7B226964223A2262222C22636F6D706F6E656E74223A222F73686F7574222C22696E707574223A7B222473746570223A2261227D7D5D2C226F7574707574223A7B222473746570223A2262227D7D',1.79538376217060089107e+09);
CREATE TABLE "_entries" (
   "at" INTEGER PRIMARY KEY,
   "count" INTEGER NOT NULL,
   "min_item" INTEGER NOT NULL,
   "max_item" INTEGER NOT NULL,
   "has_inputs" INTEGER NOT NULL,
   "is_checkpoint" INTEGER NOT NULL,
   "payload" BLOB NOT NULL
);
INSERT INTO "_entries" VALUES(4294967297,1,-1,-1,0,0,X'5B5B2272756E222C2230316132303533362D316366612D373264622D396238662D333139383633323565383061222C2230316132303533362D316366612D373264622D396238662D333139383633323565383061222C2235343535326538356435373632643435363436333932663963653835343337353865633762613136353766643234323031663935636235363332353331396465222C313739353338333736322E313730333934372C226F6C64222C7B7D2C6E756C6C2C6E756C6C2C6E756C6C2C6E756C6C2C226669727374222C22737472696374225D5D');
INSERT INTO "_entries" VALUES(4294967298,1,0,1,1,0,X'5B5B22696E222C302C5B226869222C22626164225D5D5D');
INSERT INTO "_entries" VALUES(4294967299,1,-1,-1,0,0,X'5B5B22636C6F736564222C325D5D');
INSERT INTO "_entries" VALUES(4294967300,4,0,1,0,0,X'5B5B22676F222C302C302C312C325D2C5B22676F222C312C302C312C325D2C5B226F6B222C302C302C224849222C325D2C5B226661696C222C312C302C7B226F7574636F6D65223A226661696C6564222C22636F6465223A22494E56414C49445F494E505554222C226D657373616765223A226E6F222C2264617461223A7B22657863657074696F6E5F74797065223A22496E76616C6964496E7075744572726F72227D7D2C325D5D');
INSERT INTO "_entries" VALUES(4294967304,7,0,1,0,0,X'5B5B22676F222C302C312C312C335D2C5B226F6B222C302C312C224849222C335D2C5B226974656D222C302C7B226F7574636F6D65223A2273756363657373222C226F7574707574223A224849227D2C335D2C5B22676F222C312C312C312C335D2C5B226661696C222C312C312C7B226F7574636F6D65223A226661696C6564222C22636F6465223A22494E56414C49445F494E505554222C226D657373616765223A226E6F222C2264617461223A7B22657863657074696F6E5F74797065223A22496E76616C6964496E7075744572726F72227D7D2C335D2C5B226974656D222C312C7B226F7574636F6D65223A226661696C6564222C22636F6465223A22494E56414C49445F494E505554222C226D657373616765223A226E6F222C2264617461223A7B22657863657074696F6E5F74797065223A22496E76616C6964496E7075744572726F72227D7D2C335D2C5B22656E64222C226661696C6564222C332C6E756C6C5D5D');
INSERT INTO "_entries" VALUES(8589934593,1,-1,-1,0,0,X'5B5B2272756E222C2230316132303533362D316430312D373264322D386530622D393432343539393933353663222C2230316132303533362D316430312D373264322D386530622D393432343539393933353663222C2235343535326538356435373632643435363436333932663963653835343337353865633762613136353766643234323031663935636235363332353331396465222C313739353338333736322E313737383635352C226F6C64222C7B7D2C6E756C6C2C6E756C6C2C6E756C6C2C6E756C6C2C227365636F6E64222C22737472696374225D5D');
INSERT INTO "_entries" VALUES(8589934594,1,0,2,1,0,X'5B5B22696E222C302C5B226869222C2268616E67222C22686F225D5D5D');
INSERT INTO "_entries" VALUES(8589934595,1,-1,-1,0,0,X'5B5B22636C6F736564222C335D5D');
INSERT INTO "_entries" VALUES(8589934596,3,0,1,0,0,X'5B5B22676F222C302C302C312C315D2C5B226F6B222C302C302C224849222C315D2C5B22676F222C312C302C312C315D5D');
INSERT INTO "_entries" VALUES(8589934599,5,0,2,0,0,X'5B5B22676F222C302C312C312C315D2C5B226F6B222C302C312C224849222C315D2C5B226974656D222C302C7B226F7574636F6D65223A2273756363657373222C226F7574707574223A224849227D2C315D2C5B22676F222C322C302C312C325D2C5B226F6B222C322C302C22484F222C325D5D');
INSERT INTO "_entries" VALUES(8589934604,3,2,2,0,0,X'5B5B22676F222C322C312C312C325D2C5B226F6B222C322C312C22484F222C325D2C5B226974656D222C322C7B226F7574636F6D65223A2273756363657373222C226F7574707574223A22484F227D2C325D5D');
CREATE TABLE "_results" (
   "at" INTEGER PRIMARY KEY,
   "place_at" INTEGER NOT NULL,
   "outcome" TEXT NOT NULL
);
INSERT INTO "_results" VALUES(4294967296,4294967297,'{"outcome":"success","output":"HI"}');
INSERT INTO "_results" VALUES(4294967297,4294967298,'{"outcome":"failed","code":"INVALID_INPUT","message":"no","data":{"exception_type":"InvalidInputError"}}');
INSERT INTO "_results" VALUES(8589934592,8589934593,'{"outcome":"success","output":"HI"}');
INSERT INTO "_results" VALUES(8589934594,8589934594,'{"outcome":"success","output":"HO"}');
CREATE TABLE "_runs" (
   "no" INTEGER PRIMARY KEY,
   "id" TEXT NOT NULL,
   "root_id" TEXT NOT NULL,
   "flow_id" TEXT NOT NULL,
   "flow_name" TEXT,
   "status" TEXT NOT NULL,
   "parent_run" TEXT,
   "parent_item" INTEGER,
   "parent_step" INTEGER,
   "parent_key" TEXT,
   "key" TEXT,
   "created_at" REAL NOT NULL,
   "ended_at" REAL,
   "total" INTEGER,
   "succeeded" INTEGER DEFAULT 0,
   "failed" INTEGER DEFAULT 0,
   "error" TEXT,
   "owner" TEXT NOT NULL,
   "epoch" INTEGER NOT NULL,
   "last" INTEGER DEFAULT 0,
   "places" INTEGER DEFAULT 0,
   "checkpoint" INTEGER DEFAULT 0,
   "low_water" INTEGER DEFAULT 0
);
INSERT INTO "_runs" VALUES(1,'01a20536-1cfa-72db-9b8f-31986325e80a','01a20536-1cfa-72db-9b8f-31986325e80a','54552e85d5762d45646392f9ce8543758ec7ba1657fd24201f95cb56325319de','old','failed',NULL,NULL,NULL,NULL,'first',1.79538376217039465903e+09,1.79538376217339468001e+09,2,1,1,NULL,'01a20536-1ce9-725e-b4e8-26c51e208325',1,14,2,0,0);
INSERT INTO "_runs" VALUES(2,'01a20536-1d01-72d2-8e0b-94245999356c','01a20536-1d01-72d2-8e0b-94245999356c','54552e85d5762d45646392f9ce8543758ec7ba1657fd24201f95cb56325319de','old','running',NULL,NULL,NULL,NULL,'second',1.79538376217786550519e+09,NULL,3,2,0,NULL,'01a20536-1ce9-725e-b4e8-26c51e208325',1,14,2,0,0);
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'stepflow','0001_tables','2026-11-22 21:42:42.162957+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'stepflow','0002_views','2026-11-22 21:42:42.167420+00:00');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX "_runs_by_id"
    ON "_runs" ("id");
CREATE INDEX "_runs_by_status"
    ON "_runs" ("status", "id");
CREATE INDEX _runs_by_root ON _runs (root_id, id) WHERE parent_run IS NOT NULL;
CREATE INDEX _runs_by_flow ON _runs (flow_name, id) WHERE flow_name IS NOT NULL;
CREATE INDEX _runs_by_key ON _runs (key, id) WHERE key IS NOT NULL;
CREATE INDEX _runs_roots ON _runs (id) WHERE parent_run IS NULL;
CREATE INDEX _runs_by_parent ON _runs (parent_run, parent_item, parent_step, parent_key) WHERE parent_run IS NOT NULL;
CREATE INDEX _entries_inputs ON _entries (at) WHERE has_inputs AND (at & 4294967295) > 2;
CREATE UNIQUE INDEX "_results_by_place"
    ON "_results" ("place_at");
CREATE VIEW "runs" AS SELECT
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
CREATE VIEW "items" AS WITH admitted AS (
    SELECT
        runs.id AS run_id,
        runs.no AS run,
        runs.status AS run_status,
        runs.error AS run_error,
        json_extract(event.value, '$[1]') + input.key AS item,
        -- Plain text ends at its first NUL: to read it to the letter would take time that grows with the number of items.
        CASE
            WHEN input.type IN ('object', 'array') THEN input.value
            WHEN input.type IN ('true', 'false', 'null') THEN input.type
            ELSE json_quote(input.value)
        END AS input
    FROM _runs AS runs
    INNER JOIN _entries AS entries ON entries.at > runs.no << 32 AND entries.at < (runs.no + 1) << 32
    INNER JOIN json_each(CAST(entries.payload AS TEXT)) AS event
    INNER JOIN json_each(event.value, '$[2]') AS input
    WHERE entries.has_inputs AND json_extract(event.value, '$[0]') = 'in'
)

SELECT
    admitted.run_id,
    admitted.item,
    CASE
        WHEN json_extract(results.outcome, '$.outcome') = 'success' THEN 'succeeded'
        WHEN results.outcome IS NOT NULL THEN 'failed'
        WHEN admitted.run_status IN ('running', 'paused') THEN 'open'
        ELSE admitted.run_status
    END AS status,
    results.place_at & 4294967295 AS place,
    admitted.input,
    -- The second path is nowhere, so that the first value stands in an array: as it was written, whatever its type.
    CASE
        WHEN json_extract(results.outcome, '$.outcome') = 'success'
            THEN substr(
                json_extract(results.outcome, '$.output', '$.nowhere'),
                2,
                length(json_extract(results.outcome, '$.output', '$.nowhere')) - 7
            )
    END AS output,
    json_extract(coalesce(results.outcome, admitted.run_error), '$.code') AS error_code,
    json_extract(coalesce(results.outcome, admitted.run_error), '$.message') AS error_message
FROM admitted
LEFT JOIN _results AS results ON results.at = (admitted.run << 32) + admitted.item;
CREATE VIEW "attempts" AS WITH events AS (
    SELECT
        runs.id AS run_id,
        runs.flow_id,
        runs.status AS run_status,
        (entries.at & 4294967295) + event.key AS position,
        json_extract(event.value, '$[0]') AS kind,
        json_extract(event.value, '$[1]') AS item,
        json_extract(event.value, '$[2]') AS step,
        event.value AS event
    FROM _runs AS runs
    INNER JOIN _entries AS entries ON entries.at > runs.no << 32 AND entries.at < (runs.no + 1) << 32
    INNER JOIN json_each(CAST(entries.payload AS TEXT)) AS event
    WHERE entries.max_item >= 0
),

facts AS (
    SELECT
        *,
        CASE kind
            WHEN 'default' THEN json_extract(event, '$[5]')
            WHEN 'again' THEN json_extract(event, '$[6]')
            ELSE json_extract(event, '$[4]')
        END AS at
    FROM events
    WHERE kind IN ('go', 'ok', 'fail', 'default', 'again')
),

timed AS (
    SELECT
        *,
        max(CASE WHEN kind IN ('ok', 'fail', 'default') THEN at END) OVER (
            PARTITION BY run_id, item
            ORDER BY position
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS item_free_at
    FROM facts
),

pairs AS (
    SELECT
        *,
        lag(kind) OVER of_step AS kind_before,
        lag(event) OVER of_step AS event_before,
        lag(at) OVER of_step AS at_before,
        lead(kind) OVER of_step AS kind_after,
        lead(event) OVER of_step AS event_after,
        lead(at) OVER of_step AS at_after
    FROM timed
    WINDOW of_step AS (PARTITION BY run_id, item, step ORDER BY position)
)

SELECT
    pairs.run_id,
    pairs.item,
    pairs.step,
    json_extract(
        (SELECT CAST(blobs.content AS TEXT) FROM _blobs AS blobs WHERE blobs.id = pairs.flow_id),
        '$.steps[' || pairs.step || '].id'
    ) AS step_id,
    json_extract(pairs.event, '$[3]') AS attempt,
    CASE pairs.kind_after
        WHEN 'ok' THEN 'succeeded'
        WHEN 'fail' THEN 'failed'
        WHEN 'default' THEN 'defaulted'
        WHEN 'again' THEN 'retried'
        WHEN 'go' THEN 'lost'
        ELSE CASE WHEN pairs.run_status IN ('running', 'paused') THEN 'running' ELSE 'cancelled' END
    END AS status,
    max(
        0,
        pairs.at - CASE
            WHEN pairs.kind_before = 'again'
                THEN pairs.at_before + CAST(1000 * json_extract(pairs.event_before, '$[5]') AS INTEGER)
            ELSE pairs.item_free_at
        END
    ) AS queued_ms,
    pairs.at AS started_ms,
    CASE WHEN pairs.kind_after != 'go' THEN pairs.at_after END AS ended_ms,
    CASE WHEN pairs.kind_after != 'go' THEN pairs.at_after - pairs.at END AS running_ms,
    -- The second path is nowhere, so that the first value stands in an array: as it was written, whatever its type.
    CASE
        WHEN pairs.kind_after IN ('ok', 'default')
            THEN substr(
                json_extract(pairs.event_after, '$[3]', '$.nowhere'),
                2,
                length(json_extract(pairs.event_after, '$[3]', '$.nowhere')) - 7
            )
    END AS output,
    CASE pairs.kind_after
        WHEN 'fail' THEN json_extract(pairs.event_after, '$[3].code')
        WHEN 'default' THEN json_extract(pairs.event_after, '$[4].code')
        WHEN 'again' THEN json_extract(pairs.event_after, '$[4].code')
    END AS error_code,
    CASE pairs.kind_after
        WHEN 'fail' THEN json_extract(pairs.event_after, '$[3].message')
        WHEN 'default' THEN json_extract(pairs.event_after, '$[4].message')
        WHEN 'again' THEN json_extract(pairs.event_after, '$[4].message')
    END AS error_message,
    CASE pairs.kind_after WHEN 'again' THEN json_extract(pairs.event_after, '$[5]') END AS retry_delay_s
FROM pairs
WHERE pairs.kind = 'go';
CREATE VIEW "steps" AS WITH aged AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id, item, step ORDER BY attempt DESC) AS age,
        sum(queued_ms) OVER (PARTITION BY run_id, item, step) AS queued_in_all_ms,
        sum(running_ms) OVER (PARTITION BY run_id, item, step) AS running_in_all_ms
    FROM attempts
)

SELECT
    run_id,
    item,
    step,
    step_id,
    attempt AS attempts,
    status,
    queued_in_all_ms AS queued_ms,
    running_in_all_ms AS running_ms,
    started_ms,
    ended_ms,
    output,
    error_code,
    error_message
FROM aged
WHERE age = 1;
COMMIT;