package pollqueue

import (
	"context"
	"log/slog"
	"time"
)

// sweepChunk bounds one transaction of a sweep.
const sweepChunk = 1000

// Sweep removes the rows of queues that have expired and returns how many.
func (s *Queues) Sweep(ctx context.Context) (removed int, err error) {
	for {
		n, err := s.store.SweepQueues(ctx, s.now(), sweepChunk)
		removed += n
		if err != nil || n < sweepChunk {
			return removed, err
		}
	}
}

// Sweeper is the worker that sweeps every minute.
type Sweeper struct {
	Queues *Queues
	Log    *slog.Logger
}

// Name names the worker.
func (w Sweeper) Name() string { return "queue sweeper" }

// Run sweeps until ctx ends.
func (w Sweeper) Run(ctx context.Context) error {
	t := time.NewTicker(reserve)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if _, err := w.Queues.Sweep(ctx); err != nil && ctx.Err() == nil {
				w.Log.WarnContext(ctx, "sweeping queues", "err", err)
			}
		}
	}
}
