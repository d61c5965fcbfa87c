package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// dueAtOnce bounds one look at the schedule; the next look follows soon.
const dueAtOnce = 100

// Schedule opens the unattended sessions that are due and reports how many. A
// connection that cannot be opened does not hold up the others.
func (e *Engine) Schedule(ctx context.Context) (opened int, err error) {
	due, err := e.Store.Due(ctx, e.now(), dueAtOnce)
	if err != nil {
		return 0, err
	}
	for _, o := range due {
		if _, _, err := e.Synchronize(ctx, o); err != nil {
			if ctx.Err() != nil {
				return opened, ctx.Err()
			}
			if !errors.Is(err, bankfeed.ErrNotFound) {
				e.Logger.ErrorContext(ctx, "opening a scheduled session failed", "connection", o.Connection, "error", err)
			}
			continue
		}
		opened++
	}
	return opened, nil
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
