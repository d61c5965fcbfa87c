package store

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// sweptAtOnce bounds one transaction of SweepCallbacks.
const sweptAtOnce = 1000

// SweepCallbacks removes deliveries, with their attempts, of events before a time
// that ended before it too, and returns how many. What still waits for an event
// that is gone ends as expired: its receiver was disabled, or retention would
// have kept the event. Receivers go that have no deliveries left and that nobody
// can use any more, or has used since. It may stop anywhere.
func (s *Store) SweepCallbacks(ctx context.Context, before, now time.Time) (removed int, err error) {
	c := s.Callbacks()
	type target struct {
		callback.Key
		status    callback.Status
		transient bool
	}
	targets, err := collect(ctx, s.read, func(scan func(...any) error) (t target, err error) {
		err = scan(&t.Tenant, &t.ID, &t.status, &t.transient)
		return t, err
	}, `SELECT tenant_id, id, status, (settings IS NULL OR status = 'deleted') AND created_at < $1 FROM callback_targets ORDER BY tenant_id, id`, before.UnixMicro())
	if err != nil {
		return 0, err
	}
	old := map[bankfeed.TenantID]map[int]bankfeed.Position{}
	for _, t := range targets {
		if t.status == callback.Deleted {
			if err := c.endDeleted(ctx, t.Key, math.MaxInt, now); err != nil {
				return removed, err
			}
		}
		if old[t.Tenant] == nil {
			old[t.Tenant] = map[int]bankfeed.Position{}
			for lane := range eventlog.Lanes {
				// Not the events within the margin: they come to it next time.
				if old[t.Tenant][lane], err = s.SeekTime(ctx, t.Tenant, lane, before); err != nil {
					return removed, err
				}
			}
		}
		for lane, upTo := range old[t.Tenant] {
			n, err := c.sweep(ctx, t.Key, lane, upTo, before, now)
			removed += n
			if err != nil {
				return removed, err
			}
		}
		if t.transient {
			if err := c.forgetTarget(ctx, t.Key); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// sweep goes through the deliveries of old events of a lane, page by page, past
// those that stay.
func (c Callbacks) sweep(ctx context.Context, key callback.Key, lane int, upTo bankfeed.Position, before, now time.Time) (removed int, err error) {
	type row struct {
		id, position, replay, nth int64
		ended                     sql.NullInt64
	}
	last := row{position: 0, replay: -1}
	for {
		rows, err := collect(ctx, c.read, func(scan func(...any) error) (r row, err error) {
			err = scan(&r.id, &r.position, &r.replay, &r.nth, &r.ended)
			return r, err
		}, `SELECT id, position, replay, nth, ended_at FROM callback_deliveries
			WHERE tenant_id = $1 AND target = $2 AND lane = $3 AND (position, replay, nth) > ($4, $5, $6) AND position <= $7
			ORDER BY position, replay, nth LIMIT $8`, key.Tenant, key.ID, lane, last.position, last.replay, last.nth, upTo, sweptAtOnce)
		if err != nil || len(rows) == 0 {
			return removed, err
		}
		var done, waiting []int64
		for _, r := range rows {
			switch {
			case !r.ended.Valid:
				waiting = append(waiting, r.id)
			case r.ended.Int64 < before.UnixMicro():
				done = append(done, r.id)
			}
		}
		n := 0
		err = c.tx(ctx, func(tx *sql.Tx) error {
			gone, err := collect(ctx, tx, scanID, `DELETE FROM callback_deliveries WHERE tenant_id = $1 AND id IN `+c.inNumbers("$2")+`
				AND state <> 'waiting' RETURNING id`, key.Tenant, list(done))
			if err != nil {
				return err
			}
			n = len(gone)
			if _, err := tx.ExecContext(ctx, `DELETE FROM callback_attempts WHERE tenant_id = $1 AND delivery IN `+c.inNumbers("$2"), key.Tenant, list(gone)); err != nil {
				return err
			}
			return c.expire(ctx, tx, key, lane, waiting, now)
		})
		removed += n
		if err != nil || len(rows) < sweptAtOnce {
			return removed, err
		}
		last = rows[len(rows)-1]
	}
}

// expire ends those deliveries that wait for an event that is gone.
func (c Callbacks) expire(ctx context.Context, tx *sql.Tx, key callback.Key, lane int, waiting []int64, now time.Time) error {
	if len(waiting) == 0 {
		return nil
	}
	connections, err := collect(ctx, tx, scanID, `
		UPDATE callback_deliveries SET state = 'expired', reason = '`+callback.ReasonExpired+`', next_at = NULL, ended_at = $4
		WHERE tenant_id = $1 AND target = $2 AND state = 'waiting' AND id IN `+c.inNumbers("$5")+`
			AND position <= (SELECT floor FROM lanes WHERE tenant_id = $1 AND lane = $3) RETURNING connection_id`,
		key.Tenant, key.ID, lane, now.UnixMicro(), list(waiting))
	if err != nil {
		return err
	}
	next := map[bankfeed.ConnectionID]bool{}
	for _, id := range connections {
		next[bankfeed.ConnectionID(id)] = true
	}
	return c.releaseNext(ctx, tx, key, next, now)
}

var errNeeded = errors.New("it is needed")

// forgetTarget removes a receiver that has no deliveries. The lock keeps a change
// from adding one after the look.
func (c Callbacks) forgetTarget(ctx context.Context, key callback.Key) error {
	err := c.tx(ctx, func(tx *sql.Tx) error {
		t, err := c.target(ctx, tx, key, c.forUpdate())
		if err != nil {
			return err
		}
		var needed bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM callback_deliveries WHERE tenant_id = $1 AND target = $2)`, key.Tenant, key.ID).Scan(&needed); err != nil {
			return err
		}
		if needed {
			return errNeeded
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM callback_cursors WHERE tenant_id = $1 AND target = $2`, key.Tenant, key.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM callback_targets WHERE tenant_id = $1 AND id = $2`, key.Tenant, key.ID); err != nil {
			return err
		}
		return c.endWork(ctx, tx, []bankfeed.WorkItem{workOf(key, t.Subscription != nil, "", time.Time{})})
	})
	if errors.Is(err, errNeeded) || errors.Is(err, bankfeed.ErrNotFound) {
		return nil
	}
	return err
}
