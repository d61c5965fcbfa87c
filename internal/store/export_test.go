package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// AppendEvents commits the events of a change and nothing else of it.
func (s *Store) AppendEvents(ctx context.Context, c *bankfeed.Change) (done bankfeed.Committed, err error) {
	sealed, err := s.sealEvents(ctx, c, nil)
	if err != nil {
		return done, err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		done, err = s.appendEvents(ctx, tx, c, sealed)
		return err
	})
	if err == nil {
		s.committed(done)
	}
	return done, err
}

// SealEvents is the part of a commit that comes before its transaction.
func (s *Store) SealEvents(ctx context.Context, c *bankfeed.Change) error {
	_, err := s.sealEvents(ctx, c, nil)
	return err
}

// AppendAndFail rolls a commit back after its last step.
func (s *Store) AppendAndFail(ctx context.Context, c *bankfeed.Change, fail error) error {
	sealed, err := s.sealEvents(ctx, c, nil)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := s.appendEvents(ctx, tx, c, sealed); err != nil {
			return err
		}
		return fail
	})
}

// DestroyUserKey is the first step of an erasure.
func (s *Store) DestroyUserKey(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	return s.userKeys.Destroy(ctx, tenant, user)
}

// Exec is for tests that damage rows.
func (s *Store) Exec(ctx context.Context, query string, args ...any) error {
	_, err := s.write.ExecContext(ctx, query, args...)
	return err
}

// SetIdle sets after how long of silence a listening connection is tried.
func (g *Signals) SetIdle(d time.Duration) { g.idle = d }

// Take is what would be sent now.
func (g *Signals) Take() []string { return g.take() }

// Receive is what arrives.
func (g *Signals) Receive(payload string) { g.receive(payload) }

// ExplainEvents is the plan by which the engine reads a query's events.
func (s *Store) ExplainEvents(ctx context.Context, q eventlog.Query) (string, error) {
	where, args := eventWhere(q, 0, 1000)
	explain := "EXPLAIN "
	if s.engine == SQLite {
		explain = "EXPLAIN QUERY PLAN "
	}
	lines, err := collect(ctx, s.read, func(scan func(...any) error) (line string, err error) {
		if s.engine == SQLite {
			var a, b, c int
			err = scan(&a, &b, &c, &line)
		} else {
			err = scan(&line)
		}
		return line, err
	}, explain+`SELECT type, payload FROM events WHERE `+where+` ORDER BY position LIMIT 500`, args...)
	return strings.Join(lines, "\n"), err
}

// AddRows adds rows in a transaction of their own.
func (s *Store) AddRows(ctx context.Context, table string, columns []string, n int, row func(i int) []any) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return s.addRows(ctx, tx, table, columns, n, row) })
}

// Count counts the rows of a query.
func (s *Store) Count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.write.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}
