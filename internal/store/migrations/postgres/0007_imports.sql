-- +goose Up

-- Documents of accounts and transactions that were handed in, by the hash of what
-- names their request. target is the connection that one adds to, 0 for a new one.
CREATE TABLE imports (
    tenant_id     BIGINT NOT NULL,
    user_id       BIGINT NOT NULL,
    key           BYTEA NOT NULL,
    digest        BYTEA NOT NULL,
    target        BIGINT NOT NULL,
    connection_id BIGINT NOT NULL,
    session_id    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    ended_at      BIGINT,
    version       BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX imports_connection ON imports (tenant_id, connection_id);
CREATE INDEX imports_ended ON imports (ended_at) WHERE target <> 0 AND ended_at IS NOT NULL;
