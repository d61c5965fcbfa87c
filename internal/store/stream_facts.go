package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const gapColumns = `kind, reason, first_position, last_position, events, first_at, last_at, resolved_at`

func gapFields(g *stream.Gap) (fields []any, finish func()) {
	var first, last, resolved sql.NullInt64
	return []any{&g.Kind, &g.Reason, &g.First, &g.Last, &g.Count, &first, &last, &resolved},
		func() { g.Since, g.Until, g.ResolvedAt = at(first), at(last), at(resolved) }
}

// Gaps implements stream.Store. Gaps that begin at the same event come on one
// page, so a page may be a few longer than its limit.
func (s *Store) Gaps(ctx context.Context, key stream.Key, open bool, before bankfeed.Position, limit int) ([]stream.Gap, error) {
	where := ofStream + ` AND first_position < $4`
	if open {
		where += ` AND resolved_at IS NULL`
	}
	if before == 0 {
		before = never
	}
	return collect(ctx, s.read, func(scan func(...any) error) (g stream.Gap, err error) {
		fields, finish := gapFields(&g)
		err = scan(fields...)
		finish()
		return g, err
	}, `SELECT `+gapColumns+` FROM stream_gaps WHERE`+where+`
		AND first_position >= coalesce((SELECT first_position FROM stream_gaps WHERE`+where+` ORDER BY first_position DESC LIMIT 1 OFFSET $5), 0)
		ORDER BY first_position DESC, kind, reason`, key.Tenant, key.Name, key.Lane, before, limit-1)
}

// sealFault binds a consumer's exception to the user of its event.
const sealFault = "fault"

// faultUsers finds the users of events that are in the log, and whether the
// events still say something.
func (s *Store) faultUsers(ctx context.Context, q querier, key stream.Key, positions []bankfeed.Position, lock string) (map[bankfeed.Position]faultUser, error) {
	rows, err := collect(ctx, q, func(scan func(...any) error) (u faultUser, err error) {
		err = scan(&u.position, &u.user, &u.speaks)
		return u, err
	}, `SELECT position, user_id, payload IS NOT NULL FROM events WHERE tenant_id = $1 AND lane = $2 AND position IN `+s.inNumbers("$3")+`
		ORDER BY position`+lock, key.Tenant, key.Lane, list(positions))
	users := make(map[bankfeed.Position]faultUser, len(rows))
	for _, u := range rows {
		users[u.position] = u
	}
	return users, err
}

type faultUser struct {
	position bankfeed.Position
	user     bankfeed.UserID
	speaks   bool
}

// RecordFaults implements stream.Store. The text of an exception may quote the
// message, so it goes wherever the event's payload goes: it is sealed for the
// same user, and not kept once the event says nothing any more.
func (s *Store) RecordFaults(ctx context.Context, key stream.Key, faults []stream.Fault) (map[banqup.Kind]int64, error) {
	faults = slices.SortedStableFunc(slices.Values(faults), func(a, b stream.Fault) int { return int(a.Position - b.Position) })
	positions := make([]bankfeed.Position, len(faults))
	for i, f := range faults {
		positions[i] = f.Position
	}
	users, err := s.faultUsers(ctx, s.read, key, positions, "")
	if err != nil {
		return nil, err
	}
	sealed := make([][]byte, len(faults))
	for i, f := range faults {
		u := users[f.Position]
		if f.Text == "" || !u.speaks {
			continue
		}
		sealer, err := s.sealer(ctx, key.Tenant, u.user)
		if errors.Is(err, secret.ErrErased) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sealed[i] = sealer.Seal(nil, []byte(f.Text), ownerAAD(sealFault, key.Tenant, u.user))
	}
	lock := ""
	if s.engine == Postgres {
		lock = " FOR SHARE" // whoever blanks the event looks for its faults after that
	}
	var added map[banqup.Kind]int64
	err = s.tx(ctx, func(tx *sql.Tx) error {
		added = map[banqup.Kind]int64{}
		if _, err := one(ctx, tx, scanName, `SELECT name FROM streams WHERE`+thisStream, key.Tenant, key.Name, key.Lane); err != nil {
			return err
		}
		users, err := s.faultUsers(ctx, tx, key, positions, lock)
		if err != nil {
			return err
		}
		for i, f := range faults {
			u, ok := users[f.Position]
			if !ok {
				continue
			}
			text := sealed[i]
			if !u.speaks {
				text = nil
			}
			r, err := tx.ExecContext(ctx, `
				INSERT INTO stream_faults (tenant_id, stream, lane, position, message, replay, kind, at, user_id, exception_type, exception, host)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (tenant_id, stream, lane, position, message) DO NOTHING`,
				key.Tenant, key.Name, key.Lane, f.Position, f.Message[:], f.Replay, f.Kind, f.At.UnixMicro(), u.user, f.Type, text, f.Host)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			if err != nil {
				return err
			}
			if n > 0 {
				added[f.Kind] += n
			}
		}
		return nil
	})
	return added, err
}

func scanName(scan func(...any) error) (name string, err error) {
	err = scan(&name)
	return name, err
}

const faultColumns = `position, message, replay, kind, at, user_id, exception_type, exception, host`

// faults reads faults and opens their texts; that of an erased user is empty.
func (s *Store) faults(ctx context.Context, tenant bankfeed.TenantID, query string, args ...any) ([]stream.Fault, error) {
	type row struct {
		stream.Fault
		user bankfeed.UserID
		text []byte
	}
	rows, err := collect(ctx, s.read, func(scan func(...any) error) (r row, err error) {
		var message []byte
		var when sql.NullInt64
		err = scan(&r.Position, &message, &r.Replay, &r.Kind, &when, &r.user, &r.Type, &r.text, &r.Host)
		copy(r.Message[:], message)
		r.At = at(when)
		return r, err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	var list []stream.Fault
	for _, r := range rows {
		if r.text != nil {
			sealer, err := s.sealer(ctx, tenant, r.user)
			if err != nil && !errors.Is(err, secret.ErrErased) {
				return nil, err
			}
			if err == nil {
				plain, err := sealer.Open(nil, r.text, ownerAAD(sealFault, tenant, r.user))
				if err != nil {
					return nil, fmt.Errorf("opening a fault of event %d: %w", r.Position, err)
				}
				r.Text = string(plain)
			}
		}
		list = append(list, r.Fault)
	}
	return list, nil
}

// Faults implements stream.Store. Faults of one event come on one page, so a
// page may be longer than its limit.
func (s *Store) Faults(ctx context.Context, key stream.Key, position, before bankfeed.Position, limit int) ([]stream.Fault, error) {
	if before == 0 {
		before = never
	}
	where := ofStream + ` AND position < $4`
	args := []any{key.Tenant, key.Name, key.Lane, before, limit - 1}
	if position != 0 {
		where += ` AND position = $6`
		args = append(args, position)
	}
	return s.faults(ctx, key.Tenant, `SELECT `+faultColumns+` FROM stream_faults WHERE`+where+`
		AND position >= coalesce((SELECT position FROM stream_faults WHERE`+where+` ORDER BY position DESC LIMIT 1 OFFSET $5), 0)
		ORDER BY position DESC, at DESC, message`, args...)
}

// Acknowledge implements stream.Store.
func (s *Store) Acknowledge(ctx context.Context, key stream.Key, acks []stream.Acknowledgement) (added int, err error) {
	rows := make([][]any, len(acks))
	for i, a := range acks {
		rows[i] = []any{a.Position, a.Replay, a.At.UnixMicro(), a.Consumer}
	}
	// One order for all, so that two who say the same do not lock each other out.
	slices.SortStableFunc(rows, func(a, b []any) int { return int(a[0].(bankfeed.Position) - b[0].(bankfeed.Position)) })
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := one(ctx, tx, scanName, `SELECT name FROM streams WHERE`+thisStream, key.Tenant, key.Name, key.Lane); err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `
			INSERT INTO stream_acks (tenant_id, stream, lane, position, replay, consumer, at)
			SELECT $1, $2, $3, a.c0, a.c1, a.c3, a.c2
			FROM `+s.rowsOf("$4", "bigint", "bigint", "bigint", "text")+` a JOIN lanes l ON l.tenant_id = $1 AND l.lane = $3
			WHERE a.c0 > l.floor AND a.c0 <= l.position
			ON CONFLICT (tenant_id, stream, lane, position, replay, consumer) DO NOTHING`, key.Tenant, key.Name, key.Lane, list(rows))
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		added = int(n)
		return err
	})
	return added, err
}

// Facts implements stream.Store: one look at each table, however many positions.
func (s *Store) Facts(ctx context.Context, key stream.Key, positions []bankfeed.Position) (map[bankfeed.Position]stream.Facts, error) {
	facts := map[bankfeed.Position]stream.Facts{}
	if len(positions) == 0 {
		return facts, nil
	}
	record, err := s.Stream(ctx, key)
	if err != nil {
		return nil, err
	}
	for _, add := range []func(context.Context, *stream.Record, []bankfeed.Position, map[bankfeed.Position]stream.Facts) error{
		s.addMarks, s.addGaps, s.addFaults, s.addAcks} {
		if err := add(ctx, &record, positions, facts); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// addMarks leaves out what comes before the stream began: the broker never had it.
func (s *Store) addMarks(ctx context.Context, r *stream.Record, positions []bankfeed.Position, facts map[bankfeed.Position]stream.Facts) error {
	type found struct {
		position bankfeed.Position
		stream.Mark
	}
	marks, err := collect(ctx, s.read, func(scan func(...any) error) (f found, err error) {
		var when sql.NullInt64
		err = scan(&f.position, &f.Position, &when, &f.Term, &f.Leader)
		f.At = at(when)
		return f, err
	}, `SELECT p.c0, m.position, m.at, m.term, m.leader FROM `+s.rowsOf("$4", "bigint")+` p JOIN stream_marks m ON
		m.tenant_id = $1 AND m.stream = $2 AND m.lane = $3 AND m.position =
			(SELECT min(position) FROM stream_marks WHERE`+ofStream+` AND position >= p.c0)`,
		r.Tenant, r.Name, r.Lane, list(singles(positions)))
	if err != nil {
		return err
	}
	byPosition := map[bankfeed.Position]*stream.Mark{}
	for i := range marks {
		byPosition[marks[i].position] = &marks[i].Mark
	}
	for _, p := range positions {
		m := byPosition[p]
		if m == nil && p <= r.Progress.Position && !r.SavedAt.IsZero() {
			// Saved since the last mark, so in this term: the next one begins with a mark.
			m = &stream.Mark{Position: r.Progress.Position, At: r.SavedAt, Term: r.Term, Leader: r.Leader}
		}
		if m != nil && p > r.Start {
			f := facts[p]
			f.ConfirmedBy = m
			facts[p] = f
		}
	}
	return nil
}

func singles(positions []bankfeed.Position) [][1]int64 {
	rows := make([][1]int64, len(positions))
	for i, p := range positions {
		rows[i][0] = int64(p)
	}
	return rows
}

// nearGaps is how many gaps of one kind and reason are looked at for an event.
// More than one, because messages that are sent again may be lost again, and
// confirms of one kind may come in another order than its events.
const nearGaps = 8

// addGaps looks at gaps of the kind that the event is of.
func (s *Store) addGaps(ctx context.Context, r *stream.Record, positions []bankfeed.Position, facts map[bankfeed.Position]stream.Facts) error {
	type event struct {
		position bankfeed.Position
		typ      bankfeed.EventType
	}
	events, err := collect(ctx, s.read, func(scan func(...any) error) (e event, err error) {
		err = scan(&e.position, &e.typ)
		return e, err
	}, `SELECT position, type FROM events WHERE tenant_id = $1 AND lane = $2 AND position IN `+s.inNumbers("$3"), r.Tenant, r.Lane, list(positions))
	if err != nil {
		return err
	}
	var looks [][]any
	for _, e := range events {
		kind, ok := banqup.KindOf(e.typ)
		if !ok {
			continue
		}
		for _, reason := range []stream.GapReason{stream.GapUnrouted, stream.GapErased, stream.GapUnreadable} {
			looks = append(looks, []any{e.position, kind, reason})
		}
	}
	type found struct {
		position bankfeed.Position
		stream.Gap
	}
	gaps, err := collect(ctx, s.read, func(scan func(...any) error) (f found, err error) {
		fields, finish := gapFields(&f.Gap)
		err = scan(append([]any{&f.position}, fields...)...)
		finish()
		return f, err
	}, fmt.Sprintf(`SELECT p.c0, `+gapColumns+` FROM `+s.rowsOf("$4", "bigint", "text", "text")+` p JOIN stream_gaps g ON
		g.tenant_id = $1 AND g.stream = $2 AND g.lane = $3 AND g.kind = p.c1 AND g.reason = p.c2 AND g.first_position IN (
			SELECT first_position FROM stream_gaps WHERE`+ofStream+` AND kind = p.c1 AND reason = p.c2 AND first_position <= p.c0
			ORDER BY first_position DESC LIMIT %d)
		WHERE g.last_position >= p.c0`, nearGaps), r.Tenant, r.Name, r.Lane, list(looks))
	if err != nil {
		return err
	}
	for i := range gaps {
		g, f := &gaps[i].Gap, facts[gaps[i].position]
		if old := f.Gap; old == nil || !old.ResolvedAt.IsZero() && (g.ResolvedAt.IsZero() || g.ResolvedAt.After(old.ResolvedAt)) {
			f.Gap = g
			facts[gaps[i].position] = f
		}
	}
	return nil
}

func (s *Store) addFaults(ctx context.Context, r *stream.Record, positions []bankfeed.Position, facts map[bankfeed.Position]stream.Facts) error {
	faults, err := s.faults(ctx, r.Tenant, `SELECT `+faultColumns+` FROM stream_faults WHERE`+ofStream+` AND position IN `+s.inNumbers("$4")+`
		ORDER BY position, at, message`, r.Tenant, r.Name, r.Lane, list(positions))
	for _, fault := range faults {
		f := facts[fault.Position]
		f.Faults = append(f.Faults, fault)
		facts[fault.Position] = f
	}
	return err
}

func (s *Store) addAcks(ctx context.Context, r *stream.Record, positions []bankfeed.Position, facts map[bankfeed.Position]stream.Facts) error {
	acks, err := collect(ctx, s.read, func(scan func(...any) error) (a stream.Acknowledgement, err error) {
		var when sql.NullInt64
		err = scan(&a.Position, &a.Replay, &a.Consumer, &when)
		a.At = at(when)
		return a, err
	}, `SELECT position, replay, consumer, at FROM stream_acks WHERE`+ofStream+` AND position IN `+s.inNumbers("$4")+`
		ORDER BY position, at, replay, consumer`, r.Tenant, r.Name, r.Lane, list(positions))
	for _, a := range acks {
		f := facts[a.Position]
		f.Acknowledgements = append(f.Acknowledgements, a)
		facts[a.Position] = f
	}
	return err
}

// trimStreams forgets what streams know of events that are gone, inside the
// transaction that removes those.
func trimStreams(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, lane int, floor bankfeed.Position) error {
	const of = ` WHERE tenant_id = $1 AND lane = $2 AND stream IN (SELECT name FROM streams WHERE tenant_id = $1 AND lane = $2)`
	for _, query := range []string{
		`DELETE FROM stream_marks` + of + ` AND position <= $3`,
		`DELETE FROM stream_gaps` + of + ` AND first_position <= $3 AND last_position <= $3`,
		`DELETE FROM stream_faults` + of + ` AND position <= $3`,
		`DELETE FROM stream_acks` + of + ` AND position <= $3`,
		`DELETE FROM replays` + of + ` AND up_to <= $3 AND ended_at IS NOT NULL`,
	} {
		if _, err := tx.ExecContext(ctx, query, tenant, lane, floor); err != nil {
			return err
		}
	}
	return nil
}

// seekMargin is how much earlier than its commit an event's time can be, clocks
// of nodes that differ included: a call to a bank may take minutes.
const seekMargin = 10 * time.Minute

// SeekTime implements stream.Store.
//
// Times do not rise with positions, commits do, and an event's time lies within
// the margin before its commit. What was committed at or after t is therefore
// never older than t less the margin, and the search, which goes down wherever
// that holds and up where it does not, ends before it, wherever in between it
// may end.
func (s *Store) SeekTime(ctx context.Context, tenant bankfeed.TenantID, lane int, t time.Time) (bankfeed.Position, error) {
	l, err := s.Lane(ctx, tenant, lane)
	if err != nil {
		return 0, err
	}
	low, high := l.Floor, l.Head+1
	for low+1 < high {
		middle := low + (high-low)/2
		var when sql.NullInt64
		err := s.read.QueryRowContext(ctx, `SELECT at FROM events WHERE tenant_id = $1 AND lane = $2 AND position = $3`, tenant, lane, middle).Scan(&when)
		switch {
		case errors.Is(err, sql.ErrNoRows): // removed meanwhile: old enough
			low = middle
		case err != nil:
			return 0, err
		case at(when).Before(t.Add(-seekMargin)):
			low = middle
		default:
			high = middle
		}
	}
	return low, nil
}
