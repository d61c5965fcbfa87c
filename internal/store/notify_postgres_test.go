package store_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// received collects what a node hears.
type received struct {
	commits chan bankfeed.Committed
	ready   chan bankfeed.WorkKind
	lost    chan struct{}
}

func newReceived() received {
	return received{make(chan bankfeed.Committed, 1000), make(chan bankfeed.WorkKind, 1000), make(chan struct{}, 1000)}
}

func (r received) receiver() store.Receiver {
	return store.Receiver{Committed: func(c bankfeed.Committed) { r.commits <- c }, Ready: func(k bankfeed.WorkKind) { r.ready <- k },
		Lost: func() { r.lost <- struct{}{} }}
}

func soon[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing came")
	}
	return v
}

func run(t *testing.T, g *store.Signals) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, soon(t, done))
	})
}

func TestSignalsBetweenNodes(t *testing.T) {
	c := storetest.PostgresConfig(t)
	a, b := storetest.Open(t, c), storetest.Open(t, c)
	heardA, heardB := newReceived(), newReceived()
	quiet := slog.New(slog.DiscardHandler)
	signalsA, signalsB := a.NewSignals(heardA.receiver(), quiet), b.NewSignals(heardB.receiver(), quiet)
	signalsB.SetIdle(10 * time.Millisecond) // so that the silent connection is tried often
	a.OnCommit(signalsA.Committed)
	a.OnReady(signalsA.Ready)
	run(t, signalsA)
	run(t, signalsB)
	soon(t, heardA.lost)
	soon(t, heardB.lost)

	done, err := a.Apply(context.Background(), &bankfeed.Change{Tenant: 1, User: 7, Events: page(1, 7, 3).Events,
		Ready: []bankfeed.WorkItem{{Tenant: 1, Kind: bankfeed.WorkSession, ID: 1, Group: "200"}}})
	require.NoError(t, err)
	require.Equal(t, done, soon(t, heardB.commits))
	require.Equal(t, bankfeed.WorkSession, soon(t, heardB.ready))

	// Work for later wakes nobody, and events without work tell of no work.
	_, err = a.Apply(context.Background(), &bankfeed.Change{Tenant: 1, User: 7, Events: page(1, 7, 1).Events,
		Ready: []bankfeed.WorkItem{{Tenant: 1, Kind: bankfeed.WorkSession, ID: 2, Group: "200", ReadyAt: time.Now().Add(time.Hour)}}})
	require.NoError(t, err)
	require.Equal(t, bankfeed.Position(4), soon(t, heardB.commits).First)
	require.Empty(t, heardB.ready)

	// A burst: everything arrives, in fewer signals.
	var last bankfeed.Position
	for i := range 2000 {
		last = bankfeed.Position(5 + i)
		user := bankfeed.UserID(7 + i%2)
		signalsA.Committed(bankfeed.Committed{Tenant: 1, User: user, First: last, Last: last, Topics: bankfeed.Topics{false, true}})
	}
	seen := map[bankfeed.Position]bool{}
	for len(seen) < 2000 {
		got := soon(t, heardB.commits)
		require.Equal(t, bankfeed.Topics{false, true}, got.Topics)
		for p := got.First; p <= got.Last; p++ {
			require.False(t, seen[p])
			seen[p] = true
		}
	}

	// The server ends the listening connection: it comes back, and says that
	// signals may have been lost.
	require.NoError(t, a.Exec(context.Background(), `
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query LIKE '-- ping%')`))
	soon(t, heardB.lost)
	signalsA.Committed(bankfeed.Committed{Tenant: 2, User: 1, First: 1, Last: 1, Topics: bankfeed.Topics{true, false}})
	require.Equal(t, bankfeed.TenantID(2), soon(t, heardB.commits).Tenant)
	require.Empty(t, heardA.commits, "a node does not hear itself")
}

func TestSignalPayloadsFit(t *testing.T) {
	s := storetest.Postgres(t)
	heard := newReceived()
	sender, receiver := s.NewSignals(heard.receiver(), slog.Default()), s.NewSignals(heard.receiver(), slog.Default())
	for i := range int64(900) {
		sender.Committed(bankfeed.Committed{Tenant: 1<<22 - 1, User: bankfeed.UserID(1<<62 + i), First: 1 << 39, Last: 1 << 40, Topics: bankfeed.Topics{true, true}})
	}
	sender.Ready(bankfeed.WorkSession)
	payloads := sender.Take()
	require.Greater(t, len(payloads), 1)
	for _, p := range payloads {
		require.Less(t, len(p), 8000)
		receiver.Receive(p)
		sender.Receive(p) // its own
	}
	require.Len(t, heard.commits, 900)
	require.Len(t, heard.ready, 1)
	require.Empty(t, sender.Take())
	for _, foreign := range []string{"", "x", "x;", "x;q,1", "x;e,1,2", "x;e,1,0,7,1,1,2,9", strings.Repeat(";", 100)} {
		receiver.Receive(foreign)
	}
	require.Len(t, heard.commits, 900, "what it does not understand wakes nobody")
}

func TestNoSignalsOnSQLite(t *testing.T) {
	s := storetest.SQLite(t)
	heard := newReceived()
	g := s.NewSignals(heard.receiver(), slog.Default())
	run(t, g)
	g.Committed(bankfeed.Committed{Tenant: 1, First: 1, Last: 1})
	g.Ready(bankfeed.WorkSession)
	require.Empty(t, g.Take())
}
