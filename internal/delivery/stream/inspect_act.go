package stream

import (
	"context"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Acknowledged is what came of a consumer's acknowledgements.
type Acknowledged struct {
	Accepted int // messages that were found, repeats of earlier acknowledgements included
	New      int
	Unknown  []bankfeed.UUID // in the order in which they came
}

// Bounds of an acknowledgement.
const (
	MaxAcknowledged = 1000 // messages a call
	MaxConsumer     = 200  // characters
)

// Acknowledge records a consumer's word that it has processed messages: first
// deliveries or those of replays. What names no message of the stream that may
// be seen is unknown, and keeps the others from nothing. Repeating a call
// changes nothing.
//
// It does not ask whether the broker has confirmed a message: a consumer may be
// faster than the cursor.
func (i *Inspector) Acknowledge(ctx context.Context, key Key, world World, messages []bankfeed.UUID, consumer string) (Acknowledged, error) {
	var done Acknowledged
	switch {
	case len(messages) == 0 || len(messages) > MaxAcknowledged:
		return done, bankfeed.InvalidField("message_ids", "must be 1 to %d", MaxAcknowledged)
	case consumer == "" || utf8.RuneCountInString(consumer) > MaxConsumer || !printable(consumer):
		return done, bankfeed.InvalidField("consumer", "expected 1 to %d characters, none of them a control character", MaxConsumer)
	}
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return done, err
	}
	found, err := i.named(ctx, &r, i.halves(key.Tenant), world, messages)
	if err != nil {
		return done, err
	}
	now := i.c.Now()
	var list []Acknowledgement
	seen := make(map[bankfeed.UUID]bool, len(messages))
	for _, id := range messages {
		if seen[id] {
			continue
		}
		seen[id] = true
		n, ok := found[id]
		if k, sent := banqup.KindOf(n.event.Type); !ok || !sent || !carries(&r.Settings, k) || n.event.Position <= r.Start {
			done.Unknown = append(done.Unknown, id)
			continue
		}
		list = append(list, Acknowledgement{Position: n.event.Position, Replay: n.replay, At: now, Consumer: consumer})
	}
	if done.Accepted = len(list); done.Accepted > 0 {
		done.New, err = i.c.Store.Acknowledge(ctx, key, list)
	}
	return done, err
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// Redrive asks the leader to send unrouted messages of kinds again, under their
// own ids, from the first open gap on; no kinds are all that the stream carries.
// Conflict when there is nothing to redrive or the stream is not enabled.
func (i *Inspector) Redrive(ctx context.Context, key Key, kinds []banqup.Kind) error {
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if !slices.Contains(banqup.Kinds, k) || !carries(&r.Settings, k) {
			return bankfeed.InvalidField("messages", "expected kinds of message that the stream carries")
		}
	}
	if len(kinds) == 0 {
		kinds = slices.DeleteFunc(slices.Clone(banqup.Kinds), func(k banqup.Kind) bool { return !carries(&r.Settings, k) })
	}
	return i.c.Store.RedriveStream(ctx, key, kinds, i.c.Now())
}

// MaxListed bounds a page of gaps or faults.
const MaxListed = 500

// Gaps lists ranges of events that reached no consumer, newest first: those that
// begin before a position (0: all), and only open ones if open.
func (i *Inspector) Gaps(ctx context.Context, key Key, open bool, before bankfeed.Position, limit int) (list []Gap, next bankfeed.Position, err error) {
	if limit < 1 || limit > MaxListed {
		return nil, 0, bankfeed.InvalidField("limit", "must be between 1 and %d", MaxListed)
	}
	if _, err := i.c.Store.Stream(ctx, key); err != nil {
		return nil, 0, err
	}
	list, err = i.c.Store.Gaps(ctx, key, open, before, limit)
	if err == nil && len(list) >= limit {
		next = list[len(list)-1].First
	}
	return list, next, err
}

// FaultOf is a fault with the event that it is about.
type FaultOf struct {
	Fault
	Event  bankfeed.Event // without Snapshot
	Erased bool           // it had none any more
}

// Faults lists what consumers could not process, newest event first, from
// before a position on (0: all); of users of one world, or (empty) of both. A
// page may hold fewer than limit although there are more, or a few more than
// that: next is 0 at the end.
func (i *Inspector) Faults(ctx context.Context, key Key, world World, before bankfeed.Position, limit int) (list []FaultOf, next bankfeed.Position, err error) {
	if limit < 1 || limit > MaxListed {
		return nil, 0, bankfeed.InvalidField("limit", "must be between 1 and %d", MaxListed)
	}
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	faults, err := i.c.Store.Faults(ctx, key, 0, before, limit)
	if err != nil || len(faults) == 0 {
		return nil, 0, err
	}
	if len(faults) >= limit { // those of one event are never parted
		next = faults[len(faults)-1].Position
	}
	positions := make([]bankfeed.Position, len(faults))
	for n, f := range faults {
		positions[n] = f.Position
	}
	slices.Sort(positions)
	events, err := i.c.Index.StreamEventsAt(ctx, r.Tenant, r.Lane, slices.Compact(positions))
	if err != nil {
		return nil, 0, err
	}
	if events, err = i.visible(ctx, &r, i.halves(key.Tenant), world, events); err != nil {
		return nil, 0, err
	}
	by := map[bankfeed.Position]bankfeed.Event{}
	for _, e := range events {
		by[e.Position] = e
	}
	for _, f := range faults {
		if e, ok := by[f.Position]; ok {
			erased := e.Snapshot == nil
			e.Snapshot = nil
			list = append(list, FaultOf{f, e, erased})
		}
	}
	return list, next, nil
}
