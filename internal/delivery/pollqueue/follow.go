package pollqueue

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Follow returns up to limit events after a position, or after the queue's
// cursor when after is nil, and moves nothing. If there are none it waits up to
// wait for one, and returns none when that is over. It is one step of a stream;
// the queue lives on for 15 minutes after it.
func (s *Queues) Follow(ctx context.Context, id string, o Owner, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, error) {
	q, err := s.find(ctx, id, o)
	if err != nil {
		return nil, err
	}
	at, err := s.start(ctx, q, after)
	if err != nil {
		return nil, err
	}
	if expires := keepUntil(q, s.now().Add(wait)); !expires.Equal(q.ExpiresAt) {
		if err := s.commit(ctx, Answer{ID: q.ID, From: q.Cursor, To: q.Cursor, ExpiresAt: expires}); err != nil {
			return nil, err
		}
	}
	if wait <= 0 {
		return s.events(ctx, q, at, limit)
	}
	// Registered first, so that what commits during the read is not missed.
	wake, stop := s.waker.Subscribe(o.Tenant, o.User, bankfeed.TopicConnections)
	defer stop()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for over := false; ; {
		events, err := s.events(ctx, q, at, limit)
		if err != nil || len(events) > 0 || over {
			return events, err
		}
		select {
		case <-wake:
		case <-timeout.C:
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
