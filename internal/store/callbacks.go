package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// Callbacks keeps receivers and what is on its way to them. It implements
// callback.Store, callback.Log and callback.Worlds.
//
// Whatever changes a target locks its work first, then its row, then deliveries:
// the same order for leaders, clients and ingest.
type Callbacks struct {
	CallbackSecrets
	*Store
}

// Callbacks returns the store of callbacks.
func (s *Store) Callbacks() Callbacks { return Callbacks{s.CallbackSecrets(), s} }

var (
	_ callback.Store  = Callbacks{}
	_ callback.Log    = Callbacks{}
	_ callback.Worlds = Callbacks{}
)

// ReadEvents implements callback.Log.
func (c Callbacks) ReadEvents(ctx context.Context, q callback.LogQuery) ([]bankfeed.Event, bankfeed.Position, error) {
	return c.Store.ReadEvents(ctx, eventlog.Query{
		Tenant: q.Tenant, Lane: q.Lane, User: q.User, Connection: q.Connection, Account: q.Account, Types: q.Types, After: q.After, Limit: q.Limit,
	})
}

// targetSecret is the sealed part of a subscription.
type targetSecret struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
}

func targetAAD(key callback.Key) []byte {
	return secret.AAD("callback target", int64(key.Tenant), int64(key.ID))
}

func (c Callbacks) sealTarget(t *callback.Target) ([]byte, error) {
	s := targetSecret{URL: string(t.URL)}
	for name, value := range t.Subscription.Headers.Static {
		if s.Headers == nil {
			s.Headers = map[string]string{}
		}
		s.Headers[name] = string(value)
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return c.keyring.Seal(plain, targetAAD(t.Key))
}

const targetColumns = `tenant_id, id, client, sandbox, settings, sealed, origin, status, reason, health, notes, created_at, version`

// targets reads targets, which are opened, and their cursors.
func (c Callbacks) targets(ctx context.Context, q querier, query string, args ...any) ([]callback.Target, error) {
	type row struct {
		callback.Target
		settings, sealed []byte
	}
	rows, err := collect(ctx, q, func(scan func(...any) error) (r row, err error) {
		var health, notes []byte
		var created sql.NullInt64
		err = scan(&r.Tenant, &r.ID, &r.Client, &r.Sandbox, &r.settings, &r.sealed, &r.Origin, &r.Status, &r.Reason, &health, &notes, &created, &r.Version)
		if err == nil {
			err = json.Unmarshal(health, &r.Health)
		}
		if err == nil {
			err = json.Unmarshal(notes, &r.Notes)
		}
		r.CreatedAt = at(created)
		return r, err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	out := make([]callback.Target, 0, len(rows))
	var subscriptions [][2]int64
	for _, r := range rows {
		if r.settings != nil {
			subscriptions = append(subscriptions, [2]int64{int64(r.Tenant), int64(r.ID)})
			if err := c.openTarget(ctx, &r.Target, r.settings, r.sealed); err != nil {
				return nil, fmt.Errorf("target %d of tenant %d: %w", r.ID, r.Tenant, err)
			}
		}
		out = append(out, r.Target)
	}
	if len(subscriptions) == 0 {
		return out, nil
	}
	cursors := map[callback.Key][]callback.Cursor{}
	_, err = collect(ctx, q, func(scan func(...any) error) (struct{}, error) {
		var key callback.Key
		var cur callback.Cursor
		err := scan(&key.Tenant, &key.ID, &cur.Lane, &cur.Epoch, &cur.Position)
		cursors[key] = append(cursors[key], cur)
		return struct{}{}, err
	}, `SELECT tenant_id, target, lane, epoch, position FROM callback_cursors WHERE (tenant_id, target) IN `+c.inRows("$1", 2)+`
		ORDER BY tenant_id, target, lane`, list(subscriptions))
	for i := range out {
		out[i].Cursors = cursors[out[i].Key]
	}
	return out, err
}

func (c Callbacks) openTarget(ctx context.Context, t *callback.Target, settings, sealed []byte) error {
	t.Subscription = new(callback.Settings)
	if err := json.Unmarshal(settings, t.Subscription); err != nil {
		return err
	}
	plain, err := c.keyring.Open(ctx, sealed, targetAAD(t.Key))
	if err != nil {
		return err
	}
	var s targetSecret
	if err := json.Unmarshal(plain, &s); err != nil {
		return err
	}
	t.URL = bankfeed.Secret(s.URL)
	for name, value := range s.Headers {
		if t.Subscription.Headers.Static == nil {
			t.Subscription.Headers.Static = map[string]bankfeed.Secret{}
		}
		t.Subscription.Headers.Static[name] = bankfeed.Secret(value)
	}
	return nil
}

// target reads one, in a transaction with a lock.
func (c Callbacks) target(ctx context.Context, q querier, key callback.Key, lock string) (callback.Target, error) {
	all, err := c.targets(ctx, q, `SELECT `+targetColumns+` FROM callback_targets WHERE tenant_id = $1 AND id = $2`+lock, key.Tenant, key.ID)
	if err != nil {
		return callback.Target{}, err
	}
	if len(all) == 0 {
		return callback.Target{}, bankfeed.ErrNotFound
	}
	return all[0], nil
}

// Target implements callback.Leading.
func (c Callbacks) Target(ctx context.Context, key callback.Key) (callback.Target, error) {
	return c.target(ctx, c.read, key, "")
}

// Targets implements callback.Managing.
func (c Callbacks) Targets(ctx context.Context, q callback.TargetQuery) ([]callback.Target, error) {
	where := ``
	if q.Subscriptions != nil {
		where = map[bool]string{true: ` AND settings IS NOT NULL`, false: ` AND settings IS NULL`}[*q.Subscriptions]
	}
	return c.targets(ctx, c.read, `SELECT `+targetColumns+` FROM callback_targets
		WHERE tenant_id = $1 AND sandbox = $2 AND id > $3 AND status <> 'deleted'`+where+` ORDER BY id LIMIT $4`, q.Tenant, q.Sandbox, q.After, q.Limit)
}

// Versions implements callback.Leading.
func (c Callbacks) Versions(ctx context.Context, keys []callback.Key) (map[callback.Key]int64, error) {
	refs := make([][2]int64, len(keys))
	for i, k := range keys {
		refs[i] = [2]int64{int64(k.Tenant), int64(k.ID)}
	}
	versions := make(map[callback.Key]int64, len(keys))
	_, err := collect(ctx, c.read, func(scan func(...any) error) (struct{}, error) {
		var k callback.Key
		var v int64
		err := scan(&k.Tenant, &k.ID, &v)
		versions[k] = v
		return struct{}{}, err
	}, `SELECT tenant_id, id, version FROM callback_targets WHERE (tenant_id, id) IN `+c.inRows("$1", 2), list(refs))
	return versions, err
}

// forChange locks a row against others who would change it, and not against
// changes that only need it to stay (putOrigins), which lock in another order.
func (c Callbacks) forChange() string {
	if c.engine == Postgres {
		return " FOR NO KEY UPDATE"
	}
	return ""
}

// workOf is the work of leading a target.
func workOf(key callback.Key, subscription bool, origin string, now time.Time) bankfeed.WorkItem {
	w := bankfeed.WorkItem{Tenant: key.Tenant, Kind: bankfeed.WorkTarget, ID: int64(key.ID), Group: origin, ReadyAt: now}
	if subscription {
		w.Kind = bankfeed.WorkSubscription
	}
	return w
}

// AddSubscription implements callback.Managing.
func (c Callbacks) AddSubscription(ctx context.Context, t callback.Target, now time.Time) (callback.Target, error) {
	id, err := c.NextID(ctx, t.Tenant, bankfeed.KindTarget)
	if err != nil {
		return callback.Target{}, err
	}
	t.ID, t.CreatedAt, t.Version = callback.TargetID(id), now.UTC().Truncate(time.Microsecond), 1
	settings, err := encode(t.Subscription)
	if err != nil {
		return callback.Target{}, err
	}
	health, err := encode(t.Health)
	if err != nil {
		return callback.Target{}, err
	}
	sealed, err := c.sealTarget(&t)
	if err != nil {
		return callback.Target{}, err
	}
	work := []bankfeed.WorkItem{workOf(t.Key, true, t.Origin, now)}
	err = c.tx(ctx, func(tx *sql.Tx) error {
		// Two that count at the same time would both find room for one more.
		if _, err := tx.ExecContext(ctx, `SELECT 1 FROM tenants WHERE id = $1`+c.forChange(), t.Tenant); err != nil {
			return err
		}
		var n int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM callback_targets WHERE tenant_id = $1 AND sandbox = $2 AND settings IS NOT NULL AND status <> 'deleted'`,
			t.Tenant, t.Sandbox).Scan(&n)
		if err != nil {
			return err
		}
		if n >= callback.MaxSubscriptions {
			return bankfeed.Errorf(bankfeed.Conflict, "there are %d subscriptions already", n)
		}
		if err := c.putWork(ctx, tx, work); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO callback_targets (`+targetColumns+`, replay) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '[]', $11, 1, 0)`,
			t.Tenant, t.ID, t.Client, t.Sandbox, settings, sealed, t.Origin, t.Status, t.Reason, health, now.UnixMicro())
		if err != nil {
			return err
		}
		return c.putCursors(ctx, tx, t.Key, t.Cursors)
	})
	if err != nil {
		return callback.Target{}, err
	}
	c.tellReady(work)
	return t, nil
}

func (c Callbacks) putCursors(ctx context.Context, tx *sql.Tx, key callback.Key, cursors []callback.Cursor) error {
	for _, cur := range cursors {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO callback_cursors (tenant_id, target, lane, epoch, position) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant_id, target, lane) DO UPDATE SET epoch = excluded.epoch, position = excluded.position`,
			key.Tenant, key.ID, cur.Lane, cur.Epoch, cur.Position); err != nil {
			return err
		}
	}
	return nil
}

// ChangeTarget implements callback.Managing.
func (c Callbacks) ChangeTarget(ctx context.Context, key callback.Key, sandbox bool, change func(*callback.Target) error, now time.Time) (t callback.Target, err error) {
	old, err := c.Target(ctx, key)
	if err != nil {
		return callback.Target{}, err
	}
	if old.Sandbox != sandbox {
		return callback.Target{}, bankfeed.ErrNotFound
	}
	work := []bankfeed.WorkItem{workOf(key, old.Subscription != nil, old.Origin, now)}
	err = c.tx(ctx, func(tx *sql.Tx) error {
		if err := c.putWork(ctx, tx, work); err != nil { // also what locks out the leader
			return err
		}
		if t, err = c.target(ctx, tx, key, c.forChange()); err != nil {
			return err
		}
		if t.Status == callback.Deleted {
			return bankfeed.ErrNotFound
		}
		ordered := t.Subscription != nil && t.Subscription.Ordered
		if err := change(&t); err != nil {
			return err
		}
		t.Version++
		if ordered && !t.Subscription.Ordered && t.Status != callback.Deleted {
			if _, err := tx.ExecContext(ctx, updateBehind, key.Tenant, key.ID, now.UnixMicro()); err != nil {
				return err
			}
		}
		if t.Status == callback.Deleted {
			if err := c.endWork(ctx, tx, work); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM callback_cursors WHERE tenant_id = $1 AND target = $2`, t.Tenant, t.ID); err != nil {
				return err
			}
		}
		return c.storeTarget(ctx, tx, &t)
	})
	if err != nil {
		return callback.Target{}, err
	}
	if t.Status == callback.Deleted {
		return t, c.endDeleted(ctx, key, deletedNow, now)
	}
	c.tellReady(work)
	return t, nil
}

const updateBehind = `UPDATE callback_deliveries SET next_at = $3 WHERE tenant_id = $1 AND target = $2 AND state = 'waiting' AND next_at IS NULL`

func (c Callbacks) storeTarget(ctx context.Context, tx *sql.Tx, t *callback.Target) error {
	health, err := encode(t.Health)
	if err != nil {
		return err
	}
	var settings sql.NullString
	var sealed []byte
	if t.Subscription != nil {
		if settings.String, err = encode(t.Subscription); err != nil {
			return err
		}
		if sealed, err = c.sealTarget(t); err != nil {
			return err
		}
		settings.Valid = true
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE callback_targets SET settings = $3, sealed = $4, origin = $5, status = $6, reason = $7, health = $8, version = $9
		WHERE tenant_id = $1 AND id = $2`, t.Tenant, t.ID, settings, sealed, t.Origin, t.Status, t.Reason, health, t.Version)
	return err
}

// What ends of a deleted target in one transaction, and while its client waits;
// sweeping goes on with the rest.
const (
	deletedAtOnce = 2000
	deletedNow    = 5 * deletedAtOnce
)

const updateDeleted = `UPDATE callback_deliveries SET state = 'skipped', reason = '` + callback.ReasonDeleted + `', next_at = NULL, ended_at = $3
	WHERE tenant_id = $1 AND state = 'waiting' AND id IN (
		SELECT id FROM callback_deliveries WHERE tenant_id = $1 AND target = $2 AND state >= 'waiting' AND state <= 'waiting' AND id > $4
		ORDER BY state, id LIMIT $5) RETURNING id`

// endDeleted ends up to limit of what waits for a target that is deleted.
func (c Callbacks) endDeleted(ctx context.Context, key callback.Key, limit int, now time.Time) error {
	after := int64(0) // on PostgreSQL, what ended is in the way until it is vacuumed
	for range limit / deletedAtOnce {
		ids, err := collect(ctx, c.write, scanID, updateDeleted, key.Tenant, key.ID, now.UnixMicro(), after, deletedAtOnce)
		if err != nil || len(ids) < deletedAtOnce {
			return err
		}
		after = slices.Max(ids)
	}
	return nil
}
