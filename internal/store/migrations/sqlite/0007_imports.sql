-- +goose Up

-- Documents of accounts and transactions that were handed in, by the hash of what
-- names their request. target is the connection that one adds to, 0 for a new one.
CREATE TABLE imports (
    tenant_id     INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    key           BLOB NOT NULL,
    digest        BLOB NOT NULL,
    target        INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    session_id    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    version       INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id, key)
) STRICT;
CREATE INDEX imports_connection ON imports (tenant_id, connection_id);
CREATE INDEX imports_ended ON imports (ended_at) WHERE target <> 0 AND ended_at IS NOT NULL;
