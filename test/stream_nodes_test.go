//go:build unix

package test

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/test/masstransit"
)

// inOrderOfLeaders: each leader, which is a process here, sent in the order of
// the log. One that was replaced without knowing may have sent late copies.
func inOrderOfLeaders(s *streaming) []masstransit.Disorder { return s.OutOfOrderByProducer() }

// streamingPair prepares two nodes on one PostgreSQL that share a stream; the
// first one leads. Some users are synchronized while almost nothing is
// published.
func streamingPair(t *testing.T) (s *streaming, a, b *node, events int) {
	t.Helper()
	s = newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	bank := startBank(t)
	a, b, _ = pair(t, bank)
	s.streams(a).start()
	s.c = newCompany(a)
	eventually(t, time.Minute, "the first node leads", func() bool { return s.state().Leader.Node == a.id })
	s.streams(b).start()
	syncAll(s.c, "big-1000", "big-1050", "big-1100")
	expected, _ := s.expected()
	s.flowing(800)
	require.Equal(t, a.id, s.state().Leader.Node)
	s.c = s.c.via(b)
	return s, a, b, len(expected)
}

func sameProducer(a, b masstransit.Entry) bool { return a.Producer == b.Producer }

// TestStreamLeaderKilled: of two nodes the one that leads is killed; the other
// goes on.
func TestStreamLeaderKilled(t *testing.T) {
	t.Parallel()
	s, a, b, _ := streamingPair(t)
	a.kill(t)
	died := time.Now()
	eventually(t, time.Minute, "the other node leads", func() bool { return s.state().Leader.Node == b.id })
	took := time.Since(died)
	s.unfinished()
	s.settle(fmt.Sprintf("leader killed, the other led after %.1f s", took.Seconds()), inOrder)
	s.accepted()
	require.Less(t, took, 20*time.Second)
}

// TestStreamLeaderFrozen: the leader stands still past its term and goes on when
// another leads already. It does not move the cursor again, and publishes no more.
func TestStreamLeaderFrozen(t *testing.T) {
	t.Parallel()
	s, a, b, events := streamingPair(t)
	a.signal(t, syscall.SIGSTOP)
	s.allow(stream.DefaultWindow) // what it has sent arrives
	stopped := time.Now()
	eventually(t, time.Minute, "the other node leads", func() bool { return s.state().Leader.Node == b.id })
	took := time.Since(stopped)
	led := s.state()
	a.signal(t, syscall.SIGCONT)
	eventually(t, time.Minute, "the woken node serves", func() bool { return a.status("/readyz") == http.StatusOK })
	s.unfinished()
	require.True(t, stays(3*time.Second, func() bool {
		now := s.state()
		ok := now.Leader == led.Leader && now.Confirmed >= led.Confirmed
		led = now
		return ok
	}), "the woken node leads, or moved the cursor")
	woken := confirmedBy(a)
	v := s.settle(fmt.Sprintf("leader frozen, the other led after %.1f s", took.Seconds()), inOrderOfLeaders)
	s.accepted()
	require.Equal(t, woken, confirmedBy(a), "the woken node published")
	require.Equal(t, led.Leader, s.state().Leader)
	require.Len(t, slices.CompactFunc(s.Entries(), sameProducer), 2, "a message of the frozen leader came after one of the next")
	require.Less(t, v.repeated, events/2)

	// It is still of use.
	b.kill(t)
	s.c = s.c.via(a)
	eventually(t, time.Minute, "the woken node leads again", func() bool { return s.state().Leader.Node == a.id })
}

// TestStreamDatabaseOutage: PostgreSQL is killed in the middle of a backlog, and
// shut down later in the same one. The relay says so, keeps its connection to
// the broker, and goes on.
func TestStreamDatabaseOutage(t *testing.T) {
	t.Parallel()
	server := backingtest.PrivatePostgres(t, backing.PostgresOptions{})
	dsn, _, err := server.CreateDatabase(t.Context(), "bankfeed_test") // ends with its server
	require.NoError(t, err)
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.streams(newNode(t, "serve", database{url: dsn}, startBank(t)))
	n.start()
	s.c = newCompany(n)
	syncAll(s.c, "big-1000", "big-1050", "big-1100")
	for _, end := range []func() error{server.Kill, server.Shutdown} {
		s.flowing(600)
		require.NoError(t, end())
		eventually(t, time.Minute, "the node says that it is not ready", func() bool { return n.status("/readyz") == http.StatusServiceUnavailable })
		require.True(t, stays(2*time.Second, func() bool { return !n.ended() }))
		require.NoError(t, server.Start(t.Context()))
		eventually(t, time.Minute, "the node is ready again", func() bool { return n.status("/readyz") == http.StatusOK })
	}
	s.unfinished()
	s.settle("PostgreSQL killed and started, shut down and started", inOrder)
	s.accepted()
	eventually(t, time.Minute, "the stream says that all is well", func() bool { return len(s.state().Trouble) == 0 })
}
