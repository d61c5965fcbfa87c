package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// Redrive implements callback.Managing.
func (c Callbacks) Redrive(ctx context.Context, q callback.DeliveryQuery, dry bool, now time.Time) (n int, last callback.DeliveryID, targets []callback.TargetID, err error) {
	undelivered := []callback.State{callback.GivenUp, callback.Skipped}
	if len(q.States) > 0 {
		undelivered = slices.DeleteFunc(undelivered, func(s callback.State) bool { return !slices.Contains(q.States, s) })
	}
	if q.States = undelivered; len(undelivered) == 0 {
		return 0, 0, nil, nil
	}
	open, err := c.targetsOf(ctx, &q, ` AND status <> 'deleted'`)
	if err != nil {
		return 0, 0, nil, err
	}
	ids, err := c.selectDeliveries(ctx, &q, open, false)
	if err != nil || len(ids) == 0 {
		return 0, 0, nil, err
	}
	concerned, err := c.concerned(ctx, q.Tenant, ids)
	if err != nil {
		return 0, 0, nil, err
	}
	var work []bankfeed.WorkItem
	for _, t := range concerned {
		targets = append(targets, t.ID)
		work = append(work, workOf(t.Key, t.Subscription != nil, t.Origin, now))
	}
	if last = callback.DeliveryID(ids[len(ids)-1]); dry {
		return len(ids), last, targets, nil
	}
	err = c.tx(ctx, func(tx *sql.Tx) error {
		n = 0
		if err := c.putWork(ctx, tx, work); err != nil {
			return err
		}
		for _, t := range concerned {
			res, err := tx.ExecContext(ctx, `UPDATE callback_targets SET version = version + 1 WHERE tenant_id = $1 AND id = $2 AND status <> 'deleted'`,
				t.Tenant, t.ID)
			if err != nil {
				return err
			}
			if there, err := res.RowsAffected(); err != nil {
				return err
			} else if there == 0 { // deleted meanwhile
				if err := c.endWork(ctx, tx, []bankfeed.WorkItem{workOf(t.Key, t.Subscription != nil, "", now)}); err != nil {
					return err
				}
				continue
			}
			done, err := collect(ctx, tx, scanID, `
				UPDATE callback_deliveries SET state = 'waiting', reason = '', step = 0, next_at = $4, first_at = NULL, ended_at = NULL
				WHERE tenant_id = $1 AND target = $2 AND id IN `+c.inNumbers("$3")+` AND state IN ('given_up', 'skipped') RETURNING id`,
				t.Tenant, t.ID, list(ids), now.UnixMicro())
			if err != nil {
				return err
			}
			n += len(done)
			if t, err = c.target(ctx, tx, t.Key, ""); err != nil { // it may have been changed before this
				return err
			}
			if t.Subscription != nil && t.Subscription.Ordered {
				if err := c.queueUp(ctx, tx, t.Key, done); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, nil, err
	}
	c.tellReady(work)
	return n, last, targets, nil
}

// concerned finds the targets of deliveries, in one order for all nodes.
func (c Callbacks) concerned(ctx context.Context, tenant bankfeed.TenantID, ids []int64) ([]callback.Target, error) {
	return c.targets(ctx, c.read, `SELECT `+targetColumns+` FROM callback_targets WHERE tenant_id = $1 AND id IN (
		SELECT target FROM callback_deliveries WHERE tenant_id = $1 AND id IN `+c.inNumbers("$2")+`) ORDER BY id`, tenant, list(ids))
}

// queueUp puts deliveries that just began to wait behind the first one of their
// connection. One without a connection is behind nobody.
func (c Callbacks) queueUp(ctx context.Context, tx *sql.Tx, key callback.Key, ids []int64) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE callback_deliveries AS d SET next_at = NULL
		WHERE d.tenant_id = $1 AND d.target = $2 AND d.state = 'waiting' AND d.connection_id <> 0 AND d.id IN `+c.inNumbers("$3")+`
			AND d.id <> (SELECT o.id FROM callback_deliveries o
				WHERE o.tenant_id = $1 AND o.target = $2 AND o.connection_id = d.connection_id AND o.state = 'waiting'
				ORDER BY o.lane, o.position, o.replay LIMIT 1)`, key.Tenant, key.ID, list(ids))
	return err
}

// Replay implements callback.Managing. The number of a replay is the millisecond
// in which it is asked for.
func (c Callbacks) Replay(ctx context.Context, q callback.ReplayQuery, dry bool, now time.Time) (n int, replay int64, err error) {
	t, err := c.Target(ctx, q.Key)
	if err != nil {
		return 0, 0, err
	}
	if t.Subscription == nil || t.Sandbox != q.Sandbox || t.Status == callback.Deleted {
		return 0, 0, bankfeed.ErrNotFound
	}
	var events []bankfeed.Event
	for lane := range eventlog.Lanes {
		if (q.First != 0 || q.Last != 0) && lane != q.Lane {
			continue
		}
		some, err := c.replayed(ctx, &q, t.Subscription, lane, q.Limit+1-len(events))
		if err != nil {
			return 0, 0, err
		}
		events = append(events, some...)
	}
	if n = len(events); dry || n == 0 || n > q.Limit {
		return n, 0, nil
	}
	first, err := c.NextIDs(ctx, q.Tenant, bankfeed.KindDelivery, n)
	if err != nil {
		return 0, 0, err
	}
	work := []bankfeed.WorkItem{workOf(t.Key, true, t.Origin, now)}
	err = c.tx(ctx, func(tx *sql.Tx) error {
		if err := c.putWork(ctx, tx, work); err != nil {
			return err
		}
		var status callback.Status
		err := tx.QueryRowContext(ctx, `SELECT replay, status FROM callback_targets WHERE tenant_id = $1 AND id = $2`+c.forChange(), t.Tenant, t.ID).Scan(&replay, &status)
		if err != nil {
			return err
		}
		present, err := c.target(ctx, tx, t.Key, "")
		if err != nil {
			return err
		}
		if status == callback.Deleted {
			return bankfeed.ErrNotFound
		}
		if replay = max(replay+1, now.UnixMilli()); bankfeed.Epoch(replay) == c.installation.Epoch {
			replay++
		}
		if _, err := tx.ExecContext(ctx, `UPDATE callback_targets SET replay = $3, version = version + 1 WHERE tenant_id = $1 AND id = $2`,
			t.Tenant, t.ID, replay); err != nil {
			return err
		}
		ids := make([]int64, n)
		err = c.addRows(ctx, tx, "callback_deliveries", deliveryColumns, n, func(i int) []any {
			e := &events[i]
			ids[i] = first + int64(i)
			return []any{int64(t.Tenant), ids[i], int64(t.ID), int64(e.Lane), int64(e.Position), replay, int64(0), int64(c.installation.Epoch), string(e.Type),
				int64(e.User), int64(e.Connection), nil, false, string(callback.Waiting), "", int64(0), int64(0),
				"", int64(0), "", int64(0), now.UnixMicro(), nil, nil, now.UnixMicro(), nil}
		})
		if err != nil || !present.Subscription.Ordered {
			return err
		}
		return c.queueUp(ctx, tx, t.Key, ids)
	})
	if err != nil {
		return 0, 0, err
	}
	c.tellReady(work)
	return n, replay, nil
}

// replayed finds events of a lane that a query and the subscription select, but
// those that say nothing any more, without their snapshots.
func (c Callbacks) replayed(ctx context.Context, q *callback.ReplayQuery, own *callback.Settings, lane, limit int) ([]bankfeed.Event, error) {
	after, upTo := max(q.First-1, 0), cmp.Or(q.Last, bankfeed.Position(never))
	if !q.From.IsZero() {
		p, err := c.SeekTime(ctx, q.Tenant, lane, q.From)
		if err != nil {
			return nil, err
		}
		after = max(after, p)
	}
	if !q.To.IsZero() {
		// The first that is beyond by more than the margin was committed later than
		// To, and so was everything after it.
		p, err := c.SeekTime(ctx, q.Tenant, lane, q.To.Add(2*seekMargin))
		if err != nil {
			return nil, err
		}
		upTo = min(upTo, p+1)
	}
	where := `tenant_id = $1 AND lane = $2 AND position > $3 AND position <= $4 AND topic <> $5 AND (payload IS NOT NULL OR type = $6)
		AND user_id IN (SELECT id FROM users WHERE tenant_id = $1 AND sandbox = $7)`
	args := []any{q.Tenant, lane, after, upTo, bankfeed.TopicSeen, bankfeed.EventUserErased, q.Sandbox}
	add := func(condition string, v any) {
		args = append(args, v)
		where += ` AND ` + condition + fmt.Sprintf(`$%d`, len(args))
	}
	for _, f := range []struct {
		column string
		n      int64
	}{
		{"user_id", int64(q.User)}, {"user_id", int64(own.User)}, {"connection_id", int64(q.Connection)}, {"connection_id", int64(own.Connection)},
		{"account_id", int64(q.Account)}, {"account_id", int64(own.Account)},
	} {
		if f.n != 0 {
			add(f.column+` = `, f.n)
		}
	}
	for _, types := range [][]bankfeed.EventType{q.Types, own.Types} {
		if len(types) > 0 {
			args = append(args, list(types))
			where += ` AND type IN ` + c.inList(fmt.Sprintf("$%d", len(args)))
		}
	}
	if !q.From.IsZero() {
		add(`at >= `, q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		add(`at < `, q.To.UnixMicro())
	}
	return collect(ctx, c.read, func(scan func(...any) error) (e bankfeed.Event, err error) {
		e.Lane = lane
		err = scan(&e.Position, &e.Type, &e.User, &e.Connection)
		return e, err
	}, `SELECT position, type, user_id, connection_id FROM events WHERE `+where+fmt.Sprintf(` ORDER BY position LIMIT $%d`, len(args)+1), append(args, limit)...)
}
