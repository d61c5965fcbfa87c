package eventlog_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// heads is a Heads of one lane per tenant.
type heads struct {
	mu    sync.Mutex
	at    map[bankfeed.TenantID]bankfeed.Position
	err   error
	looks int
}

func (h *heads) Heads(_ context.Context, tenants []bankfeed.TenantID) (lanes []eventlog.Lane, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
	for t, p := range h.at {
		if slices.Contains(tenants, t) {
			lanes = append(lanes, eventlog.Lane{Tenant: t, Head: p})
		}
	}
	return lanes, h.err
}

func (h *heads) set(t bankfeed.TenantID, p bankfeed.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[t] = p
}

func (h *heads) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *heads) looked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.looks
}

func committed(t bankfeed.TenantID, u bankfeed.UserID, first, last bankfeed.Position, topic bankfeed.Topic) bankfeed.Committed {
	c := bankfeed.Committed{Tenant: t, User: u, First: first, Last: last}
	c.Topics[topic] = true
	return c
}

func woken(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pass lets fake time pass: its callers are in a synctest bubble.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // fake time

var quiet = slog.New(slog.DiscardHandler)

func TestHubWakesThoseConcerned(t *testing.T) {
	h := eventlog.NewHub(&heads{}, 0, quiet)
	user, stop := h.Subscribe(1, 7)
	defer stop()
	all, stopAll := h.Subscribe(1, 0)
	defer stopAll()
	queue, stopQueue := h.Subscribe(1, 7, bankfeed.TopicConnections)
	defer stopQueue()
	foreign, stopForeign := h.Subscribe(2, 7)
	defer stopForeign()

	h.Committed(committed(1, 7, 1, 5, bankfeed.TopicData))
	require.True(t, woken(user))
	require.True(t, woken(all))
	require.False(t, woken(queue), "none of its topic")
	require.False(t, woken(foreign), "another tenant")

	h.Committed(committed(1, 8, 6, 6, bankfeed.TopicConnections))
	require.False(t, woken(user), "another user")
	require.True(t, woken(all))

	h.Committed(committed(1, 7, 7, 7, bankfeed.TopicConnections))
	h.Committed(committed(1, 7, 8, 8, bankfeed.TopicConnections))
	require.True(t, woken(queue))
	require.False(t, woken(queue), "two commits share one wake-up")

	h.WakeAll()
	require.True(t, woken(user) && woken(all) && woken(queue) && woken(foreign))

	stop()
	stop()
	h.Committed(committed(1, 7, 9, 9, bankfeed.TopicData))
	require.False(t, woken(user), "it stopped")
	require.True(t, woken(all))
}

// With every signal lost, a reader that waits learns of an event within the
// slow look's interval; with none lost, nobody is woken for nothing; and nobody
// waiting means no query.
func TestHubLooksForLostSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &heads{at: map[bankfeed.TenantID]bankfeed.Position{1: 10, 2: 3}}
		h := eventlog.NewHub(src, 5*time.Second, quiet)
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		tick := func() { pass(5 * time.Second); synctest.Wait() }

		tick()
		require.Zero(t, src.looked(), "nobody waits")

		wake, stop := h.Subscribe(1, 7)
		other, stopOther := h.Subscribe(2, 7)
		tick()
		require.True(t, woken(wake), "nobody knows what it missed before the first look")
		require.True(t, woken(other))
		tick()
		require.False(t, woken(wake), "nothing new")

		src.set(1, 11)
		tick()
		require.True(t, woken(wake), "the signal of 11 was lost")
		require.False(t, woken(other), "its tenant's lane stands still")

		// Told in any order, twice, and beyond what the look sees: not lost.
		for _, p := range []bankfeed.Position{14, 12, 13, 12, 15} {
			h.Committed(committed(1, 8, p, p, bankfeed.TopicData))
		}
		src.set(1, 14)
		tick()
		require.False(t, woken(wake))
		src.set(1, 15)
		tick()
		require.False(t, woken(wake), "15 was told before the look that saw 14")

		// One in the middle is missing.
		h.Committed(committed(1, 8, 16, 16, bankfeed.TopicData))
		h.Committed(committed(1, 8, 18, 20, bankfeed.TopicData))
		src.set(1, 20)
		tick()
		require.True(t, woken(wake))

		src.fail(errors.New("the database is away"))
		src.set(1, 21)
		tick()
		require.False(t, woken(wake))
		src.fail(nil)
		tick()
		require.True(t, woken(wake), "it goes on when the database is back")

		stop()
		stopOther()
		looks := src.looked()
		tick()
		require.Equal(t, looks, src.looked(), "nobody waits any more")
		cancel()
		require.NoError(t, <-done)
	})
}
