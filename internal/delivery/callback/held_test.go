package callback_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// A long past of one connection is more than fits into memory at once.
func TestOrderedWithALongBacklogOfOneConnection(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		const n = 5_000
		w.happen(n, 1)
		l := w.lead()
		pass(10 * time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: n}, w.states())
		inOrder(t, w.arrivals(), w)
		require.Equal(t, bankfeed.Position(n), w.cursor())
		stopped(t, l)
	})
}

// A receiver that asks for a long rest costs no queries meanwhile.
func TestALongRetryAfterIsNotLookedAtAllTheTime(t *testing.T) {
	for name, s := range map[string]*callback.Settings{"subscription": {}, "request": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, s, func(t *testing.T, w *world) {
				w.answers(func(m callback.Message) (callback.Result, time.Duration) {
					return callback.Result{Cause: callback.CauseLimited, Status: 429, RetryAfter: 20 * time.Minute}, time.Millisecond
				})
				var stop func()
				if s == nil {
					for u := range bankfeed.UserID(100) {
						w.order(u, false)
					}
					stop = w.serve(t)
				} else {
					w.happen(100, 1)
					l := w.lead()
					stop = func() { stopped(t, l) }
				}
				pass(2 * time.Second)
				w.arrivals()
				before := w.looks.Load()
				pass(15 * time.Minute)
				require.Empty(t, w.arrivals())
				require.Less(t, w.looks.Load()-before, int64(30))
				w.answers(always(ok))
				pass(2 * time.Hour)
				require.Equal(t, map[callback.State]int{callback.Delivered: 100}, w.states())
				stop()
			})
		})
	}
}

// Who pauses in the moment in which the receiver answers 410 has paused: nothing is
// skipped.
func TestPausedWhileTheReceiverDisables(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		w.answers(always(gone))
		l := w.lead()
		pass(time.Second)
		w.happen(1, 1)
		w.happen(1, 2)
		time.Sleep(3 * time.Millisecond) //nolint:forbidigo // fake time: answered, and not stored
		w.change(func(t *callback.Target) { t.Status = callback.Paused })
		l.engine.Changed(key)
		pass(5 * time.Second)
		w.happen(10, 3)
		pass(5 * time.Minute)
		require.Equal(t, callback.Paused, w.target.Status)
		require.Equal(t, 2, w.states()[callback.Skipped], "what the receiver refused, and nothing else")
		w.answers(always(ok))
		w.change(func(t *callback.Target) { t.Status = callback.Active })
		pass(5 * time.Minute)
		require.Equal(t, 10, w.states()[callback.Delivered])
		stopped(t, l)
	})
}

// A subscription for which nothing happened for long does not sign with what was
// retired meanwhile, nor does a probe.
func TestARetiredSecretSignsNothing(t *testing.T) {
	inBubble(t, &callback.Settings{}, func(t *testing.T, w *world) {
		l := w.lead()
		rotate := func(s bankfeed.Secret) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.secret = s
		}
		for round, s := range []bankfeed.Secret{"first", "second", "third"} {
			rotate(s)
			pass(time.Duration(round+1) * 20 * time.Second)
			w.happen(1, 1)
			pass(time.Second)
			got := w.arrivals()
			require.Len(t, got, 1)
			require.Equal(t, []bankfeed.Secret{s}, got[0].Secrets)
		}
		w.answers(always(refused))
		w.happen(20, 2)
		pass(6 * time.Minute)
		require.NotZero(t, w.health().OutageSince)
		w.arrivals()
		rotate("fourth")
		pass(6 * time.Minute)
		got := w.arrivals()
		require.NotEmpty(t, got)
		for _, a := range got {
			require.Equal(t, []bankfeed.Secret{"fourth"}, a.Secrets)
		}
		stopped(t, l)
	})
}
