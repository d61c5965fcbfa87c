-- +goose Up

-- What is known of a stream in a lane. One leader at a time writes progress, and
-- only under the term that it began. redrives is what was asked for beside it.
CREATE TABLE streams (
    tenant_id  INTEGER NOT NULL,
    name       TEXT NOT NULL,
    lane       INTEGER NOT NULL,
    target     TEXT NOT NULL,
    enabled    INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    term       INTEGER NOT NULL,
    leader     TEXT NOT NULL,
    led_at     INTEGER,
    epoch      INTEGER NOT NULL,
    saved_at   INTEGER,
    progress   TEXT NOT NULL,
    redrives   TEXT,
    PRIMARY KEY (tenant_id, name, lane)
) STRICT;
-- Exchange names are fixed: two streams in one virtual host would mix.
CREATE UNIQUE INDEX streams_target ON streams (target, lane) WHERE enabled;

-- When everything up to a position was confirmed, one a second at most.
CREATE TABLE stream_marks (
    tenant_id INTEGER NOT NULL,
    stream    TEXT NOT NULL,
    lane      INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    term      INTEGER NOT NULL,
    leader    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position)
) STRICT, WITHOUT ROWID;

-- Ranges of events of one kind that reached no consumer.
CREATE TABLE stream_gaps (
    tenant_id      INTEGER NOT NULL,
    stream         TEXT NOT NULL,
    lane           INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    reason         TEXT NOT NULL,
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    first_at       INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    resolved_at    INTEGER,
    PRIMARY KEY (tenant_id, stream, lane, kind, reason, first_position)
) STRICT;
CREATE INDEX stream_gaps_first ON stream_gaps (tenant_id, stream, lane, first_position);

-- Consumers' exceptions. exception is sealed with the key of the event's user;
-- NULL once the event says nothing any more.
CREATE TABLE stream_faults (
    tenant_id      INTEGER NOT NULL,
    stream         TEXT NOT NULL,
    lane           INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    message        BLOB NOT NULL,
    replay         INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    at             INTEGER NOT NULL,
    user_id        INTEGER NOT NULL,
    exception_type TEXT NOT NULL,
    exception      BLOB,
    host           TEXT NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position, message)
) STRICT;
CREATE INDEX stream_faults_user ON stream_faults (tenant_id, user_id, position) WHERE exception IS NOT NULL;

-- Consumers' word that an event was processed.
CREATE TABLE stream_acks (
    tenant_id INTEGER NOT NULL,
    stream    TEXT NOT NULL,
    lane      INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    replay    INTEGER NOT NULL,
    consumer  TEXT NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position, replay, consumer)
) STRICT, WITHOUT ROWID;

-- The number of a replay is the millisecond in which it was asked for.
CREATE TABLE replays (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    stream     TEXT NOT NULL,
    lane       INTEGER NOT NULL,
    filter     TEXT NOT NULL,
    queue      TEXT NOT NULL,
    status     TEXT NOT NULL,
    up_to      INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    published  INTEGER NOT NULL,
    unrouted   INTEGER NOT NULL,
    erased     INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
