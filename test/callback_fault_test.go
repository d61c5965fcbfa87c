//go:build unix

package test

import (
	"database/sql"
	"fmt"
	"hash/fnv"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/store"
)

// TestCallbackKilledAnywhere: kill -9 at arbitrary moments of a backlog, and
// SIGTERM at the end.
func TestCallbackKilledAnywhere(t *testing.T) {
	t.Parallel()
	r := newCallee(t)
	r.allow(0)
	n, c := overKept(t)
	s := r.subscribe(c, map[string]any{})
	const kills = 6
	for i := range kills {
		s.flowing(200 + 37*i)
		n.kill(t)
		n.start()
	}
	s.flowing(400)
	n.signal(t, syscall.SIGTERM)
	s.open()
	require.Zero(t, n.exit(t, 30*time.Second), n.lastWords())
	n.start()
	repeated := s.settle(fmt.Sprintf("killed %d times", kills), nil)
	require.NotZero(t, repeated, "the kills hit nothing")
}

// TestCallbackKilledBeforeItIsRecorded: kill -9 while the receiver has accepted
// what the node cannot write down. It comes again, under the same ids.
func TestCallbackKilledBeforeItIsRecorded(t *testing.T) {
	t.Parallel()
	r := newCallee(t)
	r.allow(0)
	n, c := overKept(t)
	s := r.subscribe(c, map[string]any{})
	s.flowing(300)
	db, err := sql.Open("sqlite", store.SQLiteDSN(filepath.Join(n.dir, "bankfeed.db"))) // its transactions lock at once
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	before := s.distinct()
	s.open()
	eventually(t, time.Minute, "much is accepted that is not recorded", func() bool { return s.distinct() >= before+100 })
	n.kill(t)
	require.NoError(t, tx.Rollback())
	n.start()
	require.GreaterOrEqual(t, s.settle("killed between answer and record", nil), 50)
}

// TestCallbackReceiverMisbehaves: one in five events meets a receiver that fails
// in one of many ways the first two times.
func TestCallbackReceiverMisbehaves(t *testing.T) {
	t.Parallel()
	r := newCallee(t)
	ways := []func(http.ResponseWriter){
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		func(w http.ResponseWriter) {
			w.Header().Set("Location", r.server.URL+"/elsewhere") // whoever follows finds a success there
			w.WriteHeader(http.StatusFound)
		},
		func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		func(w http.ResponseWriter) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
	}
	r.behave = func(w http.ResponseWriter, id string, nth int) bool {
		h := fnv.New32()
		_, _ = h.Write([]byte(id)) // never fails
		if sum := int(h.Sum32() % 1000); sum < 200 && nth <= 2 {
			ways[sum%len(ways)](w)
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	_, c := overKept(t)
	types := []string{"sync.*", "channel.*", "account.*", "consent.*", "bank.called"}
	s := r.subscribe(c, map[string]any{"types": types})
	wanted := &reader{types: types}
	repeated := s.settle("a receiver that misbehaves", wanted.wants)
	require.Zero(t, repeated, "what was accepted does not come again")
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := 0
	for _, got := range s.receipts {
		failed += got.came - got.accepted
	}
	require.Positive(t, failed)
}

// TestCallbackReceiverHangs: one receiver never answers; the other gets all of
// it meanwhile, and when the first one wakes, it does too.
func TestCallbackReceiverHangs(t *testing.T) {
	t.Parallel()
	stuck, quick := newCallee(t), newCallee(t)
	stuck.allow(0)
	_, c := overKept(t)
	types := []string{"sync.*", "channel.*", "account.*", "consent.*", "bank.called"}
	stuck.knowSecret(c)
	quick.hook = stuck.hook // a company has one secret for all its callbacks
	a := stuck.subscribe(c, map[string]any{"types": types})
	b := quick.subscribe(c, map[string]any{"types": types})
	b.settle("beside one that hangs", (&reader{types: types}).wants)
	require.Zero(t, a.distinct())
	a.open()
	a.c.must(http.MethodPost, "/v1/callbacks/"+a.id+"/pause", nil, nil)
	a.c.must(http.MethodPost, "/v1/callbacks/"+a.id+"/resume", nil, nil) // asks at once, instead of within minutes
	a.settle("one that hung", (&reader{types: types}).wants)
}

// TestCallbackReceiverDown: nobody listens for a while, in which the hub is
// killed too. Nobody has to do anything for the callbacks to come.
func TestCallbackReceiverDown(t *testing.T) {
	t.Parallel()
	r := newCallee(t)
	n, c := overKept(t)
	address, listen := deaf(t)
	r.knowSecret(c)
	types := []string{"sync.*", "consent.*"}
	var made struct {
		ID string `json:"id"`
	}
	c.must(http.MethodPost, "/v1/callbacks", map[string]any{"url": "http://" + address + "/callbacks", "after": "oldest", "types": types}, &made)
	s := &calling{r, c, made.ID}
	refused := func() bool {
		var v struct {
			Health struct {
				LastCause string `json:"last_cause"`
			} `json:"health"`
		}
		_, err := c.do(t.Context(), http.MethodGet, "/v1/callbacks/"+made.ID, nil, &v)
		return err == nil && v.Health.LastCause == "refused"
	}
	eventually(t, time.Minute, "the hub says why nothing arrives", refused)
	n.kill(t)
	n.start()
	eventually(t, time.Minute, "it still does", refused)
	listen(http.HandlerFunc(r.take))
	require.Zero(t, s.settle("nobody listened", (&reader{types: types}).wants))
}

// TestCallbackLeaderKilled: of two nodes the one that leads the subscription is
// killed, or stands still and wakes; the other goes on.
func TestCallbackLeaderKilled(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newCallee(t)
			r.allow(0)
			bank := startBank(t)
			a, b, _ := pair(t, bank)
			callbacks(a).start()
			c := newCompany(a)
			syncAll(c, "big-1000", "big-1050")
			s := r.subscribe(c, map[string]any{})
			s.flowing(300) // a leads: b is not there yet
			callbacks(b).start()
			a.signal(t, signal)
			s.c = c.via(b)
			s.open()
			began, before := time.Now(), s.distinct()
			eventually(t, time.Minute, "the other node sends", func() bool { return s.distinct() > before+100 })
			took := time.Since(began)
			if signal == syscall.SIGSTOP {
				a.signal(t, syscall.SIGCONT)
			}
			s.settle(fmt.Sprintf("leader %s, the other sent after %.1f s", name, took.Seconds()), nil)
		})
	}
}

// TestCallbackDatabaseOutage: PostgreSQL is killed in the middle of a backlog,
// and shut down later in the same one.
func TestCallbackDatabaseOutage(t *testing.T) {
	t.Parallel()
	server := backingtest.PrivatePostgres(t, backing.PostgresOptions{})
	dsn, _, err := server.CreateDatabase(t.Context(), "bankfeed_test") // ends with its server
	require.NoError(t, err)
	r := newCallee(t)
	r.allow(0)
	n := callbacks(newNode(t, "serve", database{url: dsn}, startBank(t)))
	n.start()
	c := newCompany(n)
	syncAll(c, "big-1000", "big-1050")
	s := r.subscribe(c, map[string]any{})
	for _, end := range []func() error{server.Kill, server.Shutdown} {
		s.flowing(300)
		require.NoError(t, end())
		eventually(t, time.Minute, "the node says that it is not ready", func() bool { return n.status("/readyz") == http.StatusServiceUnavailable })
		require.NoError(t, server.Start(t.Context()))
		eventually(t, time.Minute, "the node is ready again", func() bool { return n.status("/readyz") == http.StatusOK })
	}
	s.settle("PostgreSQL killed and started, shut down and started", nil)
}

// TestRequestCallbackKilled: kill -9 after the answer to a synchronization, once
// at once and once while the bank is being read. The callback comes, with its
// handle, after the node is back.
func TestRequestCallbackKilled(t *testing.T) {
	onEngines(t, func(t *testing.T, db database) {
		r := newCallee(t)
		bank := startBank(t)
		n := callbacks(newNode(t, "serve", db, bank))
		n.env = append(n.env, "BANKFEED_FINAPI_FRESH=0s")
		n.start()
		c := newCompany(n)
		r.knowSecret(c)
		user := c.person("big-1000")
		sync := func(handle string) {
			var answer struct {
				BankConnections []struct {
					BankStatus string `json:"bankStatus"`
				} `json:"bankConnections"`
			}
			user.must(http.MethodPost, "/api/v1/dataSources/bankConnections/synchronization",
				map[string]string{"callbackUrl": r.server.URL + "/sync", "callbackHandle": handle}, &answer)
			require.Len(t, answer.BankConnections, 1)
			require.Equal(t, "IN_PROGRESS", answer.BankConnections[0].BankStatus)
		}
		bank.slow("big-1000", 300*time.Millisecond)
		for i, wait := range []time.Duration{0, 400 * time.Millisecond, 700 * time.Millisecond} {
			handle := fmt.Sprintf("handle-%d", i)
			sync(handle)
			require.True(t, stays(wait+time.Millisecond*10, func() bool { return !n.ended() }))
			n.kill(t)
			n.start()
			eventually(t, time.Minute, "the callback of "+handle+" comes", func() bool { return r.handles()[handle] > 0 })
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		require.Empty(t, r.strange)
	})
}
