package store_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

func TestThingsAreFoundInTheLog(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		f := linked(t, s)
		s1 := f.session(1)
		s1.Status = bankfeed.SessionInProgress
		f.apply(&bankfeed.Change{Session: s1, Alias: "joined", Consents: []bankfeed.Consent{
			{ID: 5, User: f.user.ID, Connection: 1, Mode: bankfeed.Redirect, Status: bankfeed.ConsentReceived, CreatedAt: now},
		}, Accounts: []bankfeed.Account{{ID: 6, User: f.user.ID, Connection: 1, CreatedAt: now}}})
		for kind, number := range map[bankfeed.Kind]int64{
			bankfeed.KindConnection: 1, bankfeed.KindConsent: 5, bankfeed.KindAccount: 6, bankfeed.KindSession: 1,
		} {
			user, connection, err := s.StreamOwner(ctx, f.tenant, kind, number)
			require.NoError(t, err)
			require.Equal(t, f.user.ID, user)
			require.Equal(t, bankfeed.ConnectionID(1), connection)
			_, _, err = s.StreamOwner(ctx, f.tenant+1, kind, number)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
			_, _, err = s.StreamOwner(ctx, f.tenant, kind, 99)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
		_, _, err := s.StreamOwner(ctx, f.tenant, bankfeed.KindUser, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		for _, name := range []string{"ext", "joined"} {
			list, err := s.StreamSessions(ctx, f.tenant, name, 5)
			require.NoError(t, err)
			require.Equal(t, []bankfeed.SessionID{1}, list)
			list, err = s.StreamSessions(ctx, f.tenant+1, name, 5)
			require.NoError(t, err)
			require.Empty(t, list)
		}

		_, err = s.AppendEvents(ctx, page(1, 7, 4))
		require.NoError(t, err)
		events, err := s.StreamEventsAt(ctx, 1, 0, []bankfeed.Position{99, 4, 2})
		require.NoError(t, err)
		require.Len(t, events, 2)
		all, _, err := s.ReadEvents(ctx, eventlog.Query{Tenant: 1, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Event{all[1], all[3]}, events)
		require.NotNil(t, events[0].Snapshot)
		events, err = s.StreamEventsAt(ctx, 2, 0, []bankfeed.Position{2})
		require.NoError(t, err)
		require.Empty(t, events)

		r := enable(t, s, banqupKey, "host/a")
		_, err = s.StreamMark(ctx, banqupKey, now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		for n := range 3 {
			save(t, s, r, bankfeed.Position(n+1), now.Add(time.Duration(n)*time.Minute))
		}
		for minutes, want := range map[int]bankfeed.Position{-1: 1, 0: 1, 1: 2, 2: 3, 90: 3} {
			m, err := s.StreamMark(ctx, banqupKey, now.Add(time.Duration(minutes)*time.Minute))
			require.NoError(t, err)
			require.Equal(t, want, m.Position, minutes)
		}
		_, err = s.StreamMark(ctx, stream.Key{Tenant: 2, Name: "banqup"}, now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}

// One user's events, from the log to what consumers say of them, as the
// diagnostics show it.
func TestInspectorOnARealStore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		f := linked(t, s)
		key := stream.Key{Tenant: f.tenant, Name: "main"}
		call := bankfeed.UUID{6: 0x70, 8: 0x80, 15: 7}
		binary.BigEndian.PutUint64(call[:8], uint64(now.UnixMilli())<<16|0x7000)
		draft := func(typ bankfeed.EventType, account bankfeed.AccountID, set func(*bankfeed.Snapshot)) bankfeed.Draft {
			d := bankfeed.Draft{Type: typ, At: now, Connection: 1, Account: account, Session: 1, Snapshot: &bankfeed.Snapshot{Schema: 1}}
			if set != nil {
				set(d.Snapshot)
			}
			return d
		}
		f.apply(&bankfeed.Change{Events: []bankfeed.Draft{
			draft(bankfeed.EventSyncStarted, 0, nil),
			draft(bankfeed.EventAccountCreated, 6, nil),
			draft(bankfeed.EventTransactionCreated, 6, nil),
			draft(bankfeed.EventTransactionCreated, 6, nil),
			draft(bankfeed.EventBankCalled, 0, func(n *bankfeed.Snapshot) { n.Call = &bankfeed.BankCall{ExecutionID: call} }),
			draft(bankfeed.EventConsentCreated, 0, func(n *bankfeed.Snapshot) { n.Consent = &bankfeed.Consent{ID: 5} }),
			draft(bankfeed.EventTransactionCreated, 6, nil),
		}})
		require.NoError(t, s.EnableStream(ctx, key, stream.Settings{Name: "main", URL: "amqp://u:p@host/a", Queues: []string{"ledger"}}, "host/a", 0, now))
		r, err := s.LeadStream(ctx, key, "n1", now)
		require.NoError(t, err)
		at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
		in := stream.NewInspector(stream.InspectorConfig{
			Store: s, Log: s, Index: s, Worlds: s, Installation: s.Installation(), Now: func() time.Time { return at(100) },
		})
		require.NoError(t, s.SaveStream(ctx, key, r.Term, stream.Progress{
			Position: 6,
			Exchanges: map[banqup.Kind]stream.Exchange{
				banqup.Account: {Routed: true, LastRouted: true, Published: 1, Last: 2, LastAt: at(1)}, banqup.Call: {Published: 1, Unrouted: 1, Last: 5, LastAt: at(1)},
				banqup.Transaction: {Routed: true, Published: 1, Last: 3, LastAt: at(1)}, banqup.Consent: {Routed: true, LastRouted: true},
			},
			Holds:  map[banqup.Kind]stream.Hold{banqup.Transaction: {After: 3, Since: at(1)}},
			Queues: map[string]stream.Queue{"ledger": {SeenAt: at(2), Consumers: 1, Drained: 3, DrainedAt: at(2)}},
		}, []stream.Gap{{Kind: banqup.Call, Reason: stream.GapUnrouted, First: 5, Last: 5, Count: 1, Since: at(1), Until: at(1)}}, at(3)))

		all, err := in.Search(ctx, key, stream.Search{Limit: 50, World: stream.Sandbox, Session: "ext"})
		require.NoError(t, err)
		require.Zero(t, all.Next)
		var got []stream.StoryState
		ids := map[bankfeed.Position]bankfeed.UUID{}
		for _, story := range all.Stories {
			got, ids[story.Event.Position] = append(got, story.State), story.Message
		}
		require.Equal(t, []stream.StoryState{
			stream.StoryNotCarried, stream.StoryDrained, stream.StoryDrained, stream.StoryHeld, stream.StoryUnrouted, stream.StoryRouted, stream.StoryLogged,
		}, got)
		live, err := in.Search(ctx, key, stream.Search{Limit: 50, World: stream.Live})
		require.NoError(t, err)
		require.Empty(t, live.Stories)

		for name, q := range map[string]stream.Search{
			"call": {Execution: call}, "message": {Message: ids[5]}, "kind": {Messages: []banqup.Kind{banqup.Call}},
		} {
			q.Limit = 5
			found, err := in.Search(ctx, key, q)
			require.NoError(t, err)
			require.Len(t, found.Stories, 1, name)
			require.Equal(t, ids[5], found.Stories[0].Message)
		}
		found, err := in.Search(ctx, key, stream.Search{Limit: 5, Consent: 5})
		require.NoError(t, err)
		require.Equal(t, ids[6], found.Stories[0].Message)

		_, err = s.RecordFaults(ctx, key, []stream.Fault{{Message: ids[3], Position: 3, Kind: banqup.Transaction, At: at(5), Type: "System.Exception", Text: quoted, Host: "c"}})
		require.NoError(t, err)
		foreign := bankfeed.EventID(s.Installation().Epoch, f.tenant+1, 0, 3)
		done, err := in.Acknowledge(ctx, key, stream.Sandbox, []bankfeed.UUID{ids[2], foreign, ids[3], ids[1]}, "ledger")
		require.NoError(t, err)
		require.Equal(t, stream.Acknowledged{Accepted: 2, New: 2, Unknown: []bankfeed.UUID{foreign, ids[1]}}, done)
		done, err = in.Acknowledge(ctx, key, "", []bankfeed.UUID{ids[2]}, "ledger")
		require.NoError(t, err)
		require.Equal(t, stream.Acknowledged{Accepted: 1}, done)
		story, err := in.Story(ctx, key, "", ids[3])
		require.NoError(t, err)
		require.Equal(t, stream.StoryAcknowledged, story.State)
		fault := story.Steps[len(story.Steps)-2]
		require.Equal(t, stream.StoryFaulted, fault.State)
		require.Equal(t, quoted, fault.Fault.Text)

		status, err := in.Status(ctx, key)
		require.NoError(t, err)
		require.Equal(t, stream.Lag{Events: 1, Age: 100 * time.Second}, status.Lag)
		require.Equal(t, bankfeed.Position(3), status.Settled)
		require.Len(t, status.Trouble, 2, "silent, holding; an exchange that nobody ever bound is none: %v", status.Trouble)
		require.Empty(t, status.Settings.URL)

		gaps, _, err := in.Gaps(ctx, key, true, 0, 10)
		require.NoError(t, err)
		require.Len(t, gaps, 1)
		require.NoError(t, in.Redrive(ctx, key, []banqup.Kind{banqup.Call}))
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(in.Redrive(ctx, key, []banqup.Kind{banqup.Account})))

		// Erased, the events are still found by their numbers, and their stories
		// still say what became of the messages.
		require.NoError(t, s.DestroyUserKey(ctx, f.tenant, f.user.ID))
		all, err = in.Search(ctx, key, stream.Search{Limit: 50, User: f.user.ID, World: stream.Sandbox})
		require.NoError(t, err)
		require.Len(t, all.Stories, 7)
		for _, story := range all.Stories {
			require.True(t, story.Erased)
		}
		faults, next, err := in.Faults(ctx, key, stream.Sandbox, 0, 10)
		require.NoError(t, err)
		require.Zero(t, next)
		require.Len(t, faults, 1)
		require.True(t, faults[0].Erased)
		require.Empty(t, faults[0].Text)
	})
}
