package eventlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Hub wakes readers that wait for events. Whoever commits tells it, in this
// process or, by way of the store's signals, on another node; behind that
// stands a slow look at the heads of those lanes that somebody waits for, so
// that a lost signal costs seconds and not an event.
//
// A reader that does not wait costs nothing: no goroutine, no timer, no entry.
type Hub struct {
	heads Heads
	every time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	waiters map[waitKey]map[*waiter]struct{}
	tenants map[bankfeed.TenantID]int // how many wait
	told    map[laneKey]*told
}

// Heads finds the heads of all lanes of tenants.
type Heads interface {
	Heads(ctx context.Context, tenants []bankfeed.TenantID) ([]Lane, error)
}

type waitKey struct {
	tenant bankfeed.TenantID
	user   bankfeed.UserID // 0: anybody
}

type waiter struct {
	wake   chan struct{}
	topics bankfeed.Topics
}

type laneKey struct {
	tenant bankfeed.TenantID
	lane   int
}

// told is what the hub was told of a lane since it last looked at its head.
type told struct {
	head   bankfeed.Position
	ranges []span
}

type span struct{ first, last bankfeed.Position }

// SlowPoll is how often a Hub looks at the heads by default.
const SlowPoll = 5 * time.Second

// NewHub returns a hub that looks at heads every interval (SlowPoll if 0) while
// Run runs.
func NewHub(heads Heads, every time.Duration, log *slog.Logger) *Hub {
	if every <= 0 {
		every = SlowPoll
	}
	return &Hub{heads: heads, every: every, log: log, waiters: map[waitKey]map[*waiter]struct{}{},
		tenants: map[bankfeed.TenantID]int{}, told: map[laneKey]*told{}}
}

// Subscribe registers a reader of a user's events, or of all of the tenant when
// user is 0; of some topics, or of all when none is named. The channel gets a
// value after a commit that may matter; several commits may share one. Register
// before reading: then read, wait, read again, and nothing is missed. stop must
// be called, once or more often.
func (h *Hub) Subscribe(tenant bankfeed.TenantID, user bankfeed.UserID, topics ...bankfeed.Topic) (wake <-chan struct{}, stop func()) {
	w := &waiter{wake: make(chan struct{}, 1)}
	for i := range w.topics {
		w.topics[i] = len(topics) == 0
	}
	for _, t := range topics {
		w.topics[t] = true
	}
	key := waitKey{tenant, user}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiters[key] == nil {
		h.waiters[key] = map[*waiter]struct{}{}
	}
	h.waiters[key][w] = struct{}{}
	h.tenants[tenant]++
	return w.wake, func() { h.unsubscribe(key, w) }
}

func (h *Hub) unsubscribe(key waitKey, w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.waiters[key][w]; !ok {
		return
	}
	if delete(h.waiters[key], w); len(h.waiters[key]) == 0 {
		delete(h.waiters, key)
	}
	if h.tenants[key.tenant]--; h.tenants[key.tenant] == 0 {
		delete(h.tenants, key.tenant)
		for k := range h.told {
			if k.tenant == key.tenant {
				delete(h.told, k)
			}
		}
	}
}

// Committed wakes those who wait for events of this commit. It does not block.
func (h *Hub) Committed(c bankfeed.Committed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tenants[c.Tenant] == 0 {
		return
	}
	if t := h.told[laneKey{c.Tenant, c.Lane}]; t != nil {
		t.add(c.First, c.Last)
	}
	h.wake(waitKey{c.Tenant, c.User}, c.Topics)
	h.wake(waitKey{c.Tenant, 0}, c.Topics)
}

// WakeAll wakes everybody: signals may have been lost.
func (h *Hub) WakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.waiters {
		h.wake(key, bankfeed.Topics{true, true, true})
	}
}

func (h *Hub) wake(key waitKey, topics bankfeed.Topics) {
	for w := range h.waiters[key] {
		if w.topics.Meet(topics) {
			select {
			case w.wake <- struct{}{}:
			default: // woken already
			}
		}
	}
}

// Name names the worker.
func (h *Hub) Name() string { return "event hub" }

// Run looks at the heads until ctx ends. A look without anybody waiting asks
// the database nothing.
func (h *Hub) Run(ctx context.Context) error {
	t := time.NewTicker(h.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := h.look(ctx); err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "looking for events", "err", err)
			}
		}
	}
}

// look wakes the readers of those lanes that have moved on without the hub
// having been told.
func (h *Hub) look(ctx context.Context) error {
	h.mu.Lock()
	tenants := make([]bankfeed.TenantID, 0, len(h.tenants))
	for t := range h.tenants {
		tenants = append(tenants, t)
	}
	h.mu.Unlock()
	if len(tenants) == 0 {
		return nil
	}
	lanes, err := h.heads.Heads(ctx, tenants)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range lanes {
		if h.tenants[l.Tenant] == 0 {
			continue
		}
		key := laneKey{l.Tenant, l.Number}
		t := h.told[key]
		missed := t == nil || !t.covers(l.Head) // nil: the first look, nobody kept count
		if t == nil {
			t = &told{}
			h.told[key] = t
		}
		t.reset(l.Head)
		if !missed {
			continue
		}
		for k := range h.waiters {
			if k.tenant == l.Tenant && (k.user == 0 || LaneOf(k.user, Lanes) == l.Number) {
				h.wake(k, bankfeed.Topics{true, true, true})
			}
		}
	}
	return nil
}

// add notes that first to last were told. Neighbours merge, so that the list
// stays as short as the disorder in which signals arrive.
func (t *told) add(first, last bankfeed.Position) {
	s := span{first, last}
	t.ranges = slices.DeleteFunc(t.ranges, func(r span) bool {
		near := r.first <= s.last+1 && s.first <= r.last+1
		if near {
			s = span{min(r.first, s.first), max(r.last, s.last)}
		}
		return near
	})
	t.ranges = append(t.ranges, s)
}

// covers reports whether everything after the last head up to this one was
// told.
func (t *told) covers(head bankfeed.Position) bool {
	if head <= t.head {
		return true
	}
	for _, r := range t.ranges {
		if r.first <= t.head+1 && r.last >= head {
			return true
		}
	}
	return false
}

// reset moves the head on and forgets what lies behind it.
func (t *told) reset(head bankfeed.Position) {
	t.head = max(t.head, head)
	t.ranges = slices.DeleteFunc(t.ranges, func(r span) bool { return r.last <= t.head })
}
