-- +goose Up

-- Receivers: subscriptions, and origins that requests name, which have no
-- settings. sealed holds a subscription's URL and headers, under the keyring.
-- replay is the number of the last one.
CREATE TABLE callback_targets (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    client     TEXT NOT NULL,
    sandbox    INTEGER NOT NULL,
    settings   TEXT,
    sealed     BLOB,
    origin     TEXT NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    health     TEXT NOT NULL,
    notes      TEXT NOT NULL,
    replay     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX callback_targets_origin ON callback_targets (tenant_id, sandbox, origin) WHERE settings IS NULL;

-- Up to where every event has a row, or is none of a subscription's business.
CREATE TABLE callback_cursors (
    tenant_id INTEGER NOT NULL,
    target    INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, target, lane)
) STRICT, WITHOUT ROWID;

-- Deliveries that wait or have ended. nth tells the callbacks of one event
-- apart; url is sealed with the key of the user. cause, status, node and
-- duration are those of the last attempt; one that succeeded stands nowhere
-- else, so that what is delivered at once is one row.
CREATE TABLE callback_deliveries (
    tenant_id     INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    target        INTEGER NOT NULL,
    lane          INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    replay        INTEGER NOT NULL,
    nth           INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    type          TEXT NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    url           BLOB,
    once          INTEGER NOT NULL,
    state         TEXT NOT NULL,
    reason        TEXT NOT NULL,
    attempts      INTEGER NOT NULL,
    step          INTEGER NOT NULL,
    cause         TEXT NOT NULL,
    status        INTEGER NOT NULL,
    node          TEXT NOT NULL,
    duration      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    first_at      INTEGER,
    last_at       INTEGER,
    next_at       INTEGER,
    ended_at      INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX callback_deliveries_event ON callback_deliveries (tenant_id, target, lane, position, replay, nth);
CREATE INDEX callback_deliveries_state ON callback_deliveries (tenant_id, target, state, id);
-- What waits: by when it is due (without a time it is behind another one), in
-- the order of its connection, and by what it needs of the log.
CREATE INDEX callback_deliveries_due ON callback_deliveries (tenant_id, target, next_at, position, last_at) WHERE state = 'waiting' AND next_at IS NOT NULL;
CREATE INDEX callback_deliveries_order ON callback_deliveries (tenant_id, target, connection_id, lane, position, replay) WHERE state = 'waiting';
CREATE INDEX callback_deliveries_log ON callback_deliveries (tenant_id, target, lane, position) WHERE state = 'waiting';

-- Attempts that failed. text is sealed with the key of the event's user; NULL
-- once the event says nothing any more.
CREATE TABLE callback_attempts (
    tenant_id INTEGER NOT NULL,
    delivery  INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    node      TEXT NOT NULL,
    cause     TEXT NOT NULL,
    status    INTEGER NOT NULL,
    wait      INTEGER NOT NULL,
    duration  INTEGER NOT NULL,
    user_id   INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    text      BLOB,
    PRIMARY KEY (tenant_id, delivery, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX callback_attempts_user ON callback_attempts (tenant_id, user_id, position) WHERE text IS NOT NULL;

-- Secrets that a tenant's callbacks are signed with, two of them live at most;
-- sealed with the keyring.
CREATE TABLE callback_secrets (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    secret     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
