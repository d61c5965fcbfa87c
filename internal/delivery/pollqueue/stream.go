package pollqueue

import (
	"context"
	"log/slog"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Stream sends a queue's events as they come, beginning after a position, or at
// the queue's cursor when after is nil, and moves nothing. idle is called when
// nothing was sent for 15 seconds or so: time for a comment that keeps proxies
// from closing the connection. It ends with the error of send, idle or ctx, or
// with ErrNotFound when the queue has ended.
func (s *Queues) Stream(ctx context.Context, id string, o Owner, after *bankfeed.Position, send func(bankfeed.Event) error, idle func() error) error {
	q, err := s.find(ctx, id, o)
	if err != nil {
		return err
	}
	at, err := s.start(ctx, q, after)
	if err != nil {
		return err
	}
	wake, stop := s.waker.Subscribe(o.Tenant, o.User, bankfeed.TopicConnections)
	defer stop()
	tick := time.NewTicker(s.idle)
	defer tick.Stop()
	if err := s.touch(ctx, q); err != nil {
		return err
	}
	for {
		events, err := s.events(ctx, q, at, MaxLimit)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := send(e); err != nil {
				return err
			}
			at = e.Position
		}
		if len(events) > 0 {
			// There may be more; but a tick that is due comes first.
			select {
			case <-tick.C:
			default:
				continue
			}
		} else {
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				if err := idle(); err != nil {
					return err
				}
			}
		}
		if q, err = s.find(ctx, id, o); err != nil {
			return err
		}
		if err := s.touch(ctx, q); err != nil {
			return err
		}
	}
}

// touch keeps a queue alive until 15 minutes after the next tick.
func (s *Queues) touch(ctx context.Context, q Queue) error {
	expires := keepUntil(q, s.now().Add(s.idle))
	if expires.Equal(q.ExpiresAt) {
		return nil
	}
	return s.commit(ctx, Answer{ID: q.ID, From: q.Cursor, To: q.Cursor, ExpiresAt: expires})
}

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
