package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// CallbackSecrets keeps what callbacks are signed with. It implements
// callback.SecretStore.
type CallbackSecrets struct{ store *Store }

// CallbackSecrets returns the store of callback secrets.
func (s *Store) CallbackSecrets() CallbackSecrets { return CallbackSecrets{s} }

var _ callback.SecretStore = CallbackSecrets{}

func callbackSecretAAD(tenant bankfeed.TenantID, id int64) []byte {
	return secret.AAD("callback secret", int64(tenant), id)
}

// sealedSecret is a live secret as it lies in its row.
type sealedSecret struct {
	id      int64
	sealed  []byte
	retires bool
}

// live reads the secrets that sign at a time, the newest first.
func (c CallbackSecrets) live(ctx context.Context, q querier, tenant bankfeed.TenantID, now time.Time) ([]sealedSecret, error) {
	return collect(ctx, q, func(scan func(...any) error) (s sealedSecret, err error) {
		err = scan(&s.id, &s.sealed, &s.retires)
		return s, err
	}, `SELECT id, secret, retired_at IS NOT NULL FROM callback_secrets
		WHERE tenant_id = $1 AND (retired_at IS NULL OR retired_at > $2) ORDER BY id DESC`, tenant, now.UnixMicro())
}

// change locks a tenant's secrets and hands over the live ones.
func (c CallbackSecrets) change(ctx context.Context, tenant bankfeed.TenantID, now time.Time, do func(tx *sql.Tx, live []sealedSecret) error) error {
	return c.store.tx(ctx, func(tx *sql.Tx) error {
		var id bankfeed.TenantID
		err := tx.QueryRowContext(ctx, `SELECT id FROM tenants WHERE id = $1`+c.store.forUpdate(), tenant).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return bankfeed.ErrNotFound
		}
		if err != nil {
			return err
		}
		live, err := c.live(ctx, tx, tenant, now)
		if err != nil {
			return err
		}
		return do(tx, live)
	})
}

// add stores a secret under the next number. Those that are long retired are
// forgotten on the way.
func (c CallbackSecrets) add(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, fresh bankfeed.Secret, now time.Time) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) + 1 FROM callback_secrets WHERE tenant_id = $1`, tenant).Scan(&id); err != nil {
		return 0, err
	}
	sealed, err := c.store.keyring.Seal([]byte(fresh), callbackSecretAAD(tenant, id))
	if err != nil {
		return 0, err
	}
	if _, err = tx.ExecContext(ctx, `INSERT INTO callback_secrets (tenant_id, id, secret, created_at) VALUES ($1, $2, $3, $4)`,
		tenant, id, sealed, now.UnixMicro()); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE callback_secrets SET secret = $3 WHERE tenant_id = $1 AND retired_at <= $2`, tenant, now.UnixMicro(), []byte{})
	return id, err
}

// Secrets implements callback.SecretStore.
func (c CallbackSecrets) Secrets(ctx context.Context, tenant bankfeed.TenantID, fresh bankfeed.Secret, now time.Time) ([]bankfeed.Secret, error) {
	live, err := c.live(ctx, c.store.read, tenant, now)
	if err != nil {
		return nil, err
	}
	if len(live) == 0 {
		err := c.change(ctx, tenant, now, func(tx *sql.Tx, others []sealedSecret) error {
			if live = others; len(live) > 0 { // another node was faster
				return nil
			}
			_, err := c.add(ctx, tx, tenant, fresh, now)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(live) == 0 {
			return []bankfeed.Secret{fresh}, nil
		}
	}
	out := make([]bankfeed.Secret, len(live))
	for i, s := range live {
		plain, err := c.store.keyring.Open(ctx, s.sealed, callbackSecretAAD(tenant, s.id))
		if err != nil {
			return nil, err
		}
		out[i] = bankfeed.Secret(plain)
	}
	return out, nil
}

// ListSecrets implements callback.SecretStore.
func (c CallbackSecrets) ListSecrets(ctx context.Context, tenant bankfeed.TenantID, limit int) ([]callback.SecretInfo, error) {
	return collect(ctx, c.store.read, func(scan func(...any) error) (i callback.SecretInfo, err error) {
		var created int64
		var retired sql.NullInt64
		err = scan(&i.ID, &created, &retired)
		i.CreatedAt, i.RetiredAt = time.UnixMicro(created).UTC(), at(retired)
		return i, err
	}, `SELECT id, created_at, retired_at FROM callback_secrets WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2`, tenant, limit)
}

// AddSecret implements callback.SecretStore.
func (c CallbackSecrets) AddSecret(ctx context.Context, tenant bankfeed.TenantID, fresh bankfeed.Secret, until, now time.Time) (callback.SecretInfo, error) {
	info := callback.SecretInfo{CreatedAt: now.UTC().Truncate(time.Microsecond)}
	err := c.change(ctx, tenant, now, func(tx *sql.Tx, live []sealedSecret) (err error) {
		if len(live) >= callback.MaxSecrets {
			return bankfeed.Errorf(bankfeed.Conflict, "there are %d live secrets: retire one first", len(live))
		}
		if !until.IsZero() {
			if _, err := tx.ExecContext(ctx, `UPDATE callback_secrets SET retired_at = $2 WHERE tenant_id = $1 AND retired_at IS NULL`,
				tenant, until.UnixMicro()); err != nil {
				return err
			}
		}
		info.ID, err = c.add(ctx, tx, tenant, fresh, now)
		return err
	})
	return info, err
}

// RetireSecret implements callback.SecretStore.
func (c CallbackSecrets) RetireSecret(ctx context.Context, tenant bankfeed.TenantID, id int64, now time.Time) error {
	return c.change(ctx, tenant, now, func(tx *sql.Tx, live []sealedSecret) error {
		found, left := false, false
		for _, s := range live {
			found = found || s.id == id
			left = left || s.id != id && !s.retires
		}
		if !found {
			return bankfeed.ErrNotFound
		}
		if !left {
			return bankfeed.Errorf(bankfeed.Conflict, "it is the only secret that stays: make another one first")
		}
		_, err := tx.ExecContext(ctx, `UPDATE callback_secrets SET retired_at = $3, secret = $4 WHERE tenant_id = $1 AND id = $2`,
			tenant, id, now.UnixMicro(), []byte{})
		return err
	})
}
