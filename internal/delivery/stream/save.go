package stream

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const (
	// saveEvery is how often the cursor is stored while messages flow: what a
	// crash repeats.
	saveEvery = 100 * time.Millisecond
	// aliveEvery is how often it is stored while nothing happens.
	aliveEvery = 15 * time.Second
	// savePatience bounds one write.
	savePatience = 10 * time.Second
)

// saver stores progress beside the flow, one write at a time.
type saver struct {
	dirty bool
	busy  bool
	done  chan error // of the write that is under way
	last  time.Time  // when the last one began
	taken []Gap      // by the write that is under way
	// trouble is why the last write failed.
	trouble string
}

// save begins a write if it is time for one.
func (t *term) save(ctx context.Context) {
	now := t.c.Now()
	pause := saveEvery
	switch {
	case t.saver.trouble != "":
		pause = time.Second
	case !t.saver.dirty:
		pause = aliveEvery
	}
	if t.saver.busy || now.Sub(t.saver.last) < pause {
		return
	}
	t.saver.busy, t.saver.dirty, t.saver.last = true, false, now
	t.saver.taken = t.gaps.take()
	p, gaps := t.copied(), t.saver.taken
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), savePatience)
		defer cancel()
		t.saver.done <- t.c.Store.SaveStream(ctx, t.key, t.number, p, gaps, now)
	}()
}

// didSave takes in the end of a write. Its error is one that ends the term; any
// other is tried again.
func (t *term) didSave(ctx context.Context, err error) error {
	t.saver.busy = false
	switch {
	case err == nil:
		t.saved = true
		if t.saver.trouble != "" {
			t.saver.trouble = ""
			t.say()
		}
		return nil
	case errors.Is(err, bankfeed.ErrFenced):
		return err
	}
	t.gaps.giveBack(t.saver.taken)
	if t.saver.trouble == "" {
		t.log.WarnContext(ctx, "storing the cursor", "error", err) // once an outage
	}
	t.saver.trouble = "storing the cursor: " + err.Error()
	t.say()
	return nil
}

// saveNow stores how far the term has come.
func (t *term) saveNow(ctx context.Context) error {
	if t.saver.busy {
		if err := t.didSave(ctx, <-t.saver.done); err != nil {
			return err
		}
	}
	if !t.saver.dirty {
		return nil
	}
	return t.store(ctx)
}

func (t *term) store(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), savePatience/2)
	defer cancel()
	taken := t.gaps.take()
	err := t.c.Store.SaveStream(ctx, t.key, t.number, t.copied(), taken, t.c.Now())
	if t.saver.dirty = err != nil; err != nil {
		t.gaps.giveBack(taken)
	}
	return err
}

// report stores why a term that led has ended. Another leader's word counts more.
func (t *term) report(ctx context.Context, text string) {
	if t.number == 0 {
		return
	}
	t.progress.Trouble = text
	_ = t.store(ctx) // the log has it
}

// copied is the progress as a write may keep it.
func (t *term) copied() Progress {
	p := t.progress
	p.Holds, p.Exchanges, p.Queues = maps.Clone(p.Holds), maps.Clone(p.Exchanges), maps.Clone(p.Queues)
	return p
}

// gaps collects what reached nobody. An open gap grows as long as nothing of its
// kind reaches somebody.
type gaps struct {
	open    map[banqup.Kind]*Gap
	last    map[banqup.Kind]bankfeed.Position // of the last that was routed
	changed map[gapID]*Gap
}

type gapID struct {
	kind   banqup.Kind
	reason GapReason
	first  bankfeed.Position
}

func (g *gaps) add(k banqup.Kind, reason GapReason, p bankfeed.Position, now time.Time) {
	if g.open == nil {
		g.open, g.changed = map[banqup.Kind]*Gap{}, map[gapID]*Gap{}
	}
	gap := g.open[k]
	// Session messages may be confirmed in another order than the log's.
	if gap == nil || gap.Reason != reason || p <= gap.Last || g.last[k] > gap.First {
		gap = &Gap{Kind: k, Reason: reason, First: p, Since: now}
		g.open[k] = gap
	}
	gap.Last, gap.Until = p, now
	gap.Count++
	g.changed[gapID{k, reason, gap.First}] = gap
}

// sent ends an open gap of what is never sent.
func (g *gaps) sent(k banqup.Kind) {
	if gap := g.open[k]; gap != nil && gap.Reason != GapUnrouted {
		delete(g.open, k)
	}
}

// routed ends the open gap of a kind.
func (g *gaps) routed(k banqup.Kind, p bankfeed.Position) {
	if g.open[k] != nil {
		delete(g.open, k)
	}
	if g.last == nil {
		g.last = map[banqup.Kind]bankfeed.Position{}
	}
	g.last[k] = max(g.last[k], p)
}

// take returns what has changed since.
func (g *gaps) take() (list []Gap) {
	for _, gap := range g.changed {
		list = append(list, *gap)
	}
	clear(g.changed)
	return list
}

// giveBack undoes take where nothing newer is known.
func (g *gaps) giveBack(list []Gap) {
	for _, gap := range list {
		id := gapID{gap.Kind, gap.Reason, gap.First}
		if g.changed[id] == nil {
			g.changed[id] = &gap
		}
		if open := g.open[gap.Kind]; open != nil && open.First == gap.First && open.Reason == gap.Reason {
			g.changed[id] = open
		}
	}
}
