package stream_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// frozen is a store that stands still at its third save of a replay, until it
// is thawed.
type frozen struct {
	*store.Store
	mu    sync.Mutex
	saves int
	at    chan struct{}
	thaw  chan struct{}
}

func (f *frozen) SaveReplay(ctx context.Context, fence bankfeed.Fence, r stream.Replay, release *bankfeed.Release) error {
	f.mu.Lock()
	f.saves++
	n := f.saves
	f.mu.Unlock()
	if n == 3 {
		close(f.at)
		<-f.thaw
		ctx = context.WithoutCancel(ctx)
	}
	return f.Store.SaveReplay(ctx, fence, r, release)
}

// replayed writes a log: transactions of a live user, of a sandbox user and of one
// who was erased.
func replayed(t *testing.T, s *store.Store, n int) (tenant bankfeed.TenantID, live bankfeed.UserID) {
	t.Helper()
	tenant, sandbox := storetest.User(t, s)
	user := func() bankfeed.UserID {
		id, err := s.Access().CreateUser(t.Context(), tenant, access.User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: storetest.Now}})
		require.NoError(t, err)
		return id
	}
	live, gone := user(), user()
	for _, u := range []bankfeed.UserID{live, sandbox.ID, gone} {
		c := &bankfeed.Change{Tenant: tenant, User: u}
		for i := range n {
			c.Events = append(c.Events, bankfeed.Draft{Type: bankfeed.EventTransactionCreated, At: storetest.Now, Connection: 5, Account: 4, Session: 3, Snapshot: &bankfeed.Snapshot{
				Schema: 1, Initiator: bankfeed.ByUser, Build: "20260302.1", Node: "0123456789ab", User: bankfeed.UserRef{ID: u, BusinessContext: bankfeed.Individual},
				Account:     &bankfeed.Account{ID: 4, Currency: "EUR", Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}},
				Transaction: &bankfeed.Transaction{ID: bankfeed.TransactionID(i + 1), Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-12.50"), Currency: "EUR"}},
			}})
		}
		_, err := s.Apply(t.Context(), c)
		require.NoError(t, err)
	}
	cleaner := eventlog.Cleaner{Store: s}
	_, err := cleaner.Redact(t.Context(), tenant, gone)
	require.NoError(t, err)
	return tenant, live
}

// Two nodes on a real database and a real broker: the first stands still in the
// middle for longer than its lease, the second takes the replay over, and the
// first wakes up too late.
func TestReplayByNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		address := bankfeed.Secret(backingtest.AMQPURL(t))
		conn, err := amqp.Dial(string(address))
		require.NoError(t, err)
		defer conn.Close()
		ch, err := conn.Channel()
		require.NoError(t, err)
		_, err = ch.QueueDeclare("again", true, false, false, false, nil)
		require.NoError(t, err)

		const each = 1200
		tenant, live := replayed(t, s, each)
		key := stream.Key{Tenant: tenant, Name: "main"}
		target, err := stream.Target(address)
		require.NoError(t, err)
		require.NoError(t, s.EnableStream(t.Context(), key, stream.Settings{Name: "main"}, target, 0, time.Now()))
		replays := stream.NewReplays(stream.ReplaysConfig{Store: s, Log: s, Worlds: s, Epoch: s.Installation().Epoch, Now: time.Now})

		first := &frozen{Store: s, at: make(chan struct{}), thaw: make(chan struct{})}
		running, stop := context.WithCancel(t.Context())
		var nodes sync.WaitGroup
		defer nodes.Wait()
		defer stop()
		node := func(name string, c stream.ReplayStore, ttl time.Duration) {
			runner := stream.NewReplayRunner(stream.ReplayRunnerConfig{Store: c, Log: s, Worlds: s, Streams: []stream.Settings{{Name: "main", URL: address}},
				Node: name, Build: "20260302.1", Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
			e := lease.New(lease.Config{Store: s, Kind: bankfeed.WorkReplay, Node: name, Slots: 1, TTL: ttl, Heartbeat: time.Hour, Poll: 20 * time.Millisecond,
				StopAfter: 5 * time.Second, Log: slog.New(slog.DiscardHandler), Run: func(ctx context.Context, c lease.Claim) error { return runner.Run(ctx, c.Fence) }})
			nodes.Go(func() { _ = e.Run(running) })
		}

		n, err := replays.Count(t.Context(), stream.ReplayOrder{Tenant: tenant})
		require.NoError(t, err)
		require.EqualValues(t, 2*each, n.Total)
		require.EqualValues(t, each, n.Erased)
		r, n, err := replays.Start(t.Context(), stream.ReplayOrder{Tenant: tenant, Queue: "again", Filter: stream.ReplayFilter{World: stream.Live}})
		require.NoError(t, err)
		require.EqualValues(t, each, n.Total)
		require.EqualValues(t, each, n.Erased)

		node("000000000001", first, 2*time.Second)
		<-first.at
		node("000000000002", s, time.Minute)
		require.Eventually(t, func() bool {
			now, err := replays.Replay(t.Context(), tenant, r.ID)
			return err == nil && now.Status == stream.ReplayDone
		}, 30*time.Second, 20*time.Millisecond)
		done, err := replays.Replay(t.Context(), tenant, r.ID)
		require.NoError(t, err)
		close(first.thaw)
		stop()
		nodes.Wait()
		after, err := replays.Replay(t.Context(), tenant, r.ID)
		require.NoError(t, err)
		require.Equal(t, done, after, "who was too late has written nothing")
		require.EqualValues(t, each, done.Published)
		require.EqualValues(t, each, done.Erased)
		require.Equal(t, done.Until, done.Position)

		got, repeated := map[bankfeed.Position]bool{}, 0
		for {
			d, ok, err := ch.Get("again", true)
			require.NoError(t, err)
			if !ok {
				break
			}
			id, err := bankfeed.ParseUUID(d.MessageId)
			require.NoError(t, err)
			epoch, of, _, p, ok := bankfeed.ParseEventID(id)
			require.True(t, ok)
			require.EqualValues(t, r.ID, epoch)
			require.Equal(t, tenant, of)
			if got[p] {
				repeated++
			}
			got[p] = true
		}
		require.Len(t, got, each)
		require.LessOrEqual(t, repeated, 500)
		t.Logf("%d messages of user %d, lost 0, repeated %d under the same id", len(got), live, repeated)

		// What has ended stays; a new one is cancelled.
		again, err := replays.Cancel(t.Context(), tenant, r.ID)
		require.NoError(t, err)
		require.Equal(t, stream.ReplayDone, again.Status)
		r, _, err = replays.Start(t.Context(), stream.ReplayOrder{Tenant: tenant, Event: r.MessageID(7)})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Total)
		r, err = replays.Cancel(t.Context(), tenant, r.ID)
		require.NoError(t, err)
		require.Equal(t, stream.ReplayCancelled, r.Status)
		list, err := replays.List(t.Context(), tenant, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, r.ID, list[0].ID)
	})
}
