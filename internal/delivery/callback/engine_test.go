package callback_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

func TestSubscriptionDeliversAndRecords(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.happen(1000, 1)
		l := w.lead()
		pass(3 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 1000}, w.states())
		require.Equal(t, bankfeed.Position(1000), w.cursor())
		require.Less(t, w.commits, 60, "results are stored in bulk")
		require.Equal(t, callback.DefaultConcurrent, w.most)
		w.arrivals()

		w.happen(1, 1)
		began := time.Now()
		pass(time.Second)
		got := w.arrivals()
		require.Len(t, got, 1)
		require.Less(t, got[0].at.Sub(began), time.Millisecond, "a commit wakes the leader")
		m := got[0].Message
		require.Equal(t, bankfeed.EventID(epoch, 1, 0, 1001), m.ID)
		require.Equal(t, bankfeed.Position(1001), m.Sequence)
		require.Equal(t, `{"n":1001}`, string(m.Body))
		require.Equal(t, 1, m.Attempt)
		require.NotEmpty(t, m.Secrets)

		commits := w.commits
		pass(time.Hour)
		require.Equal(t, commits, w.commits, "idle, it writes nothing")
		stopped(t, l)
	})
}

func TestScheduleAndJitter(t *testing.T) {
	for range 3 {
		inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
			const poison = 1
			w.unwatched = true
			w.answers(func(m callback.Message) (callback.Result, time.Duration) {
				if m.Sequence == poison {
					return broken, time.Millisecond
				}
				return ok, time.Millisecond
			})
			l := w.lead(func(c *callback.Config) { c.Jitter = 0.2 })
			w.happen(1, 1)
			for range 76 * 12 { // the receiver accepts others
				pass(6 * time.Minute)
				w.happen(1, 1)
			}
			pass(time.Minute)
			var tries []arrival
			for _, a := range w.arrivals() {
				if a.Sequence == poison {
					tries = append(tries, a)
				}
			}
			require.Len(t, tries, len(callback.Schedule)+1)
			for i, d := range callback.Schedule {
				require.InDelta(t, d, tries[i+1].at.Sub(tries[i].at), 0.2*float64(d)+float64(time.Second), "pause %d", i+1)
				require.Equal(t, tries[0].ID, tries[i+1].ID)
				require.Equal(t, i+2, tries[i+1].Attempt)
			}
			d := w.delivery(poison)
			require.Equal(t, callback.GivenUp, d.State)
			require.Equal(t, callback.ReasonSchedule, d.Reason)
			require.Len(t, w.attempts[d.ID], len(callback.Schedule)+1)
			require.Equal(t, len(w.events)-1, w.states()[callback.Delivered])
			stopped(t, l)
		})
		if testing.Short() {
			break
		}
	}
}

func TestRetriesLimit(t *testing.T) {
	two := 2
	inBubble(t, &callback.Settings{Retries: &two}, func(t *testing.T, w *world) {
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		w.happen(1, 1)
		for range 10 {
			pass(time.Minute)
			w.happen(1, 1)
		}
		pass(time.Second)
		require.Equal(t, callback.GivenUp, w.delivery(1).State)
		require.Equal(t, 3, w.delivery(1).Attempts)
		stopped(t, l)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer callback.Result
		want   time.Duration
	}{
		{"429", callback.Result{Cause: callback.CauseLimited, Status: 429, RetryAfter: 90 * time.Second}, 90 * time.Second},
		{"503", callback.Result{Cause: callback.CauseStatus, Status: 503, RetryAfter: 90 * time.Second}, 90 * time.Second},
		{"clamped", callback.Result{Cause: callback.CauseStatus, Status: 503, RetryAfter: 20 * time.Hour}, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
				l := w.lead()
				w.answers(always(c.answer))
				w.happen(1, 1)
				pass(time.Second)
				w.answers(always(ok))
				w.happen(5, 2) // the target as a whole is left alone
				pass(c.want - 2*time.Second)
				require.Len(t, w.arrivals(), 1)
				pass(4 * time.Second)
				require.Len(t, w.arrivals(), 6)
				require.Equal(t, 6, w.states()[callback.Delivered])
				stopped(t, l)
			})
		})
	}
}

// A receiver that is only busy does not make a delivery use up its schedule.
func TestLimitedDoesNotUseUpTheSchedule(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 && m.Attempt < 30 {
				return callback.Result{Cause: callback.CauseLimited, Status: 429}, time.Millisecond
			}
			return ok, time.Millisecond
		})
		w.happen(1, 1)
		for range 40 {
			pass(5 * time.Second)
			w.happen(1, 1)
		}
		pass(time.Second)
		require.Equal(t, callback.Delivered, w.delivery(1).State)
		require.Equal(t, 30, w.delivery(1).Attempts)
		stopped(t, l)
	})
}

func TestGoneDisablesTheSubscription(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(gone))
		w.happen(1, 1)
		pass(time.Second)
		require.Equal(t, callback.Disabled, w.target.Status)
		require.Equal(t, callback.ReasonGone, w.target.Reason)
		w.happen(2000, 1)
		pass(10 * time.Second)
		require.Len(t, w.arrivals(), 1, "nothing more is sent")
		require.Equal(t, map[callback.State]int{callback.Skipped: 2001}, w.states(), "nothing disappears")
		require.Equal(t, bankfeed.Position(2001), w.cursor())

		w.answers(always(ok))
		w.change(func(t *callback.Target) { t.Status, t.Reason = callback.Active, "" })
		w.redrive()
		w.happen(1, 1)
		pass(20 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 2002}, w.states())
		for _, a := range w.arrivals() {
			require.Equal(t, bankfeed.EventID(epoch, 1, 0, a.Sequence), a.ID, "a redrive keeps the id")
		}
		stopped(t, l)
	})
}

func TestGoneGivesARequestsCallbackUp(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.URL == "https://receiver.test/1" {
				return gone, time.Millisecond
			}
			return ok, time.Millisecond
		})
		w.order(1, false)
		w.order(2, false)
		pass(10 * time.Second)
		require.Equal(t, callback.GivenUp, w.delivery(1).State)
		require.Equal(t, callback.ReasonGone, w.delivery(1).Reason)
		require.Equal(t, callback.Delivered, w.delivery(2).State)
		require.Equal(t, callback.Active, w.target.Status)
	})
}

func TestOnceIsOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(always(refused))
		w.order(1, true)
		pass(100 * time.Hour)
		require.Equal(t, callback.GivenUp, w.delivery(1).State)
		require.Equal(t, callback.ReasonOnce, w.delivery(1).Reason)
		require.Len(t, w.arrivals(), 1)
	})
}

func TestRequestsCallbackComesWhenItIsReady(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		for u := range bankfeed.UserID(3) {
			w.order(u, false)
			pass(400 * time.Millisecond)
			require.Empty(t, w.arrivals())
			pass(300 * time.Millisecond)
			require.Len(t, w.arrivals(), 1)
			require.Zero(t, w.fence, "idle work is given back")
			pass(time.Hour)
		}
		require.Equal(t, 3, w.states()[callback.Delivered])
	})
}

func TestPausedSendsNothingAndKeepsItsPlace(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.happen(3, 1)
		pass(3 * time.Second)
		w.change(func(t *callback.Target) { t.Status = callback.Paused })
		pass(2 * time.Second)
		w.arrivals()
		w.happen(5000, 1)
		pass(24 * time.Hour)
		require.Empty(t, w.arrivals())
		require.Equal(t, bankfeed.Position(3), w.cursor())
		w.change(func(t *callback.Target) { t.Status = callback.Active })
		pass(time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: 5003}, w.states())
		stopped(t, l)
	})
}

func TestErasedAndExpiredEndAsSuch(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.happen(2, 1)
		w.erased[1] = true
		l := w.lead()
		pass(time.Second)
		require.Equal(t, callback.Erased, w.delivery(1).State)
		require.Equal(t, callback.Delivered, w.delivery(2).State)

		// Erased while it waits.
		w.answers(always(broken))
		w.happen(1, 1)
		pass(time.Second)
		w.mu.Lock()
		w.erased[3] = true
		w.mu.Unlock()
		w.answers(always(ok))
		w.arrivals()
		pass(time.Minute)
		require.Equal(t, callback.Erased, w.delivery(3).State)
		require.Empty(t, w.arrivals())

		// Gone from the log while it waits.
		w.answers(always(broken))
		w.happen(1, 1)
		pass(time.Second)
		w.mu.Lock()
		w.floor = 4
		w.mu.Unlock()
		pass(time.Minute)
		require.Equal(t, callback.Expired, w.delivery(4).State)
		stopped(t, l)
	})
}

// What was read before a pause may be erased during it: it is read again.
func TestErasedWhilePausedIsNotSent(t *testing.T) {
	inBubble(t, &callback.Settings{Concurrent: 1}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(callback.Message) (callback.Result, time.Duration) { return ok, 2 * time.Second })
		w.happen(100, 1)
		pass(time.Second)
		w.change(func(t *callback.Target) { t.Status = callback.Paused })
		pass(10 * time.Second)
		w.arrivals()
		w.mu.Lock()
		for p := range bankfeed.Position(100) {
			w.erased[p+1] = true
		}
		w.mu.Unlock()
		w.change(func(t *callback.Target) { t.Status = callback.Active })
		pass(time.Minute)
		require.Empty(t, w.arrivals())
		require.GreaterOrEqual(t, w.states()[callback.Erased], 95)
		require.Zero(t, w.states()[callback.Waiting])
		stopped(t, l)
	})
}

func TestOnlyItsWorldAndItsFilter(t *testing.T) {
	inBubble(t, &callback.Settings{Connection: 2}, func(t *testing.T, w *world) {
		w.happen(10, 1)
		w.happen(10, 2)
		l := w.lead()
		pass(5 * time.Second)
		require.Len(t, w.arrivals(), 10)
		require.Equal(t, bankfeed.Position(20), w.cursor())

		s := callback.Settings{Connection: 1}
		w.change(func(t *callback.Target) { t.Subscription = &s })
		pass(2 * time.Second)
		w.happen(3, 1)
		w.happen(3, 2)
		pass(5 * time.Second)
		require.Len(t, w.arrivals(), 3, "new settings hold from then on")
		stopped(t, l)
	})
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.sandbox[3] = true
		w.happen(10, 1)
		l := w.lead()
		pass(5 * time.Second)
		require.Empty(t, w.arrivals())
		require.Equal(t, bankfeed.Position(10), w.cursor())
		stopped(t, l)
	})
}

func TestRateLimit(t *testing.T) {
	inBubble(t, &callback.Settings{PerSecond: 20}, func(t *testing.T, w *world) {
		w.happen(1000, 1)
		l := w.lead()
		pass(10 * time.Second)
		require.InDelta(t, 200, len(w.arrivals()), 5)
		pass(50 * time.Second)
		require.Equal(t, 1000, w.states()[callback.Delivered])
		stopped(t, l)
	})
}

func TestRestoredAndExpiredLogIsNoted(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.happen(10, 1)
		w.target.Cursors[0] = callback.Cursor{Epoch: epoch - 5, Position: 2}
		w.floor = 4
		l := w.lead()
		pass(5 * time.Second)
		require.Len(t, w.arrivals(), 6)
		require.Equal(t, callback.Cursor{Epoch: epoch, Position: 10}, w.target.Cursors[0])
		require.Len(t, w.target.Notes, 2)
		require.Equal(t, callback.NoteRestored, w.target.Notes[0].Kind)
		require.Equal(t, bankfeed.Position(3), w.target.Notes[0].First)
		require.Equal(t, callback.NoteExpired, w.target.Notes[1].Kind)
		require.Equal(t, [2]bankfeed.Position{3, 4}, [2]bankfeed.Position{w.target.Notes[1].First, w.target.Notes[1].Last})
		stopped(t, l)
	})
}

// An event keeps the id under which it was first sent, also after a restore.
func TestIDOutlivesARestore(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(broken))
		w.happen(1, 1)
		pass(time.Second)
		stopped(t, l)
		w.answers(always(ok))
		l = w.lead(func(c *callback.Config) { c.Epoch = epoch + 9 })
		pass(time.Minute)
		got := w.arrivals()
		require.Len(t, got, 2)
		require.Equal(t, got[0].ID, got[1].ID)
		stopped(t, l)
	})
}

func TestReplayHasItsOwnIDAndNamesTheOriginal(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.happen(1, 1)
		l := w.lead()
		pass(time.Second)
		first := w.arrivals()[0]
		w.change(func(*callback.Target) {
			w.add(&callback.Delivery{Tenant: 1, Target: key.ID, Type: bankfeed.EventTransactionCreated, User: 3, Connection: 1, Epoch: epoch, Position: 1,
				Replay: 99, State: callback.Waiting, CreatedAt: time.Now(), NextAt: time.Now()})
		})
		pass(5 * time.Second)
		again := w.arrivals()
		require.Len(t, again, 1)
		require.NotEqual(t, first.ID, again[0].ID)
		require.Equal(t, first.ID, again[0].Original)
		require.Equal(t, first.Body, again[0].Body)
		stopped(t, l)
	})
}

// While one hangs, those that are ordered meanwhile do not wait for it.
func TestNewOrderWhileAnotherHangs(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		defer w.serve(t)()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.URL == "https://receiver.test/1" {
				return timeout, 15 * time.Second
			}
			return ok, time.Millisecond
		})
		w.order(1, false)
		pass(2 * time.Second)
		for u := range bankfeed.UserID(5) {
			w.order(u+2, false)
		}
		pass(2 * time.Second)
		require.Equal(t, 5, w.states()[callback.Delivered])
	})
}

// A subscription that is deleted is led no more.
func TestDeletedEndsTheLead(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		w.happen(3, 1)
		pass(2 * time.Second)
		w.change(func(t *callback.Target) { t.Status = callback.Deleted })
		w.happen(3, 1)
		pass(2 * time.Second)
		require.ErrorIs(t, <-l.ended, bankfeed.ErrFenced)
		l.cancel()
		l = w.lead() // its work was still up
		pass(time.Second)
		require.NoError(t, <-l.ended)
		require.Zero(t, w.fence)
	})
}

// A subscription may ask for a single try, and then gets what it asked for.
func TestNoRetries(t *testing.T) {
	zero := 0
	inBubble(t, &callback.Settings{Retries: &zero}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(always(broken))
		w.happen(2, 1)
		pass(time.Hour)
		require.Equal(t, map[callback.State]int{callback.GivenUp: 2}, w.states())
		require.Len(t, w.arrivals(), 2)
		stopped(t, l)
	})
}
