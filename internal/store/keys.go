package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed/internal/secret"
)

// Keys is where the hub's keyset and the users' keys lie: apart from the data,
// so that a backup of the data holds neither. It implements secret.KeyStore and
// secret.UserKeyStore.
type Keys struct{ store *Store }

// Keys returns the key stores.
func (s *Store) Keys() Keys { return Keys{s} }

var (
	_ secret.KeyStore     = Keys{}
	_ secret.UserKeyStore = Keys{}
)

// table qualifies a table of the keys.
func (k Keys) table(name string) string {
	if k.store.engine == Postgres {
		return "bankfeed_keys." + name
	}
	return name
}

const keysetName = "data"

// LoadKeyset returns the encrypted keyset, nil if there is none yet.
func (k Keys) LoadKeyset(ctx context.Context) (keyset []byte, err error) {
	err = k.store.keys.QueryRowContext(ctx, `SELECT value FROM `+k.table("keysets")+` WHERE name = $1`, keysetName).Scan(&keyset)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return keyset, err
}

// SaveKeyset replaces old by new, or returns secret.ErrChanged.
func (k Keys) SaveKeyset(ctx context.Context, old, new []byte) error {
	var r sql.Result
	var err error
	if old == nil {
		r, err = k.store.keys.ExecContext(ctx, `INSERT INTO `+k.table("keysets")+` (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
			keysetName, new)
	} else {
		r, err = k.store.keys.ExecContext(ctx, `UPDATE `+k.table("keysets")+` SET value = $2 WHERE name = $1 AND value = $3`,
			keysetName, new, old)
	}
	return changed(r, err, secret.ErrChanged)
}

// Get returns a user's wrapped key, nil if there is none yet.
func (k Keys) Get(ctx context.Context, u secret.UserRef) ([]byte, error) {
	var wrapped []byte
	var destroyed sql.NullInt64
	err := k.store.keys.QueryRowContext(ctx, `SELECT wrapped, destroyed_at FROM `+k.table("user_keys")+` WHERE tenant_id = $1 AND user_id = $2`,
		u.Tenant, u.User).Scan(&wrapped, &destroyed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err == nil && destroyed.Valid:
		return nil, secret.ErrErased
	}
	return wrapped, err
}

// Put stores a user's first key and returns what is stored afterwards.
func (k Keys) Put(ctx context.Context, u secret.UserRef, wrapped []byte) ([]byte, error) {
	_, err := k.store.keys.ExecContext(ctx, `
		INSERT INTO `+k.table("user_keys")+` (tenant_id, user_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, user_id) DO NOTHING`,
		u.Tenant, u.User, wrapped)
	if err != nil {
		return nil, err
	}
	return k.Get(ctx, u)
}

// Replace replaces old by new, or returns secret.ErrChanged.
func (k Keys) Replace(ctx context.Context, u secret.UserRef, old, new []byte) error {
	r, err := k.store.keys.ExecContext(ctx, `
		UPDATE `+k.table("user_keys")+` SET wrapped = $3 WHERE tenant_id = $1 AND user_id = $2 AND wrapped = $4 AND destroyed_at IS NULL`,
		u.Tenant, u.User, new, old)
	return changed(r, err, secret.ErrChanged)
}

// Destroy overwrites the key by a tombstone.
func (k Keys) Destroy(ctx context.Context, u secret.UserRef, at time.Time) error {
	_, err := k.store.keys.ExecContext(ctx, `
		INSERT INTO `+k.table("user_keys")+` AS k (tenant_id, user_id, destroyed_at) VALUES ($1, $2, $3)
		ON CONFLICT (tenant_id, user_id) DO UPDATE SET wrapped = NULL, destroyed_at = coalesce(k.destroyed_at, excluded.destroyed_at)`,
		u.Tenant, u.User, at.UnixMicro())
	if err == nil && k.store.engine == SQLite {
		// secure_delete zeroed the key in the file; this empties the log that still shows it.
		_, err = k.store.keys.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	return err
}

// List returns keys in order, without tombstones.
func (k Keys) List(ctx context.Context, after secret.UserRef, limit int) ([]secret.WrappedKey, error) {
	return collect(ctx, k.store.keys, func(scan func(...any) error) (w secret.WrappedKey, err error) {
		err = scan(&w.Tenant, &w.User, &w.Wrapped)
		return w, err
	}, `SELECT tenant_id, user_id, wrapped FROM `+k.table("user_keys")+`
		WHERE (tenant_id > $1 OR (tenant_id = $1 AND user_id > $2)) AND destroyed_at IS NULL
		ORDER BY tenant_id, user_id LIMIT $3`, after.Tenant, after.User, limit)
}
