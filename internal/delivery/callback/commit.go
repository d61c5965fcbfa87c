package callback

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// saver holds what the next commit writes, and the one that is under way.
type saver struct {
	changed   []Row // of deliveries that have a row
	rows      bool  // something was recorded since the last commit began
	moved     bool  // a cursor may move
	health    bool  // it changed
	disable   string
	recovered time.Time
	notes     []Note
	release   *bankfeed.Release

	flying   *Commit
	parked   []*item // by the index of flying's New
	size     int     // rows in flying
	failed   bool    // it did not succeed: it is not known whether it was stored
	retry    bool    // and is to be tried again
	last     time.Time
	released bool
}

// uncommitted is how many deliveries are in memory that were sent, or are in
// line, and are not stored.
func (l *lead) uncommitted() int {
	n := len(l.store.changed) + l.store.size + len(l.known)
	for _, a := range l.lanes {
		n += len(a.entries)
	}
	return n
}

// commit begins to store what is known, if it is time for it.
func (l *lead) commit(now time.Time) (wake time.Time) {
	s := &l.store
	if s.flying != nil {
		if s.retry {
			s.retry = false
			l.write()
		}
		return now.Add(never)
	}
	at := now.Add(never)
	switch {
	case s.release != nil:
		at = now
	case l.order.on && len(s.changed) > 0: // what is behind one of them waits for this
		at = s.last.Add(orderedEvery)
	case s.rows || s.health || s.disable != "" || !s.recovered.IsZero() || len(s.notes) > 0:
		at = s.last.Add(commitEvery)
	case s.moved:
		at = s.last.Add(cursorEvery)
	}
	if at.After(now) {
		return at
	}
	s.last = now
	c, ok := l.collect(now)
	if !ok {
		return now.Add(commitEvery)
	}
	s.flying, s.size = &c, len(c.New)+len(c.Changed)
	l.write()
	return now.Add(never)
}

// collect takes what can be stored: of each lane the deliveries from the cursor on
// to the first that is not done, and with them the cursor.
func (l *lead) collect(now time.Time) (c Commit, ok bool) {
	s := &l.store
	c = Commit{Fence: l.fence, Key: l.key, Now: now, Changed: s.changed, Disable: s.disable, Recovered: s.recovered, Notes: s.notes,
		Ordered: l.order.on, Release: s.release}
	s.parked = s.parked[:0]
	for _, a := range l.lanes {
		n := 0
		for n < len(a.entries) && a.entries[n].done {
			e := a.entries[n]
			c.New = append(c.New, e.row)
			s.parked = append(s.parked, e.parked)
			if e.parked != nil {
				e.parked.entry = nil
			}
			a.entries[n] = nil
			n++
		}
		a.entries = a.entries[n:]
		position := a.handed
		if len(a.entries) > 0 {
			position = a.entries[0].position - 1
		}
		if to := (Cursor{Lane: a.number, Epoch: l.c.Epoch, Position: position}); to != a.cursor {
			a.cursor = to
			c.Cursors = append(c.Cursors, to)
		}
	}
	if s.health {
		h := l.t.Health
		c.Health = &h
	}
	s.changed, s.disable, s.recovered, s.notes, s.release = nil, "", time.Time{}, nil, nil
	s.rows, s.moved, s.health = false, false, false
	return c, len(c.New)+len(c.Changed)+len(c.Cursors)+len(c.Notes) > 0 || c.Health != nil || c.Disable != "" || !c.Recovered.IsZero() || c.Release != nil
}

// write stores the commit that is under way. When it is not known whether it was
// stored before, the cursor tells: it moves with every new row.
func (l *lead) write() {
	c, again := *l.store.flying, l.store.failed
	l.working.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, commitPatience)
		defer cancel()
		ids, version, err := l.tryWrite(ctx, c, again)
		l.news <- func() { l.wrote(&c, ids, version, err) }
	})
}

func (l *lead) tryWrite(ctx context.Context, c Commit, again bool) (ids []DeliveryID, version int64, err error) {
	if again && len(c.New) > 0 {
		t, err := l.c.Store.Target(ctx, c.Key)
		if err != nil {
			return nil, 0, err
		}
		for _, stored := range t.Cursors {
			if stored == c.Cursors[0] {
				return nil, t.Version, nil
			}
		}
	}
	return l.c.Store.Commit(ctx, c)
}

// wrote takes in the end of a commit.
func (l *lead) wrote(c *Commit, ids []DeliveryID, version int64, err error) {
	s := &l.store
	if err != nil {
		if errors.Is(err, bankfeed.ErrFenced) {
			l.err = err
			return
		}
		l.failedQuery("storing results", err)
		s.failed, s.retry = true, true
		return
	}
	l.queryDone()
	s.flying, s.size, s.failed = nil, 0, false
	if s.released = c.Release != nil; s.released {
		return
	}
	for n := range c.Changed {
		l.forgotten = append(l.forgotten, c.Changed[n].ID)
		l.waits(&c.Changed[n].Delivery)
	}
	parked := s.parked
	s.parked = nil
	for n := range c.New {
		l.waits(&c.New[n].Delivery)
		i := parked[n]
		if i == nil {
			continue
		}
		if n >= len(ids) { // without a number: the row of the attempt comes up by itself
			l.order.ended(i.Connection)
			continue
		}
		i.ID = ids[n]
		l.known[i.ID] = i
		if o := i.outcome; o != nil {
			i.outcome = nil
			l.finish(i, *o)
		}
	}
	l.forget()
	now := l.c.Now()
	if !c.Recovered.IsZero() || c.Ordered && len(c.New)+len(c.Changed) > 0 {
		l.due(now)
	}
	if c.Disable != "" {
		l.t.Version = 0 // whatever the target is now: its client may have been faster
	}
	if version != l.t.Version {
		l.fresher = true
	}
}

// waits notes when a stored delivery is due.
func (l *lead) waits(d *Delivery) {
	switch {
	case d.State != Waiting:
	case !d.NextAt.IsZero():
		l.due(d.NextAt)
	case !l.order.on: // the order was given up: it is behind nothing
		l.due(l.c.Now())
	}
}
