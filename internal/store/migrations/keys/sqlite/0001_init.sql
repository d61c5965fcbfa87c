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
