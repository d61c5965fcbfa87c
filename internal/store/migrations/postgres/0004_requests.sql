-- +goose Up

-- Calls to an API whose work goes on after the answer. token is the hash of the
-- secret of a request's page. doc is sealed with the key of the user.
CREATE TABLE requests (
    tenant_id  BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    client_id  TEXT NOT NULL,
    sandbox    BOOLEAN NOT NULL,
    kind       TEXT NOT NULL,
    status     TEXT NOT NULL,
    token      BYTEA,
    created_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    expires_at BIGINT,
    ended_at   BIGINT,
    version    BIGINT NOT NULL,
    doc        BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX requests_token ON requests (token) WHERE token IS NOT NULL;
CREATE INDEX requests_user ON requests (tenant_id, user_id, id);

-- What a request covers. outcome is how the connection stood when the session had
-- ended, NULL before.
CREATE TABLE request_members (
    tenant_id     BIGINT NOT NULL,
    request_id    BIGINT NOT NULL,
    connection_id BIGINT NOT NULL,
    session_id    BIGINT NOT NULL,
    outcome       TEXT,
    PRIMARY KEY (tenant_id, request_id, connection_id)
);
CREATE INDEX request_members_session ON request_members (tenant_id, session_id) WHERE outcome IS NULL;
CREATE INDEX request_members_connection ON request_members (tenant_id, connection_id);
CREATE INDEX requests_ended ON requests (ended_at) WHERE ended_at IS NOT NULL;
