package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestOrdersBecomeDeliveriesWithTheirEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		var told []bankfeed.WorkKind
		s.OnReady(func(k bankfeed.WorkKind) { told = append(told, k) })
		c := page(w.tenant, w.user, 3)
		c.Events[0].Callbacks = []bankfeed.CallbackOrder{{URL: "https://A.example/one?t=s3cret", ReadyAt: w.at(time.Second), Once: true}}
		c.Events[2].Callbacks = []bankfeed.CallbackOrder{
			{URL: "https://a.example:443/two", ReadyAt: w.at(500 * time.Millisecond)},
			{URL: "https://a.example/three", ReadyAt: w.at(time.Minute)},
		}
		_, err := s.Apply(w.ctx, c)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.WorkKind{bankfeed.WorkTarget}, told)

		target := w.origin()
		require.Equal(t, "https://a.example:443", target.Origin)
		require.Equal(t, callback.Active, target.Status)
		require.Nil(t, target.Subscription)
		next, err := s.NextWork(w.ctx, bankfeed.WorkTarget)
		require.NoError(t, err)
		require.Equal(t, w.at(500*time.Millisecond), next)

		due, next, err := w.Due(w.ctx, target.Key, w.at(time.Second), 10)
		require.NoError(t, err)
		require.Equal(t, w.at(time.Minute), next)
		require.Equal(t, []bankfeed.Position{3, 1}, positions(due), "in the order of time")
		require.Equal(t, bankfeed.Secret("https://A.example/one?t=s3cret"), due[1].URL)
		require.True(t, due[1].Once)
		require.Equal(t, due[1].Event.ID(), due[1].MessageID())
		require.Equal(t, bankfeed.TransactionID(1), due[1].Event.Snapshot.Transaction.ID)
		require.Equal(t, callback.Waiting, due[1].State)

		// The next change finds the same receiver.
		w.order(w.at(time.Hour), "https://a.example/four", "http://a.example/five")
		all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: true, Limit: 10})
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, "http://a.example:80", all[1].Origin)
		counts, err := w.Counts(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, map[callback.State]int{callback.Waiting: 4}, counts.States)
		require.Equal(t, storetest.Now, counts.Oldest)
	})
}

func TestURLsAreSealed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		w.order(w.now, "https://a.example/one?t=s3cret")
		w.subscribe(callback.Settings{Headers: callback.Headers{ID: "x-id", Static: map[string]bankfeed.Secret{"authorization": "Bearer s3cret"}}})
		text := "CAST(%s AS text)"
		if s.Engine() == store.Postgres {
			text = "encode(%s, 'escape')"
		}
		for table, column := range map[string]string{"callback_targets": "sealed", "callback_deliveries": "url"} {
			n, err := s.Count(w.ctx, `SELECT count(*) FROM `+table+` WHERE `+column+` IS NOT NULL AND `+fmt.Sprintf(text, column)+` NOT LIKE '%s3cret%'`)
			require.NoError(t, err)
			require.Equal(t, 1, n, table)
		}
		n, err := s.Count(w.ctx, `SELECT count(*) FROM callback_targets WHERE settings LIKE '%s3cret%' OR origin LIKE '%s3cret%'`)
		require.NoError(t, err)
		require.Zero(t, n)
		// Erasing the user ends the URL, whatever else is left of the delivery.
		target := w.origin()
		require.NoError(t, s.DestroyUserKey(w.ctx, w.tenant, w.user))
		due := w.due(target.Key, w.now)
		require.Len(t, due, 1)
		require.Empty(t, due[0].URL)
		require.Nil(t, due[0].Event.Snapshot)
	})
}

func TestOrdersOfAFailedChangeAreNot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		c := page(w.tenant, w.user, 1)
		c.Fence = &bankfeed.Fence{Kind: bankfeed.WorkSession, Tenant: w.tenant, ID: 1, Number: 1}
		c.Events[0].Callbacks = []bankfeed.CallbackOrder{{URL: "https://a.example", ReadyAt: w.now}}
		_, err := s.Apply(w.ctx, c)
		require.ErrorIs(t, err, bankfeed.ErrFenced)
		for _, table := range []string{"callback_targets", "callback_deliveries", "work", "events"} {
			n, err := s.Count(w.ctx, `SELECT count(*) FROM `+table)
			require.NoError(t, err)
			require.Zero(t, n, table)
		}
	})
}

// A URL that names nobody must not keep a session from ending.
func TestOrderWithoutAnOriginIsADeliveryThatFails(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		w.order(w.now, "://nowhere")
		due := w.due(w.origin().Key, w.now)
		require.Len(t, due, 1)
		require.Equal(t, bankfeed.Secret("://nowhere"), due[0].URL)
	})
}

func TestWorldsHaveReceiversOfTheirOwn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		w.order(w.now, "https://a.example")
		live, err := s.Access().CreateUser(w.ctx, w.tenant, access.User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: w.now}})
		require.NoError(t, err)
		sandboxed := w.user
		w.user = live
		w.order(w.now, "https://a.example")
		for _, sandbox := range []bool{true, false} {
			all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: sandbox, Limit: 10})
			require.NoError(t, err)
			require.Len(t, all, 1)
			found, err := w.Deliveries(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: sandbox, Limit: 10})
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, map[bool]bankfeed.UserID{true: sandboxed, false: live}[sandbox], found[0].User)
			_, err = w.Delivery(w.ctx, w.tenant, !sandbox, found[0].ID)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
			_, err = w.Delivery(w.ctx, w.tenant+1, sandbox, found[0].ID)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
			_, err = w.ChangeTarget(w.ctx, all[0].Key, !sandbox, func(*callback.Target) error { return nil }, w.now)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
	})
}

// Many changes that name the same new receivers at the same time make each once,
// and lose no delivery, whatever leaders and clients do to them meanwhile.
func TestOverlappingOrders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		const writers, each, origins = 8, 10, 3
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				for i := range each {
					c := page(w.tenant, w.user, 2)
					for e := range c.Events {
						for o := range origins {
							c.Events[e].Callbacks = append(c.Events[e].Callbacks, bankfeed.CallbackOrder{
								URL: bankfeed.Secret(fmt.Sprintf("https://r%d.example/%d/%d", (o+n)%origins, n, i)), ReadyAt: w.now})
						}
					}
					if _, err := s.Apply(context.Background(), c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for range 20 {
				all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: true, Limit: 10})
				if err != nil {
					t.Error(err)
				}
				for _, target := range all {
					if _, err := w.ChangeTarget(w.ctx, target.Key, true, func(t *callback.Target) error { t.Reason = "looked at"; return nil }, w.now); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.SweepCallbacks(w.ctx, w.at(-time.Hour), w.now); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: true, Limit: 10})
		require.NoError(t, err)
		require.Len(t, all, origins)
		for _, target := range all {
			due, _, err := w.Due(w.ctx, target.Key, w.now, 1000)
			require.NoError(t, err)
			require.Len(t, due, writers*each*2)
			for _, d := range due {
				require.NotNil(t, d.Event)
			}
		}
	})
}
