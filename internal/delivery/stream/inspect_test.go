package stream_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hub  = bankfeed.Installation{Born: time.UnixMilli(1_700_000_000_000), Epoch: 1_700_000_000_000}
	key  = stream.Key{Tenant: 1, Name: "main"}
)

// Each case says what was recorded of one transaction at position 5, and what
// may be claimed from that.
func TestStoryClaimsNoMoreThanIsKnown(t *testing.T) {
	const p = 5
	const tx = banqup.Transaction
	mark := &stream.Mark{Position: 7, At: at(10), Term: 3, Leader: "node-a"}
	gap := func(reason stream.GapReason, resolved time.Time) *stream.Gap {
		return &stream.Gap{Kind: tx, Reason: reason, First: 4, Last: 6, Count: 2, Since: at(8), Until: at(9), ResolvedAt: resolved}
	}
	queues := func(r *stream.Record, drained bankfeed.Position, when time.Time) {
		r.Settings.Queues = []string{"one", "two"}
		r.Progress.Queues = map[string]stream.Queue{
			"one": {SeenAt: at(50), Drained: 100, DrainedAt: at(20)}, "two": {SeenAt: at(50), Drained: drained, DrainedAt: when},
		}
	}
	type set = func(*stream.Record, *stream.Facts, *bankfeed.Event)
	for name, x := range map[string]struct {
		set  set
		want []stream.StoryState
		text string // in the last step
	}{
		"the cursor is before it": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) { r.Progress.Position = p - 1 },
			[]stream.StoryState{stream.StoryLogged}, "nothing about the broker"},
		"routed": {
			func(*stream.Record, *stream.Facts, *bankfeed.Event) {},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, "whether a consumer has read it, is not known"},
		"its exchange holds": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Holds = map[banqup.Kind]stream.Hold{tx: {After: p - 1, Since: at(9)}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryHeld}, "has not been given this message"},
		"its exchange holds what comes after it": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Holds = map[banqup.Kind]stream.Hold{tx: {After: p, Since: at(9)}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"another exchange holds": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Holds = map[banqup.Kind]stream.Hold{banqup.Call: {Since: at(9)}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"nobody was bound": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Gap = gap(stream.GapUnrouted, time.Time{})
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryUnrouted}, "no queue was bound"},
		"a gap of another kind around it": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Gap = gap(stream.GapUnrouted, time.Time{})
				f.Gap.Kind = banqup.Call
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"nobody was bound, and a redrive is under way": {
			func(r *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Gap = gap(stream.GapUnrouted, time.Time{})
				r.Progress.Holds = map[banqup.Kind]stream.Hold{tx: {After: 3, Since: at(30), Redrive: true}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryUnrouted, stream.StoryHeld}, "sent again"},
		"redriven": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) { f.Gap = gap(stream.GapUnrouted, at(40)) },
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryUnrouted, stream.StoryRouted}, "sent again"},
		"routed long before a redrive of others began": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Holds = map[banqup.Kind]stream.Hold{tx: {After: 2, Since: at(30), Redrive: true}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"passed while a redrive of others keeps it waiting": {
			func(r *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Holds = map[banqup.Kind]stream.Hold{tx: {After: 2, Since: at(9), Redrive: true}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryHeld}, "those in front of it"},
		"the settings ask for no routing": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Settings.Unrouted = map[banqup.Kind]stream.Unrouted{tx: stream.UnroutedOff}
				queues(r, 100, at(30))
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed}, "nobody knows"},
		"the settings asked for no routing then": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Exchanges[tx] = stream.Exchange{Routed: true, Untold: p}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed}, "nobody knows"},
		"nothing was ever routed there": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Exchanges[tx] = stream.Exchange{}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed}, "nobody knows"},
		"erased before": {
			func(_ *stream.Record, f *stream.Facts, e *bankfeed.Event) {
				f.Gap, e.Snapshot = gap(stream.GapErased, time.Time{}), nil
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryErased}, "never goes out"},
		"erased afterwards": {
			func(_ *stream.Record, _ *stream.Facts, e *bankfeed.Event) { e.Snapshot = nil },
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"unreadable": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Gap = gap(stream.GapUnreadable, time.Time{})
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryUnreadable}, "fault of the hub"},
		"drained": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) { queues(r, p, at(30)) },
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted, stream.StoryDrained}, "whether they have processed it is not known"},
		"one queue was not seen empty since": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) { queues(r, p-1, at(30)) },
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"one queue is not there": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				queues(r, p, at(30))
				r.Progress.Queues["one"] = stream.Queue{Missing: true, Drained: 100, DrainedAt: at(30)}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted}, ""},
		"queues were empty before it was sent again": {
			func(r *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Gap = gap(stream.GapUnrouted, at(40))
				queues(r, 100, at(30))
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryUnrouted, stream.StoryRouted}, ""},
		"a consumer threw": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Faults = []stream.Fault{{Position: p, Kind: tx, At: at(11), Type: "System.Exception", Text: "no", Host: "m"}, {Position: p, Replay: 9}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted, stream.StoryFaulted}, "could not process"},
		"a consumer could not read it, another did": {
			func(_ *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				f.Faults = []stream.Fault{{Position: p, At: at(11)}}
				f.Acknowledgements = []stream.Acknowledgement{{Position: p, At: at(12), Consumer: "ledger"}, {Position: p, Replay: 9}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed, stream.StoryRouted, stream.StoryFaulted, stream.StoryAcknowledged}, "consumer says"},
		"an acknowledgement before the cursor was stored": {
			func(r *stream.Record, f *stream.Facts, _ *bankfeed.Event) {
				r.Progress.Position = 0
				f.Acknowledgements = []stream.Acknowledgement{{Position: p, At: at(12), Consumer: "ledger"}}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryAcknowledged}, ""},
		"a kind that the settings leave out": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Settings.Messages = []banqup.Kind{banqup.Account}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryNotCarried}, "leave this kind"},
		"before the stream began": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) { r.Start = p },
			[]stream.StoryState{stream.StoryLogged, stream.StoryNotCarried}, "began after"},
		"a type without a message": {
			func(_ *stream.Record, _ *stream.Facts, e *bankfeed.Event) { e.Type = bankfeed.EventSyncStarted },
			[]stream.StoryState{stream.StoryLogged, stream.StoryNotCarried}, "no message"},
		"a removed account": {
			func(_ *stream.Record, _ *stream.Facts, e *bankfeed.Event) { e.Type = bankfeed.EventAccountRemoved },
			[]stream.StoryState{stream.StoryLogged, stream.StoryNotCarried}, "no message"},
		"before a restore": {
			func(r *stream.Record, _ *stream.Facts, _ *bankfeed.Event) {
				r.Epoch, r.Settings.Unrouted = 5, map[banqup.Kind]stream.Unrouted{tx: stream.UnroutedOff}
			},
			[]stream.StoryState{stream.StoryLogged, stream.StoryConfirmed}, "before the log was restored"},
	} {
		t.Run(name, func(t *testing.T) {
			f, in := newRecords()
			for range p - 1 {
				f.append(bankfeed.EventAccountCreated, 11, nil)
			}
			e := f.append(bankfeed.EventTransactionCreated, 11, nil)
			f.record.Progress.Position = 10
			facts := stream.Facts{ConfirmedBy: mark}
			x.set(&f.record, &facts, &f.events[p-1])
			f.facts[p] = facts
			s, err := in.Story(t.Context(), key, "", e.ID())
			require.NoError(t, err)
			require.Equal(t, x.want, states(s.Steps))
			require.Equal(t, x.want[len(x.want)-1], s.State)
			require.Contains(t, s.Steps[len(s.Steps)-1].Text, x.text)
			require.Equal(t, e.ID(), s.Message)
			require.Nil(t, s.Event.Snapshot)
			require.Equal(t, f.events[p-1].Snapshot == nil, s.Erased)
			require.Equal(t, !slices.Contains(x.want, stream.StoryNotCarried), s.Carried)
			for _, step := range s.Steps {
				require.NotEmpty(t, step.Text)
				if step.State == stream.StoryConfirmed {
					require.Equal(t, mark.At, step.At)
				}
			}
		})
	}
}

func TestStoryTellsOfReplays(t *testing.T) {
	f, in := newRecords()
	e := f.append(bankfeed.EventTransactionCreated, 21, func(e *bankfeed.Event) { e.Account = 7 })
	f.record.Progress.Position = 1
	all := func(id int64, set func(*stream.Replay)) {
		r := stream.Replay{ID: id, Stream: key, Status: stream.ReplayDone, Until: 1, Position: 1, Published: 1, EndedAt: at(30)}
		if set != nil {
			set(&r)
		}
		f.replays = append(f.replays, r)
	}
	all(1009, nil)
	all(1008, func(r *stream.Replay) { r.Unrouted = 1 })
	all(1007, func(r *stream.Replay) { r.Status, r.Position = stream.ReplayRunning, 0 })
	all(1006, func(r *stream.Replay) { r.Status, r.Position = stream.ReplayCancelled, 0 })
	all(1005, func(r *stream.Replay) { r.Stream.Name = "other" })
	all(1004, func(r *stream.Replay) { r.Filter.Account = 8 })
	all(1003, func(r *stream.Replay) { r.Filter.World = stream.Live })
	all(1002, func(r *stream.Replay) {
		r.Filter = stream.ReplayFilter{World: stream.Sandbox, Account: 7, First: 1, Last: 1}
	})
	all(1001, func(r *stream.Replay) { r.Filter.Messages = []banqup.Kind{banqup.Account} })
	all(1000, func(r *stream.Replay) { r.Filter.To = e.At })
	f.facts[1] = stream.Facts{
		Faults:           []stream.Fault{{Position: 1, Replay: 1009, Kind: banqup.Transaction, At: at(31)}},
		Acknowledgements: []stream.Acknowledgement{{Position: 1, Replay: 1002, At: at(32), Consumer: "ledger"}},
	}

	s, err := in.Story(t.Context(), key, stream.Sandbox, e.ID())
	require.NoError(t, err)
	require.Equal(t, stream.StoryRouted, s.State, "what consumers say of replays is not said of the first delivery")
	got := map[int64][]stream.StoryState{}
	for _, r := range s.Replays {
		got[r.ID] = states(r.Steps)
	}
	require.Equal(t, map[int64][]stream.StoryState{
		1009: {stream.StoryRouted, stream.StoryFaulted},
		1008: {stream.StoryConfirmed},
		1007: {stream.StoryLogged},
		1006: {stream.StoryLogged},
		1002: {stream.StoryRouted, stream.StoryAcknowledged},
	}, got)

	// The id of a replay's message leads to the same story; that of a replay
	// which did not send it, leads nowhere.
	again, err := in.Story(t.Context(), key, stream.Sandbox, s.Replays[0].Message)
	require.NoError(t, err)
	require.Equal(t, s, again)
	_, err = in.Story(t.Context(), key, stream.Sandbox, bankfeed.EventID(1004, 1, 0, 1))
	require.ErrorIs(t, err, bankfeed.ErrNotFound)
}

// Promise 9, and the two worlds of a tenant.
func TestForeignAndUnknownAreTheSame(t *testing.T) {
	f, in := newRecords()
	e := f.append(bankfeed.EventTransactionCreated, 11, nil)
	seen := f.append(bankfeed.EventTransactionSeen, 11, nil)
	f.faults = []stream.Fault{{Message: e.ID(), Position: 1, Kind: banqup.Transaction}}
	f.replays = []stream.Replay{{ID: 1001, Stream: stream.Key{Tenant: 1, Name: "other"}, Until: 9, Position: 9}}
	other := stream.Key{Tenant: 2, Name: "main"}

	for name, x := range map[string]struct {
		key   stream.Key
		world stream.World
		id    bankfeed.UUID
	}{
		"another tenant's stream":             {other, "", e.ID()},
		"no such stream":                      {stream.Key{Tenant: 1, Name: "none"}, "", e.ID()},
		"another tenant's event":              {key, "", bankfeed.EventID(hub.Epoch, 2, 0, 1)},
		"another lane's":                      {key, "", bankfeed.EventID(hub.Epoch, 1, 1, 1)},
		"another epoch's":                     {key, "", bankfeed.EventID(hub.Epoch-1, 1, 0, 1)},
		"another stream's replay":             {key, "", bankfeed.EventID(1001, 1, 0, 1)},
		"beyond the log":                      {key, "", bankfeed.EventID(hub.Epoch, 1, 0, 99)},
		"of the other world":                  {key, stream.Sandbox, e.ID()},
		"of streams that ask for it":          {key, "", seen.ID()},
		"the zero id":                         {key, "", bankfeed.UUID{}},
		"a UUID that the hub has never given": {key, "", v7(noon)},
	} {
		_, err := in.Story(t.Context(), x.key, x.world, x.id)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, name)
	}
	for _, k := range []stream.Key{other, {Tenant: 1, Name: "none"}} {
		_, err := in.Status(t.Context(), k)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = in.Search(t.Context(), k, stream.Search{Limit: 1})
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, _, err = in.Gaps(t.Context(), k, false, 0, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, _, err = in.Faults(t.Context(), k, "", 0, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = in.Acknowledge(t.Context(), k, "", []bankfeed.UUID{e.ID()}, "ledger")
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.ErrorIs(t, in.Redrive(t.Context(), k, nil), bankfeed.ErrNotFound)
	}
	none, err := in.Streams(t.Context(), 2)
	require.NoError(t, err)
	require.Empty(t, none)

	for world, want := range map[stream.World]int{"": 1, stream.Live: 1, stream.Sandbox: 0} {
		found, err := in.Search(t.Context(), key, stream.Search{World: world, Limit: 10})
		require.NoError(t, err)
		require.Len(t, found.Stories, want)
		list, _, err := in.Faults(t.Context(), key, world, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, want)
		done, err := in.Acknowledge(t.Context(), key, world, []bankfeed.UUID{e.ID()}, "ledger")
		require.NoError(t, err)
		require.Equal(t, want, done.Accepted)
	}
}

func TestSearch(t *testing.T) {
	f, in := newRecords()
	call := v7(at(9))
	f.append(bankfeed.EventAccountCreated, 11, func(e *bankfeed.Event) { e.Account, e.Session = 5, 3 })
	f.append(bankfeed.EventTransactionCreated, 12, func(e *bankfeed.Event) { e.Account, e.Session, e.Connection = 6, 4, 200 })
	f.append(bankfeed.EventConsentCreated, 11, func(e *bankfeed.Event) {
		e.Snapshot.Consent = &bankfeed.Consent{ID: 8}
	})
	f.append(bankfeed.EventConsentUpdated, 11, func(e *bankfeed.Event) {
		e.Snapshot.Consent = &bankfeed.Consent{ID: 9}
	})
	f.append(bankfeed.EventConsentDeleted, 11, func(e *bankfeed.Event) { e.Snapshot = nil })
	f.append(bankfeed.EventSyncStarted, 11, func(e *bankfeed.Event) { e.Session = 4711 })
	f.append(bankfeed.EventTransactionSeen, 11, nil)
	f.append(bankfeed.EventTransactionCreated, 11, func(e *bankfeed.Event) { e.Account, e.Session, e.Snapshot = 5, 4, nil })
	f.append(bankfeed.EventBankCalled, 12, func(e *bankfeed.Event) {
		e.Session, e.Connection = 4, 200
		e.Snapshot.Call = &bankfeed.BankCall{ExecutionID: call}
	})
	f.owners[5], f.owners[8] = 11, 11
	f.sessions["nightly"] = []bankfeed.SessionID{4, 3}
	f.sessions["4711"] = []bankfeed.SessionID{3}
	f.replays = []stream.Replay{{ID: 1001, Stream: key, Until: 9, Position: 9}}
	session := hub.UUID(bankfeed.KindSession, 1, 3).String()

	for name, x := range map[string]struct {
		q    stream.Search
		want []bankfeed.Position
	}{
		"everything":                           {stream.Search{}, []bankfeed.Position{1, 2, 3, 4, 5, 6, 8, 9}},
		"of a user":                            {stream.Search{User: 12}, []bankfeed.Position{2, 9}},
		"of a connection":                      {stream.Search{Connection: 200}, []bankfeed.Position{2, 9}},
		"of an account, erased ones too":       {stream.Search{Account: 5}, []bankfeed.Position{1, 8}},
		"of an account that is gone":           {stream.Search{Account: 6}, []bankfeed.Position{2}},
		"of another's account":                 {stream.Search{Account: 5, User: 12}, nil},
		"of a session, by number":              {stream.Search{Session: "3"}, []bankfeed.Position{1}},
		"of a session, by UUID":                {stream.Search{Session: session}, []bankfeed.Position{1}},
		"of sessions, by external id":          {stream.Search{Session: "nightly"}, []bankfeed.Position{1, 2, 8, 9}},
		"an external id that is a number":      {stream.Search{Session: "4711"}, []bankfeed.Position{1, 6}},
		"of a session that never was":          {stream.Search{Session: "none"}, nil},
		"of another tenant's session":          {stream.Search{Session: hub.UUID(bankfeed.KindSession, 2, 3).String()}, nil},
		"of a consent, erased ones too":        {stream.Search{Consent: 8}, []bankfeed.Position{3, 5}},
		"of a call":                            {stream.Search{Execution: call}, []bankfeed.Position{9}},
		"of a call that never was":             {stream.Search{Execution: v7(at(8))}, nil},
		"of a call whose id is none":           {stream.Search{Execution: f.events[0].ID()}, nil},
		"of a call and a consent":              {stream.Search{Execution: call, Consent: 8}, nil},
		"by message":                           {stream.Search{Message: f.events[1].ID()}, []bankfeed.Position{2}},
		"by the message of a replay":           {stream.Search{Message: bankfeed.EventID(1001, 1, 0, 2)}, []bankfeed.Position{2}},
		"by message, of another user":          {stream.Search{Message: f.events[1].ID(), User: 11}, nil},
		"by message, beyond the page":          {stream.Search{Message: f.events[1].ID(), After: 2}, nil},
		"by message, of another session":       {stream.Search{Message: f.events[1].ID(), Session: "3"}, nil},
		"of a kind":                            {stream.Search{Messages: []banqup.Kind{banqup.Transaction}}, []bankfeed.Position{2, 8}},
		"of a kind that a consent does not do": {stream.Search{Messages: []banqup.Kind{banqup.Call}, Consent: 8}, nil},
		"of the other world's user":            {stream.Search{World: stream.Sandbox, Account: 5}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f.looked = nil
			x.q.Limit = 100
			found, err := in.Search(t.Context(), key, x.q)
			require.NoError(t, err)
			var got []bankfeed.Position
			for _, s := range found.Stories {
				got = append(got, s.Event.Position)
			}
			require.Equal(t, x.want, got)
			require.Zero(t, found.Next)
			if x.q.Account == 5 && x.q.User == 0 && x.q.World == "" {
				require.Equal(t, bankfeed.UserID(11), f.looked[0].User, "the log finds a user's events fast")
			}
		})
	}
	require.True(t, f.sought.Equal(at(8)) || f.sought.Equal(at(9)))

	// Pages hold still, and a look at a part of the log says where to go on.
	var all []bankfeed.Position
	for next, pages := bankfeed.Position(0), 0; pages == 0 || next != 0; pages++ {
		found, err := in.Search(t.Context(), key, stream.Search{User: 11, After: next, Limit: 2})
		require.NoError(t, err)
		require.LessOrEqual(t, len(found.Stories), 2)
		for _, s := range found.Stories {
			all = append(all, s.Event.Position)
		}
		next = found.Next
		require.Less(t, pages, 10)
	}
	require.Equal(t, []bankfeed.Position{1, 3, 4, 5, 6, 8}, all)

	for range 40 {
		f.append(bankfeed.EventAccountUpdated, 12, nil)
	}
	last := f.append(bankfeed.EventAccountUpdated, 13, nil)
	f.budget = 3
	found, err := in.Search(t.Context(), key, stream.Search{User: 13, Limit: 2})
	require.NoError(t, err)
	require.Empty(t, found.Stories)
	require.Equal(t, bankfeed.Position(30), found.Next)
	found, err = in.Search(t.Context(), key, stream.Search{User: 13, Limit: 2, After: found.Next})
	require.NoError(t, err)
	require.Equal(t, last.Position, found.Stories[0].Event.Position)

	// A call that is not there is not looked for in all that came later.
	f.budget = 0
	for range 100 {
		f.append(bankfeed.EventBankCalled, 12, nil)
	}
	f.budget, f.looked = 5, nil
	_, err = in.Search(t.Context(), key, stream.Search{Execution: v7(noon), Limit: 2})
	require.NoError(t, err)
	require.LessOrEqual(t, len(f.looked), 10)

	_, err = in.Search(t.Context(), key, stream.Search{})
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
}
