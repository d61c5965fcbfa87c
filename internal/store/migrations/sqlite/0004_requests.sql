-- +goose Up

-- Calls to an API whose work goes on after the answer. token is the hash of the
-- secret of a request's page. doc is sealed with the key of the user.
CREATE TABLE requests (
    tenant_id  INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    client_id  TEXT NOT NULL,
    sandbox    INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    status     TEXT NOT NULL,
    token      BLOB,
    created_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    expires_at INTEGER,
    ended_at   INTEGER,
    version    INTEGER NOT NULL,
    doc        BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX requests_token ON requests (token) WHERE token IS NOT NULL;
CREATE INDEX requests_user ON requests (tenant_id, user_id, id);

-- What a request covers. outcome is how the connection stood when the session had
-- ended, NULL before.
CREATE TABLE request_members (
    tenant_id     INTEGER NOT NULL,
    request_id    INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    session_id    INTEGER NOT NULL,
    outcome       TEXT,
    PRIMARY KEY (tenant_id, request_id, connection_id)
) STRICT;
CREATE INDEX request_members_session ON request_members (tenant_id, session_id) WHERE outcome IS NULL;
CREATE INDEX request_members_connection ON request_members (tenant_id, connection_id);
CREATE INDEX requests_ended ON requests (ended_at) WHERE ended_at IS NOT NULL;
