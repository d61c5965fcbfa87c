package store

import (
	"context"
	"time"
)

// SweepAccesses forgets entries of the access ledger that lie before a time, up
// to limit, and returns how many. Banks count within rolling days; whoever
// calls leaves room beyond that.
func (s *Store) SweepAccesses(ctx context.Context, before time.Time, limit int) (int, error) {
	row := "rowid" // it has no key of its own: nothing ever changes one entry
	if s.engine == Postgres {
		row = "ctid"
	}
	r, err := s.write.ExecContext(ctx, `DELETE FROM accesses WHERE `+row+` IN (SELECT `+row+` FROM accesses WHERE at < $1 LIMIT $2)`, before.UnixMicro(), limit)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}
