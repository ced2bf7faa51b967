-- What the workers of each engine can do, by queue: other engines route steps by it. A queue's name may be longer than an
-- entry of an index, so its digest stands for it.
CREATE TABLE stepflow._announced (
    queue TEXT NOT NULL,
    digest BYTEA NOT NULL,
    owner TEXT COLLATE "C" NOT NULL REFERENCES stepflow._engines (owner) ON DELETE CASCADE,
    listed BYTEA NOT NULL,
    PRIMARY KEY (digest, owner)
);

CREATE INDEX _announced_by_owner ON stepflow._announced (owner);
