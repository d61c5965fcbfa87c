package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/consent"
)

var _ consent.Store = (*Store)(nil)

// RemovalState implements consent.Store.
func (s *Store) RemovalState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error) {
	var user bankfeed.UserID
	err := s.read.QueryRowContext(ctx, `SELECT user_id FROM connections WHERE tenant_id = $1 AND id = $2`, tenant, id).Scan(&user)
	if errors.Is(err, sql.ErrNoRows) {
		return bankfeed.ConnectionState{}, bankfeed.ErrNotFound
	}
	if err != nil {
		return bankfeed.ConnectionState{}, err
	}
	return s.state(ctx, tenant, user, id, `connection_id = $2 AND open`, int64(id), true)
}

// EndingConsents implements consent.Store.
func (s *Store) EndingConsents(ctx context.Context, q consent.Ending) ([]consent.EndingConsent, error) {
	where := ``
	if q.Unwarned {
		where = ` AND warned_at IS NULL`
	}
	return collect(ctx, s.read, func(scan func(...any) error) (e consent.EndingConsent, err error) {
		err = scan(&e.Tenant, &e.User, &e.Connection, &e.Consent, &e.ValidUntil)
		return e, err
	}, `SELECT tenant_id, user_id, connection_id, id, valid_until FROM consents
		WHERE status = 'confirmed' AND valid_until <> '' AND valid_until < $1 AND (valid_until, tenant_id, id) > ($2, $3, $4)`+where+`
		ORDER BY valid_until, tenant_id, id LIMIT $5`,
		q.Before, q.After.ValidUntil, q.After.Tenant, q.After.Consent, q.Limit)
}

// SweepLinks implements consent.Store.
func (s *Store) SweepLinks(ctx context.Context, expired, forgotten time.Time, limit int) (n int, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		n = 0
		for _, q := range []struct {
			query string
			at    time.Time
		}{
			{`UPDATE links SET credentials = NULL WHERE token IN (
				SELECT token FROM links WHERE expires_at < $1 AND credentials IS NOT NULL ORDER BY expires_at LIMIT $2)`, expired},
			{`DELETE FROM links WHERE token IN (SELECT token FROM links WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`, forgotten},
		} {
			r, err := tx.ExecContext(ctx, q.query, q.at.UnixMicro(), limit)
			if err != nil {
				return err
			}
			rows, err := r.RowsAffected()
			if err != nil {
				return err
			}
			n = max(n, int(rows))
		}
		return nil
	})
	return n, err
}

// FinishWork implements consent.Store.
func (s *Store) FinishWork(ctx context.Context, f bankfeed.Fence, r bankfeed.Release) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return s.checkFence(ctx, tx, &f, &r) })
}

// FinishErasure implements consent.Store. The user's key is gone by now, so the
// event has no payload, which is what a reader sees of every event of an erased
// user; and as it comes in the commit that ends the work, there is one of it.
func (s *Store) FinishErasure(ctx context.Context, f bankfeed.Fence, at time.Time) error {
	user := bankfeed.UserID(f.ID)
	c := &bankfeed.Change{Tenant: f.Tenant, User: user, Events: []bankfeed.Draft{{Type: bankfeed.EventUserErased, At: at}}}
	var done bankfeed.Committed
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := s.checkFence(ctx, tx, &f, &bankfeed.Release{Done: true}); err != nil {
			return err
		}
		const sessions = ` IN (SELECT id FROM sessions WHERE tenant_id = $1 AND user_id = $2)`
		for _, query := range []string{
			// What its connections have not taken with them.
			`DELETE FROM work WHERE tenant_id = $1 AND kind IN ('session', 'import') AND id` + sessions,
			`DELETE FROM progress WHERE tenant_id = $1 AND session_id` + sessions,
			`DELETE FROM accesses WHERE tenant_id = $1 AND consent_id IN (SELECT id FROM consents WHERE tenant_id = $1 AND user_id = $2)`,
			`DELETE FROM transactions WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM accounts WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM consents WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM links WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM case_sources WHERE tenant_id = $1 AND case_id IN (SELECT id FROM cases WHERE tenant_id = $1 AND user_id = $2)`,
			`DELETE FROM reports WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM cases WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM imports WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM connections WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM queues WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM request_members WHERE tenant_id = $1 AND request_id IN (SELECT id FROM requests WHERE tenant_id = $1 AND user_id = $2)`,
			`DELETE FROM requests WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM tokens WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM processes WHERE tenant_id = $1 AND user_id = $2`,
			`DELETE FROM data_deletions WHERE tenant_id = $1 AND user_id = $2`,
			`UPDATE users SET external_id = NULL WHERE tenant_id = $1 AND id = $2`,
		} {
			if _, err := tx.ExecContext(ctx, query, f.Tenant, user); err != nil {
				return err
			}
		}
		var err error
		done, err = s.appendEvents(ctx, tx, c, [][]byte{nil})
		return err
	})
	if err == nil {
		s.committed(done)
	}
	return err
}

// ErasedAt implements consent.Store.
func (s *Store) ErasedAt(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (time.Time, error) {
	var erased sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT erased_at FROM users WHERE tenant_id = $1 AND id = $2`, tenant, user).Scan(&erased)
	if errors.Is(err, sql.ErrNoRows) {
		err = bankfeed.ErrNotFound
	}
	return at(erased), err
}
