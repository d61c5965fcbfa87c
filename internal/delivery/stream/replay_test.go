package stream

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// replayLane is a memoryLog as replays read it: few rows at a time, so that
// pages end before their limit.
type replayLane struct {
	*memoryLog
	floor  bankfeed.Position
	budget int
	reads  int
}

func (l *replayLane) Select(_ context.Context, q LogQuery) (list []bankfeed.Event, next bankfeed.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	next = max(q.After, l.floor)
	for looked := 0; int(next) < len(l.events) && len(list) < q.Limit && looked < l.budget; looked++ {
		e := l.events[next]
		next++
		if (len(q.Types) == 0 || slices.Contains(q.Types, e.Type)) && (q.User == 0 || e.User == q.User) && (q.Account == 0 || e.Account == q.Account) &&
			(q.Connection == 0 || e.Connection == q.Connection) && (q.Session == 0 || e.Session == q.Session) {
			list = append(list, e)
		}
	}
	return list, next, nil
}

func (l *replayLane) Bounds(context.Context, bankfeed.TenantID, int) (floor, head bankfeed.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor, bankfeed.Position(len(l.events)), nil
}

// SandboxUser: user 8 is of the sandbox, 7 is live.
func (l *replayLane) SandboxUser(_ context.Context, _ bankfeed.TenantID, u bankfeed.UserID) (bool, error) {
	if u != 7 && u != 8 {
		return false, bankfeed.ErrNotFound
	}
	return u == 8, nil
}

func (l *replayLane) change(p bankfeed.Position, f func(e *bankfeed.Event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.events[p-1])
}

// replayShelf is a ReplayStore in memory.
type replayShelf struct {
	mu      sync.Mutex
	streams []Record
	replays []Replay
	fence   int64
	release *bankfeed.Release
	saved   []Replay
	// onSave comes before a save, and is its error.
	onSave func(n int, r Replay) error
}

func (s *replayShelf) Streams(_ context.Context, tenant bankfeed.TenantID) (list []Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.streams {
		if r.Tenant == tenant {
			list = append(list, r)
		}
	}
	return list, nil
}

func (s *replayShelf) Stream(_ context.Context, key Key) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.streams {
		if r.Key == key {
			return r, nil
		}
	}
	return Record{}, bankfeed.ErrNotFound
}

func (s *replayShelf) AddReplay(_ context.Context, r Replay, now time.Time) (Replay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ID = now.UnixMilli() + int64(len(s.replays))
	s.replays = append(s.replays, r)
	return r, nil
}

func (s *replayShelf) find(tenant bankfeed.TenantID, id int64) (*Replay, error) {
	for i := range s.replays {
		if r := &s.replays[i]; r.ID == id && r.Stream.Tenant == tenant {
			return r, nil
		}
	}
	return nil, bankfeed.ErrNotFound
}

func (s *replayShelf) Replay(_ context.Context, tenant bankfeed.TenantID, id int64) (Replay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(tenant, id)
	if err != nil {
		return Replay{}, err
	}
	return *r, nil
}

func (s *replayShelf) Replays(context.Context, bankfeed.TenantID, int64, int) ([]Replay, error) {
	return nil, nil
}

func (s *replayShelf) SaveReplay(_ context.Context, f bankfeed.Fence, r Replay, release *bankfeed.Release) error {
	s.mu.Lock()
	n, hook := len(s.saved), s.onSave
	s.mu.Unlock()
	if hook != nil {
		if err := hook(n, r); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.find(f.Tenant, f.ID)
	switch {
	case err != nil:
		return err
	case old.Status == ReplayCancelled:
		return ErrCancelled
	case f.Number != s.fence:
		return bankfeed.ErrFenced
	}
	*old, s.release, s.saved = r, release, append(s.saved, r)
	return nil
}

func (s *replayShelf) CancelReplay(_ context.Context, tenant bankfeed.TenantID, id int64, now time.Time) (Replay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(tenant, id)
	if err != nil {
		return Replay{}, err
	}
	r.Status, r.EndedAt = ReplayCancelled, now
	return *r, nil
}

// SeekTime is as imprecise as it may be: a hundred events early.
func (s *replayShelf) SeekTime(_ context.Context, _ bankfeed.TenantID, _ int, t time.Time) (bankfeed.Position, error) {
	return max(0, bankfeed.Position(t.Sub(testStart)/time.Millisecond)-100), nil
}

// replayWorld has a stream "main" of tenant 1, a disabled one, and one of
// tenant 2.
type replayWorld struct {
	*Replays
	shelf *replayShelf
	lane  *replayLane
	now   time.Time
}

func newReplayWorld(settings Settings, target string) *replayWorld {
	w := &replayWorld{now: testStart.Add(24 * time.Hour), lane: &replayLane{memoryLog: &memoryLog{}, budget: 600}}
	w.shelf = &replayShelf{fence: 1, streams: []Record{
		{Key: Key{Tenant: 1, Name: "main"}, Settings: settings, Target: target, Enabled: true},
		{Key: Key{Tenant: 1, Name: "old"}, Settings: settings, Reason: "no settings name it"},
		{Key: Key{Tenant: 2, Name: "theirs"}, Settings: settings, Enabled: true},
	}}
	w.Replays = NewReplays(ReplaysConfig{Store: w.shelf, Log: w.lane, Worlds: w.lane, Epoch: testEpoch, Now: func() time.Time { return w.now }})
	return w
}

// session appends what a session finds in an account: n transactions between
// what else a stream carries, and what it does not.
func (w *replayWorld) session(account bankfeed.AccountID, n int) {
	w.lane.add(bankfeed.EventSyncStarted, 0)
	w.lane.add(bankfeed.EventBankCalled, 0)
	w.lane.add(bankfeed.EventAccountUpdated, account)
	for range n {
		w.lane.add(bankfeed.EventTransactionCreated, account)
	}
	w.lane.add(bankfeed.EventTransactionSeen, account)
	w.lane.add(bankfeed.EventAccountFinished, account)
	w.lane.add(bankfeed.EventSyncSucceeded, 0)
}

func replayOrder(f ReplayFilter) ReplayOrder {
	return ReplayOrder{Tenant: 1, Stream: "main", Filter: f}
}

func TestReplayOrdersAreChecked(t *testing.T) {
	w := newReplayWorld(Settings{Messages: []banqup.Kind{banqup.Account, banqup.Transaction, banqup.Session, banqup.Consent}}, "")
	w.session(4, 10)
	w.lane.floor = 3
	eventID := bankfeed.EventID(testEpoch, 1, 0, 5)
	for name, x := range map[string]struct {
		order ReplayOrder
		kind  bankfeed.ErrorKind
		field string
	}{
		"unknown stream":         {ReplayOrder{Tenant: 1, Stream: "none"}, bankfeed.NotFound, ""},
		"another's stream":       {ReplayOrder{Tenant: 1, Stream: "theirs"}, bankfeed.NotFound, ""},
		"tenant without":         {ReplayOrder{Tenant: 3}, bankfeed.NotFound, ""},
		"disabled stream":        {ReplayOrder{Tenant: 1, Stream: "old"}, bankfeed.Conflict, "stream"},
		"long queue":             {ReplayOrder{Tenant: 1, Queue: string(make([]byte, 256))}, bankfeed.Invalid, "queue"},
		"a queue without a name": {ReplayOrder{Tenant: 1, Queue: "led\x00ger"}, bankfeed.Invalid, "queue"},
		"the hub's own queue":    {ReplayOrder{Tenant: 1, Queue: leaderQueue}, bankfeed.Invalid, "queue"},
		"the queue of faults":    {ReplayOrder{Tenant: 1, Queue: faultQueue("main")}, bankfeed.Invalid, "queue"},
		"unknown kind":           {replayOrder(ReplayFilter{Messages: []banqup.Kind{banqup.Account, "payment"}}), bankfeed.Invalid, "messages[1]"},
		"kind not carried":       {replayOrder(ReplayFilter{Messages: []banqup.Kind{banqup.Call}}), bankfeed.Invalid, "messages[0]"},
		"consent without":        {replayOrder(ReplayFilter{Consent: 5, Messages: []banqup.Kind{banqup.Account}}), bankfeed.Invalid, "messages"},
		"last before first":      {replayOrder(ReplayFilter{First: 9, Last: 8}), bankfeed.Invalid, "last"},
		"to at from":             {replayOrder(ReplayFilter{From: testStart, To: testStart}), bankfeed.Invalid, "to"},
		"negative":               {replayOrder(ReplayFilter{First: -1}), bankfeed.Invalid, "first"},
		"event and range":        {ReplayOrder{Tenant: 1, Event: eventID, Filter: ReplayFilter{First: 1}}, bankfeed.Invalid, "event"},
		"not an event":           {ReplayOrder{Tenant: 1, Event: bankfeed.UUID{1}}, bankfeed.NotFound, ""},
		"event of another":       {ReplayOrder{Tenant: 1, Event: bankfeed.EventID(testEpoch, 2, 0, 5)}, bankfeed.NotFound, ""},
		"event before a restore": {ReplayOrder{Tenant: 1, Event: bankfeed.EventID(testEpoch-1, 1, 0, 5)}, bankfeed.NotFound, ""},
		"event to come":          {ReplayOrder{Tenant: 1, Event: bankfeed.EventID(testEpoch, 1, 0, 500)}, bankfeed.NotFound, ""},
		"the other world's":      {ReplayOrder{Tenant: 1, Event: eventID, Filter: ReplayFilter{World: Sandbox}}, bankfeed.NotFound, ""},
		"removed position":       {replayOrder(ReplayFilter{First: 3}), bankfeed.Gone, "first"},
		"removed event":          {ReplayOrder{Tenant: 1, Event: bankfeed.EventID(testEpoch, 1, 0, 2)}, bankfeed.Gone, "first"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Count(t.Context(), x.order)
			var e *bankfeed.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, x.kind, e.Kind, e)
			require.Equal(t, x.field, e.Field)
			_, _, err = w.Start(t.Context(), x.order)
			require.Equal(t, e.Error(), err.Error())
		})
	}
	require.Empty(t, w.shelf.replays)
}

func TestReplayCountIsExact(t *testing.T) {
	w := newReplayWorld(Settings{}, "")
	w.session(4, 1500)                                                           // 1..1506
	w.session(5, 20)                                                             // 1507..1532
	consent := w.lane.add(bankfeed.EventConsentCreated, 0)                       // 1533
	w.lane.change(1510, func(e *bankfeed.Event) { e.User = 8 })                  // of the sandbox
	w.lane.change(1511, func(e *bankfeed.Event) { e.User = 9 })                  // of nobody
	w.lane.change(1520, func(e *bankfeed.Event) { e.At = e.At.Add(-time.Hour) }) // before its neighbours
	w.lane.erase(1512)
	const transactions = 1520
	for name, x := range map[string]struct {
		order       ReplayOrder
		total       int64
		kinds       map[banqup.Kind]int64
		erased      int64
		first, last bankfeed.Position
	}{
		"everything": {replayOrder(ReplayFilter{}), 1526, map[banqup.Kind]int64{
			banqup.Account: 2, banqup.Transaction: transactions - 1, banqup.Session: 2, banqup.Consent: 1, banqup.Call: 2,
		}, 1, 1, 1533},
		"live users":    {replayOrder(ReplayFilter{World: Live}), 1524, nil, 1, 1, 1533},
		"sandbox users": {replayOrder(ReplayFilter{World: Sandbox}), 1, nil, 0, 1, 1533},
		"a user":        {replayOrder(ReplayFilter{User: 8}), 1, nil, 0, 1, 1533},
		"an account":    {replayOrder(ReplayFilter{Account: 5}), 21, nil, 1, 1, 1533},
		"a kind":        {replayOrder(ReplayFilter{Messages: []banqup.Kind{banqup.Session, banqup.Call}}), 4, nil, 0, 1, 1533},
		"a consent":     {replayOrder(ReplayFilter{Consent: 5}), 1, nil, 0, 1, 1533},
		"another":       {replayOrder(ReplayFilter{Consent: 6}), 0, nil, 0, 1, 1533},
		"a range":       {replayOrder(ReplayFilter{First: 1512, Last: 1514}), 2, nil, 1, 1512, 1514},
		"past the head": {replayOrder(ReplayFilter{First: 1533, Last: 9999}), 1, nil, 0, 1533, 1533},
		"a time": {replayOrder(ReplayFilter{From: testStart.Add(1513 * time.Millisecond), To: testStart.Add(1521 * time.Millisecond)}), 7, nil, 0,
			1414, 1533},
		"an event": {ReplayOrder{Tenant: 1, Event: bankfeed.EventID(testEpoch, 1, 0, consent)}, 1, nil, 0, consent, consent},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := w.Count(t.Context(), x.order)
			require.NoError(t, err)
			require.Equal(t, x.total, n.Total)
			require.Equal(t, x.erased, n.Erased)
			require.True(t, n.Complete)
			require.Equal(t, [2]bankfeed.Position{x.first, x.last}, [2]bankfeed.Position{n.First, n.Last})
			if x.kinds != nil {
				require.Equal(t, x.kinds, n.Kinds)
			}
		})
	}
}

// Events that a bank lists again without a change belong to streams that ask for
// them.
func TestReplayOfWhatDidNotChange(t *testing.T) {
	w := newReplayWorld(Settings{Unchanged: true}, "")
	w.session(4, 2)
	n, err := w.Count(t.Context(), replayOrder(ReplayFilter{Messages: []banqup.Kind{banqup.Transaction}}))
	require.NoError(t, err)
	require.EqualValues(t, 3, n.Total)
}

func TestReplayCountStopsInTime(t *testing.T) {
	w := newReplayWorld(Settings{}, "")
	w.session(4, 3000)
	ticking := NewReplays(ReplaysConfig{Store: w.shelf, Log: w.lane, Worlds: w.lane, Epoch: testEpoch, Now: func() time.Time {
		w.now = w.now.Add(time.Second)
		return w.now
	}})
	o := replayOrder(ReplayFilter{})
	o.CountFor = 3 * time.Second
	var total int64
	for steps := 0; ; steps++ {
		n, err := ticking.Count(t.Context(), o)
		require.NoError(t, err)
		total += n.Total
		if n.Complete {
			require.Greater(t, steps, 1)
			break
		}
		require.Less(t, n.Position, n.Last)
		o.Filter.First = n.Position + 1
	}
	require.EqualValues(t, 3003, total)

	o.Filter.First = 0
	r, n, err := ticking.Start(t.Context(), o)
	require.NoError(t, err)
	require.False(t, n.Complete)
	require.EqualValues(t, TotalUnknown, r.Total)
}

// A replay remembers what it was at the start: head and range.
func TestReplayIsStoredResolved(t *testing.T) {
	w := newReplayWorld(Settings{}, "")
	w.session(4, 10)
	w.lane.floor = 2
	r, _, err := w.Start(t.Context(), ReplayOrder{Tenant: 1, Filter: ReplayFilter{Account: 4}, Queue: "again"})
	require.NoError(t, err)
	require.Equal(t, Replay{ID: w.now.UnixMilli(), Stream: Key{Tenant: 1, Name: "main"}, Filter: ReplayFilter{Account: 4, First: 3, Last: 16}, Queue: "again",
		Status: ReplayPending, Until: 16, Total: 12, Position: 2}, r)

	// Its messages map back to the event, also for another replay.
	id := r.MessageID(5)
	n, err := w.Count(t.Context(), ReplayOrder{Tenant: 1, Event: id})
	require.NoError(t, err)
	require.Equal(t, [2]bankfeed.Position{5, 5}, [2]bankfeed.Position{n.First, n.Last})
	require.EqualValues(t, 1, n.Total)

	w.shelf.streams = append(w.shelf.streams, Record{Key: Key{Tenant: 1, Name: "second"}, Enabled: true})
	_, err = w.Count(t.Context(), ReplayOrder{Tenant: 1})
	var e *bankfeed.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "stream", e.Field)
}
