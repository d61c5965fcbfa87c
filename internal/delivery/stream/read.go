package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// batch is a page of the log as messages.
type batch struct {
	items []*entry
	next  bankfeed.Position
	idle  bool // there was nothing more
	// trouble is why there is nothing; the reader tries again.
	trouble string
}

const (
	// pageSize is how many events are read and rendered at once.
	pageSize = 500
	// wakeAfter is how long a reader relies on being woken.
	wakeAfter = 5 * time.Second
)

// read renders the log page by page, ahead of the sending, until ctx ends or
// until is reached.
func (f *flow) read(ctx context.Context, out chan<- batch) {
	defer close(out)
	after, failed := f.after, false
	for f.live || after < f.until {
		alarms := f.alarms.Load()
		events, next, err := f.c.Log.Select(ctx, LogQuery{Tenant: f.key.Tenant, Lane: f.key.Lane, Types: f.reads, After: after, Limit: pageSize})
		if err != nil {
			if ctx.Err() == nil && !failed {
				f.log.WarnContext(ctx, "reading the log", "error", err) // once an outage
			}
			failed = true
			select {
			case out <- batch{trouble: "reading the log: " + err.Error()}:
			case <-ctx.Done():
			}
			if !wait(ctx, time.Second) {
				return
			}
			continue
		}
		failed = false
		if !f.live && next > f.until {
			next = f.until
			events = slices.DeleteFunc(events, func(e bankfeed.Event) bool { return e.Position > f.until })
		}
		b := batch{items: f.render(ctx, events), next: next, idle: next == after}
		for _, e := range b.items {
			e.alarms = alarms
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return
		}
		if after = next; !b.idle {
			continue
		}
		timer := time.NewTimer(wakeAfter)
		select {
		case <-f.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// render makes the messages of events. All bodies of a page lie in one block.
func (f *flow) render(ctx context.Context, events []bankfeed.Event) []*entry {
	entries := make([]entry, len(events))
	list := make([]*entry, 0, len(events))
	var message, block []byte
	for i := range events {
		ev, e := &events[i], &entries[i]
		kind, ok := banqup.KindOf(ev.Type)
		if !ok {
			continue
		}
		id := ev.ID()
		*e = entry{position: ev.Position, kind: kind, id: id.String()}
		if kind == banqup.Account || kind == banqup.Transaction || kind == banqup.Session {
			e.account = ev.Account
		}
		list = append(list, e)
		var err error
		message, err = banqup.AppendMessage(message[:0], ev, f.c.Settings.Face)
		switch {
		case errors.Is(err, banqup.ErrErased):
			e.gap = GapErased
			continue
		case err != nil:
			e.gap = GapUnreadable
			f.log.ErrorContext(ctx, "an event cannot be written as a message", "event", e.id, "error", err)
			continue
		}
		if block == nil {
			block = make([]byte, 0, len(events)*(len(message)+1200))
		}
		from := len(block)
		block = f.bus.AppendEnvelope(block, kind, banqup.Delivery{MessageID: id, SentTime: ev.At}, message)
		e.body = block[from:len(block):len(block)]
	}
	return list
}
