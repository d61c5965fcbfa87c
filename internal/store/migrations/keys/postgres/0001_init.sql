-- +goose Up

CREATE SCHEMA IF NOT EXISTS bankfeed_keys;

-- A key per user, wrapped by the hub's keyring. It lies apart from the data and
-- is never part of a backup of the data: without it an erased user's sealed
-- records stay unreadable in every copy. A destroyed key leaves its row behind,
-- so that an erasure can be told from a user who never had a key.
CREATE TABLE bankfeed_keys.user_keys (
    tenant_id    BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    wrapped      BYTEA,
    destroyed_at BIGINT,
    PRIMARY KEY (tenant_id, user_id)
);

-- The hub's own data keys, encrypted under the master key. They lie here, because
-- a restored backup of the data must not bring back a keyset without the keys
-- that were added since.
CREATE TABLE bankfeed_keys.keysets (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);
