package callback_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// Down for far longer than the schedule: one probe at a time, nothing is given
// up, nothing waits in memory, and the first success lets everything go.
func TestOutageHoldsEverythingAndEndsByItself(t *testing.T) {
	for name, answer := range map[string]callback.Result{"refused": refused, "503": unavailable, "timeout": timeout, "dns": {Cause: callback.CauseDNS}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
				w.unwatched = true
				l := w.lead(func(c *callback.Config) { c.Jitter = 0 })
				w.answers(func(callback.Message) (callback.Result, time.Duration) {
					if answer.Cause == callback.CauseTimeout {
						return answer, 15 * time.Second
					}
					return answer, time.Millisecond
				})
				w.happen(5000, 1)
				pass(10 * time.Minute)
				h := w.health()
				require.False(t, h.OutageSince.IsZero())
				require.Less(t, len(w.arrivals()), 120, "soon it is not hammered any more")

				pass(120 * time.Hour)
				probes := w.arrivals()
				require.InDelta(t, 120, len(probes), 5)
				p := pauses(probes)
				require.InDelta(t, time.Hour, p[len(p)-1], float64(20*time.Second))
				require.Equal(t, 1, mostAtOnce(probes), "one at a time")
				require.Zero(t, w.states()[callback.GivenUp])
				require.Less(t, w.states()[callback.Waiting], 1000, "the others wait in the log")

				w.answers(always(ok))
				w.happen(10, 1)
				pass(time.Hour + time.Minute)
				require.Equal(t, map[callback.State]int{callback.Delivered: 5010}, w.states())
				require.Zero(t, w.health().OutageSince)
				stopped(t, l)
			})
		})
	}
}

// mostAtOnce counts messages that came in the same minute.
func mostAtOnce(list []arrival) (most int) {
	n := map[time.Time]int{}
	for _, a := range list {
		n[a.at.Truncate(time.Minute)]++
		most = max(most, n[a.at.Truncate(time.Minute)])
	}
	return most
}

// Probes come after 5, 10, 20, 40 minutes and then every hour, whatever they are.
func TestProbesBecomeRarer(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t, func(c *callback.Config) { c.Jitter = 0 })()
		w.answers(always(refused))
		w.order(1, false)
		pass(6 * time.Hour)
		minutes := []float64{}
		for _, p := range pauses(w.arrivals()) {
			minutes = append(minutes, p.Minutes())
		}
		require.Equal(t, []float64{5. / 60, 5, 5, 10, 20, 40, 60, 60, 60, 60}, minutes)
		require.Zero(t, w.fence, "nobody holds it between probes")
		require.Equal(t, 2, w.delivery(1).Step, "a probe uses nothing up")
	})
}

// A target with a single delivery that always fails is not known to accept
// anything: it is never given up.
func TestASingleDeliveryIsNeverGivenUp(t *testing.T) {
	for name, answer := range map[string]callback.Result{"refused": refused, "500": broken, "302": {Cause: callback.CauseRedirect, Status: 302}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				defer w.serve(t)()
				w.answers(always(answer))
				w.order(1, false)
				pass(400 * time.Hour)
				d := w.delivery(1)
				require.Equal(t, callback.Waiting, d.State)
				require.Greater(t, d.Attempts, 200)
				require.False(t, w.health().OutageSince.IsZero())

				w.answers(always(ok))
				pass(2 * time.Hour)
				require.Equal(t, callback.Delivered, w.delivery(1).State)
			})
		})
	}
}

// A new order during an outage does not end it, and is not sent before a probe; the
// first success lets both go.
func TestNewOrdersWaitForTheProbe(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(always(refused))
		w.order(1, false)
		pass(5 * time.Hour)
		w.arrivals()
		for u := range bankfeed.UserID(50) {
			w.order(10+u, false)
			pass(time.Second)
		}
		require.LessOrEqual(t, len(w.arrivals()), 1)
		w.answers(always(ok))
		pass(time.Hour + 20*time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: 51}, w.states())
	})
}

// A short blip is no outage: what failed comes again after 5 s.
func TestAShortBlipIsNoOutage(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(refused))
		w.happen(100, 1)
		pass(2 * time.Second)
		w.answers(always(ok))
		pass(30 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 100}, w.states())
		stopped(t, l)
	})
}

// Deliveries that are themselves at fault do not hold up others for long, and are
// given up, since the target accepts others.
func TestPoisonDoesNotHoldUpOthers(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.unwatched = true
		poison := func(p bankfeed.Position) bool { return p%10 == 0 }
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if poison(m.Sequence) {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		for range 200 {
			w.happen(1, 1)
			pass(time.Minute)
		}
		got := map[bankfeed.Position]time.Time{}
		for _, a := range w.arrivals() {
			if a.ok {
				got[a.Sequence] = a.at
			}
		}
		require.Len(t, got, 180)
		for p, at := range got {
			require.Less(t, at.Sub(w.events[p-1].At), time.Second)
		}
		for range 80 {
			w.happen(1, 1) // 281 is no poison
			pass(time.Hour)
		}
		require.Equal(t, 28, w.states()[callback.GivenUp]+w.states()[callback.Waiting])
		require.GreaterOrEqual(t, w.states()[callback.GivenUp], 19)
		stopped(t, l)
	})
}

// Many at once that are at fault look like an outage while nothing else comes. A
// probe is by turns the newest, so that the first good one ends it.
func TestABurstOfPoisonIsNoLastingOutage(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.unwatched = true
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence <= 100 {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		w.happen(100, 1)
		pass(10 * time.Minute)
		require.False(t, w.health().OutageSince.IsZero())
		w.happen(1, 1)
		pass(time.Hour)
		require.Equal(t, callback.Delivered, w.delivery(101).State)
		for range 200 {
			pass(time.Hour)
			w.happen(1, 1)
		}
		pass(2 * time.Hour)
		require.Equal(t, 100, w.states()[callback.GivenUp])
		require.Equal(t, 201, w.states()[callback.Delivered])
		stopped(t, l)
	})
}

// What a client changes, such as the URL, is probed at once.
func TestAChangeIsProbedAtOnce(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(refused))
		w.happen(20, 1)
		pass(3 * time.Hour)
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.URL == "https://new.test/" {
				return ok, time.Millisecond
			}
			return refused, time.Millisecond
		})
		w.change(func(t *callback.Target) { t.URL = "https://new.test/" })
		pass(5 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 20}, w.states())
		stopped(t, l)
	})
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(always(refused))
		w.order(1, false)
		pass(3 * time.Hour)
		w.answers(always(ok))
		w.change(func(*callback.Target) {})
		pass(2 * time.Second)
		require.Equal(t, 1, w.states()[callback.Delivered])
	})
}

// A receiver that hangs for every other message slows nothing but itself.
func TestHangingDeliveriesDoNotHoldTheCursor(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence%100 == 1 && m.Attempt == 1 {
				return timeout, 15 * time.Second
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		w.happen(1000, 1) // ten hang, of sixteen at once
		pass(3 * time.Second)
		require.Equal(t, 990, w.states()[callback.Delivered])
		require.Equal(t, bankfeed.Position(1000), w.cursor(), "those that hang have a row")
		require.Equal(t, 10, w.states()[callback.Waiting])
		pass(time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: 1000}, w.states())
		require.Len(t, w.arrivals(), 1010, "none was sent twice meanwhile")
		stopped(t, l)
	})
}

// The database is away for minutes: what was sent is stored afterwards, and not
// sent again.
func TestDatabaseOutageCostsNothing(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.happen(10, 1)
		w.answers(func(callback.Message) (callback.Result, time.Duration) { return ok, 200 * time.Millisecond })
		pass(100 * time.Millisecond)
		w.mu.Lock()
		w.down = errDead
		w.mu.Unlock()
		pass(5 * time.Minute)
		require.Empty(t, w.states())
		w.mu.Lock()
		w.down = nil
		w.mu.Unlock()
		w.happen(10, 1)
		pass(10 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 20}, w.states())
		require.Len(t, w.arrivals(), 20)
		stopped(t, l)
	})
}

// The connection breaks during a commit that was stored all the same.
func TestCommitInDoubtIsNotRepeated(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence%7 == 0 && m.Attempt == 1 {
				return broken, 700 * time.Millisecond
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		for range 20 {
			w.mu.Lock()
			w.doubt = 1
			w.mu.Unlock()
			w.happen(50, 1)
			pass(3 * time.Second)
		}
		pass(time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: 1000}, w.states())
		stopped(t, l)
		synctest.Wait()
	})
}

// One delivery that fails again and again says little about its receiver: what
// is ordered later is sent at once.
func TestALonePoisonDelaysNobody(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.URL == "https://receiver.test/1" {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		w.order(1, false)
		pass(40 * time.Hour) // seven failures, and nothing else
		require.Zero(t, w.health().OutageSince)
		require.GreaterOrEqual(t, w.health().Failures, 5)
		w.order(2, false)
		pass(2 * time.Second)
		require.Equal(t, callback.Delivered, w.delivery(2).State)
	})
}
