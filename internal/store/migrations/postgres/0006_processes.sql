-- +goose Up

-- Callbacks of the client's requests are tried once.
ALTER TABLE clients ADD COLUMN callbacks_once BOOLEAN NOT NULL DEFAULT FALSE;

-- folded_id is the client's own id in lower case, for users that it names in any
-- case. The contact is what a client noted. auto_sync is for new connections.
ALTER TABLE users ADD COLUMN folded_id TEXT;
ALTER TABLE users ADD COLUMN contact_email TEXT;
ALTER TABLE users ADD COLUMN contact_phone TEXT;
ALTER TABLE users ADD COLUMN auto_sync BOOLEAN NOT NULL DEFAULT TRUE;
CREATE UNIQUE INDEX users_folded_id ON users (tenant_id, folded_id) WHERE folded_id IS NOT NULL;

-- Processes of clients, each with a user of its own, by the hash of the token.
-- Once ended_at is set, or the last exchange was made, the token gives nothing
-- any more; at expires_at the user is erased.
CREATE TABLE processes (
    token      BYTEA NOT NULL PRIMARY KEY,
    tenant_id  BIGINT NOT NULL,
    client_id  TEXT NOT NULL,
    user_id    BIGINT NOT NULL,
    exchanges  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE INDEX processes_expiry ON processes (expires_at);
CREATE INDEX processes_user ON processes (tenant_id, user_id);

-- Erasures of a user's data: the user of before is erased, its successor has
-- login and tokens.
CREATE TABLE data_deletions (
    tenant_id  BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    erased_id  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX data_deletions_user ON data_deletions (tenant_id, user_id);
CREATE INDEX data_deletions_age ON data_deletions (created_at);
