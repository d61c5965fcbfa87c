package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// callbackOrders are the deliveries that a change asks for beside what
// subscriptions get.
type callbackOrders struct {
	rows    []callbackOrder
	sandbox bool
	origins map[string]int64 // the number of each receiver; it may not be stored yet
	ready   []bankfeed.WorkItem
}

type callbackOrder struct {
	bankfeed.CallbackOrder
	event  int // of the change
	nth    int // of the event
	id     int64
	origin string
	url    []byte
}

// sealCallback binds the URL of a request's callback to its user.
const sealCallback = "callback"

// noOrigin is the origin of a URL that names none: nobody can be reached there,
// which is what the delivery then says.
const noOrigin = "invalid:"

// prepareCallbacks seals the URLs and takes numbers, before the transaction.
func (s *Store) prepareCallbacks(ctx context.Context, c *bankfeed.Change, o owner) (*callbackOrders, error) {
	p := &callbackOrders{origins: map[string]int64{}}
	for i := range c.Events {
		for nth, order := range c.Events[i].Callbacks {
			r := callbackOrder{CallbackOrder: order, event: i, nth: nth, origin: cmp.Or(callback.Origin(order.URL), noOrigin)}
			r.url = o.Seal(nil, []byte(order.URL), ownerAAD(sealCallback, c.Tenant, c.User))
			p.rows = append(p.rows, r)
			p.origins[r.origin] = 0
		}
	}
	if len(p.rows) == 0 {
		return nil, nil
	}
	first, err := s.NextIDs(ctx, c.Tenant, bankfeed.KindDelivery, len(p.rows))
	if err != nil {
		return nil, err
	}
	for i := range p.rows {
		p.rows[i].id = first + int64(i)
	}
	if p.sandbox, err = s.SandboxUser(ctx, c.Tenant, c.User); err != nil {
		return nil, err
	}
	for origin := range p.origins {
		id, err := one(ctx, s.read, scanID, selectOrigin, c.Tenant, p.sandbox, origin)
		if errors.Is(err, bankfeed.ErrNotFound) {
			id, err = s.NextID(ctx, c.Tenant, bankfeed.KindTarget)
		}
		if err != nil {
			return nil, err
		}
		p.origins[origin] = id
	}
	return p, nil
}

const selectOrigin = `SELECT id FROM callback_targets WHERE tenant_id = $1 AND sandbox = $2 AND origin = $3 AND settings IS NULL`

func scanID(scan func(...any) error) (id int64, err error) {
	err = scan(&id)
	return id, err
}

// putOrigins makes sure of the receivers of a change's callbacks and puts up
// their work, so that after the events have their positions only rows are left
// to be added. The lock, which hinders nobody else, keeps a receiver from being
// swept that has no deliveries yet.
func (s *Store) putOrigins(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p *callbackOrders) error {
	if p == nil {
		return nil
	}
	lock := ""
	if s.engine == Postgres {
		lock = " FOR KEY SHARE"
	}
	targets := map[string]int64{}
	for _, origin := range slices.Sorted(maps.Keys(p.origins)) { // one order, so that nobody locks another out
		id, err := one(ctx, tx, scanID, selectOrigin+lock, c.Tenant, p.sandbox, origin)
		if errors.Is(err, bankfeed.ErrNotFound) {
			if err := s.addOrigin(ctx, tx, c, p, origin); err != nil {
				return err
			}
			id, err = one(ctx, tx, scanID, selectOrigin+lock, c.Tenant, p.sandbox, origin) // somebody else may have been faster
		}
		if err != nil {
			return err
		}
		targets[origin] = id
	}
	p.origins, p.ready = targets, nil
	for _, r := range p.rows {
		p.ready = append(p.ready, bankfeed.WorkItem{Tenant: c.Tenant, Kind: bankfeed.WorkTarget, ID: targets[r.origin], Group: r.origin, ReadyAt: r.ReadyAt})
	}
	slices.SortStableFunc(p.ready, func(a, b bankfeed.WorkItem) int { return cmp.Or(cmp.Compare(a.ID, b.ID), a.ReadyAt.Compare(b.ReadyAt)) })
	p.ready = slices.CompactFunc(p.ready, func(a, b bankfeed.WorkItem) bool { return a.ID == b.ID })
	return s.putWork(ctx, tx, p.ready)
}

// addOrigin is for a receiver that nobody named before.
func (s *Store) addOrigin(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p *callbackOrders, origin string) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO callback_targets (tenant_id, id, client, sandbox, origin, status, reason, health, notes, replay, created_at, version)
		VALUES ($1, $2, '', $3, $4, $5, '', '{}', '[]', 0, $6, 1) ON CONFLICT DO NOTHING`,
		c.Tenant, p.origins[origin], p.sandbox, origin, callback.Active, c.Events[p.rows[0].event].At.UnixMicro())
	return err
}

// putCallbacks adds the deliveries that a change asks for, once its events have
// their positions. Their receivers' rows and work are locked by then.
func (s *Store) putCallbacks(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p *callbackOrders, done bankfeed.Committed) error {
	if p == nil {
		return nil
	}
	return s.addRows(ctx, tx, "callback_deliveries", deliveryColumns, len(p.rows), func(i int) []any {
		r := &p.rows[i]
		e := &c.Events[r.event]
		return []any{int64(c.Tenant), r.id, p.origins[r.origin], int64(done.Lane), int64(done.First) + int64(r.event), int64(0), int64(r.nth),
			int64(s.installation.Epoch), string(e.Type), int64(c.User), int64(e.Connection), r.url, r.Once, string(callback.Waiting), "", int64(0), int64(0),
			"", int64(0), "", int64(0), e.At.UnixMicro(), nil, nil, r.ReadyAt.UnixMicro(), nil}
	})
}
