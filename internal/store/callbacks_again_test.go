package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// A leader that does not know whether a commit was stored stores it again.
func TestCommitOfChangedRowsCanBeRepeated(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		w.events(5, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated)
		fence := w.lead(target)
		ids := w.commit(callback.Commit{Fence: fence, Key: target.Key, New: []callback.Row{w.row(1, callback.Waiting), w.row(2, callback.Waiting), w.row(3, callback.Waiting)}})
		again := callback.Commit{Fence: fence, Key: target.Key}
		for i, state := range []callback.State{callback.Waiting, callback.Delivered, callback.GivenUp} {
			d := w.delivery(ids[i])
			d.State, d.NextAt, d.EndedAt = state, w.at(time.Minute), w.at(time.Second)
			result := refused
			if state == callback.Delivered {
				result = callback.Result{Status: 204}
			}
			again.Changed = append(again.Changed, w.tried(callback.Row{Delivery: d}, w.at(time.Second), result))
		}
		w.commit(again)
		w.commit(again)
		for i, r := range again.Changed {
			require.Equal(t, r.State, w.delivery(ids[i]).State)
			require.Equal(t, 1, w.delivery(ids[i]).Attempts)
			require.Equal(t, []callback.Attempt{*r.Attempt}, w.attempts(ids[i]))
		}
	})
}

// What is behind another delivery goes its own way once the order does not count.
func TestNothingStaysBehindWhenTheOrderIsGivenUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{Ordered: true})
		w.events(5, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated)
		fence := w.lead(target)
		behind := func(p bankfeed.Position) callback.Row {
			r := w.row(p, callback.Waiting)
			r.Behind, r.NextAt = true, time.Time{}
			return r
		}
		first := w.row(1, callback.Waiting)
		first.NextAt = w.at(time.Hour)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Ordered: true, New: []callback.Row{first, behind(2)}})
		require.Empty(t, w.due(target.Key, w.now))
		_, err := w.ChangeTarget(w.ctx, target.Key, true, func(t *callback.Target) error { t.Subscription.Ordered = false; return nil }, w.at(time.Second))
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{2}, positions(w.due(target.Key, w.at(time.Second))))
		// Its leader has not heard of it yet.
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Now: w.at(2 * time.Second), Ordered: true, New: []callback.Row{behind(3)}})
		require.Equal(t, []bankfeed.Position{2, 3}, positions(w.due(target.Key, w.at(2*time.Second))))
	})
}

// A redrive begins anew: what the receiver accepted before it says nothing.
func TestRedrivenDeliveriesBeginAnew(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		w.events(5, bankfeed.EventTransactionCreated)
		given := w.tried(w.row(1, callback.GivenUp), w.now, refused)
		ids := w.commit(callback.Commit{Fence: w.lead(target), Key: target.Key, New: []callback.Row{given}})
		_, _, _, err := w.Redrive(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: true, Limit: 10}, false, w.at(time.Hour))
		require.NoError(t, err)
		d := w.delivery(ids[0])
		require.Equal(t, callback.Waiting, d.State)
		require.Equal(t, 1, d.Attempts)
		require.Zero(t, d.FirstAt)
	})
}
