package callback_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// inOrder checks that of each connection nothing was accepted before what came
// before it.
func inOrder(t *testing.T, list []arrival, w *world) {
	t.Helper()
	last := map[bankfeed.ConnectionID]bankfeed.Position{}
	for _, a := range list {
		if c := w.events[a.Sequence-1].Connection; a.ok && c != 0 {
			require.GreaterOrEqual(t, a.Sequence, last[c], "of connection %d", c)
			last[c] = a.Sequence
		}
	}
}

func TestOrderedWaitsForItsConnectionOnly(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 && m.Attempt < 3 {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		for range 50 {
			w.happen(1, 1)
			w.happen(1, 2)
			w.happen(1, 0)
		}
		pass(2 * time.Second)
		accepted := map[bankfeed.ConnectionID]int{}
		first := w.arrivals()
		for _, a := range first {
			if a.ok {
				accepted[w.events[a.Sequence-1].Connection]++
			}
		}
		require.Equal(t, map[bankfeed.ConnectionID]int{0: 50, 2: 50}, accepted)
		require.Equal(t, bankfeed.Position(150), w.cursor())
		require.Equal(t, 50, w.states()[callback.Waiting])
		w.happen(10, 1)
		pass(10 * time.Minute)
		require.Equal(t, map[callback.State]int{callback.Delivered: 160}, w.states())
		inOrder(t, append(first, w.arrivals()...), w)
		stopped(t, l)
	})
}

// What follows one that was delivered at last waits for no more than a commit each.
func TestOrderedCatchesUpSwiftly(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 && m.Attempt == 1 {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		w.happen(200, 1)
		pass(10 * time.Minute)
		all := w.arrivals()
		require.Len(t, all, 201)
		require.Less(t, all[200].at.Sub(all[1].at), 2*time.Second)
		stopped(t, l)
	})
}

// What is given up lets the next go.
func TestOrderedGoesOnAfterOneIsGivenUp(t *testing.T) {
	one := 1
	inBubble(t, &callback.Settings{Ordered: true, Retries: &one}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 {
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		w.happen(5, 1)
		for range 60 {
			pass(time.Second)
			w.happen(1, 2)
		}
		pass(5 * time.Second)
		require.Equal(t, callback.GivenUp, w.delivery(1).State)
		require.Equal(t, 64, w.states()[callback.Delivered])
		inOrder(t, w.arrivals(), w)
		stopped(t, l)
	})
}

// One that hangs lets the cursor go on, and what follows it waits in rows.
func TestOrderedWithAHangingReceiver(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		l := w.lead()
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 {
				return ok, 10 * time.Second
			}
			return ok, time.Millisecond
		})
		for range 20 {
			w.happen(1, 1)
			w.happen(1, 2)
		}
		pass(2 * time.Second)
		require.Equal(t, bankfeed.Position(40), w.cursor())
		require.Equal(t, 20, w.states()[callback.Delivered])
		w.happen(5, 1)
		pass(20 * time.Second)
		require.Equal(t, map[callback.State]int{callback.Delivered: 45}, w.states())
		got := w.arrivals()
		require.Len(t, got, 45)
		inOrder(t, got, w)
		stopped(t, l)
	})
}

func TestOrderedThroughOutagePauseAndRestart(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		var all []arrival
		l := w.lead()
		for round := range 4 {
			w.answers(always(refused))
			for c := range bankfeed.ConnectionID(5) {
				w.happen(40, c+1)
			}
			pass(time.Duration(round) * 7 * time.Minute)
			if round%2 == 0 {
				stopped(t, l)
				l = w.lead()
			}
			w.change(func(t *callback.Target) { t.Status = callback.Paused })
			pass(3 * time.Second)
			for c := range bankfeed.ConnectionID(5) {
				w.happen(10, c+1)
			}
			w.answers(func(m callback.Message) (callback.Result, time.Duration) {
				if m.Attempt == 1 && m.Sequence%9 == 0 {
					return broken, time.Millisecond
				}
				return ok, time.Millisecond
			})
			w.change(func(t *callback.Target) { t.Status = callback.Active })
			pass(3 * time.Hour)
			all = append(all, w.arrivals()...)
			require.Equal(t, map[callback.State]int{callback.Delivered: 250 * (round + 1)}, w.states())
		}
		inOrder(t, all, w)
		stopped(t, l)
	})
}

// One that failed is not stored while an earlier one of another connection is
// under way. What follows it waits all the same.
func TestOrderedWhileTheCursorIsHeld(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true}, func(t *testing.T, w *world) {
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			switch {
			case m.Sequence == 1:
				return ok, 450 * time.Millisecond
			case m.Sequence == 2 && m.Attempt == 1:
				return broken, time.Millisecond
			}
			return ok, time.Millisecond
		})
		l := w.lead()
		pass(time.Second)
		w.happen(1, 9)
		w.happen(1, 5)
		for range 4 {
			pass(100 * time.Millisecond)
			w.happen(1, 5)
		}
		pass(10 * time.Minute)
		got := w.arrivals()
		require.Equal(t, map[callback.State]int{callback.Delivered: 6}, w.states())
		inOrder(t, got, w)
		stopped(t, l)
	})
}

// What was found to wait counts for all that was read with it, also once more is
// read about others.
func TestOrderedWhileTheReceiverIsBusy(t *testing.T) {
	inBubble(t, &callback.Settings{Ordered: true, Concurrent: 1}, func(t *testing.T, w *world) {
		w.answers(func(m callback.Message) (callback.Result, time.Duration) {
			if m.Sequence == 1 && m.Attempt < 3 {
				return broken, time.Millisecond
			}
			return ok, 200 * time.Millisecond
		})
		l := w.lead()
		pass(time.Second)
		w.happen(1, 5)
		pass(10 * time.Second) // it waits for minutes now
		w.mu.Lock()
		wakes := w.wakes
		w.wakes = nil // so that all of it is read at once
		w.mu.Unlock()
		w.happen(1, 6)
		w.happen(1, 7)
		w.happen(1, 8)
		w.mu.Lock()
		w.wakes = wakes
		w.mu.Unlock()
		w.happen(1, 5)
		for c := range bankfeed.ConnectionID(5) {
			pass(90 * time.Millisecond)
			w.happen(1, 20+c)
		}
		pass(10 * time.Minute)
		got := w.arrivals()
		require.Equal(t, map[callback.State]int{callback.Delivered: 10}, w.states())
		inOrder(t, got, w)
		stopped(t, l)
	})
}
