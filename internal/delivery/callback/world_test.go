package callback_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

var key = callback.Key{Tenant: 1, ID: 7}

const epoch = bankfeed.Epoch(1_700_000_000_000)

// world is a hub with one target, and its receiver, in memory. Time is fake.
type world struct {
	t *testing.T

	mu         sync.Mutex
	events     []bankfeed.Event
	floor      bankfeed.Position
	secret     bankfeed.Secret
	erased     map[bankfeed.Position]bool
	sandbox    map[bankfeed.UserID]bool
	wakes      map[chan struct{}]bool
	target     callback.Target
	deliveries map[callback.DeliveryID]*callback.Delivery
	open       map[callback.DeliveryID]*callback.Delivery // those that wait, and perhaps others
	places     map[[2]int64]callback.DeliveryID           // by position and replay
	attempts   map[callback.DeliveryID][]callback.Attempt
	nextID     callback.DeliveryID
	fence      int64 // of the present claim; 0: nobody's
	lastFence  int64
	readyAt    time.Time
	ready      chan struct{} // readyAt may have changed
	unwatched  bool          // leaders hear of no changes: a long test goes faster
	down       error         // of the database
	doubt      int           // so many commits are stored and yet fail
	commits    int
	looks      atomic.Int64 // for what is due

	receive func(m callback.Message) (callback.Result, time.Duration)
	got     []arrival
	flying  int
	most    int // that were under way at once
}

// arrival is a message at the receiver.
type arrival struct {
	callback.Message
	at time.Time
	ok bool
}

func newWorld(t *testing.T, s *callback.Settings) *world {
	w := &world{
		t: t, erased: map[bankfeed.Position]bool{}, sandbox: map[bankfeed.UserID]bool{}, wakes: map[chan struct{}]bool{}, ready: make(chan struct{}, 1),
		deliveries: map[callback.DeliveryID]*callback.Delivery{}, open: map[callback.DeliveryID]*callback.Delivery{}, places: map[[2]int64]callback.DeliveryID{}, attempts: map[callback.DeliveryID][]callback.Attempt{},
		secret:  "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ=",
		receive: func(callback.Message) (callback.Result, time.Duration) { return ok, time.Millisecond },
	}
	w.target = callback.Target{Key: key, Subscription: s, URL: "https://receiver.test/hook?token=secret", Origin: "https://receiver.test:443",
		Status: callback.Active, Version: 1, Cursors: []callback.Cursor{{Epoch: epoch}}}
	return w
}

var (
	ok          = callback.Result{Status: 204}
	refused     = callback.Result{Cause: callback.CauseRefused, Text: "connection refused"}
	unavailable = callback.Result{Cause: callback.CauseStatus, Status: 503}
	broken      = callback.Result{Cause: callback.CauseStatus, Status: 500, Text: "name of the user"}
	timeout     = callback.Result{Cause: callback.CauseTimeout}
	gone        = callback.Result{Cause: callback.CauseGone, Status: 410}
)

func always(r callback.Result) func(callback.Message) (callback.Result, time.Duration) {
	return func(callback.Message) (callback.Result, time.Duration) { return r, time.Millisecond }
}

// answers makes the receiver behave like this from now on.
func (w *world) answers(f func(callback.Message) (callback.Result, time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.receive = f
}

// happen commits n events of a connection.
func (w *world) happen(n int, c bankfeed.ConnectionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.events = append(w.events, bankfeed.Event{Epoch: epoch, Tenant: 1, Position: bankfeed.Position(len(w.events) + 1), Type: bankfeed.EventTransactionCreated,
			At: time.Now(), User: 3, Connection: c, Snapshot: &bankfeed.Snapshot{Schema: 1}})
	}
	for wake := range w.wakes {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (w *world) event(p bankfeed.Position) *bankfeed.Event {
	if p <= w.floor {
		return nil
	}
	e := w.events[p-1]
	if w.erased[p] {
		e.Snapshot = nil
	}
	return &e
}

func (w *world) subscribe(bankfeed.TenantID) (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{}, 1)
	w.wakes[c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.wakes, c)
	}
}

// node is the world as one process sees it, until it is killed.
type node struct {
	*world
	fence int64
	dead  bool
}

var errDead = errors.New("this process is dead")

func (n *node) lock() error {
	n.mu.Lock()
	if n.dead {
		return errDead
	}
	return n.down
}

func (n *node) ReadEvents(_ context.Context, q callback.LogQuery) (events []bankfeed.Event, next bankfeed.Position, err error) {
	defer n.mu.Unlock()
	if err := n.lock(); err != nil {
		return nil, 0, err
	}
	after := max(q.After, n.floor)
	for p := after + 1; int(p) <= len(n.events); p++ {
		e := n.event(p)
		if len(q.Types) > 0 && !slices.Contains(q.Types, e.Type) || q.Connection != 0 && q.Connection != e.Connection || q.User != 0 && q.User != e.User {
			continue
		}
		if events = append(events, *e); len(events) == q.Limit {
			return events, p, nil
		}
	}
	return events, max(after, bankfeed.Position(len(n.events))), nil
}

func (n *node) Bounds(context.Context, bankfeed.TenantID, int) (floor, head bankfeed.Position, err error) {
	defer n.mu.Unlock()
	err = n.lock()
	return n.floor, bankfeed.Position(len(n.events)), err
}

func (n *node) SandboxUser(_ context.Context, _ bankfeed.TenantID, u bankfeed.UserID) (bool, error) {
	defer n.mu.Unlock()
	err := n.lock()
	return n.sandbox[u], err
}

func (n *node) Target(context.Context, callback.Key) (callback.Target, error) {
	defer n.mu.Unlock()
	err := n.lock()
	t := n.target
	t.Cursors = slices.Clone(t.Cursors)
	return t, err
}

// waiting are those that are due in their order, or all.
func (w *world) waiting(behind bool) (list []*callback.Delivery) {
	for id, d := range w.open {
		if d.State != callback.Waiting {
			delete(w.open, id)
		} else if behind || !d.Behind {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *callback.Delivery) int {
		return cmp.Or(a.NextAt.Compare(b.NextAt), cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (n *node) Due(_ context.Context, _ callback.Key, now time.Time, limit int) (due []callback.Due, next time.Time, err error) {
	if n.looks.Add(1) > 1000 { // a leader that does nothing else must not stop the clock
		time.Sleep(time.Millisecond * 100) //nolint:forbidigo // fake time
	}
	defer n.mu.Unlock()
	if err := n.lock(); err != nil {
		return nil, next, err
	}
	for _, d := range n.waiting(false) {
		if len(due) == limit || d.NextAt.After(now) {
			return due, d.NextAt, nil
		}
		due = append(due, callback.Due{Delivery: *d, Event: n.event(d.Position)})
	}
	return due, next, nil
}

func (n *node) Probe(_ context.Context, _ callback.Key, newest bool) (*callback.Due, error) {
	defer n.mu.Unlock()
	if err := n.lock(); err != nil {
		return nil, err
	}
	list := n.waiting(false)
	if len(list) == 0 {
		return nil, nil
	}
	d := list[0]
	if newest {
		d = slices.MaxFunc(list, func(a, b *callback.Delivery) int { return cmp.Compare(a.ID, b.ID) })
	}
	return &callback.Due{Delivery: *d, Event: n.event(d.Position)}, nil
}

func (n *node) Blocked(_ context.Context, _ callback.Key, asked []bankfeed.ConnectionID) (list []bankfeed.ConnectionID, err error) {
	defer n.mu.Unlock()
	if err := n.lock(); err != nil {
		return nil, err
	}
	for _, d := range n.waiting(true) {
		if slices.Contains(asked, d.Connection) && !slices.Contains(list, d.Connection) {
			list = append(list, d.Connection)
		}
	}
	return list, nil
}

func (n *node) Versions(context.Context, []callback.Key) (map[callback.Key]int64, error) {
	defer n.mu.Unlock()
	err := n.lock()
	return map[callback.Key]int64{key: n.target.Version}, err
}

func (n *node) Secrets(context.Context, bankfeed.TenantID, bankfeed.Secret, time.Time) ([]bankfeed.Secret, error) {
	defer n.mu.Unlock()
	err := n.lock()
	return []bankfeed.Secret{n.secret}, err
}

func (n *node) Commit(_ context.Context, c callback.Commit) (ids []callback.DeliveryID, version int64, err error) {
	time.Sleep(2 * time.Millisecond) //nolint:forbidigo // fake time: a commit takes some
	defer n.mu.Unlock()
	if err := n.lock(); err != nil {
		return nil, 0, err
	}
	if c.Fence.Number != n.world.fence {
		return nil, 0, bankfeed.ErrFenced
	}
	n.commits++
	for _, to := range c.Cursors {
		at := &n.target.Cursors[to.Lane]
		if to.Position < at.Position || to.Epoch < at.Epoch {
			n.t.Errorf("the cursor goes back from %v to %v", *at, to)
		}
		*at = to
	}
	for _, r := range c.New {
		n.add(&r.Delivery)
		ids = append(ids, r.ID)
		if r.Attempt != nil {
			n.attempts[r.ID] = append(n.attempts[r.ID], *r.Attempt)
		}
	}
	for _, r := range c.Changed {
		if d := n.deliveries[r.ID]; d.State == callback.Waiting {
			*d = r.Delivery
		}
		if a := r.Attempt; a != nil && !slices.ContainsFunc(n.attempts[r.ID], func(o callback.Attempt) bool { return o.Number == a.Number }) {
			n.attempts[r.ID] = append(n.attempts[r.ID], *a)
		}
	}
	if c.Health != nil {
		n.target.Health = *c.Health
	}
	if c.Disable != "" && n.target.Status == callback.Active {
		n.target.Status, n.target.Reason = callback.Disabled, c.Disable
		n.target.Version++
	}
	if !c.Recovered.IsZero() {
		for _, d := range n.waiting(false) {
			if !d.LastAt.Before(c.Recovered) {
				d.NextAt = c.Now
			}
		}
	}
	n.target.Notes = append(n.target.Notes, c.Notes...)
	if c.Ordered {
		for _, r := range slices.Concat(c.New, c.Changed) {
			n.unblock(r.Connection, c.Now)
		}
	}
	if c.Release != nil {
		n.world.fence = 0
		if n.readyAt.IsZero() || c.Release.ReadyAt.Before(n.readyAt) {
			n.readyAt = c.Release.ReadyAt
		}
	}
	if n.doubt > 0 {
		n.doubt--
		return nil, 0, errors.New("the connection broke during the commit")
	}
	return ids, n.target.Version, nil
}

// add stores a new delivery; it must be one.
func (w *world) add(d *callback.Delivery) {
	place := [2]int64{int64(d.Position), d.Replay}
	if other := w.deliveries[w.places[place]]; other != nil {
		w.t.Errorf("position %d has two deliveries: %s and %s", d.Position, other.State, d.State)
	}
	w.nextID++
	d.ID = w.nextID
	stored := *d
	w.deliveries[d.ID], w.open[d.ID], w.places[place] = &stored, &stored, d.ID
}

func (w *world) unblock(c bankfeed.ConnectionID, now time.Time) {
	var first *callback.Delivery
	for _, d := range w.waiting(true) {
		if d.Connection == c && (first == nil || d.Position < first.Position) {
			first = d
		}
	}
	if first != nil && first.Behind {
		first.Behind, first.NextAt = false, now
	}
}

// Send is the way to the receiver. A dead process may still get through.
func (n *node) Send(ctx context.Context, m callback.Message) callback.Result {
	n.mu.Lock()
	r, took := n.receive(m)
	n.got = append(n.got, arrival{m, time.Now(), r.Delivered()})
	n.flying++
	n.most = max(n.most, n.flying)
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.flying--
		n.mu.Unlock()
	}()
	t := time.NewTimer(took)
	defer t.Stop()
	select {
	case <-t.C:
		return r
	case <-ctx.Done():
		return callback.Result{Cause: callback.CauseReset}
	}
}
