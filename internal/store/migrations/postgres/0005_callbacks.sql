-- +goose Up

-- Receivers: subscriptions, and origins that requests name, which have no
-- settings. sealed holds a subscription's URL and headers, under the keyring.
-- replay is the number of the last one.
CREATE TABLE callback_targets (
    tenant_id  BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    client     TEXT NOT NULL,
    sandbox    BOOLEAN NOT NULL,
    settings   TEXT,
    sealed     BYTEA,
    origin     TEXT NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    health     TEXT NOT NULL,
    notes      TEXT NOT NULL,
    replay     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX callback_targets_origin ON callback_targets (tenant_id, sandbox, origin) WHERE settings IS NULL;

-- Up to where every event has a row, or is none of a subscription's business.
CREATE TABLE callback_cursors (
    tenant_id BIGINT NOT NULL,
    target    BIGINT NOT NULL,
    lane      BIGINT NOT NULL,
    epoch     BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, target, lane)
);

-- Deliveries that wait or have ended. nth tells the callbacks of one event
-- apart; url is sealed with the key of the user. cause, status, node and
-- duration are those of the last attempt; one that succeeded stands nowhere
-- else, so that what is delivered at once is one row.
CREATE TABLE callback_deliveries (
    tenant_id     BIGINT NOT NULL,
    id            BIGINT NOT NULL,
    target        BIGINT NOT NULL,
    lane          BIGINT NOT NULL,
    position      BIGINT NOT NULL,
    replay        BIGINT NOT NULL,
    nth           BIGINT NOT NULL,
    epoch         BIGINT NOT NULL,
    type          TEXT NOT NULL,
    user_id       BIGINT NOT NULL,
    connection_id BIGINT NOT NULL,
    url           BYTEA,
    once          BOOLEAN NOT NULL,
    state         TEXT NOT NULL,
    reason        TEXT NOT NULL,
    attempts      BIGINT NOT NULL,
    step          BIGINT NOT NULL,
    cause         TEXT NOT NULL,
    status        BIGINT NOT NULL,
    node          TEXT NOT NULL,
    duration      BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    first_at      BIGINT,
    last_at       BIGINT,
    next_at       BIGINT,
    ended_at      BIGINT,
    PRIMARY KEY (tenant_id, id)
);
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
    tenant_id BIGINT NOT NULL,
    delivery  BIGINT NOT NULL,
    number    BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    node      TEXT NOT NULL,
    cause     TEXT NOT NULL,
    status    BIGINT NOT NULL,
    wait      BIGINT NOT NULL,
    duration  BIGINT NOT NULL,
    user_id   BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    text      BYTEA,
    PRIMARY KEY (tenant_id, delivery, number)
);
CREATE INDEX callback_attempts_user ON callback_attempts (tenant_id, user_id, position) WHERE text IS NOT NULL;

-- Secrets that a tenant's callbacks are signed with, two of them live at most;
-- sealed with the keyring.
CREATE TABLE callback_secrets (
    tenant_id  BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    secret     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT,
    PRIMARY KEY (tenant_id, id)
);

-- Leaders write these all the time; room on the page keeps that in place.
ALTER TABLE callback_targets SET (fillfactor = 50);
ALTER TABLE callback_cursors SET (fillfactor = 50);
