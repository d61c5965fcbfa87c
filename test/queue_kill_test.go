//go:build unix

package test

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// poller reads a queue and audits what it gets.
type poller struct {
	c    *company
	path string // without parameters
	got  []int64
	last int // how many of got came with the last answer

	killed bool // serve, since that answer
	again  int  // answers that repeated the one before
	audit  audit
}

// poll asks once and returns how many events came.
func (p *poller) poll(params string) int {
	p.c.t.Helper()
	var batch []oxlin.Event
	p.c.must(http.MethodGet, p.path+params, nil, &batch)
	return p.take(batch)
}

// tear asks once and lets serve die at the moment when the events are there,
// whether or not the answer has ended. The next life begins with release, if
// something was held up.
func (p *poller) tear(params string, n *node, release func()) int {
	p.c.t.Helper()
	resp, err := p.c.ask(p.c.t.Context(), http.MethodGet, p.path+params, nil)
	require.NoError(p.c.t, err)
	defer resp.Body.Close()
	var batch []oxlin.Event
	if resp.StatusCode != http.StatusNoContent {
		require.Equal(p.c.t, http.StatusOK, resp.StatusCode)
		require.NoError(p.c.t, json.NewDecoder(resp.Body).Decode(&batch))
	}
	n.kill(p.c.t)
	if release != nil {
		release()
	}
	n.start()
	count := p.take(batch)
	p.killed = true
	return count
}

// take looks at a batch. Events may come a second time only if serve was killed
// right after the answer that they came with.
func (p *poller) take(batch []oxlin.Event) int {
	p.c.t.Helper()
	var ids []int64
	for _, e := range batch {
		id, err := strconv.ParseInt(e.ID, 10, 64)
		require.NoError(p.c.t, err)
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return 0
	}
	before := p.got[:len(p.got)-p.last]
	if p.killed && p.last > 0 && ids[0] == p.got[len(before)] {
		p.again++
		p.got = before
	}
	p.killed = false
	for i, id := range ids {
		if len(p.got) > 0 && id <= p.got[len(p.got)-1] {
			p.audit.note(&p.audit.repeated, 1, "%d after %d, number %d of an answer", id, p.got[len(p.got)-1], i+1)
		}
		p.got = append(p.got, id)
	}
	p.last = len(ids)
	return len(ids)
}

// drain polls until there is nothing more.
func (p *poller) drain() {
	p.c.t.Helper()
	for {
		if p.poll("&limit=7") == 0 {
			return
		}
	}
}

// holdQueues keeps every node from storing cursors of queues, as a slow disk
// would. release ends that; what a node that was killed meanwhile still wanted
// to store is dropped.
func holdQueues(t *testing.T, db database) (release func()) {
	t.Helper()
	ctx := t.Context()
	driver, dsn := "sqlite", store.SQLiteDSN(filepath.Join(db.dir, "bankfeed.db")) // its transactions lock at once
	if db.url != "" {
		driver, dsn = "pgx", db.url
	}
	conns, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conns.Close() })
	tx, err := conns.BeginTx(ctx, nil)
	require.NoError(t, err)
	if db.url != "" {
		_, err = tx.ExecContext(ctx, `LOCK TABLE queues IN SHARE ROW EXCLUSIVE MODE`)
		require.NoError(t, err)
	}
	return func() {
		t.Helper()
		if db.url != "" {
			eventually(t, time.Minute, "nobody waits for the lock", func() bool {
				var waiting int
				require.NoError(t, tx.QueryRowContext(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
				return waiting == 0
			})
		}
		require.NoError(t, tx.Rollback())
	}
}

// TestQueueSurvivesKill: a queue is there after kill -9, with all that was not
// read. serve is killed right after each second answer, once before it could
// store the cursor: then the answer comes again, and only that one.
func TestQueueSurvivesKill(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, db database) {
		began := time.Now()
		bank := startBank(t)
		n := newNode(t, "serve", db, bank)
		n.start()
		c := newCompany(n)
		c.bank = sandbox.ProviderID
		r := c.follow(lively...)
		user := c.newUser()
		subscribe := func() string {
			return "/v2.1" + c.located("/v2.1/queues/subscribe?user_id="+user, map[string][]string{"topics": {"connections"}}) + "?user_id=" + user
		}
		p := &poller{c: c, path: subscribe()}
		idle := &poller{c: c, path: subscribe()} // not polled before the end
		connection, _ := c.connect(user, "fine")
		synchronize := func() {
			c.must(http.MethodPost, "/v1/connections/"+connection+"/sessions", map[string]string{"user": user}, nil)
		}
		const syncs = 4
		for i := range syncs {
			eventually(t, time.Minute, "the session has ended", func() bool { return r.ended() == i+1 })
			if i < syncs-1 {
				synchronize()
			}
		}
		require.Equal(t, 2, p.tear("&limit=2", n, holdQueues(t, db)))
		require.Equal(t, 2, p.poll("&limit=2"))
		require.Equal(t, 1, p.again, "an answer whose cursor was not stored comes again")
		kills := 1
		for p.tear("&limit=2", n, nil) > 0 && p.poll("&limit=2") > 0 {
			kills++
		}
		require.Greater(t, kills, 5)

		// Killed while a poll waits for the next session.
		waiting := make(chan error, 1)
		go func() {
			_, err := c.do(t.Context(), http.MethodGet, p.path+"&wait=30", nil, nil)
			waiting <- err
		}()
		eventually(t, time.Minute, "a poll waits beside the reader", func() bool { return n.metric("bankfeed_http_requests_in_flight") == 3 }) // with this one
		n.kill(t)
		require.Error(t, <-waiting)
		n.start()
		synchronize()
		eventually(t, time.Minute, "the session has ended", func() bool { return r.ended() == syncs+1 })
		p.drain()
		idle.drain()

		var want []int64
		for _, f := range c.history() {
			if f.User == user && bankfeed.EventType(f.Type).Topic() == bankfeed.TopicConnections {
				want = append(want, f.Position)
			}
		}
		for _, q := range []*poller{p, idle} {
			q.audit.against(q.got, want)
			t.Logf("%s: a queue of %d events, %d kills after answers, one while a poll waited: %s; %d answers came again; %.1fs",
				db.name, len(want), kills, &q.audit, q.again, time.Since(began).Seconds())
			q.audit.require(t)
		}
		require.Zero(t, idle.again)
	})
}

// against compares what a queue gave with what it should.
func (a *audit) against(got, want []int64) {
	seen := map[int64]bool{}
	for _, id := range got {
		seen[id] = true
	}
	for _, id := range want {
		if !seen[id] {
			a.note(&a.lost, 1, "event %d", id)
		}
		delete(seen, id)
	}
	a.note(&a.repeated, len(seen), "%d events that are not of the queue", len(seen))
}
