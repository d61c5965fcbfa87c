package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

var banqupKey = stream.Key{Tenant: 1, Name: "banqup"}

// enable stores a stream of tenant 1 that begins with the log, and leads it.
func enable(t *testing.T, s *store.Store, key stream.Key, target string) stream.Record {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, s.EnableStream(ctx, key, stream.Settings{Name: key.Name}, target, 0, storetest.Now))
	r, err := s.LeadStream(ctx, key, "n1", storetest.Now)
	require.NoError(t, err)
	return r
}

// save stores that everything up to a position was confirmed.
func save(t *testing.T, s *store.Store, r stream.Record, p bankfeed.Position, now time.Time, gaps ...stream.Gap) {
	t.Helper()
	require.NoError(t, s.SaveStream(context.Background(), r.Key, r.Term, stream.Progress{Position: p}, gaps, now))
}

func TestStreamIsStoredWhole(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		_, err := s.Stream(ctx, banqupKey)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = s.LeadStream(ctx, banqupKey, "n1", now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		settings := stream.Settings{Name: "banqup", Tenant: "not stored", URL: "amqp://not:stored@host/", Face: banqup.Settings{OmitNulls: true},
			Messages: []banqup.Kind{banqup.Consent, banqup.Account}, Unchanged: true, FromNow: true,
			Unrouted: map[banqup.Kind]stream.Unrouted{banqup.Consent: stream.UnroutedRecord}, Queues: []string{"client"}}
		require.NoError(t, s.EnableStream(ctx, banqupKey, settings, "host:5672/vhost", 40, now))
		stored := settings
		stored.Tenant, stored.URL = "", ""
		want := stream.Record{Key: banqupKey, Settings: stored, Target: "host:5672/vhost", Enabled: true, CreatedAt: now, Start: 40,
			Epoch: s.Installation().Epoch, Progress: stream.Progress{Position: 40}}
		got, err := s.Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.Equal(t, want, got)

		want.Term, want.Leader, want.LedAt = 1, "n1", now.Add(time.Second)
		got, err = s.LeadStream(ctx, banqupKey, "n1", now.Add(time.Second))
		require.NoError(t, err)
		require.Equal(t, want, got)

		want.SavedAt = now.Add(2 * time.Second)
		want.Progress = stream.Progress{Position: 50, Trouble: "an alarm",
			Holds:     map[banqup.Kind]stream.Hold{banqup.Account: {After: 45, Since: now, Redrive: true}},
			Exchanges: map[banqup.Kind]stream.Exchange{banqup.Consent: {Routed: true, Published: 7, Unrouted: 1, Faults: 2, Last: 49, LastAt: now, LastRouted: true}},
			Queues:    map[string]stream.Queue{"client": {SeenAt: now, Depth: 3, Consumers: 1, Drained: 44, DrainedAt: now}}}
		require.NoError(t, s.SaveStream(ctx, banqupKey, 1, want.Progress, nil, want.SavedAt))
		got, err = s.Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.Equal(t, want, got)

		// New settings leave the rest alone.
		require.NoError(t, s.EnableStream(ctx, banqupKey, stream.Settings{Name: "banqup"}, "other:5672/vhost", 99, now.Add(time.Hour)))
		want.Settings, want.Target = stream.Settings{Name: "banqup"}, "other:5672/vhost"
		all, err := s.Streams(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, []stream.Record{want}, all)
		all, err = s.Streams(ctx, 2)
		require.NoError(t, err)
		require.Empty(t, all, "another tenant")
	})
}

func TestOneStreamToEachTarget(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		on := func(k stream.Key, target string) error {
			return s.EnableStream(ctx, k, stream.Settings{Name: k.Name}, target, 0, now)
		}
		second, foreign := stream.Key{Tenant: 1, Name: "second"}, stream.Key{Tenant: 2, Name: "banqup"}
		require.NoError(t, on(banqupKey, "host/a"))
		require.NoError(t, on(banqupKey, "host/a"), "the same stream again")
		for _, k := range []stream.Key{second, foreign} {
			require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(on(k, "host/a")))
			_, err := s.Stream(ctx, k)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
		require.NoError(t, on(second, "host/b"))
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(on(second, "host/a")), "moved onto the other one")
		all, err := s.Streams(ctx, 0)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, "host/b", all[1].Target)

		// A disabled one makes room, and stays listed with its reason.
		require.NoError(t, s.DisableStreams(ctx, []stream.Key{second}, "no configuration names it", now))
		require.NoError(t, on(foreign, "host/a"))
		gone, err := s.Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.False(t, gone.Enabled)
		require.Equal(t, "no configuration names it", gone.Reason)
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(on(banqupKey, "host/a")))
		_, err = s.LeadStream(ctx, banqupKey, "n1", now)
		require.ErrorContains(t, err, "no configuration names it")
		kept, err := s.Stream(ctx, second)
		require.NoError(t, err)
		require.True(t, kept.Enabled)
	})
}

// Nodes that start together and are configured to one target: one of them wins.
func TestTargetIsTakenOnce(t *testing.T) {
	c := storetest.PostgresConfig(t)
	nodes := []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}
	for range 20 {
		require.NoError(t, nodes[0].Exec(context.Background(), `DELETE FROM streams`))
		var wg sync.WaitGroup
		errs := make([]error, len(nodes))
		for i, s := range nodes {
			wg.Go(func() {
				k := stream.Key{Tenant: bankfeed.TenantID(i + 1), Name: "banqup"}
				errs[i] = s.EnableStream(context.Background(), k, stream.Settings{}, "host/a", 0, storetest.Now)
			})
		}
		wg.Wait()
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "%v", errs)
		for _, err := range errs {
			require.True(t, err == nil || bankfeed.ErrorKindOf(err) == bankfeed.Conflict, "%v", err)
		}
	}
}

func TestEachTermIsLedOnce(t *testing.T) {
	lead := func(t *testing.T, nodes []*store.Store) {
		ctx := context.Background()
		require.NoError(t, nodes[0].EnableStream(ctx, banqupKey, stream.Settings{}, "host/a", 0, storetest.Now))
		var mu sync.Mutex
		terms := map[int64]*store.Store{}
		var wg sync.WaitGroup
		for _, s := range nodes {
			wg.Go(func() {
				for range 20 {
					r, err := s.LeadStream(ctx, banqupKey, "n", storetest.Now)
					mu.Lock()
					if err == nil && terms[r.Term] == nil {
						terms[r.Term] = s
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		last := int64(20 * len(nodes))
		require.Len(t, terms, int(last), "a term was led twice, or not at all")
		for term, s := range terms {
			err := s.SaveStream(ctx, banqupKey, term, stream.Progress{Position: bankfeed.Position(term)}, nil, storetest.Now)
			if term == last {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, bankfeed.ErrFenced)
		}
		r, err := nodes[0].Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(last), r.Progress.Position)
	}
	t.Run("sqlite", func(t *testing.T) { s := storetest.SQLite(t); lead(t, []*store.Store{s, s}) })
	t.Run("postgres", func(t *testing.T) {
		c := storetest.PostgresConfig(t)
		lead(t, []*store.Store{storetest.Open(t, c), storetest.Open(t, c)})
	})
}

// Nothing of a save that is too late is kept, its gaps neither.
func TestLateLeaderIsFenced(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		first := enable(t, s, banqupKey, "host/a")
		second, err := s.LeadStream(ctx, banqupKey, "n2", now)
		require.NoError(t, err)
		gap := stream.Gap{Kind: banqup.Account, Reason: stream.GapUnrouted, First: 2, Last: 3, Count: 2, Since: now, Until: now}
		late := func() {
			require.ErrorIs(t, s.SaveStream(ctx, banqupKey, first.Term, stream.Progress{Position: 9}, []stream.Gap{gap}, now), bankfeed.ErrFenced)
			_, err = s.TakeRedrives(ctx, banqupKey, first.Term)
			require.ErrorIs(t, err, bankfeed.ErrFenced)
		}
		late()
		n, err := s.Count(ctx, `SELECT count(*) FROM stream_gaps`)
		require.NoError(t, err)
		require.Zero(t, n)
		save(t, s, second, 5, now)

		require.NoError(t, s.DisableStreams(ctx, nil, "off", now))
		first = second
		late()
		require.NoError(t, s.EnableStream(ctx, banqupKey, stream.Settings{}, "host/a", 0, now))
		save(t, s, second, 6, now)
	})
}

func TestGapsAreExtended(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		r := enable(t, s, banqupKey, "host/a")
		gap := stream.Gap{Kind: banqup.Account, Reason: stream.GapUnrouted, First: 3, Last: 5, Count: 2, Since: now, Until: now.Add(time.Second)}
		longer := gap
		longer.Last, longer.Count, longer.Until = 9, 4, now.Add(2*time.Second)
		erased := stream.Gap{Kind: banqup.Account, Reason: stream.GapErased, First: 3, Last: 3, Count: 1, Since: now, Until: now}
		other := stream.Gap{Kind: banqup.Consent, Reason: stream.GapUnrouted, First: 7, Last: 12, Count: 3, Since: now, Until: now}
		save(t, s, r, 5, now, gap, erased)
		save(t, s, r, 12, now, longer, other)
		save(t, s, r, 12, now, gap) // a write that comes again
		list := func(open bool, before bankfeed.Position, limit int) []stream.Gap {
			gaps, err := s.Gaps(ctx, banqupKey, open, before, limit)
			require.NoError(t, err)
			return gaps
		}
		require.Equal(t, []stream.Gap{other, erased, longer}, list(false, 0, 10))
		require.Equal(t, []stream.Gap{other}, list(false, 0, 1))
		require.Equal(t, []stream.Gap{erased, longer}, list(false, 7, 1), "what begins together is not torn apart")
		require.Empty(t, list(false, 3, 10))

		for _, sent := range [][2]bankfeed.Position{{0, 8}, {3, 9}} {
			require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, sent[0], sent[1], now.Add(time.Hour)))
			require.Len(t, list(true, 0, 10), 3, "a part of it was sent again")
		}
		require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, 2, 9, now.Add(time.Hour)))
		require.Equal(t, []stream.Gap{other, erased}, list(true, 0, 10))
		longer.ResolvedAt = now.Add(time.Hour)
		require.Equal(t, longer, list(false, 0, 10)[2])
		require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, 2, 9, now.Add(2*time.Hour)))
		require.Equal(t, longer, list(false, 0, 10)[2], "resolved once")

		// Lost again when it was sent again.
		again := gap
		again.Since, again.Until = now, now.Add(3*time.Hour)
		save(t, s, r, 12, now, again)
		require.Equal(t, again, list(true, 0, 10)[2])
	})
}

func TestRedrivesAreHandedOver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		require.ErrorIs(t, s.RedriveStream(ctx, banqupKey, nil, now), bankfeed.ErrNotFound)
		r := enable(t, s, banqupKey, "host/a")
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(s.RedriveStream(ctx, banqupKey, nil, now)), "nothing to send again")
		gap := func(kind banqup.Kind, first, last bankfeed.Position) stream.Gap {
			return stream.Gap{Kind: kind, Reason: stream.GapUnrouted, First: first, Last: last, Count: 1, Since: now, Until: now}
		}
		held := stream.Progress{Position: 40, Holds: map[banqup.Kind]stream.Hold{banqup.Call: {After: 5, From: 4, Since: now}}}
		require.NoError(t, s.SaveStream(ctx, banqupKey, r.Term, held,
			[]stream.Gap{gap(banqup.Account, 20, 22), gap(banqup.Account, 30, 31), gap(banqup.Call, 10, 11), gap(banqup.Consent, 2, 3)}, now))
		require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, 0, 22, now))

		take := func() map[banqup.Kind]stream.Hold {
			holds, err := s.TakeRedrives(ctx, banqupKey, r.Term)
			require.NoError(t, err)
			return holds
		}
		require.Empty(t, take())
		require.NoError(t, s.RedriveStream(ctx, banqupKey, []banqup.Kind{banqup.Account, banqup.Call, banqup.Session}, now))
		require.NoError(t, s.RedriveStream(ctx, banqupKey, []banqup.Kind{banqup.Account}, now.Add(time.Second)), "again, before it began")
		want := map[banqup.Kind]stream.Hold{
			banqup.Account: {After: 29, From: 29, Since: now, Redrive: true},
			banqup.Call:    {After: 5, From: 5, Since: now, Redrive: true}, // it holds from there
		}
		done, ok, err := s.StreamsDone(ctx, 1, 0)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, bankfeed.Position(5), done)
		asked, err := s.Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.True(t, asked.Asked)
		require.Equal(t, want, take())
		asked, err = s.Stream(ctx, banqupKey)
		require.NoError(t, err)
		require.False(t, asked.Asked)
		require.Empty(t, take(), "handed over once")

		// A leader that dies now has left it to the next one.
		r, err = s.LeadStream(ctx, banqupKey, "n2", now)
		require.NoError(t, err)
		want[banqup.Call] = stream.Hold{After: 5, From: 4, Since: now}
		require.Equal(t, want, r.Progress.Holds)
		require.Empty(t, take())
	})
}

func TestStreamsDone(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		done := func(want bankfeed.Position, wantOK bool) {
			t.Helper()
			got, ok, err := s.StreamsDone(ctx, 1, 0)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, wantOK, ok)
		}
		done(0, false)
		second := stream.Key{Tenant: 1, Name: "second"}
		a, b := enable(t, s, banqupKey, "host/a"), enable(t, s, second, "host/b")
		enable(t, s, stream.Key{Tenant: 2, Name: "banqup"}, "host/c")
		done(0, true)
		save(t, s, a, 30, now)
		done(0, true)
		save(t, s, b, 40, now)
		done(30, true)
		p := stream.Progress{Position: 50, Holds: map[banqup.Kind]stream.Hold{banqup.Account: {After: 17}, banqup.Call: {After: 25}}}
		require.NoError(t, s.SaveStream(ctx, second, b.Term, p, nil, now))
		done(17, true)
		require.NoError(t, s.DisableStreams(ctx, []stream.Key{banqupKey}, "off", now))
		done(30, true)
		require.NoError(t, s.DisableStreams(ctx, nil, "off", now))
		done(0, false)
	})
}

// A user may be forgotten once everybody who wants to know has been told.
func TestTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), time.Now()
		c := page(1, 7, 3) // positions 1 to 3
		c.Events[1].Type = bankfeed.EventConnectionDeleted
		_, err := s.AppendEvents(ctx, c)
		require.NoError(t, err)
		_, err = s.AppendEvents(ctx, page(1, 8, 5)) // another user
		require.NoError(t, err)
		told := func(want bool) {
			t.Helper()
			got, err := s.Told(ctx, 1, 7)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		told(true) // nobody is there to tell
		a := enable(t, s, banqupKey, "host/a")
		told(false)
		save(t, s, a, 2, now)
		told(false)
		save(t, s, a, 3, now)
		told(true)
		require.NoError(t, s.SaveStream(ctx, banqupKey, a.Term,
			stream.Progress{Position: 8, Holds: map[banqup.Kind]stream.Hold{banqup.Consent: {After: 2}}}, nil, now))
		told(false)
		save(t, s, a, 8, now)

		queue := pollqueue.Queue{ID: "q", Owner: pollqueue.Owner{Tenant: 1, User: 7}, Topics: []string{"connections"},
			Epoch: s.Installation().Epoch, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		require.NoError(t, s.CreateQueue(ctx, queue))
		told(true) // it begins after them
		require.NoError(t, s.SeekQueue(ctx, "q", 1, now.Add(time.Hour)))
		told(false)
		require.NoError(t, s.SeekQueue(ctx, "q", 2, now.Add(time.Hour)))
		told(true) // of its topic there is no more
		require.NoError(t, s.SeekQueue(ctx, "q", 1, now.Add(time.Hour)))
		require.NoError(t, s.DisableStreams(ctx, nil, "off", now))
		told(false) // a queue alone is waited for too
		require.NoError(t, s.Exec(ctx, `UPDATE queues SET expires_at = $1`, now.Add(-time.Second).UnixMicro()))
		told(true)
	})
}
