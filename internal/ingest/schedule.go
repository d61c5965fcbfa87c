package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// dueAtOnce bounds what is read of the schedule at a time.
const dueAtOnce = 100

// Schedule opens the unattended sessions that are due and reports how many. A
// connection that cannot be opened does not hold up the others.
func (e *Engine) Schedule(ctx context.Context) (opened int, err error) {
	for failed := 0; ; {
		due, err := e.Store.Due(ctx, e.now(), failed, dueAtOnce)
		if err != nil || len(due) == 0 {
			return opened, err
		}
		for _, o := range due {
			_, _, err := e.Synchronize(ctx, o)
			switch {
			case err == nil:
				opened++
			case ctx.Err() != nil:
				return opened, ctx.Err()
			default:
				failed++
				if !errors.Is(err, bankfeed.ErrNotFound) {
					e.Logger.ErrorContext(ctx, "opening a scheduled session failed", "connection", o.Connection, "error", err)
				}
			}
		}
	}
}

// RunSchedule looks at the schedule every interval until ctx ends.
func (e *Engine) RunSchedule(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if _, err := e.Schedule(ctx); err != nil && ctx.Err() == nil {
			e.Logger.ErrorContext(ctx, "reading the schedule failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
