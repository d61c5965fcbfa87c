package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

var refused = callback.Result{Cause: callback.CauseStatus, Status: 503, Duration: 3 * time.Millisecond, Text: "sorry, Mr. Miller"}

func TestSubscriptionComesBackAsItWasStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		w.events(5, bankfeed.EventSyncStarted, bankfeed.EventSyncSucceeded)
		retries := 3
		set := callback.Settings{Name: "crm", Types: []bankfeed.EventType{bankfeed.EventTransactionCreated}, User: 7, Connection: 5, Account: 3, Ordered: true,
			Concurrent: 4, PerSecond: 10, Retries: &retries,
			Headers: callback.Headers{ID: "x-id", Static: map[string]bankfeed.Secret{"authorization": "Bearer s3cret"}}}
		made := w.subscribe(set)
		got, err := w.Target(w.ctx, made.Key)
		require.NoError(t, err)
		made.Cursors = []callback.Cursor{{Lane: 0, Epoch: s.Installation().Epoch, Position: 2}}
		require.Equal(t, set, *got.Subscription)
		got.Notes = nil
		require.Equal(t, made, got)
		require.Equal(t, bankfeed.Secret("https://u:p@receiver.example/hook?key=s3cret"), got.URL)

		fence := w.lead(got)
		changed, err := w.ChangeTarget(w.ctx, got.Key, true, func(t *callback.Target) error {
			t.Status, t.Reason, t.URL, t.Origin = callback.Paused, "holiday", "https://b.example", "https://b.example:443"
			t.Subscription.Headers.Static["authorization"] = "Bearer other"
			return nil
		}, w.at(time.Second))
		require.NoError(t, err)
		require.Equal(t, int64(2), changed.Version)
		again, err := w.Target(w.ctx, got.Key)
		require.NoError(t, err)
		again.Notes, changed.Notes = nil, nil
		require.Equal(t, changed, again)
		require.Equal(t, bankfeed.Secret("Bearer other"), again.Subscription.Headers.Static["authorization"])
		versions, err := w.Versions(w.ctx, []callback.Key{got.Key, {Tenant: w.tenant, ID: 4711}})
		require.NoError(t, err)
		require.Equal(t, map[callback.Key]int64{got.Key: 2}, versions)

		// Its leader goes on, and finds its work ready when it gives it back.
		w.commit(callback.Commit{Fence: fence, Key: got.Key, Release: &bankfeed.Release{ReadyAt: w.at(time.Hour)}})
		next, err := s.NextWork(w.ctx, bankfeed.WorkSubscription)
		require.NoError(t, err)
		require.Equal(t, w.at(time.Second), next)

		refuse := bankfeed.InvalidField("url", "no")
		_, err = w.ChangeTarget(w.ctx, got.Key, true, func(t *callback.Target) error { t.Reason = "x"; return refuse }, w.now)
		require.ErrorIs(t, err, refuse)
		_, err = w.ChangeTarget(w.ctx, callback.Key{Tenant: w.tenant + 1, ID: got.ID}, true, func(*callback.Target) error { return nil }, w.now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		first := w.subscribe(callback.Settings{})
		for range callback.MaxSubscriptions - 1 {
			w.subscribe(callback.Settings{})
		}
		more := callback.Target{Key: callback.Key{Tenant: w.tenant}, Sandbox: true, Subscription: &callback.Settings{}, Status: callback.Active}
		_, err := w.AddSubscription(w.ctx, more, w.now)
		var e *bankfeed.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, bankfeed.Conflict, e.Kind)
		w.remove(first.Key)
		_, err = w.AddSubscription(w.ctx, more, w.now)
		require.NoError(t, err)
		all, err := w.Targets(w.ctx, callback.TargetQuery{Tenant: w.tenant, Sandbox: true, After: first.ID + 2, Limit: 500})
		require.NoError(t, err)
		require.Len(t, all, callback.MaxSubscriptions-2, "pages by number, without the deleted one")
	})
}

func (w *callbacks) remove(key callback.Key) {
	w.t.Helper()
	_, err := w.ChangeTarget(w.ctx, key, true, func(t *callback.Target) error { t.Status = callback.Deleted; return nil }, w.now)
	require.NoError(w.t, err)
}

func TestCommitOfALeader(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		w.events(5, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated)
		fence := w.lead(target)

		ok := w.tried(w.row(1, callback.Delivered), w.at(time.Millisecond), callback.Result{Status: 204, Duration: 2 * time.Millisecond})
		ok.Attempt.Delivery = 0
		bad := w.tried(w.row(2, callback.Waiting), w.at(time.Millisecond), refused)
		bad.Step, bad.NextAt = 1, w.at(5*time.Second)
		later := w.row(3, callback.Waiting)
		later.NextAt = w.at(time.Minute)
		health := callback.Health{Failures: 1, LastCause: callback.CauseStatus, LastSuccessAt: w.at(time.Millisecond)}
		ids := w.commit(callback.Commit{Fence: fence, Key: target.Key, New: []callback.Row{ok, bad, later}, Health: &health,
			Cursors: []callback.Cursor{{Epoch: s.Installation().Epoch, Position: 3}}})
		require.Len(t, ids, 3)

		got, err := w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, []callback.Cursor{{Epoch: s.Installation().Epoch, Position: 3}}, got.Cursors)
		require.Equal(t, health, got.Health)
		require.Equal(t, int64(1), got.Version, "a leader's own word is no change by others")
		require.Equal(t, []callback.Attempt{{Delivery: ids[0], Number: 1, At: w.at(time.Millisecond), Node: "node-1",
			Result: callback.Result{Status: 204, Duration: 2 * time.Millisecond}}}, w.attempts(ids[0]))
		bad.Attempt.Delivery = ids[1]
		require.Equal(t, []callback.Attempt{*bad.Attempt}, w.attempts(ids[1]))
		require.Empty(t, w.attempts(ids[2]))
		bad.ID, bad.Target, bad.Cause = ids[1], target.ID, callback.CauseStatus
		require.Equal(t, bad.Delivery, w.delivery(ids[1]))

		due, next, err := w.Due(w.ctx, target.Key, w.at(5*time.Second), 10)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{2}, positions(due))
		require.Equal(t, w.at(time.Minute), next)

		// The second attempt succeeds, the third delivery is given up untried.
		won := w.tried(callback.Row{Delivery: due[0].Delivery}, w.at(6*time.Second), callback.Result{Status: 200})
		won.State, won.EndedAt = callback.Delivered, w.at(6*time.Second)
		lost := callback.Row{Delivery: w.delivery(ids[2])}
		lost.State, lost.Reason, lost.EndedAt = callback.GivenUp, "enough", w.at(7*time.Second)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: []callback.Row{won, lost}})
		require.Len(t, w.attempts(ids[1]), 2)
		require.Equal(t, callback.Result{Status: 200}, w.attempts(ids[1])[1].Result)
		some, err := w.Attempts(w.ctx, w.tenant, ids[1], 1, 1)
		require.NoError(t, err)
		require.Equal(t, 2, some[0].Number)
		d := w.delivery(ids[1])
		require.Equal(t, []any{callback.Delivered, 2, 1, callback.Cause(""), w.at(time.Millisecond), w.at(6 * time.Second), time.Time{}},
			[]any{d.State, d.Attempts, d.Step, d.Cause, d.FirstAt, d.LastAt, d.NextAt})
		require.Equal(t, "enough", w.delivery(ids[2]).Reason)
		require.Empty(t, w.due(target.Key, w.at(time.Hour)))
		none, err := w.Probe(w.ctx, target.Key, false)
		require.NoError(t, err)
		require.Nil(t, none)
	})
}

func TestAFencedLeaderWritesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		w.events(5, bankfeed.EventTransactionCreated)
		old := w.lead(target)
		_ = w.claim(target, w.at(2*time.Hour)) // the lease of the first one ended
		m := callback.Commit{Fence: old, Key: target.Key, Now: w.now, New: []callback.Row{w.row(1, callback.Waiting)}, Disable: "410",
			Cursors: []callback.Cursor{{Epoch: s.Installation().Epoch, Position: 1}}}
		_, _, err := w.Commit(w.ctx, m)
		require.ErrorIs(t, err, bankfeed.ErrFenced)
		got, err := w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, callback.Active, got.Status)
		require.Zero(t, got.Cursors[0].Position)
		require.Empty(t, w.ids(callback.DeliveryQuery{}))
	})
}

func TestWhatEndedMeanwhileStaysButForItsAttempt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		w.order(w.now, "https://a.example")
		target := w.origin()
		fence := w.lead(target)
		d := w.due(target.Key, w.now)[0]
		require.NoError(t, s.Exec(w.ctx, `UPDATE callback_deliveries SET state = 'skipped', reason = 'x', next_at = NULL, ended_at = 1`))
		won := w.tried(callback.Row{Delivery: d.Delivery}, w.now, callback.Result{Status: 200})
		won.State, won.EndedAt = callback.Delivered, w.now
		gone := won
		gone.ID += 1000
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: []callback.Row{won, gone}})
		got := w.delivery(d.ID)
		require.Equal(t, []any{callback.Skipped, "x", 1}, []any{got.State, got.Reason, got.Attempts})
		require.Len(t, w.attempts(d.ID), 1)
		require.Empty(t, w.attempts(gone.ID))
		// The next one has another number.
		_, _, _, err := w.Redrive(w.ctx, callback.DeliveryQuery{Tenant: w.tenant, Sandbox: true, Limit: 1}, false, w.now)
		require.NoError(t, err)
		failed := w.tried(callback.Row{Delivery: w.delivery(d.ID)}, w.now, refused)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: []callback.Row{failed}})
		require.Len(t, w.attempts(d.ID), 2)
	})
}

func TestLeaderDisablesAndNotes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		fence := w.lead(target)
		for i := range 25 {
			w.commit(callback.Commit{Fence: fence, Key: target.Key, Notes: []callback.Note{{Kind: callback.NoteExpired, At: w.now, First: bankfeed.Position(i)}}})
		}
		_, version, err := w.Commit(w.ctx, callback.Commit{Fence: fence, Key: target.Key, Now: w.now, Disable: "410 Gone"})
		require.NoError(t, err)
		require.Equal(t, int64(2), version)
		_, version, err = w.Commit(w.ctx, callback.Commit{Fence: fence, Key: target.Key, Now: w.now, Disable: "again"})
		require.NoError(t, err)
		require.Equal(t, int64(2), version, "it is not active any more")
		got, err := w.Target(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, []any{callback.Disabled, "410 Gone"}, []any{got.Status, got.Reason})
		require.Len(t, got.Notes, 20)
		require.Equal(t, bankfeed.Position(5), got.Notes[0].First)
		require.Equal(t, bankfeed.Position(24), got.Notes[19].First)
	})
}

func TestRecoveryReleasesWhatFailedDuringTheOutage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{Ordered: true})
		w.events(5, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated)
		fence := w.lead(target)
		var rows []callback.Row
		for p, last := range []time.Duration{-time.Minute, time.Minute, 2 * time.Minute} {
			r := w.tried(w.row(bankfeed.Position(p+1), callback.Waiting), w.at(last), refused)
			r.NextAt = w.at(time.Duration(10-p) * time.Hour)
			rows = append(rows, r)
		}
		behind := w.tried(w.row(4, callback.Waiting), w.at(3*time.Minute), refused)
		behind.Behind, behind.NextAt = true, time.Time{}
		w.commit(callback.Commit{Fence: fence, Key: target.Key, New: append(rows, behind)})
		probe, err := w.Probe(w.ctx, target.Key, false)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(3), probe.Position, "the lowest time")
		require.NotNil(t, probe.Event)
		probe, err = w.Probe(w.ctx, target.Key, true)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(3), probe.Position, "the newest that is not behind another")

		require.Empty(t, w.due(target.Key, w.at(time.Hour)))
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Now: w.at(time.Hour), Recovered: w.now})
		require.Equal(t, []bankfeed.Position{2, 3}, positions(w.due(target.Key, w.at(time.Hour))))
	})
}

func TestOrderedDeliveriesOfAConnectionFollowEachOther(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{Ordered: true})
		for _, connection := range []bankfeed.ConnectionID{5, 5, 6, 5, 6} {
			w.events(connection, bankfeed.EventTransactionCreated)
		}
		fence := w.lead(target)
		of := func(p bankfeed.Position, connection bankfeed.ConnectionID, behind bool) callback.Row {
			r := w.row(p, callback.Waiting)
			if r.Connection, r.Behind = connection, behind; behind {
				r.NextAt = time.Time{}
			}
			return r
		}
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Ordered: true,
			New: []callback.Row{of(1, 5, false), of(2, 5, true), of(3, 6, false), of(4, 5, true), of(5, 6, true)}})
		due := w.due(target.Key, w.now)
		require.Equal(t, []bankfeed.Position{1, 3}, positions(due))
		blocked, err := w.Blocked(w.ctx, target.Key, []bankfeed.ConnectionID{4, 5, 6, 7})
		require.NoError(t, err)
		require.ElementsMatch(t, []bankfeed.ConnectionID{5, 6}, blocked)

		// The first one ends, and the next of its connection is due.
		end := func(d callback.Delivery) callback.Row {
			r := w.tried(callback.Row{Delivery: d}, w.now, callback.Result{Status: 200})
			r.State, r.EndedAt = callback.Delivered, w.now
			return r
		}
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Now: w.at(time.Second), Ordered: true, Changed: []callback.Row{end(due[0].Delivery)}})
		due = w.due(target.Key, w.at(time.Second))
		require.Equal(t, []bankfeed.Position{3, 2}, positions(due))
		// One that failed keeps the others behind it.
		failed := w.tried(callback.Row{Delivery: due[1].Delivery}, w.now, refused)
		failed.NextAt = w.at(time.Hour)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Now: w.at(2 * time.Second), Ordered: true, Changed: []callback.Row{failed}})
		require.Equal(t, []bankfeed.Position{3}, positions(w.due(target.Key, w.at(time.Minute))))
		require.True(t, w.delivery(w.ids(callback.DeliveryQuery{Position: 4})[0]).Behind)
		require.False(t, w.delivery(w.ids(callback.DeliveryQuery{Position: 2})[0]).Behind)
	})
}

// What a receiver answered may quote the event, and goes where it goes.
func TestTextsOfAttemptsGoWithTheirEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		w.events(5, bankfeed.EventTransactionCreated)
		w.events(6, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated)
		fence := w.lead(target)
		try := func(p bankfeed.Position) callback.DeliveryID {
			return w.commit(callback.Commit{Fence: fence, Key: target.Key, New: []callback.Row{w.tried(w.row(p, callback.Waiting), w.now, refused)}})[0]
		}
		a, b, c := try(1), try(2), try(3)
		expr := "CAST(text AS text)"
		if s.Engine() == store.Postgres {
			expr = "encode(text, 'escape')"
		}
		n, err := s.Count(w.ctx, `SELECT count(*) FROM callback_attempts WHERE text IS NOT NULL AND `+expr+` NOT LIKE '%Miller%'`)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		text := func(id callback.DeliveryID) string { return w.attempts(id)[0].Text }

		require.NoError(t, (&eventlog.Cleaner{Store: s}).RedactConnection(w.ctx, w.tenant, w.user, 5))
		require.Equal(t, []string{"", refused.Text, refused.Text}, []string{text(a), text(b), text(c)})
		require.NoError(t, s.BlankEvents(w.ctx, w.tenant, w.user, []bankfeed.Position{2}))
		require.Equal(t, []string{"", "", refused.Text}, []string{text(a), text(b), text(c)})
		late := w.tried(callback.Row{Delivery: w.delivery(b)}, w.now, refused)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: []callback.Row{late}})
		require.Empty(t, w.attempts(b)[1].Text, "an answer that came after its event was blanked")
		require.Equal(t, callback.CauseStatus, w.attempts(b)[1].Cause)
		require.NoError(t, s.DestroyUserKey(w.ctx, w.tenant, w.user))
		require.Empty(t, text(c))
		late = w.tried(callback.Row{Delivery: w.delivery(c)}, w.now, refused)
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: []callback.Row{late}})
		require.Empty(t, w.attempts(c)[1].Text)
	})
}

func TestBulkOfDeliveriesAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		fence := w.lead(target)
		var rows []callback.Row
		for p := range 501 {
			r := w.tried(w.row(bankfeed.Position(p+1), callback.Delivered), w.now, callback.Result{Status: 200})
			if p%10 == 3 {
				r = w.tried(w.row(bankfeed.Position(p+1), callback.Waiting), w.now, refused)
			}
			rows = append(rows, r)
		}
		ids := w.commit(callback.Commit{Fence: fence, Key: target.Key, New: rows})
		var changed []callback.Row
		for i, id := range ids {
			require.Len(t, w.attempts(id), 1, fmt.Sprint(i))
			if rows[i].State == callback.Waiting {
				d := w.delivery(id)
				r := w.tried(callback.Row{Delivery: d}, w.now, callback.Result{Status: 200})
				r.State, r.EndedAt = callback.Delivered, w.now
				changed = append(changed, r)
			}
		}
		w.commit(callback.Commit{Fence: fence, Key: target.Key, Changed: changed})
		counts, err := w.Counts(w.ctx, target.Key)
		require.NoError(t, err)
		require.Equal(t, callback.Counts{States: map[callback.State]int{callback.Delivered: 501}}, counts)
		// A row for an event that has one already is a mistake of the leader.
		_, _, err = w.Commit(w.ctx, callback.Commit{Fence: fence, Key: target.Key, Now: w.now, New: []callback.Row{w.row(7, callback.Delivered)}})
		require.Error(t, err)
	})
}
