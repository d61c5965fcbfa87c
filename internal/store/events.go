package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// eventAAD ties a payload to its user. The position is not known yet when a
// payload is sealed, and no row of a user is secret from another of the same.
func eventAAD(tenant bankfeed.TenantID, user bankfeed.UserID) []byte {
	return secret.AAD("event", int64(tenant), int64(user))
}

// sealEvents encodes and seals the snapshots of a change, in the order of its
// events. It comes before the transaction: the key store may have to be asked.
// ErrErased once the user's key was destroyed. Transactions that were encoded
// already are not encoded again.
func (s *Store) sealEvents(ctx context.Context, c *bankfeed.Change, e encoded) ([][]byte, error) {
	if len(c.Events) == 0 {
		return nil, nil
	}
	sealer, err := s.userKeys.Sealer(ctx, c.Tenant, c.User)
	if errors.Is(err, secret.ErrErased) {
		return nil, bankfeed.ErrErased
	}
	if err != nil {
		return nil, err
	}
	aad := eventAAD(c.Tenant, c.User)
	sealed := make([][]byte, len(c.Events))
	enc := snapshots{transactions: e}
	for i, d := range c.Events {
		if d.Snapshot == nil {
			return nil, fmt.Errorf("event %s without a snapshot", d.Type)
		}
		plain, err := enc.encode(d.Snapshot)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", d.Type, err)
		}
		sealed[i] = sealer.Seal(nil, plain, aad)
	}
	return sealed, nil
}

// appendEvents gives the events of a change their positions and inserts them.
// It must be the last step of the transaction, but for adding rows that name the
// positions.
//
// Why no reader ever skips an event: the statement on lanes takes the lane's row
// lock, which is held until the transaction has ended. Whoever gets position p
// therefore took the lock after the transaction with p-1 had ended: committed,
// and visible to every snapshot from then on, or rolled back, and then its
// numbers went back with it. So what any snapshot sees of a lane is 1..n
// without a gap, and whatever comes later is larger than n. PostgreSQL makes a
// commit visible before it releases the locks, and writes commit records in
// that order, so the same holds on a replica; SQLite has one writer. A reader
// may thus go on after the last position that it saw. Being the last step keeps
// the lock short: nothing but the insert and the flush of the commit.
func (s *Store) appendEvents(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, sealed [][]byte) (bankfeed.Committed, error) {
	done := bankfeed.Committed{Tenant: c.Tenant, User: c.User, Lane: eventlog.LaneOf(c.User, eventlog.Lanes)}
	n := len(c.Events)
	if n == 0 {
		return done, nil
	}
	if len(sealed) != n {
		return done, fmt.Errorf("%d sealed payloads for %d events", len(sealed), n)
	}
	err := tx.QueryRowContext(ctx, `
		INSERT INTO lanes (tenant_id, lane, position, floor) VALUES ($1, $2, $3, 0)
		ON CONFLICT (tenant_id, lane) DO UPDATE SET position = lanes.position + excluded.position
		RETURNING position`, c.Tenant, done.Lane, n).Scan(&done.Last)
	if err != nil {
		return done, fmt.Errorf("taking positions: %w", err)
	}
	done.First = done.Last - bankfeed.Position(n) + 1
	for i := range c.Events {
		done.Topics[c.Events[i].Type.Topic()] = true
	}
	err = s.addRows(ctx, tx, "events", eventColumns, n, func(i int) []any {
		d := &c.Events[i]
		return []any{int64(c.Tenant), int64(done.Lane), int64(done.First) + int64(i), string(d.Type), int64(d.Type.Topic()), d.At.UnixMicro(),
			int64(c.User), int64(d.Connection), int64(d.Account), int64(d.Session), sealed[i]}
	})
	if err != nil {
		return done, fmt.Errorf("appending events: %w", err)
	}
	return done, nil
}

var eventColumns = []string{"tenant_id", "lane", "position", "type", "topic", "at", "user_id", "connection_id", "account_id", "session_id", "payload"}
