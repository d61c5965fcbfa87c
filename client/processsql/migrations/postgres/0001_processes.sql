-- +goose Up
CREATE TABLE processes (
    id          TEXT    NOT NULL PRIMARY KEY,
    user_name   TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    version     BIGINT NOT NULL,
    fence       BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    next_at     BIGINT,          -- ms; NULL: it has ended
    lease_until BIGINT NOT NULL, -- ms; 0: nobody works on it
    ended_at    BIGINT,          -- ms
    token       BYTEA,            -- sealed
    body        TEXT    NOT NULL  -- the rest, as JSON
);
CREATE INDEX processes_due ON processes (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX processes_ended ON processes (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE process_changes (
    sequence BIGINT NOT NULL PRIMARY KEY,
    process  TEXT    NOT NULL,
    user_name TEXT  NOT NULL,
    at       BIGINT NOT NULL, -- ms
    body     TEXT    NOT NULL
);
CREATE INDEX process_changes_process ON process_changes (process);
CREATE INDEX process_changes_at ON process_changes (at);

-- The last number given out. Its row lock makes number order commit order.
CREATE TABLE process_sequence (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    last BIGINT NOT NULL
);
INSERT INTO process_sequence (one, last) VALUES (1, 0);

-- +goose Down
DROP TABLE process_sequence;
DROP TABLE process_changes;
DROP TABLE processes;
