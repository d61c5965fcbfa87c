-- +goose Up

-- name is sealed. idem is a hash of the caller's key for the request that made
-- the case.
CREATE TABLE cases (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    idem       BLOB,
    name       BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX cases_user ON cases (tenant_id, user_id, id);
CREATE UNIQUE INDEX cases_idem ON cases (tenant_id, user_id, idem) WHERE idem IS NOT NULL;

-- A case goes with any of its data sources.
CREATE TABLE case_sources (
    tenant_id     INTEGER NOT NULL,
    case_id       INTEGER NOT NULL,
    ord           INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, case_id, ord)
) STRICT, WITHOUT ROWID;
CREATE INDEX case_sources_connection ON case_sources (tenant_id, connection_id);

-- order_data (what was asked for) and result are sealed.
CREATE TABLE reports (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    case_id    INTEGER NOT NULL,
    category   TEXT NOT NULL,
    type       TEXT NOT NULL,
    status     TEXT NOT NULL,
    code       TEXT NOT NULL,
    faults     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    order_data BLOB NOT NULL,
    result     BLOB,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX reports_type ON reports (tenant_id, case_id, category, type);
CREATE INDEX reports_user ON reports (tenant_id, user_id);
