package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

var _ stream.Index = (*Store)(nil)

// StreamEventsAt implements stream.Index.
func (s *Store) StreamEventsAt(ctx context.Context, tenant bankfeed.TenantID, lane int, positions []bankfeed.Position) ([]bankfeed.Event, error) {
	type row struct {
		bankfeed.Event
		payload []byte
	}
	rows, err := collect(ctx, s.read, func(scan func(...any) error) (r row, err error) {
		var when sql.NullInt64
		err = scan(&r.Position, &r.Type, &when, &r.User, &r.Connection, &r.Account, &r.Session, &r.payload)
		r.Epoch, r.Tenant, r.Lane, r.At = s.installation.Epoch, tenant, lane, at(when)
		return r, err
	}, `SELECT position, type, at, user_id, connection_id, account_id, session_id, payload FROM events
		WHERE tenant_id = $1 AND lane = $2 AND position IN `+s.inNumbers("$3")+` ORDER BY position`, tenant, lane, list(positions))
	if err != nil {
		return nil, err
	}
	events := make([]bankfeed.Event, len(rows))
	open := opener{store: s}
	for i := range rows {
		events[i] = rows[i].Event
		if events[i].Snapshot, err = open.snapshot(ctx, tenant, events[i].User, rows[i].payload); err != nil {
			return nil, fmt.Errorf("event %d in lane %d of tenant %d: %w", events[i].Position, lane, tenant, err)
		}
	}
	return events, nil
}

// StreamMark implements stream.Index. Marks rise in position and time alike, so
// the search from the newest one ends where it has gone back far enough.
func (s *Store) StreamMark(ctx context.Context, key stream.Key, t time.Time) (stream.Mark, error) {
	return one(ctx, s.read, func(scan func(...any) error) (m stream.Mark, err error) {
		var when sql.NullInt64
		err = scan(&m.Position, &when, &m.Term, &m.Leader)
		m.At = at(when)
		return m, err
	}, `SELECT position, at, term, leader FROM stream_marks WHERE`+ofStream+` AND position = coalesce(
			(SELECT position FROM stream_marks WHERE`+ofStream+` AND at <= $4 ORDER BY position DESC LIMIT 1),
			(SELECT min(position) FROM stream_marks WHERE`+ofStream+`))`, key.Tenant, key.Name, key.Lane, t.UnixMicro())
}

// StreamOwner implements stream.Index.
func (s *Store) StreamOwner(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, number int64) (bankfeed.UserID, bankfeed.ConnectionID, error) {
	type owner struct {
		user       bankfeed.UserID
		connection bankfeed.ConnectionID
	}
	query, ok := map[bankfeed.Kind]string{
		bankfeed.KindConnection: `SELECT user_id, id FROM connections`,
		bankfeed.KindAccount:    `SELECT user_id, connection_id FROM accounts`,
		bankfeed.KindConsent:    `SELECT user_id, connection_id FROM consents`,
		bankfeed.KindSession:    `SELECT user_id, connection_id FROM sessions`,
	}[kind]
	if !ok {
		return 0, 0, bankfeed.ErrNotFound
	}
	o, err := one(ctx, s.read, func(scan func(...any) error) (o owner, err error) {
		err = scan(&o.user, &o.connection)
		return o, err
	}, query+` WHERE tenant_id = $1 AND id = $2`, tenant, number)
	return o.user, o.connection, err
}

// StreamSessions implements stream.Index.
func (s *Store) StreamSessions(ctx context.Context, tenant bankfeed.TenantID, externalID string, limit int) ([]bankfeed.SessionID, error) {
	return collect(ctx, s.read, func(scan func(...any) error) (id bankfeed.SessionID, err error) {
		err = scan(&id)
		return id, err
	}, `SELECT id FROM sessions WHERE tenant_id = $1 AND external_id = $2
		UNION SELECT session_id FROM session_aliases WHERE tenant_id = $1 AND external_id = $2 ORDER BY 1 DESC LIMIT $3`, tenant, externalID, limit)
}

// Select implements stream.LogReader.
func (s *Store) Select(ctx context.Context, q stream.LogQuery) ([]bankfeed.Event, bankfeed.Position, error) {
	return s.ReadEvents(ctx, eventlog.Query{
		Tenant: q.Tenant, Lane: q.Lane, User: q.User, Connection: q.Connection, Account: q.Account, Session: q.Session,
		Types: q.Types, Seen: true, After: q.After, Limit: q.Limit,
	})
}

// Bounds implements stream.LogReader.
func (s *Store) Bounds(ctx context.Context, tenant bankfeed.TenantID, lane int) (floor, head bankfeed.Position, err error) {
	l, err := s.Lane(ctx, tenant, lane)
	return l.Floor, l.Head, err
}
