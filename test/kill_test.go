//go:build unix

package test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// takeover is when somebody goes on with what a dead node had, at the latest:
// its leases end after 20 seconds.
const takeover = time.Minute

// TestKillDuringSync: kill -9 of serve in the middle of several syncs, more than
// once; nothing is lost, nothing comes twice.
func TestKillDuringSync(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, db database) {
		killDuringSync(t, killing{
			db: db, bank: smallPagesID, logins: []string{"big-5000", "big-1000", "big-1050"}, slow: 100 * time.Millisecond,
			kills: []int{1_000, 4_000}, types: lively,
		})
	})
}

// TestBulkKillDuringSync is the same in one listing of 100,000 entries, in pages
// of 500.
func TestBulkKillDuringSync(t *testing.T) {
	backingtest.Bulk(t)
	t.Parallel()
	onEngines(t, func(t *testing.T, db database) {
		killDuringSync(t, killing{
			db: db, bank: sandbox.ProviderID, logins: []string{"big"}, slow: 20 * time.Millisecond, kills: []int{10_000, 50_000, 88_000},
		})
	})
}

// killing says what is synchronized and when serve is killed.
type killing struct {
	db     database
	bank   string
	logins []string
	slow   time.Duration // each call of the bank, so that the node does not win the race against the kill
	kills  []int         // so many events in the log
	types  []string      // for a reader who watches; none: all
}

func killDuringSync(t *testing.T, k killing) {
	began := time.Now()
	bank := startBank(t)
	n := newNode(t, "serve", k.db, bank)
	n.start()
	c := newCompany(n)
	c.bank = k.bank
	r := c.follow(k.types...)
	var links []link
	for _, login := range k.logins {
		bank.slow(login, k.slow)
		links = append(links, c.link(login))
	}
	var told string
	for _, at := range k.kills {
		eventually(t, 2*time.Minute, fmt.Sprintf("%d events", at), func() bool { return c.logged() >= at })
		n.kill(t)
		died := time.Now()
		n.start()
		before, open := c.logged(), c.open(links)
		require.NotZero(t, open, "all was over before the kill")
		eventually(t, takeover, "the next life goes on", func() bool { return n.wrote() > 0 })
		told += fmt.Sprintf("; killed after %d events with %d sessions open, went on after %.1fs", before, open, time.Since(died).Seconds())
	}
	bank.quick(links)
	eventually(t, 2*time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	synced := time.Since(began)
	a, facts := settle(c, links, r)
	_, broken := r.read()
	t.Logf("%s: %d logins, %d transactions, %d events: %s%s; a reader got no answer %d times; synced after %.1fs, audited after %.1fs",
		k.db.name, len(links), total(links), len(facts), a, told, broken, synced.Seconds(), time.Since(began).Seconds())
	a.require(t)
	require.NotZero(t, broken, "the reader noticed nothing: was anything killed?")
}

// TestStopDuringSync: SIGTERM in the middle of a sync ends the process in good
// order and soon, and the next life goes on at once, without waiting for a
// lease.
func TestStopDuringSync(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, db database) {
		bank := startBank(t)
		const login = "big-1500"
		bank.slow(login, 200*time.Millisecond)
		n := newNode(t, "serve", db, bank)
		n.start()
		c := newCompany(n)
		r := c.follow(lively...)
		l := c.link(login)
		eventually(t, time.Minute, "it writes", func() bool { return n.wrote() > 300 })
		told := time.Now()
		n.signal(t, syscall.SIGTERM)
		code := n.exit(t, 30*time.Second)
		stopped := time.Since(told)
		require.Zero(t, code, n.lastWords())
		require.Less(t, stopped, 10*time.Second, "it waits for half of --stop-timeout at most")
		require.NotContains(t, n.output(t), `"level":"ERROR"`)
		n.start()
		ready := time.Now()
		eventually(t, 10*time.Second, "the next life goes on at once", func() bool { return n.wrote() > 0 })
		again := time.Since(ready)
		bank.quick([]link{l})
		eventually(t, time.Minute, "the session has ended", func() bool { return r.ended() == 1 })
		a, facts := settle(c, []link{l}, r)
		t.Logf("%s: %d transactions, %d events: %s; stopped within %.1fs, went on %.1fs after it was ready again",
			db.name, l.entries, len(facts), a, stopped.Seconds(), again.Seconds())
		a.require(t)
	})
}
