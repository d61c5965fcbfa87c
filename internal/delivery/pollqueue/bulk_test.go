package pollqueue_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// TestBulkQueues: 10,000 live queues cost no goroutine; with 500 polls open and
// 100 commits a second each event is answered, and soon. The bound on the time
// is loose, because the machine is shared; bankfeed bench queue measures it.
func TestBulkQueues(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		n := newNode(s, &clock{now: storetest.Now})
		before := runtime.NumGoroutine()
		const live, open, commits = 10_000, 500, 300
		ids := make([]string, live)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < live; i += 4 {
					id, err := n.Create(ctx, pollqueue.Owner{Tenant: 1, User: bankfeed.UserID(i + 1)}, []string{"connections"})
					if err != nil {
						t.Error(err)
						return
					}
					ids[i] = id
				}
			})
		}
		wg.Wait()
		require.InDelta(t, before, runtime.NumGoroutine(), 20, "a queue without an open poll costs no goroutine")

		committed := make([]time.Time, commits) // by the connection's number
		var mu sync.Mutex
		var took []time.Duration
		polling, stop := context.WithCancel(ctx)
		var pollers sync.WaitGroup
		for i := range open {
			pollers.Go(func() {
				o := pollqueue.Owner{Tenant: 1, User: bankfeed.UserID(i + 1)}
				for {
					b, err := n.Read(polling, ids[i], o, pollqueue.Options{Wait: pollqueue.MaxWait})
					if polling.Err() != nil {
						return
					}
					if err == nil {
						err = b.Answered(polling, nil)
					}
					if err != nil {
						t.Error(err)
						return
					}
					now := time.Now()
					mu.Lock()
					for _, e := range b.Events {
						took = append(took, now.Sub(committed[e.Connection-1]))
					}
					mu.Unlock()
				}
			})
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := range commits {
			<-tick.C
			c := &bankfeed.Change{Tenant: 1, User: bankfeed.UserID(i%open + 1), Events: []bankfeed.Draft{{Type: bankfeed.EventSyncStarted,
				At: storetest.Now, Connection: bankfeed.ConnectionID(i + 1), Snapshot: &bankfeed.Snapshot{Schema: 1}}}}
			mu.Lock()
			committed[i] = time.Now() // a little early: the commit itself is counted too
			mu.Unlock()
			_, err := s.Apply(ctx, c)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(took) == commits
		}, 10*time.Second, 10*time.Millisecond, "every event reaches its poller")
		stop()
		pollers.Wait()
		slices.Sort(took)
		t.Logf("%s: commit to answer p50 %v, p99 %v, max %v", s.Engine(), took[commits/2], took[commits*99/100], took[commits-1])
	})
}
