package callback

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// lane is a subscription's way through a lane of the log.
type lane struct {
	number  int
	cursor  Cursor            // what is stored, or being stored
	handed  bankfeed.Position // everything up to here is in entries, or none of its business
	entries []*entry          // in log order: what the cursor has not passed
}

// entry is an event that the cursor has not passed.
type entry struct {
	position bankfeed.Position
	done     bool  // its row can be stored
	row      Row   // once it is done
	parked   *item // the attempt that goes on although it is done
}

// batch is what one read of a lane found.
type batch struct {
	lane, life int
	read       time.Time
	events     []bankfeed.Event
	next       bankfeed.Position
}

// laneQuery is what the reader of a lane asks for.
type laneQuery struct {
	LogQuery
	sandbox bool
}

const (
	readBatch = 500
	// slowRead is how often a reader looks without having been woken.
	slowRead = 5 * time.Second
	// readTrust is how long an event may be in memory before it is sent. What is
	// erased meanwhile would not be known.
	readTrust = 30 * time.Second
	// worldsKnown bounds the memory for users' worlds.
	worldsKnown = 10_000
)

// sameFilter reports whether two settings select the same events.
func sameFilter(a, b *Settings) bool {
	return slices.Equal(a.Types, b.Types) && a.User == b.User && a.Connection == b.Connection && a.Account == b.Account
}

// beginLanes finds where each lane goes on. What retention has removed meanwhile,
// and that the log began a new life, is noted.
func (l *lead) beginLanes(ctx context.Context) error {
	now := l.c.Now()
	for n := range l.c.Lanes {
		floor, head, err := l.c.Log.Bounds(ctx, l.key.Tenant, n)
		if err != nil {
			return err
		}
		a := &lane{number: n, cursor: Cursor{Lane: n, Epoch: l.c.Epoch}}
		for _, c := range l.t.Cursors {
			if c.Lane == n {
				a.cursor = c
			}
		}
		a.handed = a.cursor.Position
		if a.cursor.Epoch != l.c.Epoch {
			a.handed = min(a.handed, head)
			l.note(Note{Kind: NoteRestored, At: now, Lane: n, First: a.handed + 1})
			a.cursor = Cursor{Lane: n, Epoch: a.cursor.Epoch, Position: a.handed}
		}
		if a.handed < floor {
			l.note(Note{Kind: NoteExpired, At: now, Lane: n, First: a.handed + 1, Last: floor})
			a.handed = floor
		}
		l.lanes = append(l.lanes, a)
	}
	return nil
}

func (l *lead) note(n Note) {
	l.store.notes = append(l.store.notes, n)
	l.log.LogAttrs(l.ctx, slog.LevelWarn, "the place of a subscription in the log", slog.String("note", string(n.Kind)), slog.Int64("first", int64(n.First)), slog.Int64("last", int64(n.Last)))
}

// follow sees to it that the log is read, or not: events wait in the log while
// nothing can be sent, for as long as it takes, and nothing of them in memory.
func (l *lead) follow(now time.Time) {
	held := l.t.Status == Paused || l.t.Status == Active && (!l.t.Health.OutageSince.IsZero() || l.t.Health.NotBefore.Sub(now) > readTrust)
	switch {
	case held:
		l.stopLanes()
		l.unload(now)
	case l.t.Status == Disabled:
		l.skip(now)
	}
	if l.sub && !held && !l.follows && !l.checks && !l.probing {
		l.startLanes()
	}
}

// skip records what comes while the subscription is disabled. What waits stays as
// it is.
func (l *lead) skip(now time.Time) {
	fresh := l.fresh
	l.fresh = nil
	for _, i := range append(l.order.clear(), fresh...) {
		if i.entry == nil {
			delete(l.known, i.ID)
			continue
		}
		if i.State, i.Reason, i.EndedAt = Skipped, ReasonDisabled, now; i.event.Snapshot == nil {
			i.State, i.Reason = Erased, ReasonErased
		}
		l.record(i, nil)
	}
	for _, i := range l.rows {
		delete(l.known, i.ID)
	}
	l.rows = nil
}

// startLanes reads from where the lanes stand, with the settings of now.
func (l *lead) startLanes() {
	l.follows = true
	l.life++
	var ctx context.Context
	ctx, l.halt = context.WithCancel(l.ctx)
	for _, a := range l.lanes {
		q, life, log := l.query(a), l.life, l.log
		l.working.Go(func() { l.read(ctx, q, life, log) })
	}
}

func (l *lead) stopLanes() {
	if l.follows {
		l.halt()
		l.life++
		l.follows = false
	}
}

// query selects what the subscription asks for of what a lane has next.
func (l *lead) query(a *lane) laneQuery {
	q := laneQuery{LogQuery{Tenant: l.key.Tenant, Lane: a.number, After: a.handed, Limit: readBatch}, l.t.Sandbox}
	if s := l.t.Subscription; s != nil {
		q.User, q.Connection, q.Account, q.Types = s.User, s.Connection, s.Account, s.Types
		if s.PerSecond > 0 {
			q.Limit = min(readBatch, 10*s.PerSecond)
		}
	}
	return q
}

// read follows a lane until ctx ends.
func (l *lead) read(ctx context.Context, q laneQuery, life int, log *slog.Logger) {
	wake, stop := l.c.Subscribe(l.key.Tenant)
	defer stop()
	worlds := map[bankfeed.UserID]bool{}
	for fails := 0; ctx.Err() == nil; {
		b, err := l.readOnce(ctx, q, worlds)
		b.life = life
		if err != nil {
			if fails++; fails == 1 && ctx.Err() == nil { // once an outage
				log.LogAttrs(ctx, slog.LevelWarn, "callbacks cannot read the log", slog.Any("error", err))
			}
			sleep(ctx, min(retryFirst<<min(fails-1, 8), retryLongest))
			continue
		}
		fails = 0
		if b.next > q.After {
			select {
			case l.in <- b:
			case <-ctx.Done():
				return
			}
			q.After = b.next
			continue
		}
		t := time.NewTimer(slowRead)
		select {
		case <-wake:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// readOnce reads a batch and leaves out the users of the other world.
func (l *lead) readOnce(ctx context.Context, q laneQuery, worlds map[bankfeed.UserID]bool) (b batch, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	b.lane, b.read = q.Lane, l.c.Now()
	if b.events, b.next, err = l.c.Log.ReadEvents(ctx, q.LogQuery); err != nil {
		return b, err
	}
	ours := b.events[:0]
	for i := range b.events {
		user := b.events[i].User
		mine, ok := worlds[user]
		if !ok {
			sandbox, err := l.c.Worlds.SandboxUser(ctx, l.key.Tenant, user)
			if err != nil && bankfeed.ErrorKindOf(err) != bankfeed.NotFound {
				return b, err
			}
			mine = err == nil && sandbox == q.sandbox
			if len(worlds) >= worldsKnown {
				clear(worlds)
			}
			worlds[user] = mine
		}
		if mine {
			ours = append(ours, b.events[i])
		}
	}
	b.events = ours
	return b, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// batches is where the next events come from, nil while there is no room for
// them.
func (l *lead) batches() <-chan batch {
	if !l.follows || l.checks || len(l.fresh) >= fewLeft || l.uncommitted() >= window || l.pause.After(l.c.Now()) {
		return nil
	}
	return l.in
}

// take takes in a batch.
func (l *lead) take(b batch) {
	if b.life != l.life {
		return // read with other settings
	}
	switch {
	case len(b.events) > 0 && l.t.Status == Disabled:
		l.ask(b)
	case len(b.events) > 0 && l.order.on:
		l.look(b)
	default:
		l.accept(b, nil)
	}
}

// ask takes in a batch while the subscription is disabled. If it still is, then
// it was when the events happened: none is skipped that came after it was enabled.
func (l *lead) ask(b batch) {
	l.checks = true
	l.background(func(ctx context.Context) func() {
		t, err := l.c.Store.Target(ctx, l.key)
		return func() {
			if err != nil {
				l.failedQuery("reading the target", err)
				l.later(b)
				return
			}
			l.queryDone()
			if t.Version != l.t.Version {
				l.changedTo(t)
			}
			switch l.checks = false; {
			case b.life != l.life:
			case l.t.Status == Disabled:
				l.accept(b, nil)
			default:
				l.take(b)
			}
		}
	})
}

// look takes in a batch where the order counts: first it must be known which
// connections wait.
func (l *lead) look(b batch) {
	var asked []bankfeed.ConnectionID
	for i := range b.events {
		if c := b.events[i].Connection; c != 0 && !slices.Contains(asked, c) {
			asked = append(asked, c)
		}
	}
	l.unblock()
	l.checks = true
	l.background(func(ctx context.Context) func() {
		blocked, err := l.c.Store.Blocked(ctx, l.key, asked)
		return func() {
			if err != nil {
				l.failedQuery("reading what waits", err)
				l.later(b)
				return
			}
			l.queryDone()
			if l.checks = false; b.life == l.life {
				l.accept(b, blocked)
			}
		}
	})
}

// unblock leaves it to the store to tell which connections wait, as far as it
// knows: not of what is not stored yet, nor in time for what was read before.
func (l *lead) unblock() {
	keep := map[bankfeed.ConnectionID]bool{}
	unstored := func(r *Row) {
		if r.State == Waiting && r.Connection != 0 {
			keep[r.Connection] = true
		}
	}
	lists := [][]Row{l.store.changed}
	if c := l.store.flying; c != nil {
		lists = append(lists, c.New, c.Changed)
	}
	for _, rows := range lists {
		for n := range rows {
			unstored(&rows[n])
		}
	}
	for _, a := range l.lanes {
		for _, e := range a.entries {
			if e.done {
				unstored(&e.row)
			}
		}
	}
	for _, i := range l.fresh {
		if l.order.blocked[i.Connection] {
			keep[i.Connection] = true
		}
	}
	l.order.blocked = keep
}

// later asks again for a batch whose connections could not be looked up.
func (l *lead) later(b batch) {
	l.background(func(ctx context.Context) func() {
		sleep(ctx, retryLongest)
		return func() {
			if l.checks = false; b.life == l.life {
				l.take(b)
			}
		}
	})
}

// accept puts a batch in line.
func (l *lead) accept(b batch, blocked []bankfeed.ConnectionID) {
	a, now := l.lanes[b.lane], l.c.Now()
	for _, c := range blocked {
		l.order.blocked[c] = true
	}
	for n := range b.events {
		e := &b.events[n]
		i := &item{event: e, read: b.read, entry: &entry{position: e.Position}, Delivery: Delivery{
			Tenant: e.Tenant, Target: l.key.ID, Type: e.Type, User: e.User, Connection: e.Connection,
			Epoch: e.Epoch, Lane: e.Lane, Position: e.Position, State: Waiting, CreatedAt: now,
		}}
		a.entries = append(a.entries, i.entry)
		l.fresh = append(l.fresh, i)
	}
	a.handed, l.store.moved, l.nothing = b.next, true, false
}
