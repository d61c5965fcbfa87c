package app

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// requestsAtOnce is how many requests one node ends at the same time.
const requestsAtOnce = 8

// enders end requests, by kind. What is not in it ends by itself.
type enders map[bankfeed.RequestKind]func(context.Context, bankfeed.Fence, bankfeed.Request) error

// runRequest ends a claimed request, or puts it off. Whoever changes it at the
// same time makes it look again.
func (a *App) runRequest(ctx context.Context, f bankfeed.Fence) error {
	for {
		r, err := a.data.Store.RequestOf(ctx, f)
		if errors.Is(err, bankfeed.ErrNotFound) { // its user was erased
			return a.data.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
		}
		if err != nil {
			return err
		}
		end := a.enders[r.Kind]
		if end == nil || r.EndedAt != nil && r.Kind != bankfeed.RequestWebForm { // which tidies up after its end
			return a.data.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
		}
		err = end(ctx, f, r)
		if errors.Is(err, bankfeed.ErrNotFound) { // its user is being erased, and nobody is to be told any more
			return a.data.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
		}
		if !errors.Is(err, bankfeed.ErrConflict) {
			return err
		}
	}
}

func (a *App) sweepRequests(ctx context.Context, now time.Time) (int, error) {
	return inChunks(func(limit int) (int, error) { return a.data.Store.SweepRequests(ctx, now.Add(-a.cfg.Retention), limit) })
}
