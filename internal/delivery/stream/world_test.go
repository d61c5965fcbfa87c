package stream

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const testEpoch bankfeed.Epoch = 1_772_442_000_000

var testStart = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// memoryLog is a lane in memory.
type memoryLog struct {
	mu     sync.Mutex
	floor  bankfeed.Position
	events []bankfeed.Event // position i+1
	wakes  []chan struct{}
	read   []bankfeed.EventType // of all events that were read
	lost   error                // while it cannot be read
}

// add appends an event of a type for an account.
func (l *memoryLog) add(t bankfeed.EventType, account bankfeed.AccountID) bankfeed.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := bankfeed.Position(len(l.events) + 1)
	e := bankfeed.Event{Epoch: testEpoch, Tenant: 1, Position: p, Type: t, At: testStart.Add(time.Duration(p) * time.Millisecond), User: 7,
		Connection: 3, Account: account, Session: 9}
	s := &bankfeed.Snapshot{Schema: 1, Initiator: bankfeed.ByUser, Build: "20260302.1", Node: "0123456789ab", User: bankfeed.UserRef{ID: 7, BusinessContext: bankfeed.Individual},
		Session: &bankfeed.SessionRef{ID: 9}, Connection: &bankfeed.Connection{ID: 3, BIC: "WBXTDEFFXXX"}}
	s.Account = &bankfeed.Account{ID: account, Currency: "EUR", Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}}
	switch k, _ := banqup.KindOf(t); k {
	case banqup.Transaction:
		amount, err := bankfeed.ParseAmount("-12.50")
		if err != nil {
			panic(err)
		}
		s.Transaction = &bankfeed.Transaction{ID: bankfeed.TransactionID(p), Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: amount, Currency: "EUR"}}
	case banqup.Session:
		s.LastTransaction = bankfeed.TransactionID(p - 1)
	case banqup.Consent:
		s.Consent = &bankfeed.Consent{ID: 5, Status: bankfeed.ConsentConfirmed}
	case banqup.Call:
		s.Call = &bankfeed.BankCall{Context: bankfeed.CallGetAccounts, URL: "https://bank.example/v1/accounts", Status: 200}
	case banqup.Account:
	}
	e.Snapshot = s
	l.events = append(l.events, e)
	for _, w := range l.wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return p
}

// erase blanks an event.
func (l *memoryLog) erase(p bankfeed.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[p-1].Snapshot = nil
}

func (l *memoryLog) Select(_ context.Context, q LogQuery) (list []bankfeed.Event, next bankfeed.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return nil, 0, l.lost
	}
	next = max(q.After, l.floor)
	for int(next) < len(l.events) && len(list) < q.Limit {
		e := l.events[next]
		next++
		if len(q.Types) == 0 || slices.Contains(q.Types, e.Type) {
			list = append(list, e)
			l.read = append(l.read, e.Type)
		}
	}
	return list, next, nil
}

func (l *memoryLog) Bounds(context.Context, bankfeed.TenantID, int) (floor, head bankfeed.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor, bankfeed.Position(len(l.events)), nil
}

func (l *memoryLog) Subscribe(bankfeed.TenantID) (wake <-chan struct{}, stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := make(chan struct{}, 1)
	l.wakes = append(l.wakes, w)
	return w, func() {}
}

// memoryStore keeps one stream; what a relay does not call is missing.
type memoryStore struct {
	Store
	mu       sync.Mutex
	record   Record
	gaps     map[gapID]Gap
	redrives map[banqup.Kind]Hold
	replays  map[int64]Replay
	faults   []Fault
	saves    int
	// weather, if there is one, is what a write of the cursor meets: it may take
	// its time, and fail before or after it was done.
	weather func() (before, after error)
}

func (s *memoryStore) EnableStream(_ context.Context, key Key, settings Settings, target string, start bankfeed.Position, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Name == "" {
		s.record = Record{Key: key, CreatedAt: now, Start: start, Progress: Progress{Position: start}}
	}
	s.record.Settings, s.record.Target, s.record.Enabled = settings, target, true
	return nil
}

func (s *memoryStore) LeadStream(_ context.Context, _ Key, node string, now time.Time) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.record.Enabled {
		return Record{}, bankfeed.Errorf(bankfeed.Conflict, "the stream is disabled")
	}
	s.record.Term++
	s.record.Leader, s.record.LedAt = node, now
	r := s.record
	r.Progress.Holds, r.Progress.Exchanges, r.Progress.Queues = maps.Clone(r.Progress.Holds), maps.Clone(r.Progress.Exchanges), maps.Clone(r.Progress.Queues)
	return r, nil
}

func (s *memoryStore) SaveStream(_ context.Context, _ Key, term int64, p Progress, gaps []Gap, now time.Time) error {
	before, after := s.meet()
	if before != nil {
		return before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if term != s.record.Term || !s.record.Enabled {
		return bankfeed.ErrFenced
	}
	s.record.Progress, s.record.SavedAt = p, now
	s.saves++
	if s.gaps == nil {
		s.gaps = map[gapID]Gap{}
	}
	for _, g := range gaps {
		id := gapID{g.Kind, g.Reason, g.First}
		if old, ok := s.gaps[id]; ok && old.ResolvedAt.IsZero() && old.Last > g.Last {
			g = old
		}
		s.gaps[id] = g
	}
	return after
}

func (s *memoryStore) meet() (before, after error) {
	if s.weather == nil {
		return nil, nil
	}
	return s.weather()
}

func (s *memoryStore) ResolveGaps(_ context.Context, _ Key, k banqup.Kind, after, upTo bankfeed.Position, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, g := range s.gaps {
		if g.Kind == k && g.Reason == GapUnrouted && g.First > after && g.Last <= upTo && g.ResolvedAt.IsZero() {
			g.ResolvedAt = now
			s.gaps[id] = g
		}
	}
	return nil
}

func (s *memoryStore) RecordFaults(_ context.Context, _ Key, faults []Fault) (map[banqup.Kind]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[banqup.Kind]int64{}
	for _, f := range faults {
		s.faults = append(s.faults, f)
		n[f.Kind]++
	}
	return n, nil
}

func (s *memoryStore) Replay(_ context.Context, _ bankfeed.TenantID, id int64) (Replay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.replays[id]; ok {
		return r, nil
	}
	return Replay{}, bankfeed.ErrNotFound
}

func (s *memoryStore) Stream(context.Context, Key) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record
	r.Asked = len(s.redrives) > 0
	return r, nil
}

// redrive is RedriveStream; it reports whether there was something to send again.
func (s *memoryStore) redrive(kinds []banqup.Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.gaps {
		if !slices.Contains(kinds, g.Kind) || g.Reason != GapUnrouted || !g.ResolvedAt.IsZero() {
			continue
		}
		h := Hold{After: g.First - 1, From: g.First - 1, Since: testStart, Redrive: true}
		if s.redrives == nil {
			s.redrives = map[banqup.Kind]Hold{}
		}
		if old, asked := s.redrives[g.Kind]; !asked || h.After < old.After {
			s.redrives[g.Kind] = h
		}
	}
	return len(s.redrives) > 0
}

func (s *memoryStore) TakeRedrives(_ context.Context, _ Key, term int64) (map[banqup.Kind]Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term != s.record.Term {
		return nil, bankfeed.ErrFenced
	}
	r := s.redrives
	s.redrives = nil
	s.record.Progress.Holds = maps.Clone(s.record.Progress.Holds)
	if s.record.Progress.Holds == nil {
		s.record.Progress.Holds = map[banqup.Kind]Hold{}
	}
	for k, h := range r {
		if old, held := s.record.Progress.Holds[k]; held {
			h = old.Back(h.After)
		}
		s.record.Progress.Holds[k] = h
	}
	return r, nil
}

// now is the stored progress.
func (s *memoryStore) now() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Progress
}

// settings of a stream of all messages.
func testSettings(address bankfeed.Secret) Settings {
	return Settings{Name: "main", URL: address, Messages: banqup.Kinds}
}

func testConfig(t *testing.T, s Store, l *memoryLog, address bankfeed.Secret) Config {
	t.Helper()
	return Config{Store: s, Log: l, Subscribe: l.Subscribe, Settings: testSettings(address), Epoch: testEpoch, Node: "0123456789ab", Build: "20260302.1", Now: time.Now,
		Tenant: func(context.Context, string) (bankfeed.TenantID, error) { return 1, nil }, Logger: slog.New(slog.DiscardHandler)}
}

// eventually waits for something that real processes do.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 10*time.Millisecond, what)
}
