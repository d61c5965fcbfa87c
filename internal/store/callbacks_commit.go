package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/secret"
)

var deliveryColumns = []string{"tenant_id", "id", "target", "lane", "position", "replay", "nth", "epoch", "type", "user_id", "connection_id", "url", "once",
	"state", "reason", "attempts", "step", "cause", "status", "node", "duration", "created_at", "first_at", "last_at", "next_at", "ended_at"}

var attemptColumns = []string{"tenant_id", "delivery", "number", "at", "node", "cause", "status", "wait", "duration", "user_id", "position", "text"}

// sealAttempt binds what a receiver answered to the user of the event.
const sealAttempt = "attempt"

// notesKept is how many notes a target has at most.
const notesKept = 20

// preparedAttempt is what became of a row, ready to be stored.
type preparedAttempt struct {
	*callback.Row
	text []byte
}

// Commit implements callback.Leading.
func (c Callbacks) Commit(ctx context.Context, m callback.Commit) (ids []callback.DeliveryID, version int64, err error) {
	if len(m.New) > 0 {
		first, err := c.NextIDs(ctx, m.Key.Tenant, bankfeed.KindDelivery, len(m.New))
		if err != nil {
			return nil, 0, err
		}
		for i := range m.New {
			ids = append(ids, callback.DeliveryID(first+int64(i)))
		}
	}
	sealers := sealersOf{c: c, tenant: m.Key.Tenant}
	urls := make([][]byte, len(m.New))
	for i := range m.New {
		if urls[i], err = sealers.seal(ctx, sealCallback, m.New[i].User, string(m.New[i].URL)); err != nil {
			return nil, 0, err
		}
	}
	added, err := sealers.attempts(ctx, m.New)
	if err != nil {
		return nil, 0, err
	}
	changed, err := sealers.attempts(ctx, m.Changed)
	if err != nil {
		return nil, 0, err
	}
	err = c.tx(ctx, func(tx *sql.Tx) error {
		if err := c.checkFence(ctx, tx, &m.Fence, m.Release); err != nil {
			return err
		}
		if err := c.putCursors(ctx, tx, m.Key, m.Cursors); err != nil {
			return err
		}
		if version, err = c.noteTarget(ctx, tx, &m); err != nil {
			return err
		}
		if err := c.disordered(ctx, tx, &m); err != nil {
			return err
		}
		speaking, err := c.speaking(ctx, tx, m.Key.Tenant, added, changed)
		if err != nil {
			return err
		}
		if err := c.addDeliveries(ctx, tx, &m, ids, urls); err != nil {
			return err
		}
		for i, id := range ids {
			added[i].ID = id
		}
		failed := make([]preparedAttempt, 0, len(changed))
		for _, a := range added {
			if a.Attempt != nil && !a.Attempt.Delivered() {
				failed = append(failed, a)
			}
		}
		late, err := c.changeDeliveries(ctx, tx, &m)
		if err != nil {
			return err
		}
		for _, a := range changed {
			if stored, isLate := late[a.ID]; a.Attempt != nil && (stored || !isLate && !a.Attempt.Delivered()) {
				failed = append(failed, a)
			}
		}
		if failed, err = c.missing(ctx, tx, m.Key.Tenant, failed, len(m.Changed) > 0); err != nil {
			return err
		}
		if err := c.addAttempts(ctx, tx, m.Key.Tenant, failed, speaking); err != nil {
			return err
		}
		return c.release(ctx, tx, &m)
	})
	if err != nil {
		return nil, 0, err
	}
	return ids, version, nil
}

// sealersOf seals for the users of one tenant, each key asked for once. What is
// sealed for an erased user is nil.
type sealersOf struct {
	c      Callbacks
	tenant bankfeed.TenantID
	known  map[bankfeed.UserID]*secret.Sealer
}

func (s *sealersOf) of(ctx context.Context, user bankfeed.UserID) (*secret.Sealer, error) {
	sealer, ok := s.known[user]
	if ok {
		return sealer, nil
	}
	sealer, err := s.c.sealer(ctx, s.tenant, user)
	if err != nil && !errors.Is(err, secret.ErrErased) {
		return nil, err
	}
	if s.known == nil {
		s.known = map[bankfeed.UserID]*secret.Sealer{}
	}
	s.known[user] = sealer
	return sealer, nil
}

func (s *sealersOf) seal(ctx context.Context, use string, user bankfeed.UserID, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	sealer, err := s.of(ctx, user)
	if err != nil || sealer == nil {
		return nil, err
	}
	return sealer.Seal(nil, []byte(text), ownerAAD(use, s.tenant, user)), nil
}

// open is empty for an erased user.
func (s *sealersOf) open(ctx context.Context, use string, user bankfeed.UserID, sealed []byte) (string, error) {
	if sealed == nil {
		return "", nil
	}
	sealer, err := s.of(ctx, user)
	if err != nil || sealer == nil {
		return "", err
	}
	plain, err := sealer.Open(nil, sealed, ownerAAD(use, s.tenant, user))
	return string(plain), err
}

func (s *sealersOf) attempts(ctx context.Context, rows []callback.Row) ([]preparedAttempt, error) {
	out := make([]preparedAttempt, len(rows))
	for i := range rows {
		r := rows[i]
		out[i].Row = &r
		if r.Attempt == nil {
			continue
		}
		var err error
		if out[i].text, err = s.seal(ctx, sealAttempt, r.User, r.Attempt.Text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// noteTarget stores what a leader learned of its target, and returns its version.
func (c Callbacks) noteTarget(ctx context.Context, tx *sql.Tx, m *callback.Commit) (version int64, err error) {
	if m.Health == nil && m.Disable == "" && len(m.Notes) == 0 {
		err = tx.QueryRowContext(ctx, `SELECT version FROM callback_targets WHERE tenant_id = $1 AND id = $2`, m.Key.Tenant, m.Key.ID).Scan(&version)
		return version, err
	}
	var status callback.Status
	var reason, health, notes string
	err = tx.QueryRowContext(ctx, `SELECT status, reason, health, notes, version FROM callback_targets WHERE tenant_id = $1 AND id = $2`+c.forChange(),
		m.Key.Tenant, m.Key.ID).Scan(&status, &reason, &health, &notes, &version)
	if err != nil {
		return 0, err
	}
	if m.Health != nil {
		if health, err = encode(m.Health); err != nil {
			return 0, err
		}
	}
	if m.Disable != "" && status == callback.Active {
		status, reason = callback.Disabled, m.Disable
		version++
	}
	if len(m.Notes) > 0 {
		var all []callback.Note
		if err := json.Unmarshal([]byte(notes), &all); err != nil {
			return 0, err
		}
		all = append(all, m.Notes...)
		if notes, err = encode(all[max(0, len(all)-notesKept):]); err != nil {
			return 0, err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE callback_targets SET status = $3, reason = $4, health = $5, notes = $6, version = $7 WHERE tenant_id = $1 AND id = $2`,
		m.Key.Tenant, m.Key.ID, status, reason, health, notes, version)
	return version, err
}

// disordered makes due what a leader wants to be behind another delivery, if the
// order was given up and it has not heard of that.
func (c Callbacks) disordered(ctx context.Context, tx *sql.Tx, m *callback.Commit) error {
	behind := func(r callback.Row) bool { return r.Behind }
	if !slices.ContainsFunc(m.New, behind) && !slices.ContainsFunc(m.Changed, behind) {
		return nil
	}
	var settings []byte
	var set callback.Settings
	err := tx.QueryRowContext(ctx, `SELECT settings FROM callback_targets WHERE tenant_id = $1 AND id = $2`, m.Key.Tenant, m.Key.ID).Scan(&settings)
	if err == nil && settings != nil {
		err = json.Unmarshal(settings, &set)
	}
	if err != nil || set.Ordered {
		return err
	}
	for _, rows := range []*[]callback.Row{&m.New, &m.Changed} {
		*rows = slices.Clone(*rows) // the leader's own
		for i := range *rows {
			(*rows)[i].Behind = false // without a time it is due now
		}
	}
	return nil
}

type place struct {
	lane     int
	position bankfeed.Position
}

// speaking finds those events of attempts with a text that still say something.
// The lock makes whoever blanks them come before this, or find the texts.
func (c Callbacks) speaking(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, attempts ...[]preparedAttempt) (map[place]bool, error) {
	lanes := map[int][]bankfeed.Position{}
	for _, some := range attempts {
		for _, a := range some {
			if a.text != nil {
				lanes[a.Lane] = append(lanes[a.Lane], a.Position)
			}
		}
	}
	lock := ""
	if c.engine == Postgres {
		lock = " FOR SHARE"
	}
	speak := map[place]bool{}
	for lane, positions := range lanes {
		found, err := collect(ctx, tx, scanID, `SELECT position FROM events WHERE tenant_id = $1 AND lane = $2 AND position IN `+c.inNumbers("$3")+`
			AND payload IS NOT NULL ORDER BY position`+lock, tenant, lane, list(positions))
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			speak[place{lane, bankfeed.Position(p)}] = true
		}
	}
	return speak, nil
}

// addDeliveries is the hot path: hundreds of rows that were delivered at once.
func (c Callbacks) addDeliveries(ctx context.Context, tx *sql.Tx, m *callback.Commit, ids []callback.DeliveryID, urls [][]byte) error {
	return c.addRows(ctx, tx, "callback_deliveries", deliveryColumns, len(m.New), func(i int) []any {
		d := &m.New[i].Delivery
		var a callback.Attempt
		if m.New[i].Attempt != nil {
			a = *m.New[i].Attempt
		}
		return []any{int64(m.Key.Tenant), int64(ids[i]), int64(m.Key.ID), int64(d.Lane), int64(d.Position), d.Replay, int64(0), int64(d.Epoch), string(d.Type),
			int64(d.User), int64(d.Connection), blob(urls[i]), d.Once, string(d.State), d.Reason, int64(d.Attempts), int64(d.Step),
			string(a.Cause), int64(a.Status), a.Node, int64(a.Duration),
			d.CreatedAt.UnixMicro(), orNull(d.FirstAt), orNull(d.LastAt), nextAt(d, m.Now), orNull(d.EndedAt)}
	})
}

func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// nextAt is when a delivery is due: never once it has ended, and while it is
// behind another one.
func nextAt(d *callback.Delivery, now time.Time) any {
	switch {
	case d.State != callback.Waiting || d.Behind:
		return nil
	case d.NextAt.IsZero():
		return now.UnixMicro()
	}
	return d.NextAt.UnixMicro()
}

// changeDeliveries replaces what is stored of rows that wait. late are those that
// ended meanwhile; the value tells whether they are still there.
func (c Callbacks) changeDeliveries(ctx context.Context, tx *sql.Tx, m *callback.Commit) (late map[callback.DeliveryID]bool, err error) {
	if len(m.Changed) == 0 {
		return nil, nil
	}
	rows := make([][]any, len(m.Changed))
	late = make(map[callback.DeliveryID]bool, len(m.Changed))
	for i := range m.Changed {
		d := &m.Changed[i].Delivery
		rows[i] = []any{d.ID, d.State, d.Reason, d.Attempts, d.Step, nextAt(d, m.Now), orNull(d.FirstAt), orNull(d.LastAt), orNull(d.EndedAt), nil, nil, nil, nil, m.Key.Tenant}
		if a := m.Changed[i].Attempt; a != nil {
			copy(rows[i][9:], []any{a.Cause, a.Status, a.Node, int64(a.Duration)})
		}
		late[d.ID] = false
	}
	done, err := collect(ctx, tx, scanID, c.updateWaiting(), m.Key.ID, list(rows))
	if err != nil {
		return nil, err
	}
	for _, id := range done {
		delete(late, callback.DeliveryID(id))
	}
	var counts [][3]int64
	for i := range m.Changed {
		if _, ended := late[m.Changed[i].ID]; ended && m.Changed[i].Attempt != nil {
			counts = append(counts, [3]int64{int64(m.Changed[i].ID), int64(m.Changed[i].Attempt.Number), int64(m.Key.Tenant)})
		}
	}
	if len(counts) == 0 {
		return late, nil
	}
	// The attempt counts, so that the next one after a redrive has another number.
	// What was delivered, only a leader has delivered: it is this commit, repeated.
	there, err := collect(ctx, tx, scanID, `
		UPDATE callback_deliveries AS d SET attempts = CASE WHEN d.attempts < v.c1 THEN v.c1 ELSE d.attempts END
		FROM `+c.rowsOf("$2", "bigint", "bigint", "bigint")+` AS v
		WHERE d.tenant_id = v.c2 AND d.id = v.c0 AND +d.target = $1 AND d.state <> 'delivered' RETURNING id`, m.Key.ID, list(counts))
	for _, id := range there {
		late[callback.DeliveryID(id)] = true
	}
	return late, err
}

// updateWaiting has nothing but the rows to begin with, so that no engine begins
// with all that a tenant or a target has.
func (c Callbacks) updateWaiting() string {
	return `UPDATE callback_deliveries AS d SET state = v.c1, reason = v.c2, attempts = v.c3, step = v.c4, next_at = v.c5, first_at = v.c6, last_at = v.c7,
			ended_at = v.c8, cause = coalesce(v.c9, d.cause), status = coalesce(v.c10, d.status), node = coalesce(v.c11, d.node), duration = coalesce(v.c12, d.duration)
		FROM ` + c.rowsOf("$2", "bigint", "text", "text", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "text", "bigint", "text", "bigint", "bigint") + ` AS v
		WHERE d.tenant_id = v.c13 AND d.id = v.c0 AND +d.target = $1 AND d.state = 'waiting' RETURNING id`
}

// missing leaves out attempts that a commit of which the leader does not know has
// stored. Rows that are new have none.
func (c Callbacks) missing(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, attempts []preparedAttempt, old bool) ([]preparedAttempt, error) {
	if !old || len(attempts) == 0 {
		return attempts, nil
	}
	refs := make([][2]int64, len(attempts))
	for i, a := range attempts {
		refs[i] = [2]int64{int64(a.ID), int64(a.Attempt.Number)}
	}
	there, err := collect(ctx, tx, func(scan func(...any) error) (ref [2]int64, err error) { err = scan(&ref[0], &ref[1]); return ref, err },
		`SELECT delivery, number FROM callback_attempts WHERE tenant_id = $1 AND (delivery, number) IN `+c.inRows("$2", 2), tenant, list(refs))
	if err != nil || len(there) == 0 {
		return attempts, err
	}
	return slices.DeleteFunc(attempts, func(a preparedAttempt) bool {
		return slices.Contains(there, [2]int64{int64(a.ID), int64(a.Attempt.Number)})
	}), nil
}

func (c Callbacks) addAttempts(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, attempts []preparedAttempt, speaking map[place]bool) error {
	return c.addRows(ctx, tx, "callback_attempts", attemptColumns, len(attempts), func(i int) []any {
		r, a := attempts[i].Row, attempts[i].Attempt
		text := attempts[i].text
		if !speaking[place{r.Lane, r.Position}] {
			text = nil
		}
		return []any{int64(tenant), int64(r.ID), int64(a.Number), a.At.UnixMicro(), a.Node, string(a.Cause), int64(a.Status), int64(a.RetryAfter),
			int64(a.Duration), int64(r.User), int64(r.Position), blob(text)}
	})
}

// release makes due what an outage, or another delivery of its connection, has
// held back.
func (c Callbacks) release(ctx context.Context, tx *sql.Tx, m *callback.Commit) error {
	if !m.Recovered.IsZero() {
		// What was never tried, or is behind, has no later time.
		if _, err := tx.ExecContext(ctx, updateRecovered, m.Key.Tenant, m.Key.ID, m.Now.UnixMicro(), m.Recovered.UnixMicro()); err != nil {
			return err
		}
	}
	if !m.Ordered {
		return nil
	}
	seen := map[bankfeed.ConnectionID]bool{}
	for _, rows := range [][]callback.Row{m.New, m.Changed} {
		for i := range rows {
			seen[rows[i].Connection] = true
		}
	}
	return c.releaseNext(ctx, tx, m.Key, seen, m.Now)
}

// releaseNext makes the first waiting delivery of each connection due, unless it
// is not behind anyway.
func (c Callbacks) releaseNext(ctx context.Context, tx *sql.Tx, key callback.Key, connections map[bankfeed.ConnectionID]bool, now time.Time) error {
	if len(connections) == 0 {
		return nil
	}
	rows := make([][1]int64, 0, len(connections))
	for id := range connections {
		rows = append(rows, [1]int64{int64(id)})
	}
	_, err := tx.ExecContext(ctx, c.updateNext(), key.Tenant, key.ID, now.UnixMicro(), list(rows))
	return err
}

// updateRecovered finds its rows in an index alone.
const updateRecovered = `UPDATE callback_deliveries SET next_at = $3 WHERE tenant_id = $1 AND state = 'waiting' AND id IN (
	SELECT id FROM callback_deliveries WHERE tenant_id = $1 AND target = $2 AND state = 'waiting' AND next_at > $3 AND last_at >= $4)`

func (c Callbacks) updateNext() string {
	return `UPDATE callback_deliveries SET next_at = $3 WHERE tenant_id = $1 AND state = 'waiting' AND next_at IS NULL AND id IN (
		SELECT (SELECT id FROM callback_deliveries WHERE tenant_id = $1 AND target = $2 AND connection_id = v.c0 AND state = 'waiting'
			ORDER BY lane, position, replay LIMIT 1) FROM ` + c.rowsOf("$4", "bigint") + ` AS v)`
}
