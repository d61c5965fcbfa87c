package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// requestDoc is the sealed part of a request: a caller's own names and URLs.
type requestDoc struct {
	Handle    string          `json:"handle,omitempty"`
	Callbacks []callbackDoc   `json:"callbacks,omitempty"`
	Detail    json.RawMessage `json:"detail,omitempty"`
}

type callbackDoc struct {
	bankfeed.RequestCallback
	URL string `json:"url"`
}

func requestDocOf(r *bankfeed.Request) requestDoc {
	d := requestDoc{Handle: r.Handle, Detail: r.Detail}
	for _, c := range r.Callbacks {
		d.Callbacks = append(d.Callbacks, callbackDoc{c, string(c.URL)})
	}
	return d
}

// putRequests stores requests with what they cover. A member's session is locked
// first: whoever ends it comes before or after this, and finds the member then.
func (s *Store) putRequests(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	for i := range c.Requests {
		r := &c.Requests[i]
		var res sql.Result
		var err error
		if r.Version == 0 {
			res, err = tx.ExecContext(ctx, `
				INSERT INTO requests (tenant_id, id, user_id, client_id, sandbox, kind, status, token, created_at, not_before, expires_at, ended_at, version, doc)
				SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13
				WHERE EXISTS (SELECT 1 FROM users WHERE tenant_id = $1 AND id = $3 AND erased_at IS NULL)`,
				c.Tenant, r.ID, c.User, r.Client, r.Sandbox, r.Kind, r.Status, r.Token, r.CreatedAt.UnixMicro(), r.NotBefore.UnixMicro(),
				micros(r.ExpiresAt), microsOf(r.EndedAt), p.requests[i])
			err = changed(res, err, bankfeed.ErrErased)
		} else {
			res, err = tx.ExecContext(ctx, `
				UPDATE requests SET status = $4, not_before = $5, expires_at = $6, ended_at = $7, doc = $8, version = version + 1
				WHERE tenant_id = $1 AND id = $2 AND version = $3`,
				c.Tenant, r.ID, r.Version, r.Status, r.NotBefore.UnixMicro(), micros(r.ExpiresAt), microsOf(r.EndedAt), p.requests[i])
			err = changed(res, err, bankfeed.ErrConflict)
		}
		if err != nil {
			return err
		}
		for _, m := range r.Members {
			if err := s.putMember(ctx, tx, c.Tenant, r.ID, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) putMember(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, request bankfeed.RequestID, m bankfeed.RequestMember) error {
	if m.Session != 0 && s.engine == Postgres {
		if _, err := tx.ExecContext(ctx, `SELECT 1 FROM sessions WHERE tenant_id = $1 AND id = $2 FOR SHARE`, tenant, m.Session); err != nil {
			return err
		}
	}
	var outcome sql.NullString
	if m.Outcome != nil {
		doc, err := encode(m.Outcome)
		if err != nil {
			return err
		}
		outcome = sql.NullString{String: doc, Valid: true}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO request_members (tenant_id, request_id, connection_id, session_id, outcome) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant_id, request_id, connection_id) DO UPDATE SET session_id = excluded.session_id, outcome = excluded.outcome`,
		tenant, request, m.Connection, m.Session, outcome)
	return err
}

// tellRequests writes down how a connection stands when a session of it has
// ended, for the requests that wait for that, and lets them go on. Whoever ends
// a session knows nothing of them.
func (s *Store) tellRequests(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p *prepared) error {
	for _, n := range []*bankfeed.Session{c.Session, c.NewSession} {
		if n == nil || n.Open() {
			continue
		}
		if next := c.NewSession; next != nil && next != n {
			// Another session follows at once: it is the one to wait for.
			if _, err := tx.ExecContext(ctx, `UPDATE request_members SET session_id = $3 WHERE tenant_id = $1 AND session_id = $2 AND outcome IS NULL`,
				c.Tenant, n.ID, next.ID); err != nil {
				return err
			}
			continue
		}
		var outcome sql.NullString // what is not known here, the request finds out
		if conn := c.Connection; conn != nil {
			doc, err := encode(conn.Outcome())
			if err != nil {
				return err
			}
			outcome = sql.NullString{String: doc, Valid: true}
		}
		if err := s.wakeRequests(ctx, tx, c.Tenant, p, `UPDATE request_members SET outcome = $3 WHERE tenant_id = $1 AND session_id = $2 AND outcome IS NULL RETURNING request_id`,
			c.Tenant, n.ID, outcome); err != nil {
			return err
		}
	}
	if d := c.Delete; d != nil && d.Consent == 0 {
		return s.wakeRequests(ctx, tx, c.Tenant, p, `UPDATE request_members SET session_id = 0 WHERE tenant_id = $1 AND connection_id = $2 AND outcome IS NULL RETURNING request_id`,
			c.Tenant, d.Connection)
	}
	return nil
}

func (s *Store) wakeRequests(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, p *prepared, query string, args ...any) error {
	ids, err := collect(ctx, tx, func(scan func(...any) error) (id bankfeed.RequestID, err error) { err = scan(&id); return id, err }, query, args...)
	if err != nil || len(ids) == 0 {
		return err
	}
	slices.Sort(ids) // the same order of locks everywhere
	ready, err := collect(ctx, tx, func(scan func(...any) error) (w bankfeed.WorkItem, err error) {
		var notBefore sql.NullInt64
		err = scan(&w.ID, &notBefore)
		w.Tenant, w.Kind, w.ReadyAt = tenant, bankfeed.WorkRequest, at(notBefore)
		return w, err
	}, `SELECT id, not_before FROM requests WHERE tenant_id = $1 AND ended_at IS NULL AND id IN `+s.inNumbers("$2")+` ORDER BY id`, tenant, list(ids))
	if err != nil {
		return err
	}
	p.awaited = append(p.awaited, ready...)
	return s.putWork(ctx, tx, ready)
}

const requestColumns = `tenant_id, id, user_id, client_id, sandbox, kind, status, token, created_at, not_before, expires_at, ended_at, version, doc`

// sealedRequest is a request before its owner has opened it.
type sealedRequest struct {
	bankfeed.Request
	tenant bankfeed.TenantID
	doc    []byte
}

func scanRequest(scan func(...any) error) (r sealedRequest, err error) {
	var created, notBefore, expires, ended sql.NullInt64
	err = scan(&r.tenant, &r.ID, &r.User, &r.Client, &r.Sandbox, &r.Kind, &r.Status, &r.Token, &created, &notBefore, &expires, &ended, &r.Version, &r.doc)
	r.CreatedAt, r.NotBefore, r.ExpiresAt = at(created), at(notBefore), at(expires)
	if ended.Valid {
		t := at(ended)
		r.EndedAt = &t
	}
	return r, err
}

// openRequests opens what lies sealed and adds the members.
func (s *Store) openRequests(ctx context.Context, sealed []sealedRequest) ([]bankfeed.Request, error) {
	requests := make([]bankfeed.Request, len(sealed))
	for i, r := range sealed {
		o, err := s.owner(ctx, r.tenant, r.User)
		if err != nil {
			return nil, unknownIfErased(err)
		}
		var doc requestDoc
		if err := o.open(sealRequest, r.doc, &doc); err != nil {
			return nil, err
		}
		r.Handle, r.Detail = doc.Handle, doc.Detail
		for _, c := range doc.Callbacks {
			c.RequestCallback.URL = bankfeed.Secret(c.URL)
			r.Callbacks = append(r.Callbacks, c.RequestCallback)
		}
		if r.Members, err = s.members(ctx, r.tenant, r.ID); err != nil {
			return nil, err
		}
		requests[i] = r.Request
	}
	return requests, nil
}

func (s *Store) members(ctx context.Context, tenant bankfeed.TenantID, request bankfeed.RequestID) ([]bankfeed.RequestMember, error) {
	return collect(ctx, s.read, func(scan func(...any) error) (m bankfeed.RequestMember, err error) {
		var outcome sql.NullString
		if err = scan(&m.Connection, &m.Session, &outcome); err != nil || !outcome.Valid {
			return m, err
		}
		m.Outcome = new(bankfeed.Outcome)
		return m, json.Unmarshal([]byte(outcome.String), m.Outcome)
	}, `SELECT connection_id, session_id, outcome FROM request_members WHERE tenant_id = $1 AND request_id = $2 ORDER BY connection_id`, tenant, request)
}

func (s *Store) request(ctx context.Context, query string, args ...any) (bankfeed.TenantID, bankfeed.Request, error) {
	found, err := one(ctx, s.read, scanRequest, query, args...)
	if err != nil {
		return 0, bankfeed.Request{}, err
	}
	r, err := s.openRequests(ctx, []sealedRequest{found})
	if err != nil {
		return 0, bankfeed.Request{}, err
	}
	return found.tenant, r[0], nil
}

// Request reads one request of a user.
func (s *Store) Request(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (bankfeed.Request, error) {
	_, r, err := s.request(ctx, `SELECT `+requestColumns+` FROM requests WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
	return r, err
}

// RequestByToken finds the request of a page by the hash of its secret.
func (s *Store) RequestByToken(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Request, error) {
	if len(hash) == 0 {
		return 0, bankfeed.Request{}, bankfeed.ErrNotFound
	}
	return s.request(ctx, `SELECT `+requestColumns+` FROM requests WHERE token = $1`, hash)
}

// RequestOf reads the request that claimed work is about.
func (s *Store) RequestOf(ctx context.Context, f bankfeed.Fence) (bankfeed.Request, error) {
	_, r, err := s.request(ctx, `SELECT `+requestColumns+` FROM requests WHERE tenant_id = $1 AND id = $2`, f.Tenant, f.ID)
	return r, err
}

// Requests lists a user's requests of a kind, newest first, with numbers below
// before (0: from the newest on).
func (s *Store) Requests(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, kind bankfeed.RequestKind, before bankfeed.RequestID, limit int) ([]bankfeed.Request, error) {
	found, err := collect(ctx, s.read, scanRequest, `SELECT `+requestColumns+` FROM requests
		WHERE tenant_id = $1 AND user_id = $2 AND kind = $3 AND ($4 = 0 OR id < $4) ORDER BY id DESC LIMIT $5`, tenant, user, kind, before, limit)
	if err != nil {
		return nil, err
	}
	return s.openRequests(ctx, found)
}

// OpenSync reports whether a request for a connection's data has not ended yet.
func (s *Store) OpenSync(ctx context.Context, tenant bankfeed.TenantID, connection bankfeed.ConnectionID) (open bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (
		SELECT 1 FROM request_members m JOIN requests r ON r.tenant_id = m.tenant_id AND r.id = m.request_id
		WHERE m.tenant_id = $1 AND m.connection_id = $2 AND r.kind = $3 AND r.ended_at IS NULL)`, tenant, connection, bankfeed.RequestSync).Scan(&open)
	return open, err
}

// Answered writes down when the answer to a request was written, from which on
// its caller gets a moment before the request ends.
func (s *Store) Answered(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.RequestID, notBefore time.Time) error {
	ready := []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkRequest, ID: int64(id), ReadyAt: notBefore}}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE requests SET not_before = $3 WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL`, tenant, id, notBefore.UnixMicro())
		if err := changed(r, err, bankfeed.ErrNotFound); err != nil {
			return err
		}
		return s.putWork(ctx, tx, ready)
	})
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil // it has ended, or its user is gone
	}
	return err
}

// SweepRequests removes requests that ended before a time.
func (s *Store) SweepRequests(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		old, err := collect(ctx, tx, func(scan func(...any) error) (r [2]int64, err error) { err = scan(&r[0], &r[1]); return r, err },
			`SELECT tenant_id, id FROM requests WHERE ended_at < $1 ORDER BY ended_at LIMIT $2`, before.UnixMicro(), limit)
		if n = len(old); err != nil || n == 0 {
			return err
		}
		for _, query := range []string{
			`DELETE FROM request_members WHERE (tenant_id, request_id) IN ` + s.inRows("$1", 2),
			`DELETE FROM requests WHERE (tenant_id, id) IN ` + s.inRows("$1", 2),
		} {
			if _, err := tx.ExecContext(ctx, query, list(old)); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
