package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

func placeholder(n int) string { return "$" + strconv.Itoa(n) }

// unknownIfErased answers for an erased user as for one who never was.
func unknownIfErased(err error) error {
	if errors.Is(err, secret.ErrErased) {
		return bankfeed.ErrNotFound
	}
	return err
}

// ConnectionState reads everything about a connection, with its open session
// if there is one.
func (s *Store) ConnectionState(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error) {
	return s.state(ctx, tenant, user, id, `connection_id = $2 AND open`, int64(id), false)
}

// SessionState reads everything about the connection of a session, with that
// session.
func (s *Store) SessionState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.SessionID) (bankfeed.ConnectionState, error) {
	var user bankfeed.UserID
	var connection bankfeed.ConnectionID
	err := s.read.QueryRowContext(ctx, `SELECT user_id, connection_id FROM sessions WHERE tenant_id = $1 AND id = $2`, tenant, id).Scan(&user, &connection)
	if errors.Is(err, sql.ErrNoRows) {
		return bankfeed.ConnectionState{}, bankfeed.ErrNotFound
	}
	if err != nil {
		return bankfeed.ConnectionState{}, err
	}
	return s.state(ctx, tenant, user, connection, `id = $2`, int64(id), false)
}

// state reads in one transaction, so that the parts belong together. erased
// reads what is left of an erased user too.
func (s *Store) state(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, session string, arg int64, erased bool) (st bankfeed.ConnectionState, err error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return st, unknownIfErased(err)
	}
	var opts *sql.TxOptions // on SQLite a transaction sees one state anyway
	if s.engine == Postgres {
		opts = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	tx, err := s.read.BeginTx(ctx, opts)
	if err != nil {
		return st, err
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	if st.User, err = one(ctx, tx, scanUser, `SELECT `+userColumns+` FROM users WHERE tenant_id = $1 AND id = $2 AND ($3 OR erased_at IS NULL)`, tenant, user, erased); err != nil {
		return st, err
	}
	if st.Connection, err = one(ctx, tx, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id); err != nil {
		return st, err
	}
	n, err := one(ctx, tx, o.scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE tenant_id = $1 AND `+session, tenant, arg)
	if err == nil {
		st.Session = &n
	} else if !errors.Is(err, bankfeed.ErrNotFound) {
		return st, err
	}
	if st.Consents, err = s.consents(ctx, tx, o, id); err != nil {
		return st, err
	}
	if st.Accounts, err = collect(ctx, tx, o.scanAccount, `SELECT `+accountColumns+` FROM accounts WHERE tenant_id = $1 AND connection_id = $2 ORDER BY id`, tenant, id); err != nil {
		return st, err
	}
	if st.Session == nil {
		return st, nil
	}
	st.Progress, err = collect(ctx, tx, func(scan func(...any) error) (p bankfeed.Progress, err error) {
		var doc []byte
		if err = scan(&doc); err == nil {
			err = json.Unmarshal(doc, &p)
		}
		return p, err
	}, `SELECT doc FROM progress WHERE tenant_id = $1 AND session_id = $2 ORDER BY account_id, mode`, tenant, st.Session.ID)
	return st, err
}

// Accesses reads the ledger of a consent since a time.
func (s *Store) Accesses(ctx context.Context, tenant bankfeed.TenantID, consent bankfeed.ConsentID, since time.Time) ([]bankfeed.QuotaUse, error) {
	return collect(ctx, s.read, func(scan func(...any) error) (u bankfeed.QuotaUse, err error) {
		var when sql.NullInt64
		err = scan(&u.Account, &u.Kind, &when)
		u.Consent, u.At = consent, at(when)
		return u, err
	}, `SELECT account_id, kind, at FROM accesses WHERE tenant_id = $1 AND consent_id = $2 AND at > $3 ORDER BY at`, tenant, consent, since.UnixMicro())
}

// Due lists connections whose next unattended session is due, the longest due
// first, leaving out the first few.
func (s *Store) Due(ctx context.Context, now time.Time, skip, limit int) ([]bankfeed.SyncOrder, error) {
	return collect(ctx, s.read, func(scan func(...any) error) (o bankfeed.SyncOrder, err error) {
		o.Type, o.Initiator = bankfeed.SessionAll, bankfeed.ByBackground
		err = scan(&o.Tenant, &o.User, &o.Connection)
		return o, err
	}, `SELECT tenant_id, user_id, id FROM connections WHERE next_sync_at <= $1 ORDER BY next_sync_at LIMIT $2 OFFSET $3`, now.UnixMicro(), limit, skip)
}

// linkRow is a link with the tenant it belongs to.
func (s *Store) link(ctx context.Context, column string, hash []byte) (tenant bankfeed.TenantID, l bankfeed.Link, err error) {
	var sealed []byte
	var created, expires, ended sql.NullInt64
	err = s.read.QueryRowContext(ctx, `
		SELECT tenant_id, token, state, user_id, connection_id, session_id, mode, consent_id, redirect_url, credentials, created_at, expires_at, ended_at
		FROM links WHERE `+column+` = $1`, hash).
		Scan(&tenant, &l.Token, &l.State, &l.User, &l.Connection, &l.Session, &l.Mode, &l.Consent, &l.RedirectURL, &sealed, &created, &expires, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, l, bankfeed.ErrNotFound
	}
	if err != nil {
		return 0, l, err
	}
	l.CreatedAt, l.ExpiresAt, l.EndedAt = at(created), at(expires), when(ended)
	o, err := s.owner(ctx, tenant, l.User)
	if err != nil {
		return 0, l, unknownIfErased(err)
	}
	if l.RedirectURL, err = o.openReturn(l.RedirectURL); err != nil {
		return 0, l, err
	}
	if sealed != nil {
		plain, err := o.Open(nil, sealed, ownerAAD(sealLink, tenant, l.User))
		if err != nil {
			return 0, l, err
		}
		l.Credentials = bankfeed.Secret(plain)
	}
	return tenant, l, nil
}

// LinkByToken finds a link by the hash of its start page's token.
func (s *Store) LinkByToken(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Link, error) {
	return s.link(ctx, "token", hash)
}

// LinkByState finds a link by the hash of the state parameter under way.
func (s *Store) LinkByState(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Link, error) {
	return s.link(ctx, "state", hash)
}

// Newest finds the transaction of an account that stands last by day and number,
// apart from some; the zero key if there is none.
func (s *Store) Newest(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, without []bankfeed.TransactionID) (k bankfeed.TransactionKey, err error) {
	err = s.read.QueryRowContext(ctx, `
		SELECT day, id FROM transactions WHERE tenant_id = $1 AND user_id = $2 AND account_id = $3 AND id NOT IN `+s.inNumbers("$4")+`
		ORDER BY day DESC, id DESC LIMIT 1`, tenant, user, account, list(without)).Scan(&k.Day, &k.ID)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return k, err
}

// RemoveTransactions deletes a portion of the transactions of accounts and
// reports whether there may be more. An account that is not removed, of a
// connection that is not closed, is left alone: its bank has listed it again.
func (s *Store) RemoveTransactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, accounts []bankfeed.AccountID, limit int) (more bool, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if s.engine == Postgres {
			// Whoever lists an account again waits until this has ended, and
			// reads its rows after that.
			if _, err := tx.ExecContext(ctx, `SELECT id FROM accounts WHERE tenant_id = $1 AND id IN `+s.inNumbers("$2")+` ORDER BY id FOR SHARE`,
				tenant, list(accounts)); err != nil {
				return err
			}
		}
		r, err := tx.ExecContext(ctx, `
			DELETE FROM transactions WHERE tenant_id = $1 AND id IN (
				SELECT id FROM transactions WHERE tenant_id = $1 AND user_id = $2 AND account_id IN `+s.inNumbers("$3")+` AND account_id NOT IN (
					SELECT a.id FROM accounts a JOIN connections c ON c.tenant_id = a.tenant_id AND c.id = a.connection_id
					WHERE a.tenant_id = $1 AND a.user_id = $2 AND a.removed_at IS NULL AND c.status <> $5)
				LIMIT $4)`,
			tenant, user, list(accounts), limit, bankfeed.ConnectionClosed)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		more = n == int64(limit)
		return err
	})
	return more, err
}
