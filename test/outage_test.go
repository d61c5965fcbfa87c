//go:build unix

package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// TestDatabaseOutage: PostgreSQL is killed in the middle of syncs, and shut down
// later in the same ones. serve says that it is not ready, and goes on by itself
// when the database is back.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	server := backingtest.PrivatePostgres(t, backing.PostgresOptions{})
	dsn, _, err := server.CreateDatabase(t.Context(), "bankfeed_test") // ends with its server
	require.NoError(t, err)
	bank := startBank(t)
	n := newNode(t, "serve", database{url: dsn}, bank)
	n.start()
	c := newCompany(n)
	r := c.follow(lively...)
	var links []link
	for _, login := range []string{"big-2000", "big-2050", "big-2100"} {
		bank.slow(login, 250*time.Millisecond)
		links = append(links, c.link(login))
	}
	var told string
	for i, end := range []func() error{server.Kill, server.Shutdown} {
		enough := (i + 1) * total(links) / 4
		eventually(t, 2*time.Minute, "some of it is there", func() bool { return n.wrote() > enough })
		require.NoError(t, end())
		down := time.Now()
		eventually(t, time.Minute, "the node says that it is not ready", func() bool { return n.status("/readyz") == http.StatusServiceUnavailable })
		require.Equal(t, http.StatusOK, n.status("/healthz"), "it lives: restarting it would not help")
		eventually(t, time.Minute, "each session has met the outage", func() bool {
			_, metrics := n.page("/metrics")
			return strings.Contains(metrics, `bankfeed_lease_running{kind="session"} 0`)
		})
		require.NoError(t, server.Start(t.Context()))
		eventually(t, time.Minute, "the node is ready again", func() bool { return n.status("/readyz") == http.StatusOK })
		require.Equal(t, len(links), c.open(links), "some were over before the outage")
		wrote := n.wrote()
		eventually(t, takeover, "the sessions go on", func() bool { return n.wrote() > wrote })
		told += fmt.Sprintf("; gone after %d events, sessions went on after %.1fs", wrote, time.Since(down).Seconds())
	}
	bank.quick(links)
	eventually(t, 2*time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	require.False(t, n.process.ended(), "serve ended")
	a, facts := settle(c, links, r)
	t.Logf("%d logins, %d transactions, %d events: %s%s", len(links), total(links), len(facts), a, told)
	a.require(t)
}

// TestBankOutage: the bank is killed in the middle of syncs. Each session ends
// all the same and says what it could not read; when the bank is back, the next
// one completes the data.
func TestBankOutage(t *testing.T) {
	t.Parallel()
	bank := startBank(t)
	n := newNode(t, "serve", database{dir: t.TempDir()}, bank)
	n.start()
	c := newCompany(n)
	r := c.follow(lively...)
	var links []link
	// The last one is not beyond its account list when the others are in the middle.
	for _, l := range []struct {
		login string
		slow  time.Duration
	}{{"big-2000", 300 * time.Millisecond}, {"big-2050", 400 * time.Millisecond}, {"big-1000", time.Second}} {
		bank.slow(l.login, l.slow)
		links = append(links, c.link(l.login))
	}
	bank.kill(t)
	eventually(t, time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	before := n.wrote()
	var states []string
	for _, l := range links {
		states = append(states, c.state(l))
	}
	require.Equal(t, "FAILED EMBEDDED:UNAVAILABLE", states[len(states)-1])
	bank.start()
	bank.quick(links)
	for _, l := range links {
		c.must(http.MethodPost, "/v1/connections/"+l.connection+"/sessions", map[string]string{"user": l.user}, nil)
	}
	eventually(t, time.Minute, "the next sessions have ended", func() bool { return r.ended() == 2*len(links) })
	facts := c.history()
	a := &audit{}
	a.lane(facts)
	a.sessions(facts)
	for _, l := range links {
		a.transactions(c, l, facts)
		require.Equal(t, "SUCCESS EMBEDDED:SUCCESS", c.state(l))
	}
	t.Logf("%d logins, %d transactions, %d events: %s; the bank was gone after %d events, and the connections were %s",
		len(links), total(links), len(facts), a, before, strings.Join(states, ", "))
	a.require(t)
}
