package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// callbacks is a tenant with a user of the sandbox, whose events are told.
type callbacks struct {
	store.Callbacks
	t      *testing.T
	tenant bankfeed.TenantID
	user   bankfeed.UserID
	ctx    context.Context
	now    time.Time
}

func newCallbacks(t *testing.T, s *store.Store) *callbacks {
	tenant, user := storetest.User(t, s)
	return &callbacks{s.Callbacks(), t, tenant, user.ID, context.Background(), storetest.Now}
}

func (w *callbacks) at(d time.Duration) time.Time { return w.now.Add(d) }

// events appends events of a connection, with the user's own snapshots.
func (w *callbacks) events(connection bankfeed.ConnectionID, types ...bankfeed.EventType) bankfeed.Committed {
	w.t.Helper()
	c := page(w.tenant, w.user, len(types))
	for i, typ := range types {
		c.Events[i].Type, c.Events[i].Connection = typ, connection
	}
	done, err := w.Apply(w.ctx, c)
	require.NoError(w.t, err)
	return done
}

// order commits one event with a callback to each URL.
func (w *callbacks) order(readyAt time.Time, urls ...bankfeed.Secret) bankfeed.Committed {
	w.t.Helper()
	c := page(w.tenant, w.user, 1)
	c.Events[0].Type = bankfeed.EventRequestFinished
	for _, u := range urls {
		c.Events[0].Callbacks = append(c.Events[0].Callbacks, bankfeed.CallbackOrder{URL: u, ReadyAt: readyAt})
	}
	done, err := w.Apply(w.ctx, c)
	require.NoError(w.t, err)
	return done
}

func (w *callbacks) subscribe(set callback.Settings) callback.Target {
	w.t.Helper()
	_, head, err := w.Bounds(w.ctx, w.tenant, 0)
	require.NoError(w.t, err)
	t, err := w.AddSubscription(w.ctx, callback.Target{Key: callback.Key{Tenant: w.tenant}, Client: "c1", Sandbox: true, Subscription: &set,
		URL: "https://u:p@receiver.example/hook?key=s3cret", Origin: "https://receiver.example:443", Status: callback.Active,
		Cursors: []callback.Cursor{{Lane: 0, Epoch: w.Installation().Epoch, Position: head}}}, w.now)
	require.NoError(w.t, err)
	return t
}

// lead claims the work of a target.
func (w *callbacks) lead(t callback.Target) bankfeed.Fence {
	w.t.Helper()
	return w.claim(t, w.now)
}

func (w *callbacks) claim(t callback.Target, now time.Time) bankfeed.Fence {
	w.t.Helper()
	kind := bankfeed.WorkTarget
	if t.Subscription != nil {
		kind = bankfeed.WorkSubscription
	}
	claims, err := w.ClaimWork(w.ctx, lease.Request{Kind: kind, Owner: "node", Now: now, Until: now.Add(time.Hour), Limit: 100, Cap: func(string) int { return 0 }})
	require.NoError(w.t, err)
	for _, c := range claims {
		if c.Tenant == t.Tenant && c.ID == int64(t.ID) {
			return c.Fence
		}
	}
	w.t.Fatalf("the work of target %d is not up", t.ID)
	return bankfeed.Fence{}
}

// origin finds the only target of requests.
func (w *callbacks) origin() callback.Target {
	w.t.Helper()
	no := false
	all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: true, Subscriptions: &no, Limit: 10})
	require.NoError(w.t, err)
	require.Len(w.t, all, 1)
	return all[0]
}

// row is a delivery of an event at a position.
func (w *callbacks) row(p bankfeed.Position, state callback.State) callback.Row {
	d := callback.Delivery{Tenant: w.tenant, User: w.user, Connection: 5, Type: bankfeed.EventTransactionCreated, Epoch: w.Installation().Epoch,
		Position: p, State: state, CreatedAt: w.now}
	if state == callback.Waiting {
		d.NextAt = w.now
	} else {
		d.EndedAt = w.now
	}
	return callback.Row{Delivery: d}
}

// tried adds an attempt to a row.
func (w *callbacks) tried(r callback.Row, at time.Time, result callback.Result) callback.Row {
	r.Attempts++
	if r.LastAt = at; r.FirstAt.IsZero() {
		r.FirstAt = at
	}
	r.Attempt = &callback.Attempt{Delivery: r.ID, Number: r.Attempts, At: at, Node: "node-1", Result: result}
	return r
}

func (w *callbacks) commit(m callback.Commit) []callback.DeliveryID {
	w.t.Helper()
	if m.Now.IsZero() {
		m.Now = w.now
	}
	ids, _, err := w.Commit(w.ctx, m)
	require.NoError(w.t, err)
	return ids
}

func (w *callbacks) due(key callback.Key, now time.Time) []callback.Due {
	w.t.Helper()
	due, _, err := w.Due(w.ctx, key, now, 100)
	require.NoError(w.t, err)
	return due
}

func (w *callbacks) delivery(id callback.DeliveryID) callback.Delivery {
	w.t.Helper()
	d, err := w.Delivery(w.ctx, w.tenant, true, id)
	require.NoError(w.t, err)
	return d
}

func (w *callbacks) attempts(id callback.DeliveryID) []callback.Attempt {
	w.t.Helper()
	all, err := w.Attempts(w.ctx, w.tenant, id, 0, 100)
	require.NoError(w.t, err)
	return all
}

// ids lists what a query selects.
func (w *callbacks) ids(q callback.DeliveryQuery) []callback.DeliveryID {
	w.t.Helper()
	q.Tenant, q.Sandbox = w.tenant, true
	if q.Limit == 0 {
		q.Limit = 100
	}
	all, err := w.Deliveries(w.ctx, q)
	require.NoError(w.t, err)
	ids := []callback.DeliveryID{}
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids
}

func positions(due []callback.Due) []bankfeed.Position {
	all := []bankfeed.Position{}
	for _, d := range due {
		all = append(all, d.Position)
	}
	return all
}
