package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
)

// queues lets the Oxlin dialect use the poll queues.
type queues struct {
	q   *pollqueue.Queues
	log *slog.Logger
}

var _ oxlin.Queues = queues{}

func owner(q oxlin.Queue) pollqueue.Owner { return pollqueue.Owner{Tenant: q.Tenant, User: q.User} }

// Create implements oxlin.Queues.
func (s queues) Create(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, _ []bankfeed.Topic) (string, error) {
	return s.q.Create(ctx, pollqueue.Owner{Tenant: tenant, User: user}, []string{pollqueue.TopicConnections})
}

var errNotWritten = errors.New("the answer was not written")

// Read implements oxlin.Queues.
func (s queues) Read(ctx context.Context, q oxlin.Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, func(bool), error) {
	b, err := s.q.Read(ctx, q.ID, owner(q), pollqueue.Options{After: after, Limit: limit, Wait: wait})
	if err != nil {
		return nil, nil, err
	}
	return b.Events, func(written bool) {
		var failed error
		if !written {
			failed = errNotWritten
		}
		// The client has its answer, whatever becomes of its request.
		if err := b.Answered(context.WithoutCancel(ctx), failed); err != nil {
			s.log.WarnContext(ctx, "a queue's cursor was not stored: the batch comes again", "error", err)
		}
	}, nil
}

// Follow implements oxlin.Queues.
func (s queues) Follow(ctx context.Context, q oxlin.Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, error) {
	return s.q.Follow(ctx, q.ID, owner(q), after, limit, wait)
}

// Delete implements oxlin.Queues.
func (s queues) Delete(ctx context.Context, q oxlin.Queue) error {
	return s.q.Delete(ctx, q.ID, owner(q))
}
