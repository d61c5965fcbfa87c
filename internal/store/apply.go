package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"sync"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// Apply persists a change in one transaction: all of it or nothing. It returns
// after the commit, when readers of the log have been told. Errors that a
// caller acts on: ErrFenced, ErrConflict, ErrBusy, ErrErased.
func (s *Store) Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error) {
	return s.apply(ctx, c, nil)
}

// apply is Apply for a change that takes along what only a capability knows.
func (s *Store) apply(ctx context.Context, c *bankfeed.Change, also func(*sql.Tx) error) (bankfeed.Committed, error) {
	// Everything that costs time without the database happens before the
	// transaction begins.
	p, err := s.prepare(ctx, c)
	if err != nil {
		return bankfeed.Committed{}, err
	}
	var done bankfeed.Committed
	err = s.tx(ctx, func(tx *sql.Tx) error {
		p.awaited = nil
		if err := s.applyState(ctx, tx, c, &p); err != nil {
			return err
		}
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		if err := s.putOrigins(ctx, tx, c, p.callbacks); err != nil {
			return err
		}
		if done, err = s.appendEvents(ctx, tx, c, p.events); err != nil {
			return err
		}
		return s.putCallbacks(ctx, tx, c, p.callbacks, done)
	})
	if err != nil {
		return bankfeed.Committed{}, err
	}
	if done.First != 0 {
		s.committed(done)
	}
	s.tellReady(c.Ready)
	s.tellReady(p.awaited)
	if p.callbacks != nil {
		s.ready(bankfeed.WorkTarget) // most are due in a moment: whoever looks now knows when
	}
	return done, nil
}

// prepared holds the sealed and encoded parts of a change.
type prepared struct {
	consents     []preparedConsent
	accounts     [][]byte
	insert       [][]byte
	update       [][]byte
	sessionPSU   []byte
	newPSU       []byte
	links        []preparedLink
	requests     [][]byte
	events       [][]byte
	callbacks    *callbackOrders
	progressDocs []string
	// awaited are requests that waited for what this change ends.
	awaited []bankfeed.WorkItem
}

type preparedLink struct {
	redirect    string
	credentials []byte
}

type preparedConsent struct {
	doc     string
	history string
	secret  []byte
}

func (s *Store) prepare(ctx context.Context, c *bankfeed.Change) (p prepared, err error) {
	o, err := s.owner(ctx, c.Tenant, c.User)
	if errors.Is(err, secret.ErrErased) {
		return p, bankfeed.ErrErased
	}
	if err != nil {
		return p, err
	}
	for i := range c.Consents {
		k := &c.Consents[i]
		var pc preparedConsent
		plain := *k
		plain.Accounts = nil
		if pc.doc, err = encode(consentDoc{plain, k.FrequencyPerDay, k.AccountsListed, k.FreshUntil, k.Session, k.DeletedAt}); err != nil {
			return p, err
		}
		if pc.history, err = encode(historyOf(k)); err != nil {
			return p, err
		}
		if pc.secret, err = o.seal(sealConsent, consentSecret{sealGrant(k.Grant), k.Accounts}); err != nil {
			return p, err
		}
		p.consents = append(p.consents, pc)
	}
	for i := range c.Accounts {
		a := &c.Accounts[i]
		b, err := o.seal(sealAccount, accountDoc{*a, a.LastReadAt, a.Failure, string(a.Raw), a.Access, a.Trust, a.Withheld})
		if err != nil {
			return p, err
		}
		p.accounts = append(p.accounts, b)
	}
	for to, n := range map[*[]byte]*bankfeed.Session{&p.newPSU: c.NewSession, &p.sessionPSU: c.Session} {
		if n == nil || n.PSU == nil {
			continue
		}
		if *to, err = o.seal(sealPSU, n.PSU); err != nil {
			return p, err
		}
	}
	for _, l := range c.Links {
		pl := preparedLink{redirect: o.sealReturn(l.RedirectURL)}
		if l.Credentials != "" {
			pl.credentials = o.Seal(nil, []byte(l.Credentials), ownerAAD(sealLink, c.Tenant, c.User))
		}
		p.links = append(p.links, pl)
	}
	for i := range c.Requests {
		b, err := o.seal(sealRequest, requestDocOf(&c.Requests[i]))
		if err != nil {
			return p, err
		}
		p.requests = append(p.requests, b)
	}
	for i := range c.Progress {
		doc, err := encode(c.Progress[i])
		if err != nil {
			return p, err
		}
		p.progressDocs = append(p.progressDocs, doc)
	}
	if p.callbacks, err = s.prepareCallbacks(ctx, c, o); err != nil {
		return p, err
	}
	transactions, err := encodeTransactions(&c.Transactions)
	if err != nil {
		return p, err
	}
	// A page has hundreds of rows and as many events: each half on a core.
	var rows sync.WaitGroup
	rows.Go(func() {
		p.insert = sealTransactions(o, c.Transactions.Insert, transactions)
		p.update = sealTransactions(o, c.Transactions.Update, transactions)
	})
	p.events, err = s.sealEvents(ctx, c, transactions)
	rows.Wait()
	return p, err
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func (s *Store) applyState(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p *prepared) error {
	for _, step := range []func() error{
		func() error { return s.checkFence(ctx, tx, c.Fence, c.Release) },
		func() error { return s.putConnection(ctx, tx, c) },
		func() error { return s.putSession(ctx, tx, c, *p) },
		func() error { return s.putConsents(ctx, tx, c, *p) },
		func() error { return s.forgetAccounts(ctx, tx, c) },
		func() error { return s.putAccounts(ctx, tx, c, *p) },
		func() error { return s.putTransactions(ctx, tx, c, *p) },
		func() error { return s.putProgress(ctx, tx, c, *p) },
		func() error { return s.putAccesses(ctx, tx, c) },
		func() error { return s.putLinks(ctx, tx, c, *p) },
		func() error { return s.putRequests(ctx, tx, c, *p) },
		func() error { return s.tellRequests(ctx, tx, c, p) },
		func() error { return s.putImport(ctx, tx, c) },
		func() error { return s.delete(ctx, tx, c) },
		func() error { return s.putWork(ctx, tx, c.Ready) },
		func() error { return s.endWork(ctx, tx, c.Ended) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putConnection(ctx context.Context, tx *sql.Tx, c *bankfeed.Change) error {
	n, isNew := c.NewConnection, true
	if n == nil {
		n, isNew = c.Connection, false
	}
	if n == nil {
		return nil
	}
	doc := connectionDoc{ProviderName: n.ProviderName, BIC: n.BIC, AutoSync: n.AutoSync, Removing: n.Removing}
	for _, ch := range n.Channels {
		doc.Channels = append(doc.Channels, channelDoc{ch, ch.Failures})
	}
	text, err := encode(doc)
	if err != nil {
		return err
	}
	if isNew {
		// The guard makes a user who is being erased unknown to newcomers; the
		// lock keeps the erasure from beginning before this is done.
		if s.engine == Postgres {
			if _, err := tx.ExecContext(ctx, `SELECT 1 FROM users WHERE tenant_id = $1 AND id = $2 FOR SHARE`, c.Tenant, c.User); err != nil {
				return err
			}
		}
		r, err := tx.ExecContext(ctx, `
			INSERT INTO connections (tenant_id, id, user_id, provider_id, status, sandbox, next_sync_at, version, created_at, doc)
			SELECT $1, $2, $3, $4, $5, $6, $7, 1, $8, $9
			WHERE EXISTS (SELECT 1 FROM users WHERE tenant_id = $1 AND id = $3 AND erased_at IS NULL)`,
			c.Tenant, n.ID, c.User, n.ProviderID, n.Status, n.Sandbox, micros(n.NextSyncAt), n.CreatedAt.UnixMicro(), text)
		return changed(r, err, bankfeed.ErrErased)
	}
	r, err := tx.ExecContext(ctx, `
		UPDATE connections SET status = $4, next_sync_at = $5, doc = $6, version = version + 1
		WHERE tenant_id = $1 AND id = $2 AND version = $3`,
		c.Tenant, n.ID, n.Version, n.Status, micros(n.NextSyncAt), text)
	return changed(r, err, bankfeed.ErrConflict)
}

// putSession ends or changes a session before it opens the next one, because a
// connection has one open session at most.
func (s *Store) putSession(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	if n := c.Session; n != nil {
		doc, err := encode(sessionDoc{n.Type, n.Initiator, n.Attended, n.Failure, n.Runs, n.FollowAll, n.Faults})
		if err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `
			UPDATE sessions SET status = $4, stage = $5, open = $6, ended_at = $7, doc = $8, psu = $9, version = version + 1
			WHERE tenant_id = $1 AND id = $2 AND version = $3`,
			c.Tenant, n.ID, n.Version, n.Status, n.Stage, n.Open(), microsOf(n.EndedAt), doc, p.sessionPSU)
		if err := changed(r, err, bankfeed.ErrConflict); err != nil {
			return err
		}
		if c.Alias != "" {
			if _, err := tx.ExecContext(ctx, `INSERT INTO session_aliases (tenant_id, external_id, session_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				c.Tenant, c.Alias, n.ID); err != nil {
				return err
			}
		}
		if !n.Open() {
			if _, err := tx.ExecContext(ctx, `DELETE FROM progress WHERE tenant_id = $1 AND session_id = $2`, c.Tenant, n.ID); err != nil {
				return err
			}
		}
	}
	if n := c.NewSession; n != nil {
		doc, err := encode(sessionDoc{n.Type, n.Initiator, n.Attended, n.Failure, n.Runs, n.FollowAll, n.Faults})
		if err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `
			INSERT INTO sessions (tenant_id, id, user_id, connection_id, status, stage, external_id, open, version, created_at, ended_at, doc, psu)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11, $12)
			ON CONFLICT (tenant_id, connection_id) WHERE open DO NOTHING`,
			c.Tenant, n.ID, c.User, n.Connection, n.Status, n.Stage, text(n.ExternalID), n.Open(), n.CreatedAt.UnixMicro(), microsOf(n.EndedAt), doc, p.newPSU)
		if err := changed(r, err, bankfeed.ErrBusy); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putConsents(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	for i := range c.Consents {
		k, doc := &c.Consents[i], p.consents[i]
		var r sql.Result
		var err error
		if k.Version == 0 {
			r, err = tx.ExecContext(ctx, `
				INSERT INTO consents (tenant_id, id, user_id, connection_id, mode, status, external_id, valid_until, warned_at, version, created_at, doc, secret)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12)`,
				c.Tenant, k.ID, c.User, k.Connection, k.Mode, k.Status, text(k.ExternalID), k.ValidUntil, microsOf(k.WarnedAt), k.CreatedAt.UnixMicro(), doc.doc, doc.secret)
		} else {
			r, err = tx.ExecContext(ctx, `
				UPDATE consents SET status = $4, valid_until = $5, warned_at = $6, doc = $7, secret = $8, version = version + 1
				WHERE tenant_id = $1 AND id = $2 AND version = $3`,
				c.Tenant, k.ID, k.Version, k.Status, k.ValidUntil, microsOf(k.WarnedAt), doc.doc, doc.secret)
		}
		if err := changed(r, err, bankfeed.ErrConflict); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO consent_history (tenant_id, consent_id, version, status, at, doc) VALUES ($1, $2, $3, $4, $5, $6)`,
			c.Tenant, k.ID, k.Version+1, k.Status, s.now().UnixMicro(), doc.history); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putAccounts(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	for i := range c.Accounts {
		a := &c.Accounts[i]
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO accounts (tenant_id, id, user_id, connection_id, type, status, created_at, removed_at, data)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (tenant_id, id) DO UPDATE SET type = excluded.type, status = excluded.status, removed_at = excluded.removed_at, data = excluded.data`,
			c.Tenant, a.ID, c.User, a.Connection, a.Type, a.Status, a.CreatedAt.UnixMicro(), micros(a.RemovedAt), p.accounts[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) forgetAccounts(ctx context.Context, tx *sql.Tx, c *bankfeed.Change) error {
	if len(c.Forget) == 0 {
		return nil
	}
	these := ` IN ` + s.inNumbers("$2")
	// Of an account that stayed away its cases know nothing.
	if err := dropCases(ctx, tx, `SELECT connection_id FROM accounts WHERE tenant_id = $1 AND status <> 'deleted' AND id`+these, c.Tenant, list(c.Forget)); err != nil {
		return err
	}
	connections := ` IN (SELECT connection_id FROM accounts WHERE tenant_id = $1 AND id` + these + `)`
	for _, query := range []string{
		`DELETE FROM accesses WHERE tenant_id = $1 AND account_id` + these + ` AND consent_id IN (
			SELECT id FROM consents WHERE tenant_id = $1 AND connection_id` + connections + `)`,
		`DELETE FROM progress WHERE tenant_id = $1 AND account_id` + these + ` AND session_id IN (
			SELECT id FROM sessions WHERE tenant_id = $1 AND open AND connection_id` + connections + `)`,
		`DELETE FROM accounts WHERE tenant_id = $1 AND id` + these,
	} {
		if _, err := tx.ExecContext(ctx, query, c.Tenant, list(c.Forget)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putProgress(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	if len(c.Progress) == 0 {
		return nil
	}
	session := c.Session
	if session == nil {
		session = c.NewSession
	}
	var id bankfeed.SessionID
	switch {
	case session != nil:
		id = session.ID
	case c.Fence != nil && c.Fence.Kind == bankfeed.WorkSession:
		id = bankfeed.SessionID(c.Fence.ID)
	default:
		return errors.New("store: progress belongs to a session")
	}
	for i, doc := range p.progressDocs {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO progress (tenant_id, session_id, account_id, mode, doc) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant_id, session_id, account_id, mode) DO UPDATE SET doc = excluded.doc`,
			c.Tenant, id, c.Progress[i].Account, c.Progress[i].Mode, doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putAccesses(ctx context.Context, tx *sql.Tx, c *bankfeed.Change) error {
	for _, a := range c.Refunds {
		if _, err := tx.ExecContext(ctx, `DELETE FROM accesses WHERE tenant_id = $1 AND consent_id = $2 AND account_id = $3 AND kind = $4 AND at = $5`,
			c.Tenant, a.Consent, a.Account, a.Kind, a.At.UnixMicro()); err != nil {
			return err
		}
	}
	for _, a := range c.Accesses {
		if _, err := tx.ExecContext(ctx, `INSERT INTO accesses (tenant_id, consent_id, account_id, kind, at) VALUES ($1, $2, $3, $4, $5)`,
			c.Tenant, a.Consent, a.Account, a.Kind, a.At.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putLinks(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	for i, l := range c.Links {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO links (token, state, tenant_id, user_id, connection_id, session_id, mode, consent_id, redirect_url, credentials, created_at, expires_at, ended_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
			ON CONFLICT (token) DO UPDATE SET state = excluded.state, consent_id = excluded.consent_id, credentials = excluded.credentials,
				expires_at = excluded.expires_at, ended_at = excluded.ended_at`,
			l.Token, l.State, c.Tenant, c.User, l.Connection, l.Session, l.Mode, l.Consent, p.links[i].redirect, p.links[i].credentials,
			l.CreatedAt.UnixMicro(), l.ExpiresAt.UnixMicro(), microsOf(l.EndedAt)); err != nil {
			return err
		}
	}
	return nil
}

// delete removes the rows of a connection or of one consent. Its transactions
// are gone by then (RemoveTransactions), so that this stays short.
func (s *Store) delete(ctx context.Context, tx *sql.Tx, c *bankfeed.Change) error {
	d := c.Delete
	if d == nil {
		return nil
	}
	if d.Consent != 0 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM accesses WHERE tenant_id = $1 AND consent_id = $2`, c.Tenant, d.Consent); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM consents WHERE tenant_id = $1 AND id = $2`, c.Tenant, d.Consent); err != nil || len(d.Accounts) == 0 {
			return err
		}
		if err := dropCases(ctx, tx, `$2`, c.Tenant, d.Connection); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM accounts WHERE tenant_id = $1 AND connection_id = $2 AND id IN `+s.inNumbers("$3"),
			c.Tenant, d.Connection, list(d.Accounts))
		return err
	}
	if err := dropCases(ctx, tx, `$2`, c.Tenant, d.Connection); err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM accesses WHERE tenant_id = $1 AND consent_id IN (SELECT id FROM consents WHERE tenant_id = $1 AND connection_id = $2)`,
		`DELETE FROM consents WHERE tenant_id = $1 AND connection_id = $2`,
		`DELETE FROM accounts WHERE tenant_id = $1 AND connection_id = $2`,
		`DELETE FROM progress WHERE tenant_id = $1 AND session_id IN (SELECT id FROM sessions WHERE tenant_id = $1 AND connection_id = $2)`,
		`DELETE FROM links WHERE tenant_id = $1 AND session_id IN (SELECT id FROM sessions WHERE tenant_id = $1 AND connection_id = $2)`,
		`DELETE FROM session_aliases WHERE tenant_id = $1 AND session_id IN (SELECT id FROM sessions WHERE tenant_id = $1 AND connection_id = $2)`,
		`DELETE FROM sessions WHERE tenant_id = $1 AND connection_id = $2`,
		`DELETE FROM imports WHERE tenant_id = $1 AND connection_id = $2`,
		`DELETE FROM connections WHERE tenant_id = $1 AND id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, c.Tenant, d.Connection); err != nil {
			return err
		}
	}
	return nil
}
