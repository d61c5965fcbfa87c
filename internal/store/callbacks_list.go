package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

const deliveryFields = `id, target, lane, position, replay, epoch, type, user_id, connection_id, url, once, state, reason, attempts, step, cause,
	created_at, first_at, last_at, next_at, ended_at`

type deliveryRow struct {
	callback.Delivery
	url []byte
}

func scanDelivery(tenant bankfeed.TenantID) func(scan func(...any) error) (deliveryRow, error) {
	return func(scan func(...any) error) (r deliveryRow, err error) {
		var created, first, last, next, ended sql.NullInt64
		r.Tenant = tenant
		err = scan(&r.ID, &r.Target, &r.Lane, &r.Position, &r.Replay, &r.Epoch, &r.Type, &r.User, &r.Connection, &r.url, &r.Once, &r.State, &r.Reason,
			&r.Attempts, &r.Step, &r.Cause, &created, &first, &last, &next, &ended)
		r.CreatedAt, r.FirstAt, r.LastAt, r.NextAt, r.EndedAt = at(created), at(first), at(last), at(next), at(ended)
		r.Behind = r.State == callback.Waiting && !next.Valid
		return r, err
	}
}

// deliveries reads deliveries and opens their URLs; that of an erased user is
// empty.
func (c Callbacks) deliveries(ctx context.Context, tenant bankfeed.TenantID, query string, args ...any) ([]callback.Delivery, error) {
	rows, err := collect(ctx, c.read, scanDelivery(tenant), query, args...)
	if err != nil {
		return nil, err
	}
	sealers := sealersOf{c: c, tenant: tenant}
	out := make([]callback.Delivery, len(rows))
	for i, r := range rows {
		plain, err := sealers.open(ctx, sealCallback, r.User, r.url)
		if err != nil {
			return nil, fmt.Errorf("opening the URL of delivery %d of tenant %d: %w", r.ID, tenant, err)
		}
		r.URL = bankfeed.Secret(plain)
		out[i] = r.Delivery
	}
	return out, nil
}

// Due implements callback.Leading: the lowest entries of an index.
func (c Callbacks) Due(ctx context.Context, key callback.Key, now time.Time, limit int) (due []callback.Due, next time.Time, err error) {
	found, err := c.deliveries(ctx, key.Tenant, selectDue, key.Tenant, key.ID, limit+1)
	if err != nil {
		return nil, time.Time{}, err
	}
	n := 0
	for n < min(len(found), limit) && !found[n].NextAt.After(now) {
		n++
	}
	if n < len(found) {
		next = found[n].NextAt
	}
	due, err = c.withEvents(ctx, key.Tenant, found[:n])
	return due, next, err
}

const selectDue = `SELECT ` + deliveryFields + ` FROM callback_deliveries
	WHERE tenant_id = $1 AND target = $2 AND state = 'waiting' AND next_at IS NOT NULL ORDER BY next_at, position LIMIT $3`

// selectNewest asks for a range of one state, because an engine that knows it to
// be one looks through the primary key for the first that fits.
const selectNewest = `SELECT ` + deliveryFields + ` FROM callback_deliveries
	WHERE tenant_id = $1 AND target = $2 AND state >= 'waiting' AND state <= 'waiting' AND next_at IS NOT NULL ORDER BY state DESC, id DESC LIMIT $3`

// withEvents finds the events of deliveries.
func (c Callbacks) withEvents(ctx context.Context, tenant bankfeed.TenantID, found []callback.Delivery) ([]callback.Due, error) {
	lanes := map[int][]bankfeed.Position{}
	for _, d := range found {
		lanes[d.Lane] = append(lanes[d.Lane], d.Position)
	}
	events := map[place]*bankfeed.Event{}
	for lane, positions := range lanes {
		some, err := c.StreamEventsAt(ctx, tenant, lane, positions)
		if err != nil {
			return nil, err
		}
		for i := range some {
			events[place{lane, some[i].Position}] = &some[i]
		}
	}
	due := make([]callback.Due, len(found))
	for i, d := range found {
		due[i] = callback.Due{Delivery: d, Event: events[place{d.Lane, d.Position}]}
	}
	return due, nil
}

// Probe implements callback.Leading.
func (c Callbacks) Probe(ctx context.Context, key callback.Key, newest bool) (*callback.Due, error) {
	query := selectDue
	if newest {
		query = selectNewest
	}
	found, err := c.deliveries(ctx, key.Tenant, query, key.Tenant, key.ID, 1)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	due, err := c.withEvents(ctx, key.Tenant, found)
	if err != nil {
		return nil, err
	}
	return &due[0], nil
}

// Blocked implements callback.Leading.
func (c Callbacks) Blocked(ctx context.Context, key callback.Key, connections []bankfeed.ConnectionID) ([]bankfeed.ConnectionID, error) {
	rows := make([][1]int64, len(connections))
	for i, id := range connections {
		rows[i][0] = int64(id)
	}
	return collect(ctx, c.read, func(scan func(...any) error) (id bankfeed.ConnectionID, err error) {
		err = scan(&id)
		return id, err
	}, c.selectBlocked(), key.Tenant, key.ID, list(rows))
}

func (c Callbacks) selectBlocked() string {
	return `SELECT v.c0 FROM ` + c.rowsOf("$3", "bigint") + ` AS v
		WHERE EXISTS (SELECT 1 FROM callback_deliveries WHERE tenant_id = $1 AND target = $2 AND connection_id = v.c0 AND state = 'waiting')`
}

// Delivery implements callback.Managing.
func (c Callbacks) Delivery(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, id callback.DeliveryID) (callback.Delivery, error) {
	found, err := c.deliveries(ctx, tenant, `SELECT `+deliveryFields+` FROM callback_deliveries WHERE tenant_id = $1 AND id = $3
		AND target IN (SELECT id FROM callback_targets WHERE tenant_id = $1 AND sandbox = $2)`, tenant, sandbox, id)
	if err != nil {
		return callback.Delivery{}, err
	}
	if len(found) == 0 {
		return callback.Delivery{}, bankfeed.ErrNotFound
	}
	return found[0], nil
}

// deliveryWhere is the condition of a query but for target and state.
func (c Callbacks) deliveryWhere(q *callback.DeliveryQuery) (string, []any) {
	where, args := `tenant_id = $1`, []any{q.Tenant}
	add := func(condition string, v any) {
		args = append(args, v)
		where += fmt.Sprintf(` AND `+condition, fmt.Sprintf("$%d", len(args)))
	}
	if q.Position != 0 {
		add(`lane = %s`, q.Lane)
		add(`position = %s`, q.Position)
	}
	if q.User != 0 {
		add(`user_id = %s`, q.User)
	}
	if q.Connection != 0 {
		add(`connection_id = %s`, q.Connection)
	}
	for column, values := range map[string]string{`type`: list(q.Types), `cause`: list(q.Causes)} {
		if values != "[]" {
			args = append(args, values)
			where += ` AND ` + column + ` IN ` + c.inList(fmt.Sprintf("$%d", len(args)))
		}
	}
	if !q.From.IsZero() {
		add(`created_at >= %s`, q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		add(`created_at < %s`, q.To.UnixMicro())
	}
	if q.Before != 0 {
		add(`id < %s`, q.Before)
	}
	if q.After != 0 {
		add(`id > %s`, q.After)
	}
	return where, args
}

// Deliveries implements callback.Managing.
func (c Callbacks) Deliveries(ctx context.Context, q callback.DeliveryQuery) ([]callback.Delivery, error) {
	targets, err := c.targetsOf(ctx, &q, ``)
	if err != nil {
		return nil, err
	}
	ids, err := c.selectDeliveries(ctx, &q, targets, true)
	if err != nil {
		return nil, err
	}
	return c.deliveries(ctx, q.Tenant, `SELECT `+deliveryFields+` FROM callback_deliveries WHERE tenant_id = $1 AND id IN `+c.inNumbers("$2")+`
		ORDER BY id DESC`, q.Tenant, list(ids))
}

// targetsOf finds the targets of a query.
func (c Callbacks) targetsOf(ctx context.Context, q *callback.DeliveryQuery, and string) ([]int64, error) {
	return collect(ctx, c.read, scanID, `SELECT id FROM callback_targets WHERE tenant_id = $1 AND sandbox = $2 AND (id = $3 OR $3 = 0)`+and,
		q.Tenant, q.Sandbox, int64(q.Target))
}

// selectDeliveries finds up to q.Limit of the deliveries that q selects of some
// targets: those with the highest or the lowest numbers.
//
// It looks at one range of an index after the other, each of a target and a
// state, or an event: what was not delivered may be little among much. Only what
// was delivered to anybody is looked for among all.
func (c Callbacks) selectDeliveries(ctx context.Context, q *callback.DeliveryQuery, targets []int64, newestFirst bool) (ids []int64, err error) {
	wanted, direction := q.States, ``
	if len(wanted) == 0 {
		wanted = states
	}
	if newestFirst {
		direction = ` DESC`
	}
	where, args := c.deliveryWhere(q)
	args = append(args, q.Limit)
	n := len(args)
	read := func(index, more, order string, values ...any) error {
		switch {
		case c.engine == Postgres:
			index = ``
		case index != ``: // else the first column of the primary key is taken to select few
			index = ` INDEXED BY ` + index
		}
		some, err := collect(ctx, c.read, scanID, fmt.Sprintf(`SELECT id FROM callback_deliveries`+index+` WHERE `+where+more+` ORDER BY `+order+direction+` LIMIT $%d`, n),
			append(slices.Clip(args), values...)...)
		ids = append(ids, some...)
		return err
	}
	first, second := fmt.Sprintf("$%d", n+1), fmt.Sprintf("$%d", n+2)
	if q.Position == 0 && q.Target == 0 && slices.Contains(wanted, callback.Delivered) {
		err = read(``, ` AND target IN `+c.inNumbers(first)+` AND state IN `+c.inList(second), `id`, list(targets), list(wanted))
		return ids, err
	}
	for _, target := range targets {
		if q.Position != 0 {
			// An event has few, and the order must not tempt an engine.
			err := read(`callback_deliveries_event`, ` AND target = `+first+` AND state IN `+c.inList(second), `id + 0`, target, list(wanted))
			if err != nil {
				return nil, err
			}
			continue
		}
		for _, state := range wanted {
			// As in selectNewest.
			err := read(`callback_deliveries_state`, ` AND target = `+first+` AND state >= `+second+` AND state <= `+second, `state`+direction+`, id`, target, state)
			if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(ids)
	if newestFirst {
		slices.Reverse(ids)
	}
	return ids[:min(len(ids), q.Limit)], nil
}

// Attempts implements callback.Managing. The one that succeeded stands in the row
// of the delivery.
func (c Callbacks) Attempts(ctx context.Context, tenant bankfeed.TenantID, id callback.DeliveryID, after, limit int) ([]callback.Attempt, error) {
	type row struct {
		callback.Attempt
		user bankfeed.UserID
		text []byte
	}
	rows, err := collect(ctx, c.read, func(scan func(...any) error) (r row, err error) {
		var when sql.NullInt64
		r.Delivery = id
		err = scan(&r.Number, &when, &r.Node, &r.Cause, &r.Status, &r.RetryAfter, &r.Duration, &r.user, &r.text)
		r.At = at(when)
		return r, err
	}, `SELECT number, at, node, cause, status, wait, duration, user_id, text FROM callback_attempts
		WHERE tenant_id = $1 AND delivery = $2 AND number > $3
		UNION ALL SELECT attempts, last_at, node, '', status, 0, duration, user_id, NULL FROM callback_deliveries
		WHERE tenant_id = $1 AND id = $2 AND state = 'delivered' AND attempts > $3
		ORDER BY 1 LIMIT $4`, tenant, id, after, limit)
	if err != nil {
		return nil, err
	}
	sealers := sealersOf{c: c, tenant: tenant}
	out := make([]callback.Attempt, len(rows))
	for i, r := range rows {
		if r.Text, err = sealers.open(ctx, sealAttempt, r.user, r.text); err != nil {
			return nil, fmt.Errorf("opening attempt %d of delivery %d of tenant %d: %w", r.Number, id, tenant, err)
		}
		out[i] = r.Attempt
	}
	return out, nil
}

const selectOldest = `SELECT created_at FROM callback_deliveries
	WHERE tenant_id = $1 AND target = $2 AND state >= 'waiting' AND state <= 'waiting' ORDER BY state, id LIMIT 1`

// Counts implements callback.Managing.
func (c Callbacks) Counts(ctx context.Context, key callback.Key) (callback.Counts, error) {
	counts := callback.Counts{States: map[callback.State]int{}}
	for _, state := range states {
		var n int
		err := c.read.QueryRowContext(ctx, `
			SELECT count(*) FROM (SELECT 1 FROM callback_deliveries WHERE tenant_id = $1 AND target = $2 AND state = $3 LIMIT $4) AS counted`,
			key.Tenant, key.ID, state, callback.MaxCount).Scan(&n)
		if err != nil {
			return counts, err
		}
		if n > 0 {
			counts.States[state] = n
		}
	}
	var oldest sql.NullInt64
	err := c.read.QueryRowContext(ctx, selectOldest, key.Tenant, key.ID).Scan(&oldest)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	counts.Oldest = at(oldest)
	return counts, err
}

// states are all states of a delivery.
var states = []callback.State{callback.Waiting, callback.Delivered, callback.GivenUp, callback.Erased, callback.Expired, callback.Skipped}
