package stream_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

func TestStatus(t *testing.T) {
	f, in := newRecords()
	for range 50 {
		f.append(bankfeed.EventTransactionCreated, 11, nil)
	}
	f.append(bankfeed.EventAccountFinished, 11, nil)
	get := func() stream.Status {
		t.Helper()
		s, err := in.Status(t.Context(), key)
		require.NoError(t, err)
		require.Empty(t, s.Settings.URL)
		list, err := in.Streams(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []stream.Status{s}, list)
		return s
	}
	state := func(s stream.Status, k banqup.Kind) stream.ExchangeStatus {
		t.Helper()
		n := slices.IndexFunc(s.Exchanges, func(x stream.ExchangeStatus) bool { return x.Kind == k })
		return s.Exchanges[n]
	}
	p := &f.record.Progress

	p.Position = 51
	s := get()
	require.Equal(t, stream.Lag{}, s.Lag)
	require.Equal(t, bankfeed.Position(51), s.Settled)
	require.Empty(t, s.Trouble)
	require.Zero(t, s.Rate, "no mark")
	require.Len(t, s.Exchanges, 5)
	require.Equal(t, stream.ExchangeRouted, state(s, banqup.Account).State)
	require.Equal(t, stream.ExchangeUnused, state(s, banqup.Call).State)

	p.Position = 41
	f.marks = []stream.Mark{{Position: 5, At: at(10)}, {Position: 11, At: at(58)}, {Position: 40, At: at(60).Add(-time.Second)}}
	s = get()
	require.Equal(t, stream.Lag{Events: 10, Age: 18 * time.Minute}, s.Lag)
	require.InDelta(t, 0.5, s.Rate, 1e-9)
	f.marks = f.marks[2:]
	require.InDelta(t, 1, get().Rate, 1e-9, "a stream that is a second old")
	f.record.SavedAt = at(58)
	s = get()
	require.Zero(t, s.Rate, "nothing was stored in the last minute")
	require.Contains(t, s.Trouble[0], "stored nothing for 2m0s")
	p.Position = 51
	require.Empty(t, get().Trouble, "nothing to do")
	f.record.SavedAt = at(60)

	p.Holds = map[banqup.Kind]stream.Hold{banqup.Transaction: {After: 20, Since: at(30)}}
	p.Exchanges[banqup.Transaction] = stream.Exchange{Routed: true, Published: 21, Last: 21}
	s = get()
	require.Equal(t, stream.Lag{Age: 39 * time.Minute}, s.Lag)
	require.Equal(t, bankfeed.Position(20), s.Settled)
	require.Equal(t, stream.ExchangeHolding, state(s, banqup.Transaction).State)
	require.Equal(t, at(21), state(s, banqup.Transaction).Waiting)
	require.Contains(t, s.Trouble[0], "TransactionMessage any more")
	p.Exchanges[banqup.Transaction] = stream.Exchange{Routed: true, Published: 22, Last: 21, LastRouted: true}
	require.Equal(t, stream.ExchangeCatchingUp, state(get(), banqup.Transaction).State)

	p.Holds[banqup.Transaction] = stream.Hold{After: 20, Since: at(50), Redrive: true}
	f.marks = []stream.Mark{{Position: 45, At: at(49)}, {Position: 51, At: at(59)}}
	s = get()
	require.Equal(t, stream.ExchangeRedriving, state(s, banqup.Transaction).State)
	require.Equal(t, at(46), state(s, banqup.Transaction).Waiting, "up to 45 was confirmed before the redrive")
	p.Holds = nil

	p.Exchanges[banqup.Transaction] = stream.Exchange{Published: 1, Unrouted: 1}
	s = get()
	require.Equal(t, stream.ExchangeUnrouted, state(s, banqup.Transaction).State)
	require.Empty(t, s.Trouble, "nobody ever bound it: most consumers bind fewer than five")
	p.Exchanges[banqup.Transaction] = stream.Exchange{Routed: true, Published: 2, Unrouted: 1}
	require.Contains(t, get().Trouble[0], "reached no queue")
	f.record.Settings.Unrouted = map[banqup.Kind]stream.Unrouted{banqup.Transaction: stream.UnroutedOff}
	require.Equal(t, stream.ExchangeUntold, state(get(), banqup.Transaction).State)
	f.record.Settings.Messages = []banqup.Kind{banqup.Account}
	require.Equal(t, stream.ExchangeOff, state(get(), banqup.Transaction).State)

	f.record.Settings.Queues = []string{"b", "a", "c"}
	p.Queues = map[string]stream.Queue{"a": {SeenAt: at(59), Depth: 3}, "b": {SeenAt: at(59), Missing: true}}
	s = get()
	require.Equal(t, []stream.QueueStatus{{Queue: p.Queues["b"], Name: "b"}, {Queue: p.Queues["a"], Name: "a"}, {Name: "c"}}, s.Queues)
	require.Equal(t, []string{"there is no queue b", "nobody consumes the queue a"}, s.Trouble)
	p.Queues = map[string]stream.Queue{"a": {Refused: "RESOURCE_LOCKED"}}
	require.Equal(t, []string{"the broker does not show the queue a: RESOURCE_LOCKED"}, get().Trouble)
	f.record.Settings.Queues = nil

	for want, set := range map[string]func(){
		"blocks publishers":      func() { p.Trouble = "the broker blocks publishers: memory" },
		"neither queues nor":     func() { p.Blind = "the queue of faults was taken away" },
		"no longer configured":   func() { f.record.Enabled, f.record.Reason = false, "no longer configured" },
		"no node has led":        func() { f.record.Term = 0 },
		"restored from a backup": func() { f.record.Epoch = 5 },
	} {
		was := f.record
		set()
		require.Len(t, get().Trouble, 1)
		require.Contains(t, get().Trouble[0], want)
		f.record = was
		p.Trouble, p.Blind = "", ""
	}
}

func TestAcknowledge(t *testing.T) {
	f, in := newRecords()
	a := f.append(bankfeed.EventTransactionCreated, 11, nil)
	b := f.append(bankfeed.EventAccountCreated, 11, nil)
	c := f.append(bankfeed.EventSyncStarted, 11, nil)
	f.replays = []stream.Replay{{ID: 1001, Stream: key, Until: 9, Filter: stream.ReplayFilter{Messages: []banqup.Kind{banqup.Account}}}}
	replayed, notReplayed := bankfeed.EventID(1001, 1, 0, b.Position), bankfeed.EventID(1001, 1, 0, a.Position)
	foreign, never := bankfeed.EventID(hub.Epoch, 2, 0, 1), bankfeed.EventID(hub.Epoch, 1, 0, 99)

	done, err := in.Acknowledge(t.Context(), key, "", []bankfeed.UUID{never, a.ID(), foreign, replayed, a.ID(), notReplayed, c.ID()}, "ledger")
	require.NoError(t, err)
	require.Equal(t, stream.Acknowledged{Accepted: 2, New: 2, Unknown: []bankfeed.UUID{never, foreign, notReplayed, c.ID()}}, done)
	require.Equal(t, []stream.Acknowledgement{
		{Position: a.Position, At: at(60), Consumer: "ledger"}, {Position: b.Position, Replay: 1001, At: at(60), Consumer: "ledger"},
	}, f.acks)

	for name, x := range map[string]struct {
		ids      []bankfeed.UUID
		consumer string
	}{
		"nothing": {nil, "ledger"}, "too many": {make([]bankfeed.UUID, 1001), "ledger"}, "nobody": {[]bankfeed.UUID{a.ID()}, ""},
		"a control character": {[]bankfeed.UUID{a.ID()}, "a\x00"}, "no text": {[]bankfeed.UUID{a.ID()}, "\xff"},
		"a long name": {[]bankfeed.UUID{a.ID()}, string(make([]byte, 201))},
	} {
		_, err := in.Acknowledge(t.Context(), key, "", x.ids, x.consumer)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), name)
	}
}

func TestRedrive(t *testing.T) {
	f, in := newRecords()
	f.record.Settings.Messages = []banqup.Kind{banqup.Account, banqup.Transaction}
	require.NoError(t, in.Redrive(t.Context(), key, []banqup.Kind{banqup.Transaction}))
	require.Equal(t, []banqup.Kind{banqup.Transaction}, f.redriven)
	require.NoError(t, in.Redrive(t.Context(), key, nil))
	require.Equal(t, f.record.Settings.Messages, f.redriven)
	for _, k := range []banqup.Kind{banqup.Call, "nothing"} {
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(in.Redrive(t.Context(), key, []banqup.Kind{k})))
	}
}

func TestGapsAndFaultsComeInPages(t *testing.T) {
	f, in := newRecords()
	for n := range 6 {
		e := f.append(bankfeed.EventTransactionCreated, bankfeed.UserID(11+n%2*10), nil)
		f.gaps = append(f.gaps, stream.Gap{Kind: banqup.Transaction, First: e.Position, Last: e.Position, ResolvedAt: noon.Add(time.Duration(n%2) * time.Hour)})
		for replay := range 3 {
			f.faults = append(f.faults, stream.Fault{Position: e.Position, Replay: int64(replay)})
		}
	}
	for n := range f.gaps {
		if n%2 == 0 {
			f.gaps[n].ResolvedAt = time.Time{}
		}
	}
	slices.SortStableFunc(f.gaps, func(a, b stream.Gap) int { return cmp.Compare(b.First, a.First) })
	slices.SortStableFunc(f.faults, func(a, b stream.Fault) int { return cmp.Compare(b.Position, a.Position) })

	var firsts []bankfeed.Position
	for before, pages := bankfeed.Position(0), 0; pages == 0 || before != 0; pages++ {
		list, next, err := in.Gaps(t.Context(), key, true, before, 2)
		require.NoError(t, err)
		for _, g := range list {
			firsts = append(firsts, g.First)
		}
		before = next
		require.Less(t, pages, 5)
	}
	require.Equal(t, []bankfeed.Position{5, 3, 1}, firsts)

	for world, want := range map[stream.World]int{"": 18, stream.Live: 9} {
		var found []stream.FaultOf
		for before, pages := bankfeed.Position(0), 0; pages == 0 || before != 0; pages++ {
			list, next, err := in.Faults(t.Context(), key, world, before, 4) // ends between the faults of an event
			require.NoError(t, err)
			found = append(found, list...)
			before = next
			require.Less(t, pages, 10)
		}
		require.Len(t, found, want)
		for n, x := range found {
			require.Equal(t, x.Position, x.Event.Position)
			require.Equal(t, int64(n%3), x.Replay)
		}
	}
	for _, limit := range []int{0, 501} {
		_, _, err := in.Gaps(t.Context(), key, false, 0, limit)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, _, err = in.Faults(t.Context(), key, "", 0, limit)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	}
}
