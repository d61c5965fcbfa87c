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
	return s.explain(ctx, `SELECT type, payload FROM events WHERE `+where+` ORDER BY position LIMIT 500`, args...)
}

func (s *Store) explain(ctx context.Context, query string, args ...any) (string, error) {
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
	}, explain+query, args...)
	return strings.Join(lines, "\n"), err
}

// ExplainCallbacks is the plan of each statement that leaders and retention run
// all the time.
func (s *Store) ExplainCallbacks(ctx context.Context, tenant bankfeed.TenantID, target, delivery int64) (map[string]string, error) {
	c := s.Callbacks()
	rows := list([][]any{{delivery, "delivered", "", 1, 0, nil, 1, 1, 1, "", 200, "n", 1, tenant}})
	plans := map[string]string{}
	for name, q := range map[string]struct {
		query string
		args  []any
	}{
		"due":       {selectDue, []any{tenant, target, 100}},
		"newest":    {selectNewest, []any{tenant, target, 1}},
		"blocked":   {c.selectBlocked(), []any{tenant, target, list([][]any{{5}})}},
		"change":    {c.updateWaiting(), []any{target, rows}},
		"recovered": {updateRecovered, []any{tenant, target, int64(1), int64(1)}},
		"next":      {c.updateNext(), []any{tenant, target, int64(1), list([][]any{{5}})}},
		"deleted":   {updateDeleted, []any{tenant, target, int64(1), int64(0), 100}},
		"oldest":    {selectOldest, []any{tenant, target}},
		"needed":    {selectNeeded, []any{tenant, 0}},
	} {
		plan, err := s.explain(ctx, q.query, q.args...)
		if err != nil {
			return nil, err
		}
		plans[name] = plan
	}
	return plans, nil
}

// AddRows adds rows in a transaction of their own.
func (s *Store) AddRows(ctx context.Context, table string, columns []string, n int, row func(i int) []any) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return s.addRows(ctx, tx, table, columns, n, row) })
}

// Holds is a condition: the bytes of a column hold those of a parameter.
func (s *Store) Holds(column, param string) string {
	if s.engine == Postgres {
		return "position(" + param + "::bytea IN " + column + ") > 0"
	}
	return "instr(" + column + ", " + param + ") > 0"
}

// Count counts the rows of a query.
func (s *Store) Count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.write.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}
