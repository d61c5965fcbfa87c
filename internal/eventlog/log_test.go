package eventlog_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func open(s *store.Store) *eventlog.Log {
	hub := eventlog.NewHub(s, 0, quiet)
	s.OnCommit(hub.Committed)
	return eventlog.New(s, hub, s.Installation().Epoch)
}

// draft is an event of a connection whose number tells who wrote it.
func draft(typ bankfeed.EventType, connection bankfeed.ConnectionID, at time.Time) bankfeed.Draft {
	return bankfeed.Draft{Type: typ, At: at, Connection: connection, Snapshot: &bankfeed.Snapshot{Schema: bankfeed.SnapshotSchema, Node: "n"}}
}

func apply(t testing.TB, s *store.Store, tenant bankfeed.TenantID, user bankfeed.UserID, drafts ...bankfeed.Draft) bankfeed.Committed {
	t.Helper()
	c, err := s.Apply(context.Background(), &bankfeed.Change{Tenant: tenant, User: user, Events: drafts})
	require.NoError(t, err)
	return c
}

func positions(events []bankfeed.Event) (p []bankfeed.Position) {
	for _, e := range events {
		p = append(p, e.Position)
	}
	return p
}

func TestReadFromACursor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, log := context.Background(), open(s)
		start, err := log.Oldest(ctx, 1)
		require.NoError(t, err)
		p, err := log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 10}, start, 0)
		require.NoError(t, err)
		require.Empty(t, p.Events)
		require.Equal(t, start, p.Next)

		at := time.Date(2026, 3, 2, 9, 0, 0, 123456000, time.UTC)
		full := draft(bankfeed.EventAccountCreated, 5, at)
		full.Account, full.Session = 6, 9
		full.Snapshot.Account = &bankfeed.Account{ID: 6, Name: "Girokonto", Currency: "EUR"}
		c := apply(t, s, 1, 7, draft(bankfeed.EventSyncStarted, 5, at), full, draft(bankfeed.EventTransactionCreated, 5, at))
		require.Equal(t, bankfeed.Committed{Tenant: 1, User: 7, First: 1, Last: 3, Topics: bankfeed.Topics{true, true}}, c)
		require.Equal(t, bankfeed.Position(4), apply(t, s, 1, 8, draft(bankfeed.EventSyncStarted, 4, at)).First)
		require.Equal(t, bankfeed.Position(1), apply(t, s, 2, 7, draft(bankfeed.EventSyncStarted, 1, at)).First, "another tenant counts for itself")
		require.Zero(t, apply(t, s, 1, 7).First)

		p, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 2}, start, 0)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{1, 2}, positions(p.Events))
		got := p.Events[1]
		require.Equal(t, full.Snapshot, got.Snapshot)
		got.Snapshot = nil
		require.Equal(t, bankfeed.Event{Epoch: s.Installation().Epoch, Tenant: 1, Position: 2, Type: full.Type, At: at, User: 7,
			Connection: 5, Account: 6, Session: 9}, got)
		p, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 10}, p.Next, 0)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{3, 4}, positions(p.Events))

		connections, data := bankfeed.TopicConnections, bankfeed.TopicData
		for name, c := range map[string]struct {
			q    eventlog.Query
			want []bankfeed.Position
		}{
			"user":            {eventlog.Query{User: 7}, []bankfeed.Position{1, 2, 3}},
			"other user":      {eventlog.Query{User: 8}, []bankfeed.Position{4}},
			"unknown user":    {eventlog.Query{User: 9}, nil},
			"connection":      {eventlog.Query{Connection: 4}, []bankfeed.Position{4}},
			"account":         {eventlog.Query{Account: 6}, []bankfeed.Position{2}},
			"session":         {eventlog.Query{User: 7, Session: 9}, []bankfeed.Position{2}},
			"types":           {eventlog.Query{Types: []bankfeed.EventType{bankfeed.EventSyncStarted, bankfeed.EventSyncFailed}}, []bankfeed.Position{1, 4}},
			"types of a user": {eventlog.Query{User: 7, Types: []bankfeed.EventType{bankfeed.EventSyncStarted}}, []bankfeed.Position{1}},
			"topic":           {eventlog.Query{Topic: &connections}, []bankfeed.Position{1, 4}},
			"topic of a user": {eventlog.Query{User: 7, Topic: &connections}, []bankfeed.Position{1}},
			"data of a user":  {eventlog.Query{User: 7, Topic: &data}, []bankfeed.Position{2, 3}},
			"nothing fits":    {eventlog.Query{User: 8, Account: 6}, nil},
		} {
			c.q.Tenant, c.q.Limit = 1, 100
			p, err := log.Read(ctx, c.q, start, 0)
			require.NoError(t, err, name)
			require.Equal(t, c.want, positions(p.Events), name)
			require.Equal(t, bankfeed.Position(4), p.Next.Lanes[0], "%s: next is what was looked at, also when nothing fits", name)
		}

		newest, err := log.Newest(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(4), newest.Lanes[0])
		ahead := eventlog.Cursor{Epoch: newest.Epoch, Lanes: []bankfeed.Position{5}}
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 1}, ahead, 0)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 0}, newest, 0)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 1, Types: []bankfeed.EventType{"x\x00"}}, newest, 0)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 1}, eventlog.Cursor{Epoch: newest.Epoch - 1, Lanes: []bankfeed.Position{2}}, 0)
		require.Equal(t, bankfeed.StaleEpoch, bankfeed.ErrorKindOf(err))
		oldest, ok := eventlog.OldestOf(err)
		require.True(t, ok)
		require.Equal(t, start, oldest)
	})
}

// A filter that selects almost nothing of a large log looks at a bounded number
// of rows a call, says how far it came, and finds what it looks for in the end.
func TestRareFilterNeitherHangsNorSkips(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, log := context.Background(), open(s)
		start, err := log.Oldest(ctx, 1)
		require.NoError(t, err)
		many := make([]bankfeed.Draft, 5000)
		for i := range many {
			many[i] = draft(bankfeed.EventTransactionCreated, 1, storetest.Now)
		}
		for range 5 {
			apply(t, s, 1, 7, many...)
		}
		rare := apply(t, s, 1, 7, draft(bankfeed.EventSyncFailed, 2, storetest.Now)).First
		for _, q := range []eventlog.Query{
			{Types: []bankfeed.EventType{bankfeed.EventSyncFailed}},
			{User: 7, Types: []bankfeed.EventType{bankfeed.EventSyncFailed}},
			{User: 7, Connection: 2},
		} {
			q.Tenant, q.Limit = 1, 10
			p, err := log.Read(ctx, q, start, 0)
			require.NoError(t, err)
			require.Empty(t, p.Events)
			require.Equal(t, bankfeed.Position(20_000), p.Next.Lanes[0], "the budget of one call")
			p, err = log.Read(ctx, q, p.Next, 0)
			require.NoError(t, err)
			require.Equal(t, []bankfeed.Position{rare}, positions(p.Events))
			p, err = log.Read(ctx, q, start, time.Minute)
			require.NoError(t, err)
			require.Equal(t, []bankfeed.Position{rare}, positions(p.Events), "a reader with time goes on by itself")
		}
	})
}

func TestWaitingReader(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, log := context.Background(), open(s)
		start, err := log.Oldest(ctx, 1)
		require.NoError(t, err)
		type result struct {
			eventlog.Page
			err error
		}
		read := func(q eventlog.Query, wait time.Duration) <-chan result {
			q.Tenant, q.Limit = 1, 10
			c := make(chan result, 1)
			go func() {
				p, err := log.Read(ctx, q, start, wait)
				c <- result{p, err}
			}()
			return c
		}
		mine, all := read(eventlog.Query{User: 7}, time.Minute), read(eventlog.Query{}, time.Minute)
		late := read(eventlog.Query{User: 9}, 50*time.Millisecond)
		r := <-late
		require.NoError(t, r.err)
		require.Empty(t, r.Events, "the wait is over")
		apply(t, s, 1, 8, draft(bankfeed.EventSyncStarted, 1, storetest.Now))
		r = <-all
		require.NoError(t, r.err)
		require.Equal(t, []bankfeed.Position{1}, positions(r.Events))
		apply(t, s, 1, 7, draft(bankfeed.EventSyncStarted, 1, storetest.Now))
		r = <-mine
		require.NoError(t, r.err)
		require.Equal(t, []bankfeed.Position{2}, positions(r.Events))

		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err = log.Read(gone, eventlog.Query{Tenant: 1, Limit: 1, User: 10}, start, time.Minute)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestTrimKeepsWhatIsNeeded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, log := context.Background(), open(s)
		now := storetest.Now
		start, err := log.Oldest(ctx, 1)
		require.NoError(t, err)
		old := make([]bankfeed.Draft, 2500)
		for i := range old {
			old[i] = draft(bankfeed.EventTransactionCreated, 1, now.Add(-91*24*time.Hour))
		}
		apply(t, s, 1, 7, old...)
		apply(t, s, 1, 7, draft(bankfeed.EventSyncStarted, 1, now.Add(-89*24*time.Hour)))
		apply(t, s, 1, 7, old[0]) // old, but behind a younger one

		needed := bankfeed.Position(1200)
		c := &eventlog.Cleaner{Store: s, Needed: func(_ context.Context, tenant bankfeed.TenantID, lane int) (bankfeed.Position, bool, error) {
			require.Equal(t, bankfeed.TenantID(1), tenant)
			return needed, needed != 0, nil
		}}
		n, err := c.Trim(ctx, now)
		require.NoError(t, err)
		require.Equal(t, 1200, n, "a stream still needs 1201")
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 10}, start, 0)
		require.Equal(t, bankfeed.Gone, bankfeed.ErrorKindOf(err))
		oldest, ok := eventlog.OldestOf(err)
		require.True(t, ok)
		p, err := log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 1}, oldest, 0)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Position{1201}, positions(p.Events))
		_, err = log.Read(ctx, eventlog.Query{Tenant: 1, User: 7, Limit: 1}, start, 0)
		require.Equal(t, bankfeed.Gone, bankfeed.ErrorKindOf(err), "also for one user")

		needed = 0
		n, err = c.Trim(ctx, now)
		require.NoError(t, err)
		require.Equal(t, 1300, n, "up to the first that is young enough")
		n, err = c.Trim(ctx, now)
		require.NoError(t, err)
		require.Zero(t, n)
		lane, err := s.Lane(ctx, 1, 0)
		require.NoError(t, err)
		require.Equal(t, eventlog.Lane{Tenant: 1, Floor: 2500, Head: 2502}, lane)
		n, err = c.Trim(ctx, now.Add(2*24*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, bankfeed.Position(2503), apply(t, s, 1, 7, old[0]).First, "an empty lane goes on counting")
	})
}

func TestRedactedEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, log := context.Background(), open(s)
		start, err := log.Oldest(ctx, 1)
		require.NoError(t, err)
		many := make([]bankfeed.Draft, 1100)
		for i := range many {
			many[i] = draft(bankfeed.EventTransactionCreated, 1, storetest.Now)
		}
		apply(t, s, 1, 7, many...)
		apply(t, s, 1, 8, many[0])
		apply(t, s, 1, 7, many[0])
		n, err := (&eventlog.Cleaner{Store: s}).Redact(ctx, 1, 7)
		require.NoError(t, err)
		require.Equal(t, 1101, n)
		next := start
		for seen := 0; seen < 1102; {
			p, err := log.Read(ctx, eventlog.Query{Tenant: 1, Limit: 1000}, next, 0)
			require.NoError(t, err)
			for _, e := range p.Events {
				require.Equal(t, e.User != 7, e.Snapshot != nil)
			}
			seen += len(p.Events)
			next = p.Next
		}
	})
}

// stress lets writers overlap, each commit of a random size, while readers
// follow from the beginning and late-comers begin at every position: each must
// see every position once, in order, and the events of each commit together.
func stress(t *testing.T, nodes []*store.Store, writers, readers, total, most int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	logs := make([]*eventlog.Log, len(nodes))
	for i, s := range nodes {
		hub := eventlog.NewHub(s, 50*time.Millisecond, quiet)
		go func() { _ = hub.Run(ctx) }()
		s.OnCommit(hub.Committed)
		logs[i] = eventlog.New(s, hub, s.Installation().Epoch)
	}
	start, err := logs[0].Oldest(ctx, 1)
	require.NoError(t, err)

	var wg sync.WaitGroup
	fail := func(format string, args ...any) {
		t.Errorf(format, args...)
		cancel()
	}
	share := total / writers
	for w := range writers {
		wg.Go(func() {
			for left := share; left > 0 && ctx.Err() == nil; {
				n := min(left, 1+rand.IntN(most))
				drafts := make([]bankfeed.Draft, n)
				for i := range drafts {
					drafts[i] = draft(bankfeed.EventTransactionCreated, bankfeed.ConnectionID(w+1), storetest.Now)
				}
				c, err := nodes[w%len(nodes)].Apply(ctx, &bankfeed.Change{Tenant: 1, User: bankfeed.UserID(w%3 + 1), Events: drafts})
				if err != nil {
					fail("writer %d: %v", w, err)
					return
				}
				if c.Last-c.First+1 != bankfeed.Position(n) {
					fail("writer %d: %d events got %d to %d", w, n, c.First, c.Last)
				}
				left -= n
			}
		})
	}
	for r := range readers {
		wg.Go(func() {
			counts := make([]int, writers+1)
			after, seen := start, bankfeed.Position(0)
			for seen < bankfeed.Position(share*writers) {
				p, err := logs[r%len(logs)].Read(ctx, eventlog.Query{Tenant: 1, Limit: 1 + rand.IntN(eventlog.MaxLimit)}, after, 10*time.Second)
				if err != nil {
					fail("reader %d: %v", r, err)
					return
				}
				if len(p.Events) == 0 {
					fail("reader %d: nothing came after %d", r, seen)
					return
				}
				for _, e := range p.Events {
					if e.Position != seen+1 {
						fail("reader %d: %d follows %d", r, e.Position, seen)
						return
					}
					seen++
					counts[e.Connection]++
				}
				after = p.Next
				// A reader that begins here and now, with a filter.
				if rand.IntN(8) == 0 {
					q := eventlog.Query{Tenant: 1, User: bankfeed.UserID(1 + rand.IntN(3)), Limit: 50}
					if _, err := logs[r%len(logs)].Read(ctx, q, after, 0); err != nil {
						fail("reader %d at %d: %v", r, seen, err)
						return
					}
				}
			}
			for w := 1; w <= writers; w++ {
				if counts[w] != share {
					fail("reader %d saw %d of %d events of writer %d", r, counts[w], share, w)
				}
			}
		})
	}
	wg.Wait()
}

func TestOverlappingWriters(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { stress(t, []*store.Store{storetest.SQLite(t)}, 4, 3, 4000, 20) })
	t.Run("postgres", func(t *testing.T) {
		c := storetest.PostgresConfig(t)
		stress(t, []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}, 8, 4, 8000, 10)
	})
}

// TestBulkOverlappingWriters: a million events, overlapping writers on two
// nodes, readers at every position, nothing skipped.
func TestBulkOverlappingWriters(t *testing.T) {
	c := storetest.PostgresConfig(t)
	stress(t, []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}, 10, 2, 1_000_000, 1000)
}
