package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// ended commits deliveries that ended, each with its last cause.
func (w *callbacks) ended(t callback.Target, fence bankfeed.Fence, from bankfeed.Position, states ...callback.State) []callback.DeliveryID {
	w.t.Helper()
	var rows []callback.Row
	for i, state := range states {
		r := w.tried(w.row(from+bankfeed.Position(i), state), w.now, callback.Result{Cause: callback.CauseTimeout})
		switch state {
		case callback.Delivered:
			r.Attempt.Cause = ""
		case callback.GivenUp:
			r.Attempt.Cause = callback.CauseStatus
		case callback.Waiting, callback.Skipped, callback.Erased, callback.Expired:
		}
		r.CreatedAt = w.at(time.Duration(i) * time.Minute)
		rows = append(rows, r)
	}
	return w.commit(callback.Commit{Fence: fence, Key: t.Key, New: rows})
}

func TestListsOfDeliveries(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		a, b := w.subscribe(callback.Settings{}), w.subscribe(callback.Settings{})
		fa := w.lead(a)
		fb := bankfeed.Fence{Kind: bankfeed.WorkSubscription, Tenant: w.tenant, ID: int64(b.ID), Number: fa.Number}
		n, err := s.Count(w.ctx, `SELECT fence FROM work WHERE id = $1`, b.ID)
		require.NoError(t, err)
		fb.Number = int64(n)
		ok, lost, wait, skip := callback.Delivered, callback.GivenUp, callback.Waiting, callback.Skipped
		ids := w.ended(a, fa, 1, ok, lost, wait, ok, skip)
		ids = append(ids, w.ended(b, fb, 1, lost, ok)...)
		pick := func(n ...int) []callback.DeliveryID {
			out := []callback.DeliveryID{}
			for _, i := range n {
				out = append(out, ids[i])
			}
			return out
		}
		type q = callback.DeliveryQuery
		for name, c := range map[string]struct {
			q    callback.DeliveryQuery
			want []callback.DeliveryID
		}{
			"all, newest first":         {q{}, pick(6, 5, 4, 3, 2, 1, 0)},
			"a page":                    {q{Limit: 2, Before: ids[5]}, pick(4, 3)},
			"of a target":               {q{Target: a.ID}, pick(4, 3, 2, 1, 0)},
			"a page of a target":        {q{Target: a.ID, Limit: 2, Before: ids[4]}, pick(3, 2)},
			"of an unknown target":      {q{Target: 4711}, pick()},
			"what was given up":         {q{States: []callback.State{lost}}, pick(5, 1)},
			"a page of several states":  {q{States: []callback.State{lost, skip, wait}, Limit: 3}, pick(5, 4, 2)},
			"delivered, or not":         {q{States: []callback.State{ok, lost}}, pick(6, 5, 3, 1, 0)},
			"a state of a target":       {q{Target: b.ID, States: []callback.State{ok}}, pick(6)},
			"of an event":               {q{Position: 2}, pick(6, 1)},
			"of an event of a target":   {q{Position: 2, Target: a.ID}, pick(1)},
			"of a lane without events":  {q{Position: 2, Lane: 3}, pick()},
			"by cause":                  {q{Causes: []callback.Cause{callback.CauseStatus, callback.CauseDNS}}, pick(5, 1)},
			"by type":                   {q{Types: []bankfeed.EventType{bankfeed.EventSyncFailed}}, pick()},
			"by user":                   {q{User: w.user, Limit: 1}, pick(6)},
			"by another user":           {q{User: w.user + 1}, pick()},
			"by connection":             {q{Connection: 6}, pick()},
			"by time":                   {q{From: w.at(time.Minute), To: w.at(3 * time.Minute)}, pick(6, 2, 1)},
			"by time, of a target":      {q{Target: a.ID, From: w.at(4 * time.Minute)}, pick(4)},
			"after one":                 {q{After: ids[4]}, pick(6, 5)},
			"a state of no target here": {q{Target: b.ID, States: []callback.State{skip}}, pick()},
		} {
			require.Equal(t, c.want, w.ids(c.q), name)
		}
		counts, err := w.Counts(w.ctx, a.Key)
		require.NoError(t, err)
		require.Equal(t, callback.Counts{States: map[callback.State]int{ok: 2, lost: 1, wait: 1, skip: 1}, Oldest: w.at(2 * time.Minute)}, counts)
	})
}

func TestRedrive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		fence := w.lead(target)
		ids := w.ended(target, fence, 1, callback.GivenUp, callback.Delivered, callback.Skipped, callback.GivenUp, callback.Waiting, callback.Erased)
		type q = callback.DeliveryQuery
		redrive := func(q callback.DeliveryQuery, dry bool) (int, callback.DeliveryID) {
			t.Helper()
			q.Tenant, q.Sandbox = w.tenant, true
			if q.Limit == 0 {
				q.Limit = 100
			}
			n, last, targets, err := w.Redrive(w.ctx, q, dry, w.at(time.Hour))
			require.NoError(t, err)
			if n > 0 {
				require.Equal(t, []callback.TargetID{target.ID}, targets)
			}
			return n, last
		}
		for name, c := range map[string]struct {
			q    callback.DeliveryQuery
			n    int
			last callback.DeliveryID
		}{
			"all that can be":             {q{}, 3, ids[3]},
			"of a target":                 {q{Target: target.ID}, 3, ids[3]},
			"by state":                    {q{States: []callback.State{callback.Skipped, callback.Delivered}}, 1, ids[2]},
			"by cause":                    {q{Causes: []callback.Cause{callback.CauseStatus}}, 2, ids[3]},
			"a portion":                   {q{Limit: 2}, 2, ids[2]},
			"the next portion":            {q{Limit: 2, After: ids[2]}, 1, ids[3]},
			"by time":                     {q{From: w.at(time.Minute)}, 2, ids[3]},
			"what was delivered":          {q{States: []callback.State{callback.Delivered}}, 0, 0},
			"what waits, or was erased":   {q{States: []callback.State{callback.Waiting, callback.Erased}}, 0, 0},
			"of a user without any":       {q{User: w.user + 1}, 0, 0},
			"of a target that is unknown": {q{Target: 4711}, 0, 0},
		} {
			n, last := redrive(c.q, true)
			require.Equal(t, c.n, n, name)
			require.Equal(t, c.last, last, name)
		}
		got, err := w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, int64(1), got.Version)
		n, _, _, err := w.Redrive(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: false, Limit: 10}, false, w.now)
		require.NoError(t, err)
		require.Zero(t, n, "the other world")

		w.commit(callback.Commit{Fence: fence, Key: target.Key, Release: &bankfeed.Release{ReadyAt: w.at(24 * time.Hour)}})
		n, last := redrive(q{Limit: 2}, false)
		require.Equal(t, 2, n)
		require.Equal(t, ids[2], last)
		d := w.delivery(ids[0])
		require.Equal(t, []any{callback.Waiting, 1, 0, w.at(time.Hour), time.Time{}}, []any{d.State, d.Attempts, d.Step, d.NextAt, d.EndedAt})
		require.Equal(t, callback.GivenUp, w.delivery(ids[3]).State)
		got, err = w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, int64(2), got.Version)
		next, err := s.NextWork(w.ctx, bankfeed.WorkSubscription)
		require.NoError(t, err)
		require.Equal(t, w.at(time.Hour), next)

		w.remove(target.Key)
		require.Equal(t, callback.Skipped, w.delivery(ids[0]).State, "what waited for a deleted one")
		n, _ = redrive(q{}, false)
		require.Zero(t, n)
		_, err = s.Count(w.ctx, `SELECT id FROM work WHERE kind = 'subscription'`)
		require.Error(t, err, "its work is gone")
	})
}

func TestRedriveKeepsTheOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{Ordered: true})
		fence := w.lead(target)
		w.ended(target, fence, 1, callback.GivenUp, callback.GivenUp)
		none := w.row(3, callback.GivenUp)
		none.Connection = 0
		other := w.row(4, callback.GivenUp)
		other.Connection = 6
		waits := w.row(2, callback.Waiting)
		waits.Connection, waits.Position = 6, 9
		more := none
		more.Position = 5
		w.commit(callback.Commit{Fence: fence, Key: target.Key, New: []callback.Row{none, other, waits, more}})
		_, _, _, err := w.Redrive(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: true, Limit: 100}, false, w.at(time.Minute))
		require.NoError(t, err)
		got := positions(w.due(target.Key, w.at(time.Minute)))
		slices.Sort(got)
		require.Equal(t, []bankfeed.Position{1, 3, 4, 5, 9}, got, "2 is behind 1; without a connection nobody is behind; 9 was on its way")
	})
}

func TestReplayToASubscription(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		created, started := bankfeed.EventTransactionCreated, bankfeed.EventSyncStarted
		w.events(5, created, started, bankfeed.EventTransactionSeen, created)
		w.events(6, created, started)
		sandboxed := w.user
		live, err := s.Access().CreateUser(w.ctx, w.tenant, access.User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: w.now}})
		require.NoError(t, err)
		w.user = live
		w.events(5, created)
		w.user = sandboxed
		late := page(w.tenant, w.user, 1)
		late.Events[0].At = w.at(24 * time.Hour)
		_, err = s.Apply(w.ctx, late)
		require.NoError(t, err)
		w.events(5, created)
		require.NoError(t, s.BlankEvents(w.ctx, w.tenant, w.user, []bankfeed.Position{9})) // says nothing any more

		target := w.subscribe(callback.Settings{Types: []bankfeed.EventType{created, started, bankfeed.EventSyncFailed}})
		type q = callback.ReplayQuery
		count := func(q callback.ReplayQuery) int {
			t.Helper()
			q.Key, q.Sandbox = target.Key, true
			if q.Limit == 0 {
				q.Limit = 100
			}
			n, number, err := w.Replay(w.ctx, q, true, w.now)
			require.NoError(t, err)
			require.Zero(t, number)
			return n
		}
		for name, c := range map[string]struct {
			q callback.ReplayQuery
			n int
		}{
			"all":                      {q{}, 6},
			"by type":                  {q{Types: []bankfeed.EventType{created}}, 4},
			"a type that it has not":   {q{Types: []bankfeed.EventType{bankfeed.EventBankCalled}}, 0},
			"by connection":            {q{Connection: 6}, 2},
			"by user":                  {q{User: live}, 0},
			"by account":               {q{Account: 3}, 6},
			"by another account":       {q{Account: 4}, 0},
			"a range":                  {q{First: 2, Last: 5}, 3},
			"a range without end":      {q{First: 5}, 3},
			"of another lane":          {q{First: 1, Lane: 3}, 0},
			"from a time":              {q{From: w.at(time.Hour)}, 1},
			"up to a time, exclusive":  {q{To: w.at(24 * time.Hour)}, 5},
			"within times":             {q{From: w.now, To: w.at(time.Second)}, 5},
			"more than it may be, + 1": {q{Limit: 3}, 4},
		} {
			require.Equal(t, c.n, count(c.q), name)
		}
		all := callback.ReplayQuery{Key: target.Key, Sandbox: true, Limit: 5}
		n, number, err := w.Replay(w.ctx, all, false, w.now)
		require.NoError(t, err)
		require.Equal(t, 6, n)
		require.Zero(t, number)
		require.Empty(t, w.ids(callback.DeliveryQuery{}), "more than the limit: nothing")

		all.Limit = 6
		n, number, err = w.Replay(w.ctx, all, false, w.now)
		require.NoError(t, err)
		require.Equal(t, 6, n)
		due := w.due(target.Key, w.now)
		require.Equal(t, []bankfeed.Position{1, 2, 4, 5, 6, 8}, positions(due))
		require.Equal(t, number, due[0].Replay)
		require.Equal(t, due[0].Event.ID(), due[0].EventID())
		require.NotEqual(t, due[0].EventID(), due[0].MessageID())
		require.Equal(t, created, due[0].Type)
		_, again, err := w.Replay(w.ctx, all, false, w.now)
		require.NoError(t, err)
		require.Greater(t, again, number, "in the same millisecond")
		require.NotEqual(t, int64(s.Installation().Epoch), again)
		got, err := w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, int64(3), got.Version)

		_, _, err = w.Replay(w.ctx, callback.ReplayQuery{Key: target.Key, Sandbox: false, Limit: 1}, true, w.now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		w.order(w.now, "https://a.example")
		_, _, err = w.Replay(w.ctx, callback.ReplayQuery{Key: w.origin().Key, Sandbox: true, Limit: 1}, true, w.now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "nobody subscribed")
	})
}

func TestReplayToAnOrderedSubscription(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		for _, connection := range []bankfeed.ConnectionID{5, 6, 5, 6} {
			w.events(connection, bankfeed.EventTransactionCreated)
		}
		target := w.subscribe(callback.Settings{Ordered: true, User: w.user})
		q := callback.ReplayQuery{Key: target.Key, Sandbox: true, Limit: 10}
		_, first, err := w.Replay(w.ctx, q, false, w.now)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{1, 2}, positions(w.due(target.Key, w.now)))
		_, second, err := w.Replay(w.ctx, q, false, w.now)
		require.NoError(t, err)
		require.Len(t, w.due(target.Key, w.now), 2, "behind the first replay")

		fence := w.lead(target)
		var got []int64
		for range 8 {
			due := w.due(target.Key, w.at(time.Hour))
			require.NotEmpty(t, due)
			r := w.tried(callback.Row{Delivery: due[0].Delivery}, w.now, callback.Result{Status: 200})
			r.State, r.EndedAt = callback.Delivered, w.now
			w.commit(callback.Commit{Fence: fence, Key: target.Key, Ordered: true, Changed: []callback.Row{r}})
			got = append(got, r.Replay)
		}
		require.ElementsMatch(t, []int64{first, first, first, first, second, second, second, second}, got)
		require.Empty(t, w.due(target.Key, w.at(time.Hour)))
	})
}
