package app

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// pass moves the fake clock on and lets everything that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestSupervisorRestartsWithBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := newSupervisor(logger(&log), telemetry.NewMetrics(), time.Now)
		var starts []time.Time
		ctx, cancel := context.WithCancel(t.Context())
		s.start(ctx, named{"shaky", func(ctx context.Context) error {
			starts = append(starts, time.Now())
			switch len(starts) {
			case 1:
				return errors.New("no")
			case 2:
				panic("boom")
			case 3:
				return nil // an end that nobody asked for
			}
			<-ctx.Done()
			return nil
		}})
		pass(100 * time.Millisecond)
		require.Equal(t, workerRestarting, s.snapshot()[0].State)
		pass(10 * time.Second)
		require.Equal(t, WorkerState{Name: "shaky", State: workerRunning, Restarts: 3, Since: starts[3]}, s.snapshot()[0])
		require.Contains(t, log.String(), "panic: boom")
		cancel()
		require.NoError(t, s.wait(context.Background()))
		require.Equal(t, workerStopped, s.snapshot()[0].State)
	})
}

// A stop is bounded: it names what does not end.
func TestSupervisorNamesTheLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(logger(io.Discard), telemetry.NewMetrics(), time.Now)
		free := make(chan struct{})
		running, end := context.WithCancel(t.Context())
		s.start(running, named{"deaf", func(context.Context) error { <-free; return nil }})
		end()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorContains(t, s.wait(ctx), "still running: [deaf]")
		close(free)
	})
}

func TestStackEndsInReverse(t *testing.T) {
	var s stack
	var order []string
	for _, name := range []string{"a", "b", "c"} {
		s.push(name, func(context.Context) error {
			order = append(order, name)
			if name == "b" {
				return errors.New("no")
			}
			return nil
		})
	}
	require.EqualError(t, s.close(t.Context(), logger(io.Discard)), "stopping the b: no")
	require.Equal(t, []string{"c", "b", "a"}, order)
	require.NoError(t, s.close(t.Context(), logger(io.Discard)), "a second time it does nothing")
	require.Len(t, order, 3)
}

// A sweep that fails is done again the next time.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		times := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- sweep{name: "dust", every: time.Minute, now: time.Now, log: logger(&log), do: func(context.Context, time.Time) (int, error) {
				times++
				if times == 1 {
					return 0, errors.New("no broom")
				}
				return 2, nil
			}}.Run(ctx)
		}()
		pass(10 * time.Minute)
		cancel()
		require.NoError(t, <-done)
		require.InDelta(t, 10, times, 2)
		require.Contains(t, log.String(), "no broom")
	})
}
