package process_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// pauses are the times between the questions about a process with one data
// source, the first counted from the start.
func pauses(w *world, began time.Time) (list []time.Duration) {
	for _, at := range w.server.times(statusCall) {
		list = append(list, at.Sub(began))
		began = at
	}
	return list
}

func TestPollingWithoutCallback(t *testing.T) {
	each(t, nil, func(w *world) { // a callback was asked for and never comes
		w.server.sources, w.server.syncFor = w.server.sources[:1], 12*time.Minute
		began := time.Now()
		p := w.ends(w.start("reports").ID, time.Hour)
		require.Equal(w, process.Done, p.Status)
		list := pauses(w, began)
		require.GreaterOrEqual(w, list[0], 15*time.Second)
		require.LessOrEqual(w, list[0], 17*time.Second)
		quick, slow := 0, 0
		for _, d := range list[1:] {
			if d < 30*time.Second {
				quick++
				require.GreaterOrEqual(w, d, time.Second)
				require.LessOrEqual(w, d, 1200*time.Millisecond)
			} else {
				slow++
				require.GreaterOrEqual(w, d, time.Minute)
				require.LessOrEqual(w, d, 67*time.Second)
			}
		}
		require.InDelta(w, 285/1.05, quick, 15, "one a second up to 5 minutes")
		require.InDelta(w, 7/1.05, slow, 2, "then one a minute")
		require.Equal(w, 1, w.server.count(syncCall))
	})
	each(t, func(o *process.Options) { o.CallbackURL, o.Poll.Every = "", 200*time.Millisecond }, func(w *world) {
		w.server.sources, w.server.syncFor = w.server.sources[:1], 10*time.Second
		began := time.Now()
		require.Equal(w, process.Done, w.ends(w.start("reports").ID, time.Minute).Status)
		require.NotContains(w, w.server.calls[0].body, "callbackUrl")
		for _, d := range pauses(w, began) {
			require.GreaterOrEqual(w, d, 200*time.Millisecond)
			require.LessOrEqual(w, d, 250*time.Millisecond)
		}
	})
	each(t, func(o *process.Options) { o.Poll.GiveUp = 2 * time.Minute }, func(w *world) {
		w.server.syncFor = 24 * time.Hour
		p := w.ends(w.start("reports").ID, time.Hour)
		require.Equal(w, process.SyncFailed, p.Status)
		require.Equal(w, process.CodeTimeout, p.Reason.Code)
	})
}

func TestNewRefuses(t *testing.T) {
	for field, change := range map[string]func(*process.Options){
		"Poll.Every":     func(o *process.Options) { o.Poll.Every = 199 * time.Millisecond },
		"Poll.Slow":      func(o *process.Options) { o.Poll.Slow = time.Millisecond },
		"Poll.SlowAfter": func(o *process.Options) { o.Poll.SlowAfter = time.Hour },
		"Sealer":         func(o *process.Options) { o.Sealer = nil },
		"CallbackURL":    func(o *process.Options) { o.CallbackURL = "app.example/callbacks" },
		"Scenarios":      func(o *process.Options) { o.Scenarios = nil },
	} {
		store, err := processsql.Open(t.Context(), filepath.Join(t.TempDir(), "p.db"))
		require.NoError(t, err)
		t.Cleanup(func() { store.Close() })
		o := options(t, newServer(), store)
		change(&o)
		_, err = process.New(o)
		var e *bankfeed.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, field, e.Field)
	}
}

func TestStartRefuses(t *testing.T) {
	each(t, nil, func(w *world) {
		for field, o := range map[string]process.Order{
			"Scenario": {Scenario: "unknown", Token: "token-1"},
			"Token":    {Scenario: "reports"},
			"ID":       {ID: "7", Scenario: "reports", Token: "token-1"},
			"amount":   {Scenario: "checks", Token: "token-1", Params: map[string]string{"amount": "1e9"}},
			"currency": {Scenario: "checks", Token: "token-1", Params: map[string]string{"amount": "1", "currency": "eur"}},
		} {
			_, err := w.svc.Start(w.Context(), o)
			var e *bankfeed.Error
			require.ErrorAs(w, err, &e, field)
			require.Equal(w, field, e.Field)
		}
		require.Empty(w, w.server.calls)
	})
}

func TestStartIsRepeatable(t *testing.T) {
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		order := process.Order{ID: "6b1f0b6a-77a5-4c1e-9d5a-0a4c8a7f3b11", Scenario: "reports", Token: "token-1"}
		for range 3 {
			p, err := w.svc.Start(w.Context(), order)
			require.NoError(w, err)
			require.Equal(w, order.ID, p.ID)
		}
		require.Equal(w, process.Done, w.ends(order.ID, time.Minute).Status)
		require.Equal(w, 1, w.server.count(syncCall))
	})
}

// breaking is a store, and a server, of a program that is killed at its n-th
// commit or call: before it took effect, or right after.
type breaking struct {
	process.Store
	left  atomic.Int64
	after bool
	kill  context.CancelFunc
}

var errKilled = errors.New("the program is dead")

// point is a place to die. dead says that this is it, or was before.
func (b *breaking) point() (now, dead bool) {
	left := b.left.Add(-1)
	return left == 0, left < 0
}

func (b *breaking) Save(ctx context.Context, r process.Record, tell bool) (process.Record, error) {
	return b.commit(func() (process.Record, error) { return b.Store.Save(ctx, r, tell) })
}

func (b *breaking) Create(ctx context.Context, r process.Record) (process.Record, error) {
	return b.commit(func() (process.Record, error) { return b.Store.Create(ctx, r) })
}

func (b *breaking) commit(do func() (process.Record, error)) (process.Record, error) {
	now, dead := b.point()
	if dead {
		return process.Record{}, errKilled
	}
	if now {
		if b.after {
			_, _ = do()
		}
		b.kill()
		return process.Record{}, errKilled
	}
	return do()
}

// TestKilledAnywhere kills the program at every commit and at every call,
// before and after it took effect. Another one goes on.
func TestKilledAnywhere(t *testing.T) {
	step := int64(1)
	if backingtest.RaceEnabled {
		step = 2 // each point is met by one of the two engines
	}
	for i, engine := range []string{"sqlite", "postgres"} {
		for _, after := range []bool{false, true} {
			var lost, repeatedSyncs, repeatedCases, points int
			for n := 1 + int64(i)%step; ; n += step {
				finished := false
				address := relaxed(t, engine)
				synctest.Test(t, func(t *testing.T) {
					store := openStore(t, address)
					defer store.Close()
					_, from, err := store.Bounds(t.Context())
					require.NoError(t, err)
					w := &world{T: t, server: newServer(), store: store}
					ctx, kill := context.WithCancel(context.Background())
					defer kill()
					b := &breaking{Store: store, after: after, kill: kill}
					b.left.Store(n)
					at := func(effect bool) func(callOf) *resp {
						return func(callOf) *resp {
							if effect != after {
								return nil
							}
							now, dead := b.point()
							if now {
								b.kill()
							}
							if now || dead {
								return drop
							}
							return nil
						}
					}
					w.server.before, w.server.after = at(false), at(true)

					o := options(t, w.server, b)
					first, err := process.New(o)
					require.NoError(t, err)
					dead := make(chan struct{})
					go func() { defer close(dead); _ = first.Run(ctx) }()
					w.svc = first
					w.callsBack("reports")
					p, err := first.Start(ctx, process.Order{Scenario: "reports", Token: "token-1"})
					if err != nil {
						list, err := store.Changes(t.Context(), from, 1)
						require.NoError(t, err)
						if len(list) == 0 { // it died before there was anything: the caller knows
							<-dead
							return
						}
						p = list[0].Process
					}
					select {
					case <-dead:
					case <-time.After(time.Minute):
						kill()
						<-dead
						finished = true
					}
					w.server.set(func() { w.server.before, w.server.after = nil, nil })
					w.run(nil) // the next program
					p = w.ends(p.ID, 10*time.Minute)
					w.stop()
					if p.Status != process.Done {
						lost++
						t.Errorf("killed at point %d (after: %v): %s %+v", n, after, p.Status, p.Reason)
					}
					repeatedSyncs += w.server.count(syncCall) - 1
					repeatedCases += w.server.ncases - 1
					require.Len(t, w.server.reports, 2)
					time.Sleep(time.Minute) //nolint:forbidigo // fake time: callbacks on their way
				})
				if finished {
					points = int(n) - 1
					break
				}
			}
			t.Logf("%s, after=%v: %d points, lost %d, synchronizations asked for again %d, cases too many %d", engine, after, points, lost, repeatedSyncs, repeatedCases)
			require.Zero(t, lost)
			require.Zero(t, repeatedCases)
			require.Greater(t, points, 10)
		}
	}
}

// TestManyTwoPrograms runs 200 processes in two programs on one database, with
// callbacks that are lost, doubled, reordered and early.
func TestManyTwoPrograms(t *testing.T) {
	address := relaxed(t, "postgres")
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, address)
		defer store.Close()
		w := &world{T: t, server: newServer(), store: store}
		w.run(nil)
		one, stopOne := w.svc, w.stop
		w.run(nil)
		two, stopTwo := w.svc, w.stop
		random := rand.New(rand.NewPCG(1, 2))
		w.server.callback = func(handle string) {
			w.server.mu.Lock()
			times, wait := random.IntN(4), time.Duration(random.IntN(8000))*time.Millisecond
			w.server.mu.Unlock()
			for range times {
				pass(wait)
				w.deliver("checks", handle, "SUCCESSFUL")
			}
		}
		var ids []string
		for i := range 200 {
			w.svc = []*process.Service{one, two}[i%2]
			ids = append(ids, w.start("checks").ID)
		}
		for _, id := range ids {
			require.Equal(t, process.Done, w.ends(id, 5*time.Minute).Status)
		}
		require.Equal(t, 200, w.server.checks, "each check once: none lost, none repeated")
		require.Equal(t, 200, w.server.count(syncCall))
		pass(time.Minute)
		stopOne()
		stopTwo()
	})
}

// outage is a store that is sometimes not there.
type outage struct {
	process.Store
	down atomic.Bool
}

var errDown = errors.New("connection refused")

func (o *outage) Save(ctx context.Context, r process.Record, tell bool) (process.Record, error) {
	if o.down.Load() {
		return r, errDown
	}
	return o.Store.Save(ctx, r, tell)
}

func (o *outage) Get(ctx context.Context, id string) (process.Record, error) {
	if o.down.Load() {
		return process.Record{}, errDown
	}
	return o.Store.Get(ctx, id)
}

func (o *outage) Claim(ctx context.Context, now, until time.Time, limit int) ([]process.Record, time.Time, error) {
	if o.down.Load() {
		return nil, time.Time{}, errDown
	}
	return o.Store.Claim(ctx, now, until, limit)
}

func TestStoreIsDown(t *testing.T) {
	var store *outage
	change := func(o *process.Options) {
		store = &outage{Store: o.Store}
		o.Store = store
	}
	each(t, change, func(w *world) {
		p := w.start("reports")
		pass(3 * time.Second)
		store.down.Store(true)
		require.Equal(w, 500, w.deliver("reports", p.ID, "SUCCESSFUL"), "2xx only after the commit")
		pass(time.Minute)
		store.down.Store(false)
		require.Equal(w, 204, w.deliver("reports", p.ID, "SUCCESSFUL"))
		require.Equal(w, process.Done, w.ends(p.ID, 2*time.Minute).Status)
	})
	each(t, change, func(w *world) { // while a scenario goes on
		w.callsBack("reports")
		w.server.before = func(c callOf) *resp {
			store.down.Store(kind(c.method, c.path) == caseCall && c.n == 1)
			return nil
		}
		p := w.start("reports")
		pass(time.Minute)
		store.down.Store(false)
		require.Equal(w, process.Done, w.ends(p.ID, 3*time.Minute).Status)
		require.Equal(w, 1, w.server.ncases, "asked for twice under the same Idempotency-Key")
	})
}

func TestScenarioOfTheApplication(t *testing.T) {
	tries := 0
	change := func(o *process.Options) {
		o.Scenarios["own"] = process.Scenario{Path: "/own", Continue: func(ctx context.Context, r *process.Run) error {
			if r.Param("amount") == "666" {
				panic("no")
			}
			tries++
			var n int
			err := r.Step(ctx, "count", &n, func(context.Context, *client.DataIntelligence, bankfeed.Secret) (any, error) { return tries, nil })
			switch {
			case err != nil:
				return err
			case tries == 1:
				return process.ErrLater
			case tries == 2:
				return fmt.Errorf("the application's own service is down")
			case n != 1:
				return process.Fail("REPEATED", "a step was repeated")
			}
			return process.Fail("REFUSED", "the amount %s is too high", r.Param("amount"))
		}}
	}
	each(t, change, func(w *world) {
		tries = 0
		w.callsBack("own")
		p := w.ends(w.start("own").ID, time.Minute)
		require.Equal(w, process.Failed, p.Status)
		require.Equal(w, &process.Reason{Code: "REFUSED", Message: "the amount 250.00 is too high"}, p.Reason)
		require.Equal(w, 3, tries)

		p, err := w.svc.Start(w.Context(), process.Order{Scenario: "own", Token: "token-1", Params: map[string]string{"amount": "666"}})
		require.NoError(w, err)
		p = w.ends(p.ID, time.Minute)
		require.Equal(w, process.CodeScenario, p.Reason.Code)
		require.NotContains(w, fmt.Sprintf("%+v", p), "goroutine")
	})
}

// TestScenarioThatHangs is called again; meanwhile nobody else is kept waiting.
func TestScenarioThatHangs(t *testing.T) {
	var calls atomic.Int64
	change := func(o *process.Options) {
		calls.Store(0)
		o.Workers = 3
		o.Scenarios["hangs"] = process.Scenario{Path: "/hangs", Continue: func(ctx context.Context, _ *process.Run) error {
			if calls.Add(1) <= 2 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
	}
	each(t, change, func(w *world) {
		w.callsBack("hangs")
		p := w.start("hangs")
		pass(10 * time.Second)
		w.callsBack("checks")
		require.Equal(w, process.Done, w.ends(w.start("checks").ID, 30*time.Second).Status)
		require.Equal(w, process.Done, w.ends(p.ID, 15*time.Minute).Status)
		require.Equal(w, int64(3), calls.Load())
		pass(10 * time.Minute) // until the hanging calls are over
		require.Equal(w, process.Done, get(w, p.ID).Status)
	})
}

// away is a key management service that does not answer for some time.
type away struct {
	process.Sealer
	until time.Time
}

func (a *away) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	if time.Now().Before(a.until) {
		return nil, errors.New("the key management service does not answer")
	}
	return a.Sealer.Decrypt(ciphertext, associatedData)
}

// TestSealerIsAway: what opens tokens may be away for a while, at any moment of a
// process. That ends none, unless it lasts.
func TestSealerIsAway(t *testing.T) {
	var sealer *away
	change := func(o *process.Options) {
		sealer = &away{Sealer: o.Sealer}
		o.Sealer, o.ContinueWithin, o.Poll.GiveUp = sealer, time.Hour, time.Hour
	}
	for call, status := range map[string]process.Status{syncCall: process.SyncFailed, caseCall: process.Failed} {
		for _, away := range []time.Duration{20 * time.Minute, 2 * time.Hour} {
			each(t, change, func(w *world) {
				w.callsBack("reports")
				w.server.before = func(c callOf) *resp {
					if kind(c.method, c.path) == call && c.n == 1 {
						sealer.until = time.Now().Add(away)
						if call == caseCall {
							return says(503, "") // so that it is put down
						}
					}
					return nil
				}
				p := w.ends(w.start("reports").ID, 3*time.Hour)
				if away < time.Hour {
					require.Equal(w, process.Done, p.Status, "%s: %+v", call, p.Reason)
					return
				}
				require.Equal(w, status, p.Status, call)
				require.Equal(w, process.CodeTokenLost, p.Reason.Code)
			})
		}
	}
}

func TestTokenIsSealed(t *testing.T) {
	each(t, nil, func(w *world) {
		w.server.syncFor = time.Hour
		p := w.start("reports")
		r, err := w.store.Get(w.Context(), p.ID)
		require.NoError(w, err)
		require.NotEmpty(w, r.Token)
		require.NotContains(w, string(r.Token), "token-1")
		sealer, err := process.NewSealer(make([]byte, 32), key)
		require.NoError(w, err)
		text, err := sealer.Decrypt(r.Token, []byte(p.ID))
		require.NoError(w, err, "after a change of keys")
		require.Equal(w, "token-1", string(text))
		_, err = sealer.Decrypt(r.Token, []byte("another process"))
		require.Error(w, err)

		w.stop()
		w.run(func(o *process.Options) { o.Sealer, err = process.NewSealer(make([]byte, 32)) })
		require.NoError(w, err)
		p = w.ends(p.ID, time.Minute)
		require.Equal(w, process.SyncFailed, p.Status)
		require.Equal(w, process.CodeTokenLost, p.Reason.Code)
	})
}
