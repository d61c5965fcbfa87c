package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

var _ pollqueue.Store = (*Store)(nil)

// CreateQueue implements pollqueue.Store.
func (s *Store) CreateQueue(ctx context.Context, q pollqueue.Queue) error {
	_, err := s.write.ExecContext(ctx, `
		INSERT INTO queues (id, tenant_id, user_id, topics, epoch, cursor, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, coalesce((SELECT position FROM lanes WHERE tenant_id = $2 AND lane = $6), 0), $7, $8)`,
		q.ID, q.Tenant, q.User, strings.Join(q.Topics, ","), q.Epoch, eventlog.LaneOf(q.User, eventlog.Lanes),
		q.CreatedAt.UnixMicro(), q.ExpiresAt.UnixMicro())
	return err
}

// Queue implements pollqueue.Store.
func (s *Store) Queue(ctx context.Context, id string) (pollqueue.Queue, error) {
	return one(ctx, s.read, func(scan func(...any) error) (q pollqueue.Queue, err error) {
		var topics string
		var created, expires int64
		err = scan(&q.ID, &q.Tenant, &q.User, &topics, &q.Epoch, &q.Cursor, &created, &expires)
		q.Topics = strings.Split(topics, ",")
		q.CreatedAt, q.ExpiresAt = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC()
		return q, err
	}, `SELECT id, tenant_id, user_id, topics, epoch, cursor, created_at, expires_at FROM queues WHERE id = $1`, id)
}

// SeekQueue implements pollqueue.Store.
func (s *Store) SeekQueue(ctx context.Context, id string, to bankfeed.Position, expires time.Time) error {
	_, err := s.write.ExecContext(ctx, `
		UPDATE queues SET cursor = $2, expires_at = CASE WHEN expires_at < $3 THEN $3 ELSE expires_at END WHERE id = $1`,
		id, to, expires.UnixMicro())
	return err
}

// AnswerQueues implements pollqueue.Store.
func (s *Store) AnswerQueues(ctx context.Context, answers []pollqueue.Answer) error {
	// One order on all nodes, so that they do not lock each other out.
	answers = slices.SortedFunc(slices.Values(answers), func(a, b pollqueue.Answer) int { return strings.Compare(a.ID, b.ID) })
	return s.tx(ctx, func(tx *sql.Tx) (err error) {
		st, err := tx.PrepareContext(ctx, `
			UPDATE queues SET cursor = CASE WHEN cursor >= $2 AND cursor < $3 THEN $3 ELSE cursor END,
				expires_at = CASE WHEN expires_at < $4 THEN $4 ELSE expires_at END
			WHERE id = $1`)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		for _, a := range answers {
			if _, err := st.ExecContext(ctx, a.ID, int64(a.From), int64(a.To), a.ExpiresAt.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteQueue implements pollqueue.Store.
func (s *Store) DeleteQueue(ctx context.Context, id string) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM queues WHERE id = $1`, id)
	return err
}

// SweepQueues implements pollqueue.Store.
func (s *Store) SweepQueues(ctx context.Context, before time.Time, limit int) (int, error) {
	r, err := s.write.ExecContext(ctx, `
		DELETE FROM queues WHERE expires_at <= $1 AND id IN (SELECT id FROM queues WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`,
		before.UnixMicro(), limit)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// QueueEvents implements pollqueue.Store. It reads events_connections, in which
// a user's transactions do not stand, however many there are.
func (s *Store) QueueEvents(ctx context.Context, o pollqueue.Owner, after bankfeed.Position, limit int) ([]bankfeed.Event, error) {
	topic := bankfeed.TopicConnections
	return s.selectEvents(ctx, eventlog.Query{Tenant: o.Tenant, User: o.User, Topic: &topic, Limit: limit}, after, never)
}

// UserLane implements pollqueue.Store.
func (s *Store) UserLane(ctx context.Context, o pollqueue.Owner) (floor, head bankfeed.Position, err error) {
	l, err := s.Lane(ctx, o.Tenant, eventlog.LaneOf(o.User, eventlog.Lanes))
	return l.Floor, l.Head, err
}
