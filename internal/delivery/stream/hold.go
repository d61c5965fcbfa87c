package stream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// expire notes what was removed from the log while the stream was not enabled.
func (t *term) expire(ctx context.Context) error {
	floor, _, err := t.c.Log.Bounds(ctx, t.key.Tenant, t.key.Lane)
	if err != nil {
		return fmt.Errorf("beginning a term: %w", err)
	}
	first := t.progress.Position
	for _, h := range t.progress.Holds {
		first = min(first, h.After)
	}
	if first++; first > floor {
		return nil
	}
	t.log.WarnContext(ctx, "events were removed by age before the stream could send them", "first", first, "last", floor)
	t.progress.Expired = &Expired{First: first, Last: floor, At: t.c.Now()}
	t.progress.Position = max(t.progress.Position, floor)
	for k, h := range t.progress.Holds {
		if h.After = max(h.After, floor); h.After >= t.progress.Position {
			delete(t.progress.Holds, k)
			delete(t.flowing, k)
			continue
		}
		t.progress.Holds[k] = h
	}
	t.join()
	return nil
}

// join lets session messages wait as long as transactions do, and takes back
// what was said of queues if something waits that did not before.
func (t *term) join() {
	if first, held := t.progress.Holds[banqup.Transaction]; held && slices.Contains(t.c.Settings.Messages, banqup.Session) {
		h, held := t.progress.Holds[banqup.Session]
		if !held {
			h, t.flowing[banqup.Session] = first, t.flowing[banqup.Transaction]
		}
		h = h.Back(first.After)
		h.Redrive = h.Redrive && first.Redrive
		t.progress.Holds[banqup.Session] = h
		t.flowing[banqup.Session] = t.flowing[banqup.Session] && t.flowing[banqup.Transaction]
	}
	t.settle()
	for name, q := range t.progress.Queues {
		q.Drained = min(q.Drained, bankfeed.Position(t.safe.Load()))
		t.progress.Queues[name] = q
	}
	t.saver.dirty = true
}

// settle computes up to where everything is confirmed, holds included.
func (t *term) settle() {
	p := t.progress.Position
	for _, h := range t.progress.Holds {
		p = min(p, h.After)
	}
	t.safe.Store(int64(p))
}

// mode is how messages that no queue takes are treated.
func (t *term) mode(k banqup.Kind) Unrouted {
	if u, ok := t.c.Settings.Unrouted[k]; ok {
		return u
	}
	return UnroutedHold
}

// catching are the held kinds that catch up.
func (t *term) catching() (kinds []banqup.Kind) {
	for _, k := range banqup.Kinds {
		if _, held := t.progress.Holds[k]; held && t.flowing[k] {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// nextRetry is when the next exchange without a binding is to be tried; zero if
// there is none.
func (t *term) nextRetry() (next time.Time) {
	for k := range t.progress.Holds {
		if t.flowing[k] || !t.mayProbe(k) {
			continue
		}
		at := t.retry[k]
		if at.IsZero() {
			at = t.c.Now()
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// mayProbe: session messages wait for their transactions.
func (t *term) mayProbe(k banqup.Kind) bool {
	_, held := t.progress.Holds[banqup.Transaction]
	return k != banqup.Session || !held
}

// catchUp tries exchanges that lost their binding, and sends a portion of what
// waits for those that have one again.
func (t *term) catchUp(ctx context.Context) error {
	now := t.c.Now()
	for _, k := range banqup.Kinds {
		if _, held := t.progress.Holds[k]; !held || t.flowing[k] || !t.mayProbe(k) || now.Before(t.retry[k]) {
			continue
		}
		if err := t.probe(ctx, k); err != nil {
			return err
		}
	}
	kinds := t.catching()
	if len(kinds) == 0 {
		return nil
	}
	f := t.flowOf(kinds)
	f.yieldAt = now.Add(turn)
	if err := f.run(ctx); err != nil {
		return err
	}
	return t.caughtUp(ctx, f, kinds)
}

// probe sends the first message that waits for an exchange.
func (t *term) probe(ctx context.Context, k banqup.Kind) error {
	kinds := []banqup.Kind{k}
	f := t.flowOf(kinds)
	f.limit = 1
	if err := f.run(ctx); err != nil {
		return err
	}
	switch {
	case f.stopped[k]:
		t.retry[k] = t.c.Now().Add(retryEvery)
		return nil
	case f.taken == 0 && f.done() < f.until:
		return nil // it was interrupted
	}
	t.flowing[k] = true
	if _, held := t.progress.Holds[banqup.Session]; held && k == banqup.Transaction {
		t.flowing[banqup.Session] = true
	}
	t.log.InfoContext(ctx, "the exchange has a binding again", "exchange", k.Exchange())
	return t.caughtUp(ctx, f, kinds)
}

// flowOf is the flow of held kinds up to where the others are.
func (t *term) flowOf(kinds []banqup.Kind) *flow {
	after := t.progress.Position
	start := map[banqup.Kind]bankfeed.Position{}
	for _, k := range kinds {
		start[k] = t.progress.Holds[k].After
		after = min(after, start[k])
	}
	f := t.flow(after)
	f.until, f.start = t.progress.Position, start
	f.reads = nil
	for _, k := range kinds {
		f.reads = append(f.reads, typesOf(k, t.c.Settings.Unchanged)...)
	}
	return f
}

// noted stores in their holds how far the kinds of a flow that catches up have
// come.
func (f *flow) noted() {
	for k := range f.start {
		if h := f.progress.Holds[k]; !f.stopped[k] {
			h.After = max(h.After, f.done())
			f.progress.Holds[k] = h
		}
	}
	f.settle()
	f.saver.dirty = true
}

// caughtUp closes what a flow of held kinds has done. Gaps are closed in the
// store before a hold says so, and after everything that is known of them is
// there.
func (t *term) caughtUp(ctx context.Context, f *flow, kinds []banqup.Kind) error {
	f.noted()
	kinds = slices.DeleteFunc(kinds, func(k banqup.Kind) bool {
		return t.progress.Holds[k].After <= f.start[k] && f.start[k] < t.progress.Position
	})
	if len(kinds) == 0 {
		return nil
	}
	if err := t.saveNow(ctx); err != nil {
		return err
	}
	for _, k := range kinds {
		h := t.progress.Holds[k]
		if err := t.c.Store.ResolveGaps(ctx, t.key, k, h.From, h.After, t.c.Now()); err != nil {
			return err
		}
		if h.After >= t.progress.Position {
			delete(t.progress.Holds, k)
			delete(t.flowing, k)
			t.log.InfoContext(ctx, "the exchange has caught up", "exchange", k.Exchange())
		}
	}
	t.settle()
	t.saver.dirty = true
	return nil
}

// hold makes an exchange wait from a message on that was returned.
func (t *term) hold(ctx context.Context, k banqup.Kind, after bankfeed.Position) {
	now := t.c.Now()
	h, held := t.progress.Holds[k]
	if !held {
		h = Hold{After: after, From: after, Since: now}
	}
	if !held || t.flowing[k] {
		t.log.WarnContext(ctx, "no queue is bound any more: the exchange holds", "exchange", k.Exchange(), "after", after)
	}
	h = h.Back(after)
	h.Redrive = false
	t.progress.Holds[k] = h
	delete(t.flowing, k)
	t.retry[k] = now.Add(retryEvery)
	t.join()
}

// takeRedrives takes up what a person asked for. No write of the cursor is under
// way meanwhile: it would undo what the store does.
func (t *term) takeRedrives(ctx context.Context) error {
	if !t.asked {
		return nil
	}
	t.asked = false
	if err := t.saveNow(ctx); err != nil {
		return err
	}
	taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), savePatience/2)
	defer cancel()
	asked, err := t.c.Store.TakeRedrives(taking, t.key, t.number)
	if err != nil {
		return err
	}
	t.redrive(asked)
	return nil
}

func (t *term) redrive(asked map[banqup.Kind]Hold) {
	for k, h := range asked {
		if !slices.Contains(t.c.Settings.Messages, k) {
			continue
		}
		old, held := t.progress.Holds[k]
		if held {
			h = old.Back(h.After)
		}
		t.progress.Holds[k] = h.Back(t.progress.Position)
		if held && !t.flowing[k] {
			t.retry[k] = time.Time{} // its binding is tried at once
			continue
		}
		t.flowing[k] = true
	}
	t.join()
}
