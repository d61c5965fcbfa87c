package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/lease"
)

var _ lease.Store = (*Store)(nil)

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

// NextWork implements lease.Store. Each part is one look into an index.
func (s *Store) NextWork(ctx context.Context, kind bankfeed.WorkKind) (time.Time, error) {
	var next [3]sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT
		(SELECT ready_at FROM work WHERE kind = $1 AND attended = TRUE AND owner IS NULL ORDER BY ready_at LIMIT 1),
		(SELECT ready_at FROM work WHERE kind = $1 AND attended = FALSE AND owner IS NULL ORDER BY ready_at LIMIT 1),
		(SELECT min(lease_until) FROM work WHERE kind = $1 AND owner IS NOT NULL)`, kind).Scan(&next[0], &next[1], &next[2])
	var first sql.NullInt64
	for _, n := range next {
		if n.Valid && (!first.Valid || n.Int64 < first.Int64) {
			first = n
		}
	}
	return at(first), err
}

// candidate is a row that may be claimed.
type candidate struct {
	tenant bankfeed.TenantID
	id     int64
	group  string
}

func scanCandidate(scan func(...any) error) (c candidate, err error) {
	err = scan(&c.tenant, &c.id, &c.group)
	return c, err
}

// ClaimWork implements lease.Store. Nodes claim work of a kind one after the
// other: two that count at the same time would both find room for one more.
func (s *Store) ClaimWork(ctx context.Context, r lease.Request) (claims []lease.Claim, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		claims = nil
		if s.engine == Postgres {
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('bankfeed work'), hashtext($1::text))`, r.Kind); err != nil {
				return err
			}
		}
		chosen, err := s.chooseWork(ctx, tx, r)
		if err != nil || len(chosen) == 0 {
			return err
		}
		refs := make([][2]int64, len(chosen))
		rank := map[[2]int64]int{}
		for i, c := range chosen {
			refs[i] = [2]int64{int64(c.tenant), c.id}
			rank[refs[i]] = i
		}
		claims, err = collect(ctx, tx, func(scan func(...any) error) (c lease.Claim, err error) {
			c.Kind = r.Kind
			err = scan(&c.Tenant, &c.ID, &c.Number, &c.Group, &c.Attended)
			return c, err
		}, `UPDATE work SET owner = $2, fence = fence + 1, lease_until = $3, ready_at = $4
			WHERE kind = $1 AND (tenant_id, id) IN `+s.inRows("$5", 2)+`
			RETURNING tenant_id, id, fence, grp, attended`, r.Kind, r.Owner, r.Until.UnixMicro(), int64(never), list(refs))
		slices.SortFunc(claims, func(a, b lease.Claim) int {
			return rank[[2]int64{int64(a.Tenant), a.ID}] - rank[[2]int64{int64(b.Tenant), b.ID}]
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claiming work: %w", err)
	}
	return claims, nil
}

// maxLooks bounds how often one claim looks further because groups were full.
const maxLooks = 10

// chooseWork picks rows to claim and locks them.
func (s *Store) chooseWork(ctx context.Context, tx *sql.Tx, r lease.Request) (chosen []candidate, err error) {
	now := r.Now.UnixMicro()
	load := map[string]int{}
	type count struct {
		group string
		n     int
	}
	counts, err := collect(ctx, tx, func(scan func(...any) error) (c count, err error) {
		err = scan(&c.group, &c.n)
		return c, err
	},
		`SELECT grp, count(*) FROM work WHERE kind = $1 AND owner IS NOT NULL AND lease_until >= $2 GROUP BY grp`, r.Kind, now)
	if err != nil {
		return nil, err
	}
	full := []string{}
	for _, c := range counts {
		if load[c.group] = c.n; r.Cap(c.group) > 0 && c.n >= r.Cap(c.group) {
			full = append(full, c.group)
		}
	}
	lock := s.forUpdate()
	if lock != "" {
		lock += " SKIP LOCKED" // of whoever commits a page or puts the work up again right now
	}
	const died, ready = ` AND owner IS NOT NULL AND lease_until < $2 ORDER BY lease_until`, ` AND owner IS NULL AND ready_at <= $2 ORDER BY ready_at`
	for _, from := range []string{` AND attended = TRUE` + died, ` AND attended = TRUE` + ready, ` AND attended = FALSE` + died, ` AND attended = FALSE` + ready} {
		for look := 0; look < maxLooks && len(chosen) < r.Limit; look++ {
			// A few more than needed, because groups become full on the way.
			limit := 2 * (r.Limit - len(chosen))
			taken := make([][2]int64, len(chosen))
			for i, c := range chosen {
				taken[i] = [2]int64{int64(c.tenant), c.id}
			}
			found, err := collect(ctx, tx, scanCandidate, `SELECT tenant_id, id, grp FROM work
				WHERE kind = $1 AND grp NOT IN `+s.inList("$3")+` AND (tenant_id, id) NOT IN `+s.inRows("$4", 2)+from+` LIMIT $5`+lock, r.Kind, now, list(full), list(taken), limit)
			if err != nil {
				return nil, err
			}
			for _, c := range found {
				limit := r.Cap(c.group)
				if len(chosen) == r.Limit || limit > 0 && load[c.group] >= limit {
					continue
				}
				chosen = append(chosen, c)
				if load[c.group]++; load[c.group] == limit {
					full = append(full, c.group)
				}
			}
			if len(found) < limit {
				break
			}
		}
	}
	return chosen, nil
}

// EndClaims ends all leases: whoever held them is gone. It is for a database
// that has one node at a time, when that one starts.
func (s *Store) EndClaims(ctx context.Context) error {
	_, err := s.write.ExecContext(ctx, `UPDATE work SET lease_until = 0 WHERE owner IS NOT NULL`)
	return err
}

// RenewWork implements lease.Store.
func (s *Store) RenewWork(ctx context.Context, owner string, claims []lease.Claim, until time.Time) ([]lease.Claim, error) {
	return s.updateClaims(ctx, owner, claims, `lease_until = $4`, until.UnixMicro())
}

// ReleaseWork implements lease.Store.
func (s *Store) ReleaseWork(ctx context.Context, owner string, claims []lease.Claim, readyAt time.Time) ([]lease.Claim, error) {
	return s.updateClaims(ctx, owner, claims, `owner = NULL, lease_until = NULL, ready_at = CASE WHEN ready_at < $4 THEN ready_at ELSE $4 END`,
		readyAt.UnixMicro())
}

// updateClaims changes those claims, all of one kind, that the owner still has,
// and returns them.
func (s *Store) updateClaims(ctx context.Context, owner string, claims []lease.Claim, set string, value int64) (held []lease.Claim, err error) {
	if len(claims) == 0 {
		return nil, nil
	}
	refs := make([][3]int64, len(claims))
	for i, c := range claims {
		refs[i] = [3]int64{int64(c.Tenant), c.ID, c.Number}
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		held, err = collect(ctx, tx, func(scan func(...any) error) (c lease.Claim, err error) {
			c.Kind = claims[0].Kind
			err = scan(&c.Tenant, &c.ID, &c.Number, &c.Group, &c.Attended)
			return c, err
		}, `UPDATE work SET `+set+` WHERE kind = $1 AND owner = $2 AND (tenant_id, id, fence) IN `+s.inRows("$3", 3)+`
			RETURNING tenant_id, id, fence, grp, attended`, claims[0].Kind, owner, list(refs), value)
		return err
	})
	return held, err
}

// inRows is inNumbers for rows of n integer columns, made by list from arrays.
func (s *Store) inRows(param string, n int) string {
	value, from := "(value->>%d)::bigint", " FROM jsonb_array_elements("+param+"::jsonb))"
	if s.engine == SQLite {
		value, from = "value->>%d", " FROM json_each("+param+"))"
	}
	columns := "(SELECT "
	for i := range n {
		if i > 0 {
			columns += ", "
		}
		columns += fmt.Sprintf(value, i)
	}
	return columns + from
}
