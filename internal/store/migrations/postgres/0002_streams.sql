-- +goose Up

-- What is known of a stream in a lane. One leader at a time writes progress, and
-- only under the term that it began. redrives is what was asked for beside it.
CREATE TABLE streams (
    tenant_id  BIGINT NOT NULL,
    name       TEXT NOT NULL,
    lane       BIGINT NOT NULL,
    target     TEXT NOT NULL,
    enabled    BOOLEAN NOT NULL,
    reason     TEXT NOT NULL,
    settings   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    start      BIGINT NOT NULL,
    term       BIGINT NOT NULL,
    leader     TEXT NOT NULL,
    led_at     BIGINT,
    epoch      BIGINT NOT NULL,
    saved_at   BIGINT,
    progress   TEXT NOT NULL,
    redrives   TEXT,
    PRIMARY KEY (tenant_id, name, lane)
);
-- Exchange names are fixed: two streams in one virtual host would mix.
CREATE UNIQUE INDEX streams_target ON streams (target, lane) WHERE enabled;

-- When everything up to a position was confirmed, one a second at most.
CREATE TABLE stream_marks (
    tenant_id BIGINT NOT NULL,
    stream    TEXT NOT NULL,
    lane      BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    term      BIGINT NOT NULL,
    leader    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position)
);

-- Ranges of events of one kind that reached no consumer.
CREATE TABLE stream_gaps (
    tenant_id      BIGINT NOT NULL,
    stream         TEXT NOT NULL,
    lane           BIGINT NOT NULL,
    kind           TEXT NOT NULL,
    reason         TEXT NOT NULL,
    first_position BIGINT NOT NULL,
    last_position  BIGINT NOT NULL,
    events         BIGINT NOT NULL,
    first_at       BIGINT NOT NULL,
    last_at        BIGINT NOT NULL,
    resolved_at    BIGINT,
    PRIMARY KEY (tenant_id, stream, lane, kind, reason, first_position)
);
CREATE INDEX stream_gaps_first ON stream_gaps (tenant_id, stream, lane, first_position);

-- Consumers' exceptions. exception is sealed with the key of the event's user;
-- NULL once the event says nothing any more.
CREATE TABLE stream_faults (
    tenant_id      BIGINT NOT NULL,
    stream         TEXT NOT NULL,
    lane           BIGINT NOT NULL,
    position       BIGINT NOT NULL,
    message        BYTEA NOT NULL,
    replay         BIGINT NOT NULL,
    kind           TEXT NOT NULL,
    at             BIGINT NOT NULL,
    user_id        BIGINT NOT NULL,
    exception_type TEXT NOT NULL,
    exception      BYTEA,
    host           TEXT NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position, message)
);
CREATE INDEX stream_faults_user ON stream_faults (tenant_id, user_id, position) WHERE exception IS NOT NULL;

-- Consumers' word that an event was processed.
CREATE TABLE stream_acks (
    tenant_id BIGINT NOT NULL,
    stream    TEXT NOT NULL,
    lane      BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    replay    BIGINT NOT NULL,
    consumer  TEXT NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, stream, lane, position, replay, consumer)
);

-- The number of a replay is the millisecond in which it was asked for.
CREATE TABLE replays (
    tenant_id  BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    stream     TEXT NOT NULL,
    lane       BIGINT NOT NULL,
    filter     TEXT NOT NULL,
    queue      TEXT NOT NULL,
    status     TEXT NOT NULL,
    up_to      BIGINT NOT NULL,
    total      BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    published  BIGINT NOT NULL,
    unrouted   BIGINT NOT NULL,
    erased     BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    started_at BIGINT,
    ended_at   BIGINT,
    PRIMARY KEY (tenant_id, id)
);

-- The leader saves up to ten times a second; room on the page keeps that in place.
ALTER TABLE streams SET (fillfactor = 50);
