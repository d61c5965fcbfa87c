package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// tally watches how many runs go on at once in each group, over all nodes.
type tally struct {
	mu   sync.Mutex
	now  map[string]int
	most map[string]int
	done map[int64]int
}

func newTally() *tally {
	return &tally{now: map[string]int{}, most: map[string]int{}, done: map[int64]int{}}
}

func (c *tally) add(group string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[group] += n
	c.most[group] = max(c.most[group], c.now[group])
}

func (c *tally) finish(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[id]++
}

func (c *tally) finished() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.done)
}

func put(t *testing.T, s *store.Store, n int) {
	t.Helper()
	c := &bankfeed.Change{Tenant: 1, User: 7}
	for i := range n {
		c.Ready = append(c.Ready, bankfeed.WorkItem{Tenant: 1, Kind: bankfeed.WorkSession, ID: int64(i + 1), Group: []string{"slow", "fast"}[i%2],
			ReadyAt: time.Now().Add(-time.Second)})
	}
	_, err := s.Apply(context.Background(), c)
	require.NoError(t, err)
}

func runEngine(t *testing.T, c lease.Config) *lease.Engine {
	c.Kind, c.Log = bankfeed.WorkSession, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	e := lease.New(c)
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return e
}

func finish(s *store.Store, c lease.Claim) error {
	_, err := s.Apply(context.Background(), &bankfeed.Change{Tenant: c.Tenant, User: 7, Fence: &c.Fence, Release: &bankfeed.Release{Done: true}})
	return err
}

func slowCap(group string) int { return map[string]int{"slow": 2}[group] }

// Two nodes share the work of one database: each piece is done once, and caps
// hold over both.
func TestTwoNodesShareTheWork(t *testing.T) {
	c := storetest.PostgresConfig(t)
	nodes := []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}
	seen := newTally()
	const n = 60
	put(t, nodes[0], n)
	for i, s := range nodes {
		runEngine(t, lease.Config{Store: s, Node: []string{"a", "b"}[i], Slots: 5, Cap: slowCap, Poll: 10 * time.Millisecond,
			Run: func(_ context.Context, c lease.Claim) error {
				seen.add(c.Group, 1)
				<-time.NewTimer(2 * time.Millisecond).C // the work
				seen.add(c.Group, -1)                   // before the claim ends and makes room for the next
				defer seen.finish(c.ID)
				return finish(s, c)
			}})
	}
	require.Eventually(t, func() bool { return seen.finished() == n }, 30*time.Second, 5*time.Millisecond)
	for id, times := range seen.done {
		require.Equal(t, 1, times, "work %d", id)
	}
	require.LessOrEqual(t, seen.most["slow"], 2)
}

// A node that stops beating, as after kill -9, is taken over when its lease
// ends, and what it still writes is refused.
func TestANodeThatDiesIsTakenOver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		put(t, s, 1)
		dead, err := s.ClaimWork(ctx, lease.Request{Kind: bankfeed.WorkSession, Owner: "dead", Now: time.Now(), Until: time.Now().Add(300 * time.Millisecond),
			Limit: 1, Cap: slowCap})
		require.NoError(t, err)
		require.Len(t, dead, 1)
		began := time.Now()
		taken := make(chan error, 1)
		runEngine(t, lease.Config{Store: s, Node: "b", Slots: 1, Poll: 10 * time.Millisecond, Run: func(_ context.Context, c lease.Claim) error {
			_, err := s.Apply(ctx, &bankfeed.Change{Tenant: 1, User: 7, Fence: &dead[0].Fence})
			taken <- err
			return finish(s, c)
		}})
		require.ErrorIs(t, <-taken, bankfeed.ErrFenced)
		require.GreaterOrEqual(t, time.Since(began), 250*time.Millisecond)
	})
}

// A node that stops gives back what it has, and another goes on at once.
func TestANodeThatStopsHandsOver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		put(t, s, 1)
		ctx, stop := context.WithCancel(context.Background())
		started, ended := make(chan struct{}), make(chan error)
		first := lease.New(lease.Config{Store: s, Kind: bankfeed.WorkSession, Node: "a", Slots: 1, Log: slog.New(slog.DiscardHandler),
			Run: func(ctx context.Context, _ lease.Claim) error {
				close(started)
				<-ctx.Done()
				return errors.New("not finished")
			}})
		go func() { ended <- first.Run(ctx) }()
		<-started
		stop()
		require.NoError(t, <-ended)
		done := make(chan error, 1)
		began := time.Now()
		runEngine(t, lease.Config{Store: s, Node: "b", Slots: 1, Run: func(_ context.Context, c lease.Claim) error {
			err := finish(s, c)
			done <- err
			return err
		}})
		require.NoError(t, <-done)
		require.Less(t, time.Since(began), 5*time.Second)
	})
}
