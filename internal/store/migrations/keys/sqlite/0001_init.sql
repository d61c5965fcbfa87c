-- +goose Up

-- A key per user, wrapped by the hub's keyring. It lies apart from the data and
-- is never part of a backup of the data: without it an erased user's sealed
-- records stay unreadable in every copy. A destroyed key leaves its row behind,
-- so that an erasure can be told from a user who never had a key.
CREATE TABLE user_keys (
    tenant_id    INTEGER NOT NULL,
    user_id      INTEGER NOT NULL,
    wrapped      BLOB,
    destroyed_at INTEGER,
    PRIMARY KEY (tenant_id, user_id)
) STRICT;

-- The hub's own data keys, encrypted under the master key. They lie here, because
-- a restored backup of the data must not bring back a keyset without the keys
-- that were added since.
CREATE TABLE keysets (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
