package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// SinksDone finds the lowest position up to which nobody needs a lane of the log
// any more: no enabled stream, no subscription that is active or paused, and no
// delivery that waits for a receiver that is, as its body is made from the event.
// ok is false if nobody needs the lane at all.
func (s *Store) SinksDone(ctx context.Context, tenant bankfeed.TenantID, lane int) (done bankfeed.Position, ok bool, err error) {
	done, ok, err = s.StreamsDone(ctx, tenant, lane)
	if err != nil {
		return 0, false, err
	}
	var next [2]sql.NullInt64
	err = s.read.QueryRowContext(ctx, selectNeeded, tenant, lane).Scan(&next[0], &next[1])
	if err != nil {
		return 0, false, err
	}
	for _, n := range next {
		if p := bankfeed.Position(n.Int64); n.Valid && (!ok || p < done) {
			done, ok = p, true
		}
	}
	return done, ok, nil
}

// selectNeeded looks once into an index for each receiver.
const selectNeeded = `SELECT
		(SELECT min(c.position) FROM callback_targets t JOIN callback_cursors c ON c.tenant_id = t.tenant_id AND c.target = t.id
			WHERE t.tenant_id = $1 AND c.lane = $2 AND t.settings IS NOT NULL AND t.status IN ('active', 'paused')),
		(SELECT min((SELECT d.position - 1 FROM callback_deliveries d WHERE d.tenant_id = $1 AND d.target = t.id AND d.lane = $2 AND d.state = 'waiting'
			ORDER BY d.position LIMIT 1)) FROM callback_targets t WHERE t.tenant_id = $1 AND t.status IN ('active', 'paused'))`

// Told reports whether every sink that hears of a user was told of all that was
// removed: enabled streams have confirmed the user's events, subscriptions have
// come past them and no delivery of a deletion waits, and every live queue of the
// user has answered with them. Where there is no sink there is nobody to wait
// for. False says only that this is not known.
func (s *Store) Told(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
	lane := eventlog.LaneOf(user, eventlog.Lanes)
	done, ok, err := s.StreamsDone(ctx, tenant, lane)
	if err != nil {
		return false, err
	}
	cursors, err := s.hearing(ctx, tenant, user, lane)
	if err != nil {
		return false, err
	}
	if len(cursors) > 0 {
		if p := slices.Min(cursors); !ok || p < done {
			done, ok = p, true
		}
	}
	if !ok {
		done = math.MaxInt64 // only a queue can be behind
	}
	var behind bool
	err = s.read.QueryRowContext(ctx, fmt.Sprintf(`
		SELECT coalesce((SELECT max(position) FROM events WHERE tenant_id = $1 AND user_id = $2), 0) > $3
			OR EXISTS (SELECT 1 FROM events e CROSS JOIN callback_targets t CROSS JOIN callback_deliveries d -- SQLite takes them in this order
				WHERE e.tenant_id = $1 AND e.user_id = $2 AND e.payload IS NOT NULL AND e.type IN `+s.inList("$6")+`
					AND t.tenant_id = $1 AND t.status IN ('active', 'paused')
					AND d.tenant_id = $1 AND d.target = t.id AND d.lane = e.lane AND d.position = e.position AND d.state = 'waiting')
			OR EXISTS (SELECT 1 FROM queues WHERE tenant_id = $1 AND user_id = $2 AND epoch = $4 AND expires_at > $5
				AND cursor < (SELECT max(position) FROM events WHERE tenant_id = $1 AND user_id = $2 AND topic = %d))`, bankfeed.TopicConnections),
		tenant, user, done, s.installation.Epoch, s.now().UnixMicro(), list(eventlog.Facts)).Scan(&behind)
	return !behind, err
}

// hearing finds how far those subscriptions have come, paused ones included,
// that are told when something of a user is removed.
func (s *Store) hearing(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, lane int) (cursors []bankfeed.Position, err error) {
	type subscription struct {
		callback.Settings
		position bankfeed.Position
	}
	all, err := collect(ctx, s.read, func(scan func(...any) error) (c subscription, err error) {
		var settings []byte
		if err = scan(&settings, &c.position); err == nil {
			err = json.Unmarshal(settings, &c.Settings)
		}
		return c, err
	}, `SELECT t.settings, c.position FROM callback_targets t JOIN callback_cursors c ON c.tenant_id = t.tenant_id AND c.target = t.id
		WHERE t.tenant_id = $1 AND c.lane = $3 AND t.settings IS NOT NULL AND t.status IN ('active', 'paused')
			AND t.sandbox = (SELECT sandbox FROM users WHERE tenant_id = $1 AND id = $2)`, tenant, user, lane)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.User != 0 && c.User != user ||
			len(c.Types) > 0 && !slices.ContainsFunc(c.Types, func(t bankfeed.EventType) bool { return slices.Contains(eventlog.Facts, t) }) {
			continue
		}
		hears := c.Connection == 0 && c.Account == 0
		if !hears { // of this user, if any of its events has the number
			err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM events WHERE tenant_id = $1 AND user_id = $2
				AND (connection_id = $3 OR $3 = 0) AND (account_id = $4 OR $4 = 0))`, tenant, user, c.Connection, c.Account).Scan(&hears)
			if err != nil {
				return nil, err
			}
		}
		if hears {
			cursors = append(cursors, c.position)
		}
	}
	return cursors, nil
}
