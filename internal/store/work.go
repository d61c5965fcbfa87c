package store

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/bankfeed/bankfeed"
)

// never is the ready_at of claimed work: nobody asked for it since. Whoever
// puts the work up again while it is being done lowers it, and the release
// keeps the earlier of the two, so that no wake-up is lost.
const never = math.MaxInt64

// checkFence makes sure that the fenced work is still owned by the claim, and
// keeps it so until the transaction ends. With a release it gives the work
// back. ErrFenced if another node has taken over.
func (s *Store) checkFence(ctx context.Context, tx *sql.Tx, f *bankfeed.Fence, r *bankfeed.Release) error {
	if f == nil {
		if r != nil {
			return errors.New("a release without a fence")
		}
		return nil
	}
	const owned = ` kind = $1 AND tenant_id = $2 AND id = $3 AND fence = $4 AND owner IS NOT NULL`
	switch {
	case r == nil:
		var one int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM work WHERE`+owned+s.forUpdate(), f.Kind, f.Tenant, f.ID, f.Number).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			err = bankfeed.ErrFenced
		}
		return err
	case r.Done:
		res, err := tx.ExecContext(ctx, `DELETE FROM work WHERE`+owned, f.Kind, f.Tenant, f.ID, f.Number)
		return changed(res, err, bankfeed.ErrFenced)
	default:
		res, err := tx.ExecContext(ctx, `
			UPDATE work SET owner = NULL, lease_until = NULL, ready_at = CASE WHEN ready_at < $5 THEN ready_at ELSE $5 END
			WHERE`+owned, f.Kind, f.Tenant, f.ID, f.Number, r.ReadyAt.UnixMicro())
		return changed(res, err, bankfeed.ErrFenced)
	}
}

// putWork puts work up. Work that is up already keeps its owner and its fence,
// becomes ready no later than it was, and attended if either asks for it.
//
// The first fence of a row is the time in microseconds: when work is put up
// again after its row was deleted, no claim gets a number that an earlier one
// had, so a late owner of the earlier row stays fenced.
func (s *Store) putWork(ctx context.Context, tx *sql.Tx, items []bankfeed.WorkItem) error {
	for _, w := range items {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO work (kind, tenant_id, id, grp, attended, ready_at, fence) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (kind, tenant_id, id) DO UPDATE SET grp = excluded.grp, attended = work.attended OR excluded.attended,
				ready_at = CASE WHEN work.ready_at < excluded.ready_at THEN work.ready_at ELSE excluded.ready_at END`,
			w.Kind, w.Tenant, w.ID, w.Group, w.Attended, w.ReadyAt.UnixMicro(), s.now().UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}

// tellReady comes after the commit.
func (s *Store) tellReady(items []bankfeed.WorkItem) {
	now := s.now()
	var told bankfeed.WorkKind
	for _, w := range items {
		if w.Kind != told && !w.ReadyAt.After(now) {
			s.ready(w.Kind)
			told = w.Kind
		}
	}
}

// endWork takes work away, whoever does it: the owner's next commit is fenced.
func (s *Store) endWork(ctx context.Context, tx *sql.Tx, items []bankfeed.WorkItem) error {
	for _, w := range items {
		if _, err := tx.ExecContext(ctx, `DELETE FROM work WHERE kind = $1 AND tenant_id = $2 AND id = $3`, w.Kind, w.Tenant, w.ID); err != nil {
			return err
		}
	}
	return nil
}
