-- Names that begin with an underscore are the store's own and may change.
-- Ids compare by their bytes, whatever the database's collation.

CREATE TABLE stepflow._engines (
    owner TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL,
    url TEXT,
    place TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,
    ttl_s DOUBLE PRECISION NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE stepflow._runs (
    no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    root_id TEXT COLLATE "C" NOT NULL,
    flow_id TEXT COLLATE "C" NOT NULL,
    flow_name TEXT,
    status TEXT NOT NULL,
    parent_run TEXT COLLATE "C",
    parent_item BIGINT,
    parent_step BIGINT,
    parent_key TEXT,
    key TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    total BIGINT,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    error TEXT,
    group_name TEXT NOT NULL,
    journal_format INTEGER NOT NULL,
    retry_of TEXT COLLATE "C",
    is_sealed BOOLEAN NOT NULL DEFAULT false,
    owner TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    claims BIGINT NOT NULL DEFAULT 0,
    last BIGINT NOT NULL DEFAULT 0,
    places BIGINT NOT NULL DEFAULT 0,
    checkpoint BIGINT NOT NULL DEFAULT 0,
    low_water BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

-- None of these has a column that a commit of a running run changes, so its row stays where it is in every index.
CREATE INDEX _runs_by_status ON stepflow._runs (status, id);
CREATE INDEX _runs_unfinished ON stepflow._runs (owner, root_id) WHERE status IN ('running', 'paused');
CREATE INDEX _runs_by_root ON stepflow._runs (root_id, id) WHERE parent_run IS NOT NULL;
CREATE INDEX _runs_roots ON stepflow._runs (id) WHERE parent_run IS NULL;
CREATE INDEX _runs_ended ON stepflow._runs (ended_at, id) WHERE parent_run IS NULL AND ended_at IS NOT NULL;
-- What users choose may be longer than an entry of an index.
CREATE INDEX _runs_by_flow ON stepflow._runs (left(flow_name, 100), id) WHERE flow_name IS NOT NULL;
CREATE INDEX _runs_by_key ON stepflow._runs USING hash (key) WHERE key IS NOT NULL AND parent_run IS NULL;
CREATE INDEX _runs_by_parent ON stepflow._runs (parent_run, parent_item, parent_step, left(parent_key, 100))
WHERE parent_run IS NOT NULL;

CREATE TABLE stepflow._keys (
    digest BYTEA PRIMARY KEY,
    run_id TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE stepflow._entries (
    run_no BIGINT NOT NULL,
    first BIGINT NOT NULL,
    count BIGINT NOT NULL,
    min_item BIGINT NOT NULL,
    max_item BIGINT NOT NULL,
    written_at DOUBLE PRECISION NOT NULL,
    has_inputs BOOLEAN NOT NULL,
    is_checkpoint BOOLEAN NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (run_no, first)
);

CREATE INDEX _entries_inputs ON stepflow._entries (run_no, first) WHERE has_inputs;

CREATE TABLE stepflow._results (
    run_no BIGINT NOT NULL,
    item BIGINT NOT NULL,
    place BIGINT NOT NULL,
    outcome BYTEA NOT NULL,
    PRIMARY KEY (run_no, item),
    UNIQUE (run_no, place)
);

CREATE TABLE stepflow._blobs (
    id TEXT COLLATE "C" PRIMARY KEY,
    type TEXT NOT NULL,
    filename TEXT,
    content BYTEA NOT NULL,
    touched_at DOUBLE PRECISION NOT NULL
);

CREATE INDEX _blobs_by_use ON stepflow._blobs (touched_at);

CREATE TABLE stepflow._inbox (
    no BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    id TEXT COLLATE "C" PRIMARY KEY,
    run_id TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    payload BYTEA NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX _inbox_by_run ON stepflow._inbox (run_id);

CREATE TABLE stepflow._offers (
    no BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    task_id TEXT COLLATE "C" PRIMARY KEY,
    attempt BIGINT NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    queue TEXT NOT NULL,
    body BYTEA NOT NULL,
    offered_by TEXT COLLATE "C" NOT NULL,
    claimed_by TEXT COLLATE "C",
    answer BYTEA,
    answered_at TIMESTAMPTZ
);

CREATE INDEX _offers_by_queue ON stepflow._offers (left(queue, 100), no) WHERE answer IS NULL;
CREATE INDEX _offers_by_run ON stepflow._offers (run_id);
