//go:build unix

package test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/test/masstransit"
)

// TestStreamKilledBeforeConfirms: kill -9 while a window of messages is with the
// broker and no confirm has come back. They come again, under the same ids.
func TestStreamKilledBeforeConfirms(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.over()
	s.flowing(500)
	s.silence()
	told := 0
	eventually(t, time.Minute, "no confirm reaches the node", func() bool {
		told = confirmedBy(n)
		return stays(200*time.Millisecond, func() bool { return confirmedBy(n) == told })
	})
	s.allow(2 * stream.DefaultWindow)
	// That is a window, or less if a SessionFinished in it waits for the confirms of its transactions.
	eventually(t, time.Minute, "what goes without a confirm has reached the consumer", func() bool {
		there := s.Distinct()
		return there > told && stays(time.Second, func() bool { return s.Distinct() == there })
	})
	unconfirmed := s.Distinct() - confirmedBy(n)
	n.kill(t)
	s.unfinishedAfter(n)
	v := s.settle("killed between publish and confirm", inOrder)
	s.accepted()
	require.GreaterOrEqual(t, v.repeated, unconfirmed)
}

// unfinishedAfter starts a node that was ended in the middle.
func (s *streaming) unfinishedAfter(n *node) {
	s.t.Helper()
	s.change(func() { s.budget, s.mute = s.passed, false })
	n.start()
	s.unfinished()
}

// stays reports whether f holds for as long as d.
func stays(d time.Duration, f func() bool) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	look := time.NewTicker(d / 10)
	defer look.Stop()
	for {
		select {
		case <-over.C:
			return f()
		case <-look.C:
			if !f() {
				return false
			}
		}
	}
}

// TestStreamKilledBeforeCursor: kill -9 while the broker has confirmed everything
// and the cursor is not stored. What it is behind comes again.
func TestStreamKilledBeforeCursor(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.over()
	expected, _ := s.expected()
	s.flowing(500)
	s.confirmed(1)
	stored, release := holdCursor(t, n.dir)
	s.open()
	eventually(t, time.Minute, "everything is confirmed", func() bool { return confirmedBy(n) >= len(expected) })
	n.kill(t)
	release()
	s.unfinishedAfter(n)
	v := s.settle("killed between confirm and cursor", inOrder)
	s.accepted()
	t.Logf("%d messages were confirmed, the cursor stood at %d", len(expected), stored)
	require.Greater(t, v.repeated, len(expected)/2)
}

// holdCursor keeps a node from storing anything, as a slow disk would; stored is
// the cursor as it is.
func holdCursor(t *testing.T, dir string) (stored int64, release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", store.SQLiteDSN(filepath.Join(dir, "bankfeed.db"))) // its transactions lock at once
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var text string
	require.NoError(t, tx.QueryRowContext(t.Context(), `SELECT progress FROM streams`).Scan(&text))
	var p stream.Progress
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	return int64(p.Position), func() { require.NoError(t, tx.Rollback()) }
}

// TestStreamKilledAnywhere: kill -9 at arbitrary moments of a backlog, and SIGTERM
// at the end, which repeats what was not confirmed in time, if anything.
func TestStreamKilledAnywhere(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.over()
	const kills = 6
	for i := range kills {
		s.flowing(200 + 37*i)
		n.kill(t)
		s.unfinishedAfter(n)
	}
	s.confirmed(s.state().Confirmed + 1)
	s.drained(func() bool { return true })
	again := s.Received() - s.Distinct()
	s.open()
	n.signal(t, syscall.SIGTERM)
	require.Zero(t, n.exit(t, 30*time.Second), n.lastWords())
	n.start()
	v := s.settle(fmt.Sprintf("killed %d times", kills), inOrder)
	s.accepted()
	require.NotZero(t, v.repeated, "the kills hit nothing")
	t.Logf("%d of them before SIGTERM", again)
}

// TestBulkStreamKilled is the same over 100,000 transactions: once in the middle
// of their sync, then in the backlog that the stream has when it is over.
func TestBulkStreamKilled(t *testing.T) {
	backingtest.Bulk(t)
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{Forget: true})
	s.open()
	n := s.streams(newNode(t, "serve", database{dir: t.TempDir()}, startBank(t)))
	n.start()
	s.c = newCompany(n)
	s.c.bank = sandbox.ProviderID
	r := s.c.follow("sync.*")
	l := s.c.link("big")
	s.confirmed(5_000)
	n.kill(t)
	require.Zero(t, r.ended(), "all was over before the kill")
	s.unfinishedAfter(n)
	eventually(t, 2*time.Minute, "the session has ended", func() bool { return r.ended() == 1 })
	s.open()
	for _, at := range []int64{20_000, 40_000, 60_000, 80_000} {
		s.confirmed(at)
		n.kill(t)
		n.start()
	}
	v := s.settle("killed 5 times, 100,000 transactions", inOrder)
	s.accepted()
	require.Greater(t, v.events, l.entries)
	require.NotZero(t, v.repeated, "the kills hit nothing")
}
