package callback_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// rig is a node with a real store, a real sender and a real receiver.
type rig struct {
	t      testing.TB
	s      *store.Store
	hub    *eventlog.Hub
	tenant bankfeed.TenantID
	user   bankfeed.UserID
	node   int
	sender *callback.Sender
	origin *httptest.Server

	mu     sync.Mutex
	seen   map[string][]time.Time // by webhook-id
	answer atomic.Int64
}

func newReal(t testing.TB, s *store.Store) *rig {
	r := &rig{t: t, s: s, hub: eventlog.NewHub(s, 0, discard), seen: map[string][]time.Time{}}
	s.OnCommit(r.hub.Committed)
	tenant, user := storetest.User(t, s)
	r.tenant, r.user = tenant, user.ID
	r.sender = callback.NewSender(callback.SenderConfig{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(r.sender.Close)
	r.answer.Store(204)
	r.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		status := int(r.answer.Load())
		if status < 300 {
			r.mu.Lock()
			id := q.Header.Get("webhook-id")
			r.seen[id] = append(r.seen[id], time.Now())
			r.mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.origin.Close)
	return r
}

func (r *rig) arrived() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *rig) subscribe(set callback.Settings) callback.Target {
	t, err := r.s.Callbacks().AddSubscription(context.Background(), callback.Target{Key: callback.Key{Tenant: r.tenant}, Client: "c1", Sandbox: true, Subscription: &set,
		URL: bankfeed.Secret(r.origin.URL + "/hook"), Origin: r.origin.URL, Status: callback.Active,
		Cursors: []callback.Cursor{{Epoch: r.s.Installation().Epoch}}}, time.Now())
	require.NoError(r.t, err)
	return t
}

func (r *rig) happen(n int, orders ...bankfeed.CallbackOrder) {
	c := &bankfeed.Change{Tenant: r.tenant, User: r.user}
	for i := range n {
		c.Events = append(c.Events, bankfeed.Draft{Type: bankfeed.EventTransactionCreated, At: time.Now(), Connection: bankfeed.ConnectionID(i%7 + 1), Callbacks: orders,
			Snapshot: &bankfeed.Snapshot{Schema: 1, Build: "20260302.1", Node: "0123456789ab", User: bankfeed.UserRef{ID: r.user, BusinessContext: bankfeed.Individual}}})
	}
	_, err := r.s.Apply(context.Background(), c)
	require.NoError(r.t, err)
}

// start runs a node until stop is called.
func (r *rig) start(change ...func(*callback.Config)) (stop func()) {
	r.node++
	cs := r.s.Callbacks()
	c := callback.Config{
		Store: cs, Log: cs, Worlds: r.s, Transport: r.sender, Epoch: r.s.Installation().Epoch, Node: fmt.Sprint("n", r.node), Logger: discard,
		Subscribe: func(t bankfeed.TenantID) (<-chan struct{}, func()) { return r.hub.Subscribe(t, 0) },
		Render: func(e *bankfeed.Event, _ *callback.Target) ([]byte, error) {
			return fmt.Appendf(nil, `{"n":%d}`, e.Position), nil
		},
	}
	for _, f := range change {
		f(&c)
	}
	e := callback.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = e.Watch(ctx) })
	for _, kind := range []bankfeed.WorkKind{bankfeed.WorkSubscription, bankfeed.WorkTarget} {
		claims := lease.New(lease.Config{Store: r.s, Kind: kind, Node: c.Node, Slots: 100, Poll: 50 * time.Millisecond, Log: discard,
			Run: func(ctx context.Context, c lease.Claim) error { return e.Run(ctx, c.Fence) }})
		running.Go(func() { _ = claims.Run(ctx) })
	}
	return func() { cancel(); running.Wait() }
}

func (r *rig) states(key callback.Key) map[callback.State]int {
	counts, err := r.s.Callbacks().Counts(context.Background(), key)
	require.NoError(r.t, err)
	for s, n := range counts.States {
		if n == 0 {
			delete(counts.States, s)
		}
	}
	return counts.States
}

func (r *rig) eventually(ok func() bool, story ...func() any) {
	r.t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(end) {
			for _, f := range story {
				r.t.Log(f())
			}
			require.FailNow(r.t, "it never came")
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // of real processes
	}
}

// story is what stands about a target.
func (r *rig) story(key callback.Key) any {
	t, err := r.s.Callbacks().Target(context.Background(), key)
	list, _ := r.s.Callbacks().Deliveries(context.Background(), callback.DeliveryQuery{Tenant: key.Tenant, Sandbox: true, Target: key.ID, States: []callback.State{callback.Waiting}, Limit: 30})
	return fmt.Sprintf("%+v %v %v %+v", t.Health, t.Cursors, err, list)
}

func short(c *callback.Config) {
	c.Schedule = []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second}
}

// A subscription, an ordered one and the callbacks of requests, over failures and
// restarts of the node: everything arrives, and the rows say so.
func TestOnRealStores(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newReal(t, s)
		plain, ordered := r.subscribe(callback.Settings{}), r.subscribe(callback.Settings{Ordered: true})
		order := bankfeed.CallbackOrder{URL: bankfeed.Secret(r.origin.URL + "/request?key=s3cret"), ReadyAt: time.Now()}
		r.happen(100)
		stop := r.start(short)
		r.happen(30, order)
		r.eventually(func() bool { return r.arrived() == 130 })
		r.answer.Store(500)
		r.happen(20, order)
		time.Sleep(300 * time.Millisecond) //nolint:forbidigo // of failures, in real time
		stop()
		r.answer.Store(204)
		stop = r.start(short)
		r.happen(20, order)
		no := false
		targets, err := s.Callbacks().Targets(t.Context(), callback.TargetQuery{Tenant: r.tenant, Sandbox: true, Subscriptions: &no, Limit: 10})
		require.NoError(t, err)
		require.Len(t, targets, 1)
		for key, want := range map[callback.Key]int{plain.Key: 170, ordered.Key: 170, targets[0].Key: 70} {
			r.eventually(func() bool { return r.states(key)[callback.Delivered] == want }, func() any { return r.story(key) })
			require.Equal(t, map[callback.State]int{callback.Delivered: want}, r.states(key))
		}
		stop()
		require.Equal(t, 170, r.arrived())
		for id, times := range r.seen {
			require.LessOrEqual(t, len(times), 3, "%s came to three receivers, once each", id)
		}
		again, err := s.Callbacks().Target(t.Context(), ordered.Key)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(170), again.Cursors[0].Position)
		require.False(t, again.Health.LastSuccessAt.IsZero())
		require.Zero(t, again.Health.Failures)
	})
}

// A subscription that is disabled, redriven and replayed through the service.
func TestSkippedRedrivenReplayedOnRealStores(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newReal(t, s)
		sub := r.subscribe(callback.Settings{})
		service := &callback.Service{Store: s.Callbacks(), URLs: r.sender, Now: time.Now}
		_, err := service.Set(t.Context(), sub.Key, true, callback.Disabled, callback.Active)
		require.NoError(t, err)
		defer r.start(short)()
		r.happen(120)
		r.eventually(func() bool { return r.states(sub.Key)[callback.Skipped] == 120 })
		require.Zero(t, r.arrived())
		_, err = service.Set(t.Context(), sub.Key, true, callback.Active, callback.Disabled)
		require.NoError(t, err)
		r.happen(1)
		r.eventually(func() bool { return r.arrived() == 1 })
		n, _, err := service.Redrive(t.Context(), callback.DeliveryQuery{Tenant: r.tenant, Sandbox: true, Target: sub.ID}, false)
		require.NoError(t, err)
		require.Equal(t, 120, n)
		r.eventually(func() bool { return r.arrived() == 121 })
		n, _, err = service.Replay(t.Context(), callback.ReplayQuery{Key: sub.Key, Sandbox: true}, false)
		require.NoError(t, err)
		require.Equal(t, 121, n)
		r.eventually(func() bool { return r.arrived() == 242 })
		r.eventually(func() bool { return r.states(sub.Key)[callback.Delivered] == 242 })
	})
}

func BenchmarkDrain(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *store.Store{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			r := newReal(b, open(b))
			for range b.N/1000 + 1 {
				r.happen(1000)
			}
			r.subscribe(callback.Settings{})
			want := (b.N/1000 + 1) * 1000
			b.ResetTimer()
			began := time.Now()
			stop := r.start()
			r.eventually(func() bool { return r.arrived() >= want })
			b.ReportMetric(float64(want)/time.Since(began).Seconds(), "deliveries/s")
			b.StopTimer()
			stop()
		})
	}
}

func BenchmarkLatency(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *store.Store{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			r := newReal(b, open(b))
			r.subscribe(callback.Settings{})
			stop := r.start()
			time.Sleep(300 * time.Millisecond) //nolint:forbidigo // until it leads
			var took []time.Duration
			committed := map[string]time.Time{}
			b.ResetTimer()
			for n := range 500 {
				r.happen(1)
				committed[bankfeed.EventID(r.s.Installation().Epoch, r.tenant, 0, bankfeed.Position(n+1)).String()] = time.Now()
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // 100 a second
			}
			r.eventually(func() bool { return r.arrived() == 500 })
			stop()
			for id, at := range r.seen {
				took = append(took, at[0].Sub(committed[id]))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[250].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[495].Microseconds())/1000, "p99-ms")
		})
	}
}

var discard = slog.New(slog.DiscardHandler)
