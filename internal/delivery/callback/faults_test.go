package callback_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// Whatever dies, and whenever: nothing is lost, each event has one id, and what
// was stored as delivered arrived.
func TestKilledAtAnyMoment(t *testing.T) {
	for seed := range uint64(8) {
		for name, s := range map[string]*callback.Settings{"plain": {}, "ordered": {Ordered: true}, "requests": nil} {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				inBubble(t, s, func(t *testing.T, w *world) { killAround(t, w, rand.New(rand.NewPCG(seed, 1))) })
			})
		}
	}
}

func killAround(t *testing.T, w *world, r *rand.Rand) {
	w.unwatched = true
	orders := w.target.Subscription == nil
	chance := rand.New(rand.NewPCG(r.Uint64(), 2)) // of the receiver
	w.answers(func(m callback.Message) (callback.Result, time.Duration) {
		took := time.Duration(chance.IntN(20)) * time.Millisecond
		switch chance.IntN(20) {
		case 0:
			return broken, took
		case 1:
			return timeout, 15 * time.Second
		case 2:
			return ok, 3 * time.Second
		case 3:
			return refused, 0
		}
		return ok, took
	})
	more := func() {
		for range r.IntN(40) {
			if orders {
				w.order(bankfeed.UserID(r.IntN(5)+1), false)
			} else {
				w.happen(1, bankfeed.ConnectionID(r.IntN(4)))
			}
		}
	}
	var l *life
	for range 40 {
		more()
		if l == nil || r.IntN(3) > 0 {
			old := l
			if l = w.lead(); old != nil { // taken over first, or dead first
				if r.IntN(2) == 0 {
					old.kill()
				} else {
					_ = old.stop()
				}
			}
		}
		w.mu.Lock()
		w.down = nil
		if r.IntN(6) == 0 {
			w.down = errDead
		}
		w.doubt = r.IntN(2) * r.IntN(2)
		w.mu.Unlock()
		pass(time.Duration(r.IntN(2500)) * time.Millisecond)
	}
	l.kill()
	w.mu.Lock()
	w.down, w.doubt = nil, 0
	w.mu.Unlock()
	w.answers(always(ok))
	if orders {
		w.mu.Lock()
		w.readyAt = time.Now()
		w.mu.Unlock()
		stop := w.serve(t)
		pass(8 * time.Hour)
		stop()
	} else {
		l = w.lead()
		pass(8 * time.Hour)
		stopped(t, l)
	}
	accepted, ids := map[bankfeed.Position]int{}, map[bankfeed.Position]bankfeed.UUID{}
	repeats := 0
	for _, a := range w.arrivals() {
		if id, seen := ids[a.Sequence]; seen {
			require.Equal(t, id, a.ID, "a repeat has the same id")
		}
		if ids[a.Sequence] = a.ID; a.ok {
			if accepted[a.Sequence]++; accepted[a.Sequence] > 1 {
				repeats++
			}
		}
	}
	for p := range bankfeed.Position(len(w.events)) {
		require.Positive(t, accepted[p+1], "event %d is lost; it is %+v", p+1, w.delivery(p+1))
	}
	require.Equal(t, map[callback.State]int{callback.Delivered: len(w.events)}, w.states())
	require.Less(t, repeats, len(w.events)/2, "of what was delivered, little comes again")
}

// Without a crash nothing is sent twice.
func TestNothingIsRepeatedWithoutACrash(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		r, chance := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 3))
		w.answers(func(callback.Message) (callback.Result, time.Duration) {
			took := time.Duration(chance.IntN(2000)) * time.Millisecond
			if chance.IntN(5) == 0 {
				return broken, took
			}
			return ok, took
		})
		l := w.lead()
		for range 30 {
			w.happen(r.IntN(30), 1)
			pass(time.Second)
			if r.IntN(5) == 0 {
				w.change(func(*callback.Target) {})
			}
		}
		pass(30 * time.Hour)
		seen := map[bankfeed.UUID]bool{}
		for _, a := range w.arrivals() {
			if a.ok {
				require.False(t, seen[a.ID])
				seen[a.ID] = true
			}
		}
		require.Equal(t, map[callback.State]int{callback.Delivered: len(w.events)}, w.states())
		stopped(t, l)
	})
}

// A node that was taken over ends, and writes nothing any more.
func TestFencedLeaderEnds(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		old := w.lead()
		w.happen(10, 1)
		pass(time.Second)
		l := w.lead()
		w.happen(10, 1)
		pass(time.Second)
		require.ErrorIs(t, <-old.ended, bankfeed.ErrFenced)
		old.cancel()
		require.Equal(t, map[callback.State]int{callback.Delivered: 20}, w.states())
		stopped(t, l)
	})
}

// A leader that is asked to stop waits for the answers that come soon: its
// successor repeats nothing.
func TestStopRepeatsNothing(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.answers(func(callback.Message) (callback.Result, time.Duration) { return ok, time.Second })
		w.happen(100, 1)
		for range 5 {
			l := w.lead()
			pass(1300 * time.Millisecond)
			stopped(t, l)
		}
		l := w.lead()
		pass(time.Minute)
		require.Len(t, w.arrivals(), 100)
		stopped(t, l)
	})
}

// Convoy answers 201 while its queue is down, and the event is never delivered.
// Here an event is in the log with its state, whoever is up.
func TestPeers1NothingAcknowledgedIsLost(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.happen(50, 1) // no node delivers
		l := w.lead()
		pass(5 * time.Second)
		w.mu.Lock()
		w.down = errDead
		w.mu.Unlock()
		w.happen(50, 1) // the node cannot read
		pass(2 * time.Minute)
		w.mu.Lock()
		w.down = nil
		w.mu.Unlock()
		pass(10 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 100}, w.states())
		stopped(t, l)
	})
}

// Convoy strands a delivery whose worker dies during a retry.
func TestPeers2AWorkerDiesDuringARetry(t *testing.T) {
	for name, s := range map[string]*callback.Settings{"subscription": {}, "request": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, s, func(t *testing.T, w *world) {
				w.answers(func(m callback.Message) (callback.Result, time.Duration) {
					if m.Attempt == 1 {
						return broken, time.Millisecond
					}
					return ok, 10 * time.Second
				})
				if s == nil {
					w.order(1, false)
					pass(time.Second)
				} else {
					w.happen(1, 1)
				}
				l := w.lead()
				pass(6 * time.Second)
				if s == nil { // it was given back meanwhile
					l = w.lead()
				}
				pass(2 * time.Second)
				require.Len(t, w.arrivals(), 2, "the retry is under way")
				l.kill()
				w.answers(always(ok))
				l = w.lead()
				pass(time.Second)
				require.Equal(t, callback.Delivered, w.delivery(1).State)
				_ = l.stop()
			})
		})
	}
}

// Outpost ends a retry chain when its log store is down for a minute.
func TestPeers3AnOutageOfTheStoreEndsNoRetryChain(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(unavailable))
		w.happen(1, 1)
		pass(2 * time.Second)
		w.mu.Lock()
		w.down = errDead
		w.mu.Unlock()
		w.answers(always(ok))
		pass(3 * time.Hour)
		w.mu.Lock()
		w.down = nil
		w.mu.Unlock()
		pass(5 * time.Second)
		require.Equal(t, callback.Delivered, w.delivery(1).State)
		stopped(t, l)
	})
}

// Outpost makes the first retry of a schedule of 1, 2, 3 s after 31 s.
func TestPeers4RetriesComeWhenTheyAreDue(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead(func(c *callback.Config) {
			c.Schedule = []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}
		})
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Attempt < 4 {
				return broken, 0
			}
			return ok, 0
		})
		w.happen(1, 1)
		pass(10 * time.Second)
		got := w.arrivals()
		require.Len(t, got, 4)
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			require.InDelta(t, want, got[i+1].at.Sub(got[i].at), float64(150*time.Millisecond))
		}
		stopped(t, l)
	})
}

// Outpost drops what happens while a destination is disabled.
func TestPeers5NothingVanishesWhileDisabled(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.change(func(t *callback.Target) { t.Status = callback.Disabled })
		pass(2 * time.Second)
		w.happen(300, 1)
		pass(5 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Skipped: 300}, w.states())
		require.Equal(t, callback.ReasonDisabled, w.delivery(300).Reason)
		w.change(func(t *callback.Target) { t.Status = callback.Active })
		w.happen(1, 1)
		pass(5 * time.Second)
		require.Equal(t, callback.Delivered, w.delivery(301).State, "what comes after it was enabled is not skipped")
		w.redrive()
		pass(5 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 301}, w.states())
		stopped(t, l)
	})
}

// Outpost and Convoy follow a redirect and record the page behind it as success.
// The Sender's test shows that none is followed; here, that it is a failure.
func TestPeers6ARedirectIsAFailure(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(callback.Result{Cause: callback.CauseRedirect, Status: 302}))
		w.happen(1, 1)
		pass(2 * time.Second)
		d := w.delivery(1)
		require.Equal(t, callback.Waiting, d.State)
		require.Equal(t, callback.CauseRedirect, w.attempts[d.ID][0].Cause)
		stopped(t, l)
	})
}

// Convoy takes seconds from event to receiver, even idle.
func TestPeers7NoPollIsInTheWay(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		for range 500 {
			pass(10 * time.Millisecond)
			w.happen(1, 1)
		}
		pass(time.Second)
		for _, a := range w.arrivals() {
			require.Less(t, a.at.Sub(w.events[a.Sequence-1].At), time.Millisecond)
		}
		stopped(t, l)
	})
}

// The line of a failed attempt says all but what is secret or the user's.
func TestFailuresAreLoggedOnceAndWithoutSecrets(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		var log bytes.Buffer
		var seen []callback.Observation
		l := w.lead(func(c *callback.Config) {
			c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
			c.Observe = func(o callback.Observation) { seen = append(seen, o) }
		})
		w.answers(always(broken))
		w.happen(1, 1)
		pass(2 * time.Second)
		stopped(t, l)
		synctest.Wait()
		text := log.String()
		require.Equal(t, 1, bytes.Count(log.Bytes(), []byte(`"callback failed"`)))
		for _, want := range []string{`"cause":"status"`, `"status":500`, `"attempt":1`, `"decision":"waiting"`, `"next":`, `"tenant":1`, `"target":7`,
			`"event":"` + bankfeed.EventID(epoch, 1, 0, 1).String(), `"type":"transaction.created"`} {
			require.Contains(t, text, want)
		}
		require.NotContains(t, text, "token")
		require.NotContains(t, text, "name of the user")
		require.Len(t, seen, 1)
		require.Equal(t, callback.Waiting, seen[0].State)
	})
}

// A body that cannot be written harms neither the others nor the receiver's
// reputation, and is not given up.
func TestUnreadableEventWaits(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.unwatched = true
		l := w.lead(func(c *callback.Config) {
			c.Render = func(e *bankfeed.Event, _ *callback.Target) ([]byte, error) {
				switch e.Position {
				case 1:
					return nil, fmt.Errorf("no face")
				case 2:
					panic("a fault")
				}
				return []byte("{}"), nil
			}
		})
		w.happen(10, 1)
		pass(200 * time.Hour)
		require.Equal(t, map[callback.State]int{callback.Delivered: 8, callback.Waiting: 2}, w.states())
		require.Zero(t, w.health().Failures)
		require.Len(t, w.arrivals(), 8)
		stopped(t, l)
	})
}
