package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func (w *callbacks) status(key callback.Key, status callback.Status) {
	w.t.Helper()
	_, err := w.ChangeTarget(w.ctx, key, true, func(t *callback.Target) error { t.Status = status; return nil }, w.now)
	require.NoError(w.t, err)
}

func (w *callbacks) move(t callback.Target, f bankfeed.Fence, p bankfeed.Position) {
	w.t.Helper()
	w.commit(callback.Commit{Fence: f, Key: t.Key, Cursors: []callback.Cursor{{Epoch: w.Installation().Epoch, Position: p}}})
}

// Retention waits for whoever still makes bodies from the log, and for nobody
// else.
func TestLogIsKeptForCallbacks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		created := bankfeed.EventTransactionCreated
		needed := func(want bankfeed.Position, wantOK bool) {
			t.Helper()
			done, ok, err := s.SinksDone(w.ctx, w.tenant, 0)
			require.NoError(t, err)
			require.Equal(t, []any{want, wantOK}, []any{done, ok})
			_, ok, err = s.SinksDone(w.ctx, w.tenant+1, 0)
			require.NoError(t, err)
			require.False(t, ok)
		}
		w.events(5, created, created)
		needed(0, false)
		a := w.subscribe(callback.Settings{})
		needed(2, true)
		w.events(5, created, created, created, created)
		fence := w.lead(a)
		w.move(a, fence, 5)
		needed(5, true)
		w.status(a.Key, callback.Paused)
		needed(5, true)
		ids := w.commit(callback.Commit{Fence: fence, Key: a.Key, New: []callback.Row{w.row(4, callback.Waiting), w.row(2, callback.GivenUp)}})
		needed(3, true)
		w.status(a.Key, callback.Disabled)
		needed(0, false)
		w.status(a.Key, callback.Active)
		needed(3, true)
		_, _, _, err := w.Redrive(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: true, Limit: 10}, false, w.now)
		require.NoError(t, err)
		needed(1, true)
		for _, id := range ids {
			r := callback.Row{Delivery: w.delivery(id)}
			r.State, r.EndedAt = callback.GivenUp, w.now
			w.commit(callback.Commit{Fence: fence, Key: a.Key, Changed: []callback.Row{r}})
		}
		needed(5, true)
		r := enable(t, s, stream.Key{Tenant: w.tenant, Name: "banqup"}, "host/a")
		save(t, s, r, 1, w.now)
		needed(1, true)
		save(t, s, r, 6, w.now)
		needed(5, true)

		// The callback of a request counts as long as it waits.
		w.remove(a.Key)
		needed(6, true)
		require.NoError(t, s.DisableStreams(w.ctx, nil, "off", w.now))
		w.order(w.at(time.Hour), "https://a.example")
		needed(6, true)
		origin := w.origin()
		w.status(origin.Key, callback.Disabled)
		needed(0, false)
	})
}

// A user may be forgotten once every subscription that would hear of it has.
func TestToldBySubscriptions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		told := func(want bool, why string) {
			t.Helper()
			got, err := s.Told(w.ctx, w.tenant, w.user)
			require.NoError(t, err)
			require.Equal(t, want, got, why)
		}
		deaf := []callback.Settings{{Types: []bankfeed.EventType{bankfeed.EventTransactionCreated}}, {User: w.user + 1}, {Connection: 6}, {Account: 8}}
		for _, set := range deaf {
			w.subscribe(set)
		}
		live, err := w.AddSubscription(w.ctx, callback.Target{Key: callback.Key{Tenant: w.tenant}, Subscription: &callback.Settings{}, Status: callback.Active,
			Cursors: []callback.Cursor{{}}}, w.now)
		require.NoError(t, err)
		require.False(t, live.Sandbox)
		w.events(5, bankfeed.EventTransactionCreated, bankfeed.EventConsentDeleted, bankfeed.EventConnectionDeleted)
		told(true, "nobody hears of it")

		a := w.subscribe(callback.Settings{User: w.user, Types: []bankfeed.EventType{bankfeed.EventConnectionDeleted}})
		told(true, "it began after them")
		w.events(5, bankfeed.EventConsentDeleted)
		told(false, "the cursor")
		fence := w.lead(a)
		w.move(a, fence, 4)
		told(true, "the cursor")
		b := w.subscribe(callback.Settings{Connection: 5, Account: 3})
		w.events(5, bankfeed.EventConnectionDeleted)
		w.move(a, fence, 5)
		told(false, "the second one")
		w.status(b.Key, callback.Paused)
		told(false, "it waits")
		w.status(b.Key, callback.Disabled)
		told(true, "it is not told any more")
		w.status(b.Key, callback.Active)
		w.remove(b.Key)
		told(true, "it is gone")

		ids := w.commit(callback.Commit{Fence: fence, Key: a.Key, New: []callback.Row{w.row(1, callback.Waiting), w.row(3, callback.Waiting)}})
		told(false, "a delivery of a deletion waits")
		r := callback.Row{Delivery: w.delivery(ids[1])}
		r.State, r.EndedAt = callback.Delivered, w.now
		w.commit(callback.Commit{Fence: fence, Key: a.Key, Changed: []callback.Row{r}})
		told(true, "the other one tells of no deletion")
	})
}

func TestOldDeliveriesAreSwept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		created := bankfeed.EventTransactionCreated
		target := w.subscribe(callback.Settings{Ordered: true})
		w.events(5, created, created, created, created)
		late := page(w.tenant, w.user, 1)
		late.Events[0].At = w.at(48 * time.Hour)
		_, err := s.Apply(w.ctx, late)
		require.NoError(t, err)
		fence := w.lead(target)
		old := w.tried(w.row(1, callback.GivenUp), w.now, refused)
		ended := w.row(2, callback.Skipped)
		ended.EndedAt = w.at(100 * time.Hour)
		waits, behind := w.row(3, callback.Waiting), w.row(4, callback.Waiting)
		behind.Behind, behind.Position = true, 5
		young := w.row(5, callback.Delivered)
		young.Replay = 1
		ids := w.commit(callback.Commit{Fence: fence, Key: target.Key, New: []callback.Row{old, ended, waits, behind, young},
			Cursors: []callback.Cursor{{Position: 5}}})
		w.order(w.now, "https://unused.example")
		sweep := func(want int) {
			t.Helper()
			n, err := s.SweepCallbacks(w.ctx, w.at(24*time.Hour), w.at(101*time.Hour))
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		sweep(1)
		require.Equal(t, []callback.DeliveryID{ids[4], ids[3], ids[2], ids[1]}, w.ids(callback.DeliveryQuery{Target: target.ID}))
		n, err := s.Count(w.ctx, `SELECT count(*) FROM callback_attempts`)
		require.NoError(t, err)
		require.Zero(t, n)
		sweep(0)

		// A disabled receiver does not keep the log; what waits for it expires.
		w.status(target.Key, callback.Disabled)
		origin := w.origin()
		r := callback.Row{Delivery: w.due(origin.Key, w.now)[0].Delivery}
		r.State, r.EndedAt = callback.Delivered, w.now
		w.commit(callback.Commit{Fence: w.claim(origin, w.at(101*time.Hour)), Key: origin.Key, Changed: []callback.Row{r}})
		_, err = (&eventlog.Cleaner{Store: s, Keep: time.Hour, Needed: s.SinksDone}).Trim(w.ctx, w.at(26*time.Hour))
		require.NoError(t, err)
		floor, _, err := w.Bounds(w.ctx, w.tenant, 0)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(4), floor)
		require.Nil(t, w.due(target.Key, w.now)[0].Event)
		sweep(0)
		d := w.delivery(ids[2])
		require.Equal(t, []any{callback.Expired, w.at(101 * time.Hour), time.Time{}}, []any{d.State, d.EndedAt, d.NextAt})
		require.False(t, w.delivery(ids[3]).Behind, "it is the first of its connection now")

		// What nobody can use any more goes with its last delivery.
		w.remove(target.Key)
		n, err = s.SweepCallbacks(w.ctx, w.at(1000*time.Hour), w.at(1001*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		for _, table := range []string{"callback_targets", "callback_deliveries", "callback_attempts", "callback_cursors", "work"} {
			n, err := s.Count(w.ctx, `SELECT count(*) FROM `+table)
			require.NoError(t, err)
			require.Zero(t, n, table)
		}
		w.order(w.now, "https://unused.example") // and comes back with the next order
		require.Len(t, w.due(w.origin().Key, w.now), 1)
	})
}
