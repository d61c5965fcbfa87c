-- +goose Up

-- What this installation is: born_ms, epoch_ms.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Numbers are taken from here in blocks, outside the transaction that uses them.
CREATE TABLE id_blocks (
    tenant_id INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    next      INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind)
) STRICT;

CREATE TABLE tenants (
    id         INTEGER NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE clients (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant_id  INTEGER NOT NULL REFERENCES tenants (id),
    name       TEXT NOT NULL,
    sandbox    INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- At most two live secrets a client, so that one can be rotated in while the other still works.
CREATE TABLE client_secrets (
    client_id  TEXT NOT NULL REFERENCES clients (id),
    hash       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (client_id, hash)
) STRICT;

CREATE TABLE users (
    tenant_id        INTEGER NOT NULL REFERENCES tenants (id),
    id               INTEGER NOT NULL,
    external_id      TEXT,
    email            TEXT,
    password_hash    TEXT,
    business_context TEXT NOT NULL,
    sandbox          INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    erased_at        INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX users_external_id ON users (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX users_email ON users (tenant_id, lower(email)) WHERE email IS NOT NULL;
CREATE INDEX users_erased ON users (erased_at) WHERE erased_at IS NOT NULL;

-- Access and refresh tokens, by hash only. A refresh token that was exchanged
-- stays until it expires, so that its second use is noticed.
CREATE TABLE tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    family     BLOB NOT NULL,
    client_id  TEXT NOT NULL REFERENCES clients (id),
    tenant_id  INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    scope      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX tokens_family ON tokens (family);
CREATE INDEX tokens_expiry ON tokens (expires_at);
CREATE INDEX tokens_user ON tokens (tenant_id, user_id);

CREATE TABLE connections (
    tenant_id    INTEGER NOT NULL,
    id           INTEGER NOT NULL,
    user_id      INTEGER NOT NULL,
    provider_id  TEXT NOT NULL,
    status       TEXT NOT NULL,
    sandbox      INTEGER NOT NULL,
    next_sync_at INTEGER,
    version      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    doc          TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX connections_user ON connections (tenant_id, user_id, id);
CREATE INDEX connections_due ON connections (next_sync_at) WHERE next_sync_at IS NOT NULL;

CREATE TABLE consents (
    tenant_id     INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    mode          TEXT NOT NULL,
    status        TEXT NOT NULL,
    external_id   TEXT,
    valid_until   TEXT NOT NULL,
    warned_at     INTEGER,
    version       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    doc           TEXT NOT NULL,
    secret        BLOB,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX consents_connection ON consents (tenant_id, connection_id);
CREATE INDEX consents_expiry ON consents (valid_until) WHERE status = 'confirmed';
CREATE INDEX consents_external_id ON consents (tenant_id, external_id) WHERE external_id IS NOT NULL;

-- What a consent was, one row a version; rows are only ever added.
CREATE TABLE consent_history (
    tenant_id  INTEGER NOT NULL,
    consent_id INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    status     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    doc        TEXT NOT NULL,
    PRIMARY KEY (tenant_id, consent_id, version)
) STRICT;

CREATE TABLE accounts (
    tenant_id     INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    type          TEXT NOT NULL,
    status        TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    removed_at    INTEGER,
    data          BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX accounts_user ON accounts (tenant_id, user_id, id);
CREATE INDEX accounts_connection ON accounts (tenant_id, connection_id, id);

-- Amounts are exact decimals with the bank's scale. Everything that is not
-- asked for in a WHERE lies sealed in data, the bank's own record included.
-- identity, fingerprint and content are 64-bit hashes; they need no index,
-- because a listing reads the rows of its window once and compares in memory.
CREATE TABLE transactions (
    tenant_id   INTEGER NOT NULL,
    id          INTEGER NOT NULL,
    user_id     INTEGER NOT NULL,
    account_id  INTEGER NOT NULL,
    day         TEXT NOT NULL,
    status      TEXT NOT NULL,
    amount      TEXT NOT NULL,
    currency    TEXT NOT NULL,
    identity    INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    content     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX transactions_day ON transactions (tenant_id, user_id, day, id);
CREATE INDEX transactions_provisional ON transactions (tenant_id, account_id) WHERE status IN ('pending', 'hold');

CREATE TABLE sessions (
    tenant_id     INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    status        TEXT NOT NULL,
    stage         TEXT NOT NULL,
    external_id   TEXT,
    open          INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    doc           TEXT NOT NULL,
    psu           BLOB,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX sessions_open ON sessions (tenant_id, connection_id) WHERE open;
CREATE INDEX sessions_connection ON sessions (tenant_id, connection_id, id);
CREATE INDEX sessions_external_id ON sessions (tenant_id, external_id) WHERE external_id IS NOT NULL;

-- External ids of requests that joined a session which another one had opened.
CREATE TABLE session_aliases (
    tenant_id   INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    session_id  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, external_id, session_id)
) STRICT;
CREATE INDEX session_aliases_session ON session_aliases (tenant_id, session_id);

CREATE TABLE progress (
    tenant_id  INTEGER NOT NULL,
    session_id INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    mode       TEXT NOT NULL,
    doc        TEXT NOT NULL,
    PRIMARY KEY (tenant_id, session_id, account_id, mode)
) STRICT;

-- The ledger of unattended accesses, written before each call.
CREATE TABLE accesses (
    tenant_id  INTEGER NOT NULL,
    consent_id INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX accesses_consent ON accesses (tenant_id, consent_id, at);

CREATE TABLE links (
    token         BLOB NOT NULL PRIMARY KEY,
    state         BLOB UNIQUE,
    tenant_id     INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    session_id    INTEGER NOT NULL,
    mode          TEXT NOT NULL,
    consent_id    INTEGER NOT NULL,
    redirect_url  TEXT NOT NULL,
    credentials   BLOB,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    ended_at      INTEGER
) STRICT;
CREATE INDEX links_session ON links (tenant_id, session_id);
CREATE INDEX links_expiry ON links (expires_at);

-- Work that one node at a time may do. The row lives as long as the work; a
-- claim raises fence, and every commit of the work carries it.
CREATE TABLE work (
    kind        TEXT NOT NULL,
    tenant_id   INTEGER NOT NULL,
    id          INTEGER NOT NULL,
    grp         TEXT NOT NULL,
    attended    INTEGER NOT NULL,
    ready_at    INTEGER NOT NULL,
    owner       TEXT,
    fence       INTEGER NOT NULL,
    lease_until INTEGER,
    PRIMARY KEY (kind, tenant_id, id)
) STRICT;
CREATE INDEX work_ready ON work (kind, attended, ready_at);
CREATE INDEX work_owned ON work (kind, grp) WHERE owner IS NOT NULL;

-- The last position of each lane; the row is locked as a commit's last step,
-- which makes the order of positions the order of commits.
CREATE TABLE lanes (
    tenant_id INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    floor     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, lane)
) STRICT;

-- payload is sealed with the user's key; NULL after an erasure.
CREATE TABLE events (
    tenant_id     INTEGER NOT NULL,
    lane          INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    type          TEXT NOT NULL,
    topic         INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    user_id       INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    account_id    INTEGER NOT NULL,
    session_id    INTEGER NOT NULL,
    payload       BLOB,
    PRIMARY KEY (tenant_id, lane, position)
) STRICT;
CREATE INDEX events_user ON events (tenant_id, user_id, position);
CREATE INDEX events_connections ON events (tenant_id, user_id, position) WHERE topic = 1;

CREATE TABLE queues (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant_id  INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    topics     TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    cursor     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX queues_expiry ON queues (expires_at);
CREATE INDEX queues_user ON queues (tenant_id, user_id);
