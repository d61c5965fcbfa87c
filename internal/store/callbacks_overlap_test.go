package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// A leader delivers in order, while clients redrive, replay, pause and resume,
// events are blanked and old deliveries are swept: nobody is locked out, each row
// ends, the order of a connection holds, and nothing stays behind a delivery that
// is gone.
func TestLeaderAndClientsAtTheSameTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		const events = 60
		target := w.subscribe(callback.Settings{Ordered: true})
		for i := range events {
			w.events(bankfeed.ConnectionID(5+i%3), bankfeed.EventTransactionCreated)
		}
		fence := w.lead(target)
		given := make([]callback.Row, events)
		for i := range given {
			given[i] = w.row(bankfeed.Position(i+1), callback.GivenUp)
			given[i].Connection = bankfeed.ConnectionID(5 + i%3)
		}
		w.commit(callback.Commit{Fence: fence, Key: target.Key, New: given, Cursors: []callback.Cursor{{Position: events}}})

		ctx := context.Background()
		var clients sync.WaitGroup
		var replayed atomic.Int64
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		clients.Go(func() {
			for after, n := callback.DeliveryID(0), 1; n > 0; {
				var err error
				n, after, _, err = w.Redrive(ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: true, After: after, Limit: 7}, false, w.now)
				check(err)
			}
		})
		clients.Go(func() {
			for range 3 {
				n, _, err := w.Replay(ctx, callback.ReplayQuery{Key: target.Key, Sandbox: true, Limit: 100}, false, w.now)
				check(err)
				replayed.Add(int64(n))
			}
		})
		clients.Go(func() {
			for i := range 20 {
				_, err := w.ChangeTarget(ctx, target.Key, true, func(t *callback.Target) error {
					t.Status = []callback.Status{callback.Paused, callback.Active}[i%2]
					return nil
				}, w.now)
				check(err)
				_, err = s.SweepCallbacks(ctx, w.at(-time.Hour), w.now)
				check(err)
				check(s.BlankEvents(ctx, w.tenant, w.user, []bankfeed.Position{bankfeed.Position(i + 1), bankfeed.Position(50 - i)}))
			}
		})
		done := make(chan struct{})
		go func() { clients.Wait(); close(done) }()

		last := map[bankfeed.ConnectionID]map[int64]bankfeed.Position{5: {}, 6: {}, 7: {}}
		delivered, idle := 0, false
		for round := 0; ; round++ {
			due, _, err := w.Due(ctx, target.Key, w.at(time.Hour), 100)
			require.NoError(t, err)
			if len(due) == 0 {
				if idle {
					break
				}
				select {
				case <-done:
					idle = true // and look once more
				default:
				}
				continue
			}
			busy := map[bankfeed.ConnectionID]bool{}
			m := callback.Commit{Fence: fence, Key: target.Key, Now: w.now, Ordered: true, Health: &callback.Health{Failures: round}}
			for _, d := range due {
				if busy[d.Connection] {
					continue // two may be due when one was redriven before another
				}
				busy[d.Connection] = true
				r := w.tried(callback.Row{Delivery: d.Delivery}, w.now, callback.Result{Status: 200})
				if r.State, r.EndedAt = callback.Delivered, w.now; round%5 == 1 {
					r = w.tried(callback.Row{Delivery: d.Delivery}, w.now, refused)
					r.State = callback.Waiting
				} else {
					delivered++
					// Within one replay; a redrive in portions may come to earlier ones later.
					if d.Replay != 0 {
						require.Greater(t, d.Position, last[d.Connection][d.Replay])
						last[d.Connection][d.Replay] = d.Position
					}
				}
				m.Changed = append(m.Changed, r)
			}
			w.commit(m)
		}
		require.Equal(t, events+int(replayed.Load()), delivered)
		counts, err := w.Counts(ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, map[callback.State]int{callback.Delivered: delivered}, counts.States)
	})
}
