package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
)

var _ stream.Store = (*Store)(nil)

const replayColumns = `tenant_id, id, stream, lane, filter, queue, status, up_to, total, position, published, unrouted, erased, reason, started_at, ended_at`

func scanReplay(scan func(...any) error) (r stream.Replay, err error) {
	var filter []byte
	var started, ended sql.NullInt64
	err = scan(&r.Stream.Tenant, &r.ID, &r.Stream.Name, &r.Stream.Lane, &filter, &r.Queue, &r.Status, &r.Until, &r.Total, &r.Position,
		&r.Published, &r.Unrouted, &r.Erased, &r.Text, &started, &ended)
	if err == nil {
		err = json.Unmarshal(filter, &r.Filter)
	}
	r.StartedAt, r.EndedAt = at(started), at(ended)
	return r, err
}

// AddReplay implements stream.Store. It fails with ErrNotFound if there is no
// such stream.
func (s *Store) AddReplay(ctx context.Context, r stream.Replay, now time.Time) (stream.Replay, error) {
	filter, err := encode(r.Filter)
	if err != nil {
		return stream.Replay{}, err
	}
	r.Status = stream.ReplayPending
	var work []bankfeed.WorkItem
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := one(ctx, tx, scanName, `SELECT name FROM streams WHERE`+thisStream, r.Stream.Tenant, r.Stream.Name, r.Stream.Lane); err != nil {
			return err
		}
		for r.ID = now.UnixMilli(); ; r.ID++ {
			if bankfeed.Epoch(r.ID) == s.installation.Epoch {
				continue
			}
			res, err := tx.ExecContext(ctx, `
				INSERT INTO replays (`+replayColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
				ON CONFLICT (tenant_id, id) DO NOTHING`,
				r.Stream.Tenant, r.ID, r.Stream.Name, r.Stream.Lane, filter, r.Queue, r.Status, r.Until, r.Total, r.Position,
				r.Published, r.Unrouted, r.Erased, r.Text, micros(r.StartedAt), micros(r.EndedAt))
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			if n == 1 {
				break
			}
		}
		work = []bankfeed.WorkItem{{Tenant: r.Stream.Tenant, Kind: bankfeed.WorkReplay, ID: r.ID, Group: r.Stream.Name, ReadyAt: now}}
		return s.putWork(ctx, tx, work)
	})
	if err != nil {
		return stream.Replay{}, err
	}
	s.tellReady(work)
	return r, nil
}

// Replay implements stream.Store.
func (s *Store) Replay(ctx context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error) {
	return one(ctx, s.read, scanReplay, `SELECT `+replayColumns+` FROM replays WHERE tenant_id = $1 AND id = $2`, tenant, id)
}

// Replays implements stream.Store: newest first, below an id (0: all).
func (s *Store) Replays(ctx context.Context, tenant bankfeed.TenantID, before int64, limit int) ([]stream.Replay, error) {
	if before == 0 {
		before = never
	}
	return collect(ctx, s.read, scanReplay, `SELECT `+replayColumns+` FROM replays WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, tenant, before, limit)
}

// SaveReplay implements stream.Store. A cancel takes the work away, so it is
// looked for before the fence.
func (s *Store) SaveReplay(ctx context.Context, f bankfeed.Fence, r stream.Replay, release *bankfeed.Release) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var status stream.ReplayStatus
		err := tx.QueryRowContext(ctx, `SELECT status FROM replays WHERE tenant_id = $1 AND id = $2`+s.forUpdate(), f.Tenant, f.ID).Scan(&status)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return bankfeed.ErrNotFound
		case err != nil:
			return err
		case status == stream.ReplayCancelled:
			return stream.ErrCancelled
		}
		if err := s.checkFence(ctx, tx, &f, release); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE replays SET status = $3, total = $4, position = $5, published = $6, unrouted = $7, erased = $8, reason = $9, started_at = $10, ended_at = $11
			WHERE tenant_id = $1 AND id = $2`, f.Tenant, f.ID, r.Status, r.Total, r.Position, r.Published, r.Unrouted, r.Erased, r.Text,
			micros(r.StartedAt), micros(r.EndedAt))
		return err
	})
}

// CancelReplay implements stream.Store. It returns a replay that has ended as it
// is.
func (s *Store) CancelReplay(ctx context.Context, tenant bankfeed.TenantID, id int64, now time.Time) (r stream.Replay, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		r, err = one(ctx, tx, scanReplay, `SELECT `+replayColumns+` FROM replays WHERE tenant_id = $1 AND id = $2`+s.forUpdate(), tenant, id)
		if err != nil || r.Status != stream.ReplayPending && r.Status != stream.ReplayRunning {
			return err
		}
		r.Status, r.EndedAt = stream.ReplayCancelled, now.UTC().Truncate(time.Microsecond)
		if _, err := tx.ExecContext(ctx, `UPDATE replays SET status = $3, ended_at = $4 WHERE tenant_id = $1 AND id = $2`,
			tenant, id, r.Status, micros(r.EndedAt)); err != nil {
			return err
		}
		return s.endWork(ctx, tx, []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkReplay, ID: id}})
	})
	return r, err
}
