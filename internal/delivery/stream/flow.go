package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// flow publishes events from a position on and ends with nothing under way. It
// keeps three things:
//
//   - entries, in log order: what is not confirmed yet. The first of them is
//     where the cursor waits.
//   - flight, in the order of sending, which is the order of confirms.
//   - parked: per account, a SessionFinished that waits for the confirms of the
//     transactions in front of it, and everything of the account behind it.
type flow struct {
	*term
	after   bankfeed.Position
	live    bool              // moves the stream's own cursor, for ever
	until   bankfeed.Position // of one that catches up: up to here
	reads   []bankfeed.EventType
	start   map[banqup.Kind]bankfeed.Position // of one that catches up: its kinds, each after a position
	limit   int                               // messages at most; 0: any number
	yieldAt time.Time                         // zero: never
	// yieldIdle: as soon as there is nothing to send.
	yieldIdle bool

	stopped map[banqup.Kind]bool // held again, in a flow that catches up

	handed  bankfeed.Position // everything up to here was sent, parked or passed over
	entries fifo
	flight  fifo
	parked  map[bankfeed.AccountID][]*entry
	waiting int                        // parked entries
	open    map[bankfeed.AccountID]int // transactions under way
	taken   int                        // messages
	moved   time.Time                  // when something was sent or confirmed

	alarms atomic.Int64 // how often the broker has blocked and taken messages again
}

func (t *term) flow(after bankfeed.Position) *flow {
	return &flow{term: t, after: after, handed: after, reads: t.types, stopped: map[banqup.Kind]bool{},
		parked: map[bankfeed.AccountID][]*entry{}, open: map[bankfeed.AccountID]int{}}
}

// entry is a message that is not confirmed yet.
type entry struct {
	position bankfeed.Position
	kind     banqup.Kind
	account  bankfeed.AccountID // 0: no order to keep
	id       string             // of the message
	body     []byte             // nil once sent
	alarms   int64              // of the flow, before it was read
	gap      GapReason          // why there is no message
	done     bool
}

// fifo is a queue of entries.
type fifo struct {
	list []*entry
	from int
}

func (q *fifo) push(e *entry) { q.list = append(q.list, e) }
func (q *fifo) len() int      { return len(q.list) - q.from }
func (q *fifo) first() *entry { return q.list[q.from] }
func (q *fifo) pop() *entry {
	e := q.list[q.from]
	q.list[q.from] = nil
	if q.from++; q.from == len(q.list) || q.from > 4*DefaultWindow {
		q.list, q.from = append(q.list[:0], q.list[q.from:]...), 0
	}
	return e
}

// done is the position up to which everything was dealt with.
func (f *flow) done() bankfeed.Position {
	for f.entries.len() > 0 && f.entries.first().done {
		f.entries.pop()
	}
	if f.entries.len() > 0 {
		return f.entries.first().position - 1
	}
	return f.handed
}

// run ends when until is reached, when it should yield, or when ctx ends: with
// nothing under way then, unless the broker confirms nothing within
// drainPatience after ctx has ended. An error ends the term.
func (f *flow) run(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	batches := make(chan batch, 2)
	go f.read(reading, batches)
	defer func() {
		stop()
		for range batches { // the reader ends before the next one begins
		}
	}()
	tick := time.NewTicker(saveEvery / 2)
	defer tick.Stop()
	ended := ctx.Done()
	var (
		in       = (<-chan batch)(batches)
		now      batch // what is being sent
		draining bool
		deadline time.Time
	)
	f.moved = f.c.Now()
	for {
		for !draining && len(now.items) > 0 && f.room(now.items[0]) {
			e := now.items[0]
			now.items = now.items[1:]
			if err := f.take(ctx, e); err != nil {
				return err
			}
			if f.handed = e.position; len(now.items) == 0 {
				f.handed = now.next
			}
			draining = f.limit > 0 && f.taken >= f.limit
			for len(f.out.confirms) > 0 {
				if err := f.confirmed(ctx); err != nil {
					return err
				}
			}
		}
		f.advance()
		if draining && f.entries.len() == 0 {
			return nil
		}
		next := in
		if draining || len(now.items) > 0 {
			next = nil
		}
		select {
		case b, more := <-next:
			if !more {
				in, draining = nil, true
				continue
			}
			if b.trouble != f.unread {
				f.unread = b.trouble
				f.say()
			}
			if now = b; len(b.items) == 0 {
				f.handed = max(f.handed, b.next)
			}
			draining = b.idle && f.yieldIdle
		case c, ok := <-f.out.confirms:
			if !ok {
				return f.ended()
			}
			if err := f.confirm(ctx, c.Ack); err != nil {
				return err
			}
		case e, ok := <-f.broker.closed:
			return lost(e, ok)
		case e, ok := <-f.out.closed:
			return f.lostChannel(e, ok)
		case b, ok := <-f.broker.blocked:
			if err := f.block(ctx, b.Active && ok, b.Reason); err != nil {
				return err
			}
		case err := <-f.saver.done:
			if err := f.didSave(ctx, err); err != nil {
				return err
			}
		case n := <-f.news:
			draining = f.hear(n) || draining
		case <-ended:
			ended, draining, deadline = nil, true, time.Now().Add(drainPatience)
		case <-tick.C:
			f.save(ctx)
			t := f.c.Now()
			draining = draining || !f.yieldAt.IsZero() && !t.Before(f.yieldAt)
			switch {
			case !deadline.IsZero() && time.Now().After(deadline):
				return nil
			case f.flight.len() > 0 && f.blocked == "" && t.Sub(f.moved) > confirmPatience:
				return fmt.Errorf("the broker has confirmed nothing for %s", confirmPatience)
			}
		}
	}
}

// welcome reports whether the broker takes messages, as far as it has told.
func (f *flow) welcome() bool { return f.blocked == "" && len(f.broker.blocked) == 0 }

// room reports whether a message may be the next under way. A consent comes
// after the accounts in front of it, of which one may be parked.
func (f *flow) room(e *entry) bool {
	return f.welcome() && f.flight.len()+f.waiting < f.c.Window && (e.kind != banqup.Consent || f.waiting == 0)
}

// block notes that the broker takes no messages, or takes them again.
func (f *flow) block(ctx context.Context, active bool, reason string) error {
	f.moved = f.c.Now()
	if !active {
		f.blocked = ""
		f.alarms.Add(1)
		f.say()
		f.log.InfoContext(ctx, "the broker takes messages again")
		for account := range f.parked {
			if err := f.release(ctx, account); err != nil {
				return err
			}
		}
		return nil
	}
	f.blocked = "the broker blocks publishers: " + reason
	f.say()
	f.log.WarnContext(ctx, "the broker blocks publishers", "reason", reason)
	return nil
}

// advance moves the stream's cursor.
func (f *flow) advance() {
	done := f.done()
	if !f.live || done <= f.progress.Position {
		return
	}
	f.progress.Position, f.saver.dirty = done, true
	f.settle()
}

// skips reports whether a message is none of this flow's business.
func (f *flow) skips(k banqup.Kind, p bankfeed.Position) bool {
	if f.live {
		h, held := f.progress.Holds[k]
		return held && p > h.After
	}
	start, ok := f.start[k]
	return !ok || p <= start || f.stopped[k]
}

// take sends a message, or parks it.
func (f *flow) take(ctx context.Context, e *entry) error {
	if f.skips(e.kind, e.position) {
		return nil
	}
	f.taken++
	if e.gap != "" {
		f.gaps.add(e.kind, e.gap, e.position, f.c.Now())
		f.saver.dirty = true
		return nil
	}
	f.gaps.sent(e.kind)
	f.entries.push(e)
	if e.account != 0 && (len(f.parked[e.account]) > 0 || e.kind == banqup.Session && f.open[e.account] > 0) {
		f.parked[e.account] = append(f.parked[e.account], e)
		f.waiting++
		return nil
	}
	return f.send(ctx, e)
}

func (f *flow) send(ctx context.Context, e *entry) error {
	if e.alarms != f.alarms.Load() {
		if err := f.readAgain(ctx, e); err != nil {
			return err
		}
		if e.gap != "" {
			f.gaps.add(e.kind, e.gap, e.position, f.c.Now())
			f.gaps.sent(e.kind) // what lies behind it may be on its way already
			f.saver.dirty, e.done = true, true
			return nil
		}
	}
	if err := f.out.send(e.kind.Exchange(), "", f.mode(e.kind) != UnroutedOff, e.id, nil, e.body); err != nil {
		return f.ended()
	}
	e.body = nil
	if e.kind == banqup.Transaction && e.account != 0 {
		f.open[e.account]++
	}
	if f.flight.len() == 0 {
		f.moved = f.c.Now()
	}
	f.flight.push(e)
	return nil
}

// readAgain makes a message anew that waited while the broker was blocked, which
// may be for hours: its user may have been erased meanwhile.
func (f *flow) readAgain(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), savePatience)
	defer cancel()
	alarms := f.alarms.Load()
	events, _, err := f.c.Log.Select(ctx, LogQuery{Tenant: f.key.Tenant, Lane: f.key.Lane, Types: f.reads, After: e.position - 1, Limit: 1})
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	list := f.render(ctx, events)
	if len(list) == 0 || list[0].position != e.position {
		return fmt.Errorf("event %d is not in the log any more", e.position)
	}
	e.body, e.gap, e.alarms = list[0].body, list[0].gap, alarms
	return nil
}

// confirmed takes in a confirm that is there.
func (f *flow) confirmed(ctx context.Context) error {
	c, ok := <-f.out.confirms
	if !ok {
		return f.ended()
	}
	return f.confirm(ctx, c.Ack)
}

// confirm takes in what the broker says of the message that was sent longest ago.
func (f *flow) confirm(ctx context.Context, ack bool) error {
	e := f.flight.pop()
	if !ack {
		// Sent again alone, it would come behind what follows it.
		return errors.New("the broker refused a message; everything from it on is sent again")
	}
	now := f.c.Now()
	f.moved, f.saver.dirty = now, true
	returned := f.out.wasReturned(e.id)
	f.count(e, returned, now)
	// What was sent while another message of its exchange was on its way back is
	// sent again from there on.
	if !f.skips(e.kind, e.position) {
		mode, routedBefore := f.mode(e.kind), f.progress.Exchanges[e.kind].Routed
		switch {
		case returned && mode == UnroutedHold && routedBefore:
			f.held(ctx, e)
		case !returned && mode != UnroutedOff:
			f.gaps.routed(e.kind, e.position)
		default:
			if returned {
				f.gaps.add(e.kind, GapUnrouted, e.position, now)
			}
			if h, held := f.progress.Holds[e.kind]; held { // sent again in vain, or without proof
				h.From = max(h.From, e.position)
				f.progress.Holds[e.kind] = h
			}
		}
	}
	e.done = true
	if e.kind == banqup.Transaction && e.account != 0 {
		if f.open[e.account]--; f.open[e.account] == 0 {
			delete(f.open, e.account)
			return f.release(ctx, e.account)
		}
	}
	return nil
}

func (f *flow) count(e *entry, returned bool, now time.Time) {
	x := f.progress.Exchanges[e.kind]
	x.Published++
	if returned {
		x.Unrouted++
	}
	if f.mode(e.kind) == UnroutedOff {
		x.Untold = max(x.Untold, e.position)
	} else {
		x.Routed, x.LastRouted = x.Routed || !returned, !returned
	}
	if e.position >= x.Last {
		x.Last = e.position
	}
	x.LastAt = now
	f.progress.Exchanges[e.kind] = x
	if f.c.Observe != nil {
		f.c.Observe(e.kind, !returned)
	}
}

// held stops sending to an exchange that lost its binding, from e on.
func (f *flow) held(ctx context.Context, e *entry) {
	f.noted()
	f.hold(ctx, e.kind, e.position-1)
	f.stopped[e.kind] = true
	if at := f.retry[e.kind]; f.live && (f.yieldAt.IsZero() || at.Before(f.yieldAt)) {
		f.yieldAt = at
	}
	if e.kind == banqup.Transaction {
		f.stopped[banqup.Session] = true
	}
	for account, list := range f.parked {
		kept := slices.DeleteFunc(list, func(p *entry) bool {
			if !f.skips(p.kind, p.position) {
				return false
			}
			p.done, p.body = true, nil
			f.waiting--
			return true
		})
		if len(kept) == 0 {
			delete(f.parked, account)
		} else {
			f.parked[account] = kept
		}
	}
}

// release sends what was parked for the transactions of an account, up to the
// next SessionFinished that waits.
func (f *flow) release(ctx context.Context, account bankfeed.AccountID) error {
	list := f.parked[account]
	for f.welcome() && len(list) > 0 && (list[0].kind != banqup.Session || f.open[account] == 0) {
		e := list[0]
		list = list[1:]
		f.waiting--
		if err := f.send(ctx, e); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		delete(f.parked, account)
	} else {
		f.parked[account] = list
	}
	return nil
}
