package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/secret"
)

var (
	_ eventlog.Store   = (*Store)(nil)
	_ eventlog.Heads   = (*Store)(nil)
	_ eventlog.Endings = (*Store)(nil)
)

// scanBudget is how many events one read looks at when its filter may select
// few of them.
const scanBudget = 20_000

// ReadEvents implements eventlog.Store.
//
// The bound is taken before the rows are read. A later statement sees at least
// what an earlier one saw, so all positions up to the bound are seen.
func (s *Store) ReadEvents(ctx context.Context, q eventlog.Query) ([]bankfeed.Event, bankfeed.Position, error) {
	lane, err := s.Lane(ctx, q.Tenant, q.Lane)
	if err != nil {
		return nil, 0, err
	}
	if lane.Head <= q.After {
		return nil, q.After, nil
	}
	bound, after := lane.Head, max(q.After, lane.Floor)
	filtered := q.Connection != 0 || q.Account != 0 || q.Session != 0 || len(q.Types) > 0 || hidesSeen(&q)
	switch {
	case q.User == 0 && (filtered || q.Topic != nil):
		bound = min(bound, after+scanBudget) // positions have no gaps
	case q.User != 0 && filtered:
		// Where the budget ends among the user's events; the index tells.
		var p bankfeed.Position
		where, args := eventWhere(eventlog.Query{Tenant: q.Tenant, User: q.User, Topic: q.Topic, Seen: true}, after, bound)
		err := s.read.QueryRowContext(ctx, `SELECT position FROM events WHERE `+where+
			fmt.Sprintf(` ORDER BY position LIMIT 1 OFFSET %d`, scanBudget-1), args...).Scan(&p)
		if err == nil {
			bound = p
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, 0, err
		}
	}
	events, err := s.selectEvents(ctx, q, after, bound)
	if err != nil {
		return nil, 0, err
	}
	if len(events) == q.Limit {
		bound = events[len(events)-1].Position
	}
	return events, bound, nil
}

// selectEvents reads up to q.Limit events after one position and up to another,
// and opens them.
func (s *Store) selectEvents(ctx context.Context, q eventlog.Query, after, upTo bankfeed.Position) ([]bankfeed.Event, error) {
	where, args := eventWhere(q, after, upTo)
	if len(q.Types) > 0 {
		args = append(args, list(q.Types))
		where += ` AND type IN ` + s.inList(fmt.Sprintf("$%d", len(args)))
	}
	type row struct {
		bankfeed.Event
		payload []byte
	}
	rows, err := collect(ctx, s.read, func(scan func(...any) error) (r row, err error) {
		var micros int64
		err = scan(&r.Lane, &r.Position, &r.Type, &micros, &r.User, &r.Connection, &r.Account, &r.Session, &r.payload)
		r.Epoch, r.Tenant, r.At = s.installation.Epoch, q.Tenant, time.UnixMicro(micros).UTC()
		return r, err
	}, `SELECT lane, position, type, at, user_id, connection_id, account_id, session_id, payload FROM events WHERE `+where+
		fmt.Sprintf(` ORDER BY position LIMIT $%d`, len(args)+1), append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	events := make([]bankfeed.Event, len(rows))
	open := opener{store: s}
	for i := range rows {
		events[i] = rows[i].Event
		if events[i].Snapshot, err = open.snapshot(ctx, q.Tenant, events[i].User, rows[i].payload); err != nil {
			return nil, fmt.Errorf("event %d in lane %d of tenant %d: %w", events[i].Position, events[i].Lane, q.Tenant, err)
		}
	}
	return events, nil
}

// eventWhere is the condition of a query but for its types. With a user it
// leaves the lane out: a user has only one, and without it no engine is tempted
// to leave events_user or events_connections for the primary key. The topic is
// written out, because only then can events_connections be used.
func eventWhere(q eventlog.Query, after, upTo bankfeed.Position) (string, []any) {
	var b strings.Builder
	args := []any{int64(q.Tenant), int64(after), int64(upTo)}
	b.WriteString(`tenant_id = $1 AND position > $2 AND position <= $3`)
	add := func(column string, n int64) {
		args = append(args, n)
		fmt.Fprintf(&b, ` AND %s = $%d`, column, len(args))
	}
	if q.User != 0 {
		add("user_id", int64(q.User))
	} else {
		add("lane", int64(q.Lane))
	}
	if q.Topic != nil {
		fmt.Fprintf(&b, ` AND topic = %d`, *q.Topic)
	}
	if hidesSeen(&q) {
		fmt.Fprintf(&b, ` AND topic <> %d`, bankfeed.TopicSeen)
	}
	for _, f := range []struct {
		column string
		n      int64
	}{{"connection_id", int64(q.Connection)}, {"account_id", int64(q.Account)}, {"session_id", int64(q.Session)}} {
		if f.n != 0 {
			add(f.column, f.n)
		}
	}
	return b.String(), args
}

// hidesSeen reports whether a query may come across events of TopicSeen and does
// not ask for them.
func hidesSeen(q *eventlog.Query) bool {
	return !q.Seen && (q.Topic == nil || *q.Topic == bankfeed.TopicSeen)
}

// opener opens the payloads of a page; each user's key is asked for once.
type opener struct {
	store   *Store
	sealers map[bankfeed.UserID]*secret.Sealer // nil: the key was destroyed
	reader  snapshotReader
	buf     []byte
}

func (o *opener) snapshot(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sealed []byte) (*bankfeed.Snapshot, error) {
	if sealed == nil {
		return nil, nil
	}
	sealer, known := o.sealers[user]
	if !known {
		var err error
		if sealer, err = o.store.userKeys.Sealer(ctx, tenant, user); err != nil && !errors.Is(err, secret.ErrErased) {
			return nil, err
		}
		if o.sealers == nil {
			o.sealers = map[bankfeed.UserID]*secret.Sealer{}
		}
		o.sealers[user] = sealer
	}
	if sealer == nil {
		return nil, nil
	}
	var err error
	if o.buf, err = sealer.Open(o.buf[:0], sealed, eventAAD(tenant, user)); err != nil {
		return nil, err
	}
	return o.reader.decode(o.buf)
}

// Lane implements eventlog.Store.
func (s *Store) Lane(ctx context.Context, tenant bankfeed.TenantID, lane int) (eventlog.Lane, error) {
	l := eventlog.Lane{Tenant: tenant, Number: lane}
	err := s.read.QueryRowContext(ctx, `SELECT floor, position FROM lanes WHERE tenant_id = $1 AND lane = $2`, tenant, lane).Scan(&l.Floor, &l.Head)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return l, err
}

func scanLane(scan func(...any) error) (l eventlog.Lane, err error) {
	err = scan(&l.Tenant, &l.Number, &l.Floor, &l.Head)
	return l, err
}

// Lanes implements eventlog.Endings.
func (s *Store) Lanes(ctx context.Context) ([]eventlog.Lane, error) {
	return collect(ctx, s.read, scanLane, `SELECT tenant_id, lane, floor, position FROM lanes ORDER BY tenant_id, lane`)
}

// Heads implements eventlog.Heads.
func (s *Store) Heads(ctx context.Context, tenants []bankfeed.TenantID) ([]eventlog.Lane, error) {
	return collect(ctx, s.read, scanLane, `SELECT tenant_id, lane, floor, position FROM lanes WHERE tenant_id IN `+s.inNumbers("$1"), list(tenants))
}

// TrimEvents implements eventlog.Endings. The floor goes up as the last step:
// its row is the one that writers of the lane wait for.
func (s *Store) TrimEvents(ctx context.Context, tenant bankfeed.TenantID, lane int, before time.Time, upTo bankfeed.Position, limit int) (removed int, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		removed = 0
		var floor, last bankfeed.Position
		if err := tx.QueryRowContext(ctx, `SELECT floor FROM lanes WHERE tenant_id = $1 AND lane = $2`, tenant, lane).Scan(&floor); err != nil {
			return err
		}
		// The last of the next ones before the first that is young enough.
		if last = min(upTo, floor+bankfeed.Position(limit)); last <= floor {
			return nil
		}
		var young sql.NullInt64
		if err := tx.QueryRowContext(ctx, `
			SELECT min(position) FROM events WHERE tenant_id = $1 AND lane = $2 AND position > $3 AND position <= $4 AND at >= $5`,
			tenant, lane, floor, last, before.UnixMicro()).Scan(&young); err != nil {
			return err
		}
		if young.Valid {
			last = bankfeed.Position(young.Int64) - 1
		}
		if last <= floor {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM events WHERE tenant_id = $1 AND lane = $2 AND position > $3 AND position <= $4`,
			tenant, lane, floor, last); err != nil {
			return err
		}
		if err := trimStreams(ctx, tx, tenant, lane, last); err != nil {
			return err
		}
		removed = int(last - floor)
		// Another node that trims at the same time may have been faster.
		_, err := tx.ExecContext(ctx, `UPDATE lanes SET floor = $3 WHERE tenant_id = $1 AND lane = $2 AND floor < $3`, tenant, lane, last)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return removed, err
}

// RedactEvents implements eventlog.Endings.
func (s *Store) RedactEvents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, p eventlog.Part, after bankfeed.Position, limit int) (n int, last bankfeed.Position, err error) {
	err = s.write.QueryRowContext(ctx, `
		SELECT count(*), coalesce(max(position), $3) FROM (
			SELECT position FROM events WHERE tenant_id = $1 AND user_id = $2 AND position > $3 ORDER BY position LIMIT $4) AS next`,
		tenant, user, after, limit).Scan(&n, &last)
	if err != nil || n == 0 {
		return 0, after, err
	}
	where, args := s.partWhere(p, []any{tenant, user, after, last})
	const of = ` WHERE tenant_id = $1 AND user_id = $2 AND position > $3 AND position <= $4`
	if _, err = s.write.ExecContext(ctx, `UPDATE events SET payload = NULL`+of+` AND payload IS NOT NULL`+where, args...); err != nil {
		return 0, after, err
	}
	// What consumers quoted of them in their exceptions, and receivers in their answers.
	for _, blank := range []string{`UPDATE stream_faults SET exception = NULL` + of + ` AND exception IS NOT NULL`,
		`UPDATE callback_attempts SET text = NULL` + of + ` AND text IS NOT NULL`} {
		if _, err = s.write.ExecContext(ctx, blank+` AND position IN (SELECT position FROM events`+of+where+`)`, args...); err != nil {
			return 0, after, err
		}
	}
	return n, last, nil
}

// partWhere makes the conditions of a part, and adds their arguments.
func (s *Store) partWhere(p eventlog.Part, args []any) (string, []any) {
	where := ``
	add := func(condition string, v any) {
		args = append(args, v)
		where += ` AND ` + condition
	}
	next := func() string { return fmt.Sprintf("$%d", len(args)+1) }
	if p.Connection != 0 {
		add(`connection_id = `+next(), p.Connection)
	}
	if len(p.Accounts) > 0 {
		add(`account_id IN `+s.inNumbers(next()), list(p.Accounts))
	}
	if len(p.Only) > 0 {
		add(`type IN `+s.inList(next()), list(p.Only))
	}
	if len(p.Except) > 0 {
		add(`type NOT IN `+s.inList(next()), list(p.Except))
	}
	if !p.UpTo.IsZero() {
		add(`at <= `+next(), p.UpTo.UnixMicro())
	}
	if p.Gone {
		add(`(account_id = 0 OR account_id NOT IN (SELECT a.id FROM accounts a WHERE a.tenant_id = $1 AND a.user_id = $2 AND a.status <> `+next()+`))`, bankfeed.AccountDeleted)
	}
	return where, args
}

// OldestEvent implements eventlog.Endings.
func (s *Store) OldestEvent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, p eventlog.Part) (time.Time, error) {
	where, args := s.partWhere(p, []any{tenant, user})
	var first sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT min(at) FROM events WHERE tenant_id = $1 AND user_id = $2 AND payload IS NOT NULL`+where, args...).Scan(&first)
	return at(first), err
}

// BlankEvents implements eventlog.Endings.
func (s *Store) BlankEvents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, positions []bankfeed.Position) error {
	for _, blank := range []string{`UPDATE events SET payload = NULL`, `UPDATE stream_faults SET exception = NULL`, `UPDATE callback_attempts SET text = NULL`} {
		if _, err := s.write.ExecContext(ctx, blank+` WHERE tenant_id = $1 AND user_id = $2 AND position IN `+s.inNumbers("$3"),
			tenant, user, list(positions)); err != nil {
			return err
		}
	}
	return nil
}
