package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// putImport stores what is remembered of a document. Of two equal requests at
// the same time one comes first; the other gets ErrConflict and finds it.
func (s *Store) putImport(ctx context.Context, tx *sql.Tx, c *bankfeed.Change) error {
	i := c.Import
	if i == nil {
		return nil
	}
	var r sql.Result
	var err error
	if i.Version == 0 {
		r, err = tx.ExecContext(ctx, `
			INSERT INTO imports (tenant_id, user_id, key, digest, target, connection_id, session_id, created_at, ended_at, version)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) ON CONFLICT DO NOTHING`,
			c.Tenant, c.User, i.Key, i.Digest, i.Target, i.Connection, i.Session, i.CreatedAt.UnixMicro(), microsOf(i.EndedAt))
	} else {
		r, err = tx.ExecContext(ctx, `
			UPDATE imports SET connection_id = $5, session_id = $6, created_at = $7, ended_at = $8, version = version + 1
			WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND version = $4`,
			c.Tenant, c.User, i.Key, i.Version, i.Connection, i.Session, i.CreatedAt.UnixMicro(), microsOf(i.EndedAt))
	}
	return changed(r, err, bankfeed.ErrConflict)
}

const importColumns = `user_id, key, digest, target, connection_id, session_id, created_at, ended_at, version`

func scanImport(scan func(...any) error) (i bankfeed.Import, err error) {
	var created, ended sql.NullInt64
	err = scan(&i.User, &i.Key, &i.Digest, &i.Target, &i.Connection, &i.Session, &created, &ended, &i.Version)
	i.CreatedAt, i.EndedAt = at(created), when(ended)
	return i, err
}

// Import finds what a user handed in under a key.
func (s *Store) Import(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, key []byte) (bankfeed.Import, error) {
	return one(ctx, s.read, scanImport, `SELECT `+importColumns+` FROM imports WHERE tenant_id = $1 AND user_id = $2 AND key = $3`, tenant, user, key)
}

// ImportOf finds the first document with a digest that made a connection for a
// user.
func (s *Store) ImportOf(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, digest []byte) (bankfeed.Import, error) {
	return one(ctx, s.read, scanImport, `SELECT `+importColumns+` FROM imports
		WHERE tenant_id = $1 AND user_id = $2 AND digest = $3 AND target = 0 ORDER BY created_at, connection_id LIMIT 1`, tenant, user, digest)
}

// Unfinished reports whether the document that makes a connection is not stored
// whole yet.
func (s *Store) Unfinished(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) (open bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM imports WHERE tenant_id = $1 AND user_id = $2 AND connection_id = $3 AND target = 0 AND ended_at IS NULL)`,
		tenant, user, connection).Scan(&open)
	return open, err
}

// ClaimImport takes up the work of storing a document, for whoever handed it in.
// It is ErrBusy while another one stores it, and ErrNotFound when there is no
// such work any more.
func (s *Store) ClaimImport(ctx context.Context, tenant bankfeed.TenantID, session bankfeed.SessionID, owner string, now, until time.Time) (f bankfeed.Fence, err error) {
	f = bankfeed.Fence{Kind: bankfeed.WorkImport, Tenant: tenant, ID: int64(session)}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
			UPDATE work SET owner = $4, fence = fence + 1, lease_until = $6, ready_at = $7
			WHERE kind = $1 AND tenant_id = $2 AND id = $3 AND (owner IS NULL OR lease_until < $5) RETURNING fence`,
			f.Kind, tenant, session, owner, now.UnixMicro(), until.UnixMicro(), int64(never)).Scan(&f.Number)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var there bool
		err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM work WHERE kind = $1 AND tenant_id = $2 AND id = $3)`, f.Kind, tenant, session).Scan(&there)
		if err == nil && there {
			return bankfeed.ErrBusy
		}
		return errors.Join(err, bankfeed.ErrNotFound)
	})
	return f, err
}

// RenewImport keeps claimed work for longer; ErrFenced if somebody else has it.
func (s *Store) RenewImport(ctx context.Context, f bankfeed.Fence, owner string, until time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE work SET lease_until = $6 WHERE kind = $1 AND tenant_id = $2 AND id = $3 AND fence = $4 AND owner = $5`,
			f.Kind, f.Tenant, f.ID, f.Number, owner, until.UnixMicro())
		return changed(r, err, bankfeed.ErrFenced)
	})
}

// EachKnown gives the stored transactions of an account one by one, in any
// order: those of some days, or with whole those of any day. f must not use the
// store.
func (s *Store) EachKnown(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, first, last bankfeed.Date, whole bool,
	f func(*identity.Known)) (err error) {
	if whole {
		first, last = "", "9999-12-31"
	}
	rows, err := s.read.QueryContext(ctx, `
		SELECT id, day, status, identity, fingerprint, content FROM transactions
		WHERE tenant_id = $1 AND user_id = $2 AND account_id = $3 AND day >= $4 AND day <= $5`, tenant, user, account, first, last)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var k identity.Known
		var key, fingerprint, content int64
		if err := rows.Scan(&k.ID, &k.Day, &k.Status, &key, &fingerprint, &content); err != nil {
			return err
		}
		k.Identity = bankfeed.Identity{Key: uint64(key), Fingerprint: uint64(fingerprint), Content: uint64(content)}
		f(&k)
	}
	return rows.Err()
}

// SweepImports forgets documents that were added to a connection and stored
// before a time: their keys have served their purpose. Those that made a
// connection are remembered as long as it is there.
func (s *Store) SweepImports(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM imports WHERE (tenant_id, user_id, key) IN (
			SELECT tenant_id, user_id, key FROM imports WHERE target <> 0 AND ended_at IS NOT NULL AND ended_at < $1 LIMIT $2)`, before.UnixMicro(), limit)
		if err != nil {
			return err
		}
		rows, err := r.RowsAffected()
		n = int(rows)
		return err
	})
	return n, err
}
