-- +goose Up
-- A user that is being erased keeps the client's own id for it until the
-- erasure ends, because the deletions that are still told name it by that. The
-- id is free for another user at once.
DROP INDEX users_external_id;
CREATE UNIQUE INDEX users_external_id ON users (tenant_id, external_id) WHERE external_id IS NOT NULL AND erased_at IS NULL;
