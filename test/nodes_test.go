//go:build unix

package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// pair prepares two nodes on one PostgreSQL, each with its name on its
// connections.
func pair(t *testing.T, bank *simulatedBank, args ...string) (a, b *node, dsn string) {
	t.Helper()
	dsn = backingtest.PostgresURL(t)
	var nodes []*node
	for _, name := range []string{"node-a", "node-b"} {
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		q := u.Query()
		q.Set("application_name", name)
		u.RawQuery = q.Encode()
		nodes = append(nodes, newNode(t, name, database{url: u.String()}, bank, args...))
	}
	return nodes[0], nodes[1], dsn
}

// TestTwoNodes: two nodes share the syncs of several users; one is killed in the
// middle, the other finishes everything.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	began := time.Now()
	bank := startBank(t)
	const slots = 3
	a, b, _ := pair(t, bank, fmt.Sprintf("--sessions-at-once=%d", slots))
	a.start()
	b.start()
	c := newCompany(b)
	readers := []*reader{c.follow(lively...), c.via(a).follow(lively...)} // one looks through the node that dies
	var links []link
	for i := range 2 * slots {
		login := fmt.Sprintf("big-%d", 2000+50*i)
		bank.slow(login, 250*time.Millisecond)
		links = append(links, c.via([]*node{a, b}[i%2]).link(login))
	}
	beforeA, beforeB := a.wrote(), b.wrote()
	eventually(t, time.Minute, "both nodes write", func() bool { return a.wrote() > beforeA+200 && b.wrote() > beforeB+200 })
	a.kill(t)
	died := time.Now()
	open := c.open(links)
	require.Greater(t, open, slots, "all was over before the kill")
	bank.quick(links)
	r := readers[0]
	eventually(t, 2*time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	finished := time.Since(died)
	dead := a.id
	a.start() // for its reader
	au, facts := settle(c, links, readers...)
	by := map[string]int{}
	for _, f := range facts {
		if f.Type == "transaction.created" {
			by[f.Data.Node]++
		}
	}
	t.Logf("%d logins, %d transactions, %d events: %s; %s was killed with %d sessions open: it had written %d transactions, %s wrote %d and finished everything %.1fs later; %.1fs in all",
		len(links), total(links), len(facts), au, a.name, open, by[dead], b.name, by[b.id], finished.Seconds(), time.Since(began).Seconds())
	au.require(t)
	require.Len(t, by, 2)
	require.NotZero(t, by[dead])
	require.Less(t, finished, takeover)
}

// TestFrozenNode: a node that stands still for longer than its leases, and then
// goes on, does not write what another has taken over. It holds nobody up
// meanwhile, not even when it stopped in the middle of a transaction; that used
// to keep the locks of its work and of the lane for as long as it stood.
func TestFrozenNode(t *testing.T) {
	t.Parallel()
	t.Run("between transactions", func(t *testing.T) {
		t.Parallel()
		frozenNode(t, false)
	})
	t.Run("inside a transaction", func(t *testing.T) {
		t.Parallel()
		frozenNode(t, true)
	})
}

func frozenNode(t *testing.T, inside bool) {
	began := time.Now()
	bank := startBank(t)
	a, b, dsn := pair(t, bank)
	a.start()
	c := newCompany(a)
	late := c.follow(lively...)
	var links []link
	for _, login := range []string{"big-2000", "big-2050", "big-2100"} { // 40 pages and more
		bank.slow(login, 300*time.Millisecond)
		links = append(links, c.link(login))
	}
	b.start() // now that everything is a's
	c = c.via(b)
	r := c.follow(lively...)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	freeze(t, a, conn, inside)
	stopped := time.Now()
	require.Equal(t, len(links), c.open(links), "some were over before the node was stopped")
	eventually(t, takeover, "the other node goes on with all of them", func() bool { return b.metric(`bankfeed_lease_running{kind="session"}`) == len(links) })
	seen := b.wrote()
	eventually(t, takeover, "the other node writes", func() bool { return b.wrote() > seen+100 })
	took := time.Since(stopped)

	// It must be stopped by the fence. Its heartbeat would soon tell it too, so
	// heartbeats wait; commits of pages do not.
	held, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), `LOCK TABLE work IN SHARE MODE`)
	require.NoError(t, err)
	a.signal(t, syscall.SIGCONT)
	eventually(t, takeover, "the woken node gives up what it had", func() bool {
		return a.status("/readyz") == http.StatusOK && a.metric(`bankfeed_lease_running{kind="session"}`) == 0
	})
	if fenced := a.metric(`bankfeed_lease_claims_total{kind="session",result="lost"}`); !inside {
		require.Equal(t, len(links), fenced) // inside of one, it is the server that ended the transaction
	}
	require.NoError(t, held.Rollback(t.Context()))
	require.Equal(t, len(links), c.open(links), "the other node was through before the frozen one woke up")
	bank.quick(links)
	eventually(t, time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	au, facts := settle(c, links, r, late)
	taken := map[string]int64{} // where the other node began with a user
	for _, f := range facts {
		at, over := taken[f.User]
		switch {
		case f.Data.Node == b.id && !over:
			taken[f.User] = f.Position
		case f.Data.Node == a.id && over:
			au.note(&au.disordered, 1, "%s by the frozen node at %d, which was taken over at %d", f.Type, f.Position, at)
		}
	}
	t.Logf("%d logins, %d transactions, %d events: %s; taken over after %.1fs; %.1fs in all",
		len(links), total(links), len(facts), au, took.Seconds(), time.Since(began).Seconds())
	au.require(t)
	require.Len(t, taken, len(links))
}

// freeze stops a node between its transactions, or inside of one: it tries until
// the server has seen it there.
func freeze(t *testing.T, n *node, conn *pgx.Conn, inside bool) {
	t.Helper()
	state := func() (busy, open int) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE state <> 'idle'), count(*) FILTER (WHERE state = 'idle in transaction')
			FROM pg_stat_activity WHERE application_name = $1 AND backend_type = 'client backend'`, n.name).Scan(&busy, &open))
		return busy, open
	}
	for try := range 1000 {
		n.signal(t, syscall.SIGSTOP)
		var busy, open int
		// What the server was doing for it comes to its end, or stays.
		for range 20 {
			if busy, open = state(); busy == open {
				break
			}
		}
		if busy == open && (open > 0) == inside {
			return
		}
		n.signal(t, syscall.SIGCONT)
		<-time.After(time.Duration(10+try%7) * time.Millisecond) // it works
	}
	t.Fatal("the node was never caught where it should be")
}
