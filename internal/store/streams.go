package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// ofStream selects the rows of a stream.Key in the tables beside streams.
const ofStream = ` tenant_id = $1 AND stream = $2 AND lane = $3`

// thisStream selects the row of a stream.Key.
const thisStream = ` tenant_id = $1 AND name = $2 AND lane = $3`

const recordColumns = `tenant_id, name, lane, settings, target, enabled, reason, created_at, start, term, leader, led_at, epoch, saved_at, progress,
	redrives IS NOT NULL`

func scanRecord(scan func(...any) error) (r stream.Record, err error) {
	var settings, progress []byte
	var created, led, saved sql.NullInt64
	err = scan(&r.Tenant, &r.Name, &r.Lane, &settings, &r.Target, &r.Enabled, &r.Reason, &created, &r.Start,
		&r.Term, &r.Leader, &led, &r.Epoch, &saved, &progress, &r.Asked)
	if err == nil {
		err = json.Unmarshal(settings, &r.Settings)
	}
	if err == nil {
		err = json.Unmarshal(progress, &r.Progress)
	}
	r.CreatedAt, r.LedAt, r.SavedAt = at(created), at(led), at(saved)
	return r, err
}

// EnableStream implements stream.Store.
func (s *Store) EnableStream(ctx context.Context, key stream.Key, settings stream.Settings, target string, start bankfeed.Position, now time.Time) error {
	doc, err := encode(settings)
	if err != nil {
		return err
	}
	progress, err := encode(stream.Progress{Position: start})
	if err != nil {
		return err
	}
	taken := bankfeed.Errorf(bankfeed.Conflict, "another stream publishes to the same broker and virtual host")
	err = s.tx(ctx, func(tx *sql.Tx) error {
		var others int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM streams WHERE target = $3 AND enabled AND NOT (tenant_id = $1 AND name = $2)`,
			key.Tenant, key.Name, target).Scan(&others)
		if err != nil {
			return err
		}
		if others > 0 {
			return taken
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO streams (tenant_id, name, lane, target, enabled, reason, settings, created_at, start, term, leader, epoch, progress)
			VALUES ($1, $2, $3, $4, TRUE, '', $5, $6, $7, 0, '', $8, $9)
			ON CONFLICT (tenant_id, name, lane) DO UPDATE SET target = excluded.target, enabled = TRUE, reason = '', settings = excluded.settings`,
			key.Tenant, key.Name, key.Lane, target, doc, now.UnixMicro(), start, s.installation.Epoch, progress)
		return err
	})
	if duplicate(err) { // somebody else was faster
		return taken
	}
	return err
}

// DisableStreams implements stream.Store. A leader that still runs is fenced by
// it, until the stream is enabled again.
func (s *Store) DisableStreams(ctx context.Context, keep []stream.Key, reason string, _ time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		enabled, err := collect(ctx, tx, func(scan func(...any) error) (k stream.Key, err error) {
			err = scan(&k.Tenant, &k.Name, &k.Lane)
			return k, err
		}, `SELECT tenant_id, name, lane FROM streams WHERE enabled ORDER BY tenant_id, name, lane`)
		if err != nil {
			return err
		}
		for _, k := range enabled {
			if slices.Contains(keep, k) {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE streams SET enabled = FALSE, reason = $4 WHERE`+thisStream, k.Tenant, k.Name, k.Lane, reason); err != nil {
				return err
			}
		}
		return nil
	})
}

// LeadStream implements stream.Store. It fails with a Conflict when the stream
// is disabled. The last leader's work is marked, because it may have saved more
// since its last mark.
func (s *Store) LeadStream(ctx context.Context, key stream.Key, node string, now time.Time) (r stream.Record, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		last, err := one(ctx, tx, scanRecord, `SELECT `+recordColumns+` FROM streams WHERE`+thisStream+s.forUpdate(), key.Tenant, key.Name, key.Lane)
		if err != nil {
			return err
		}
		if !last.Enabled {
			return bankfeed.Errorf(bankfeed.Conflict, "the stream is disabled: %s", last.Reason)
		}
		if !last.SavedAt.IsZero() {
			m := stream.Mark{Position: last.Progress.Position, At: last.SavedAt, Term: last.Term, Leader: last.Leader}
			if err := addMark(ctx, tx, key, m, last.Start, 0); err != nil {
				return err
			}
		}
		r, err = one(ctx, tx, scanRecord, `UPDATE streams SET term = term + 1, leader = $4, led_at = $5 WHERE`+thisStream+` RETURNING `+recordColumns,
			key.Tenant, key.Name, key.Lane, node, now.UnixMicro())
		return err
	})
	return r, err
}

// markEvery is how old the last mark of a stream is when the next one is added.
const markEvery = time.Second

// SaveStream implements stream.Store.
func (s *Store) SaveStream(ctx context.Context, key stream.Key, term int64, p stream.Progress, gaps []stream.Gap, now time.Time) error {
	doc, err := encode(p)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		m := stream.Mark{Position: p.Position, At: now, Term: term}
		var start bankfeed.Position
		err := tx.QueryRowContext(ctx, `
			UPDATE streams SET progress = $5, epoch = $6, saved_at = $7 WHERE`+thisStream+` AND term = $4 AND enabled RETURNING leader, start`,
			key.Tenant, key.Name, key.Lane, term, doc, s.installation.Epoch, now.UnixMicro()).Scan(&m.Leader, &start)
		if errors.Is(err, sql.ErrNoRows) {
			return bankfeed.ErrFenced
		}
		if err != nil {
			return err
		}
		for i := range gaps {
			if err := putGap(ctx, tx, key, &gaps[i]); err != nil {
				return err
			}
		}
		return addMark(ctx, tx, key, m, start, markEvery)
	})
}

// addMark adds a mark beyond where the stream began, unless the last one is
// younger than every, or stands there already.
func addMark(ctx context.Context, tx *sql.Tx, key stream.Key, m stream.Mark, start bankfeed.Position, every time.Duration) error {
	if m.Position <= start {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO stream_marks (tenant_id, stream, lane, position, at, term, leader) SELECT $1, $2, $3, $4, $5, $6, $7
		WHERE $8 >= coalesce((SELECT at FROM stream_marks WHERE`+ofStream+` ORDER BY position DESC LIMIT 1), 0)
		ON CONFLICT (tenant_id, stream, lane, position) DO NOTHING`,
		key.Tenant, key.Name, key.Lane, m.Position, m.At.UnixMicro(), m.Term, m.Leader, m.At.Add(-every).UnixMicro())
	return err
}

// putGap inserts a gap, or extends the open one that begins at the same event.
// One that was resolved is open again, and as long as the new one says.
func putGap(ctx context.Context, tx *sql.Tx, key stream.Key, g *stream.Gap) error {
	const longer = `CASE WHEN g.resolved_at IS NULL AND g.last_position > excluded.last_position THEN g.%[1]s ELSE excluded.%[1]s END`
	_, err := tx.ExecContext(ctx, `
		INSERT INTO stream_gaps AS g (tenant_id, stream, lane, kind, reason, first_position, last_position, events, first_at, last_at, resolved_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (tenant_id, stream, lane, kind, reason, first_position) DO UPDATE SET
			last_position = `+fmt.Sprintf(longer, "last_position")+`, events = `+fmt.Sprintf(longer, "events")+`,
			last_at = `+fmt.Sprintf(longer, "last_at")+`, resolved_at = excluded.resolved_at`,
		key.Tenant, key.Name, key.Lane, g.Kind, g.Reason, g.First, g.Last, g.Count, g.Since.UnixMicro(), g.Until.UnixMicro(), micros(g.ResolvedAt))
	return err
}

// ResolveGaps implements stream.Store.
func (s *Store) ResolveGaps(ctx context.Context, key stream.Key, kind banqup.Kind, after, upTo bankfeed.Position, now time.Time) error {
	_, err := s.write.ExecContext(ctx, `
		UPDATE stream_gaps SET resolved_at = $7 WHERE`+ofStream+` AND kind = $4 AND reason = 'unrouted'
			AND first_position > $5 AND last_position <= $6 AND resolved_at IS NULL`,
		key.Tenant, key.Name, key.Lane, kind, after, upTo, now.UnixMicro())
	return err
}

// Streams implements stream.Store.
func (s *Store) Streams(ctx context.Context, tenant bankfeed.TenantID) ([]stream.Record, error) {
	return collect(ctx, s.read, scanRecord, `SELECT `+recordColumns+` FROM streams WHERE tenant_id = $1 OR $1 = 0 ORDER BY tenant_id, name, lane`, tenant)
}

// Stream implements stream.Store.
func (s *Store) Stream(ctx context.Context, key stream.Key) (stream.Record, error) {
	return one(ctx, s.read, scanRecord, `SELECT `+recordColumns+` FROM streams WHERE`+thisStream, key.Tenant, key.Name, key.Lane)
}

type redrives map[banqup.Kind]stream.Hold

func scanRedrives(scan func(...any) error) (r redrives, err error) {
	var doc []byte
	if err = scan(&doc); err == nil && doc != nil {
		err = json.Unmarshal(doc, &r)
	}
	return r, err
}

// earlier adds a hold to others of its kind: it begins where the first of them
// does, and stays what it was beside that.
func earlier(holds map[banqup.Kind]stream.Hold, kind banqup.Kind, h stream.Hold) {
	if old, ok := holds[kind]; ok {
		h = old.Back(h.After)
	}
	holds[kind] = h
}

// RedriveStream implements stream.Store; no kinds are all kinds. It fails with a
// Conflict when none of them has an open unrouted gap.
func (s *Store) RedriveStream(ctx context.Context, key stream.Key, kinds []banqup.Kind, now time.Time) error {
	if len(kinds) == 0 {
		kinds = banqup.Kinds
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, scanRecord, `SELECT `+recordColumns+` FROM streams WHERE`+thisStream+s.forUpdate(), key.Tenant, key.Name, key.Lane)
		if err != nil {
			return err
		}
		if !r.Enabled {
			return bankfeed.Errorf(bankfeed.Conflict, "the stream is disabled: %s", r.Reason)
		}
		asked, err := one(ctx, tx, scanRedrives, `SELECT redrives FROM streams WHERE`+thisStream, key.Tenant, key.Name, key.Lane)
		if err != nil {
			return err
		}
		if asked == nil {
			asked = redrives{}
		}
		found := false
		for _, kind := range kinds {
			var first sql.NullInt64
			if err := tx.QueryRowContext(ctx, `
				SELECT min(first_position) FROM stream_gaps WHERE`+ofStream+` AND kind = $4 AND reason = 'unrouted' AND resolved_at IS NULL`,
				key.Tenant, key.Name, key.Lane, kind).Scan(&first); err != nil {
				return err
			}
			if !first.Valid {
				continue
			}
			found = true
			h := stream.Hold{After: bankfeed.Position(first.Int64) - 1, Since: now, Redrive: true}
			if holding, ok := r.Progress.Holds[kind]; ok {
				h.After = min(h.After, holding.After)
			}
			h.From = h.After
			earlier(asked, kind, h)
		}
		if !found {
			return bankfeed.Errorf(bankfeed.Conflict, "there are no unrouted messages to send again")
		}
		doc, err := encode(asked)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE streams SET redrives = $4 WHERE`+thisStream, key.Tenant, key.Name, key.Lane, doc)
		return err
	})
}

// TakeRedrives implements stream.Store. What it hands over is among the holds of
// the stored Progress from then on, so that a leader that dies before its next
// SaveStream passes it on.
func (s *Store) TakeRedrives(ctx context.Context, key stream.Key, term int64) (map[banqup.Kind]stream.Hold, error) {
	const present = ` FROM streams WHERE` + thisStream + ` AND term = $4 AND enabled`
	args := []any{key.Tenant, key.Name, key.Lane, term}
	asked, err := one(ctx, s.read, scanRedrives, `SELECT redrives`+present, args...)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil, bankfeed.ErrFenced
	}
	if err != nil || len(asked) == 0 {
		return nil, err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, scanRecord, `SELECT `+recordColumns+present+s.forUpdate(), args...)
		if errors.Is(err, bankfeed.ErrNotFound) {
			return bankfeed.ErrFenced
		}
		if err != nil {
			return err
		}
		if asked, err = one(ctx, tx, scanRedrives, `SELECT redrives`+present, args...); err != nil {
			return err
		}
		if r.Progress.Holds == nil {
			r.Progress.Holds = redrives{}
		}
		for kind, h := range asked {
			earlier(r.Progress.Holds, kind, h)
		}
		doc, err := encode(r.Progress)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE streams SET redrives = NULL, progress = $4 WHERE`+thisStream, key.Tenant, key.Name, key.Lane, doc)
		return err
	})
	if err != nil {
		return nil, err
	}
	return asked, nil
}

// StreamsDone finds the lowest position up to which every enabled stream of a
// lane has all that it needs from the log: confirmed by the broker, and neither
// held back nor asked for again. ok is false if no stream is enabled.
func (s *Store) StreamsDone(ctx context.Context, tenant bankfeed.TenantID, lane int) (done bankfeed.Position, ok bool, err error) {
	positions, err := collect(ctx, s.read, func(scan func(...any) error) (done bankfeed.Position, err error) {
		var progress, asked []byte
		if err := scan(&progress, &asked); err != nil {
			return 0, err
		}
		var p stream.Progress
		if err := json.Unmarshal(progress, &p); err != nil {
			return 0, err
		}
		var r redrives
		if asked != nil {
			if err := json.Unmarshal(asked, &r); err != nil {
				return 0, err
			}
		}
		done = p.Position
		for _, holds := range []map[banqup.Kind]stream.Hold{p.Holds, r} {
			for _, h := range holds {
				done = min(done, h.After)
			}
		}
		return done, nil
	}, `SELECT progress, redrives FROM streams WHERE tenant_id = $1 AND lane = $2 AND enabled`, tenant, lane)
	if err != nil || len(positions) == 0 {
		return 0, false, err
	}
	return slices.Min(positions), true, nil
}
