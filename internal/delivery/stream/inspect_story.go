package stream

import (
	"context"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Story is what is known of one event on its way through a stream.
type Story struct {
	// Event without its Snapshot; Erased says that there is none any more.
	Event   bankfeed.Event
	Message bankfeed.UUID // id of its first delivery
	Erased  bool
	Kind    banqup.Kind // empty if there is no such message
	Carried bool
	State   StoryState // the furthest that is known
	Steps   []StoryStep
	Replays []ReplayStory // newest first
}

// StoryState is how far an event, or a replay of it, has come.
type StoryState string

// States of a story:
//
//	logged → held → confirmed → routed → drained | faulted → acknowledged
//	                          → unrouted (→ routed, by a redrive)
//	       → erased | unreadable
//	not_carried
const (
	StoryNotCarried   StoryState = "not_carried"
	StoryLogged       StoryState = "logged"
	StoryHeld         StoryState = "held"
	StoryConfirmed    StoryState = "confirmed"
	StoryRouted       StoryState = "routed"
	StoryUnrouted     StoryState = "unrouted"
	StoryErased       StoryState = "erased"
	StoryUnreadable   StoryState = "unreadable"
	StoryDrained      StoryState = "drained"
	StoryFaulted      StoryState = "faulted"
	StoryAcknowledged StoryState = "acknowledged"
)

// StoryStep is one thing that is known.
type StoryStep struct {
	State StoryState
	// At is when, or the latest moment at which it was so; zero if that was not
	// recorded.
	At   time.Time
	Text string // what it proves, and what not
	// Fault is set for faulted ones, Consumer for acknowledged ones.
	Fault    *Fault
	Consumer string
}

// ReplayStory is what is known of an event in one replay.
type ReplayStory struct {
	ID      int64
	Message bankfeed.UUID
	Queue   string // instead of the exchange
	Status  ReplayStatus
	State   StoryState
	Steps   []StoryStep
}

// Sentences of the steps.
const (
	textLogged  = "The event is in the log. This says nothing about the broker."
	textWaiting = "The exchange waits for its binding and has not been given this message yet. It goes out, in order, once a queue is bound again."
	textRedrive = "The message waits until those in front of it have been sent again."
	textConfirm = "The broker took the message, at this time at the latest; later only if its exchange held messages back then. This says nothing about queues or consumers."
	textOlder   = " It was under the id that the event had before the log was restored from a backup."
	textUntold  = "The settings ask the broker not to tell whether a queue took the message: nobody knows."
	textRouted  = "The broker put the message into at least one queue. Which, and whether a consumer has read it, is not known."
	textAgain   = "No queue was bound at first; the message was sent again, under the same id, and all of its range was routed by this time."
	textNobody  = "The broker took the message, but no queue was bound: no consumer has got it. A redrive sends it again."
	textErased  = "What the event says was erased, with its user, consent or account, before the message could reach a queue. It never goes out."
	textFault   = "The event could not be written as a message, by a fault of the hub. It was not sent; the hub's log says why."
	textDrained = "Every queue that the settings name was seen without ready messages after the message was confirmed. Consumers were given what was in them; whether they have processed it is not known."
	textThrew   = "A consumer reported that it could not process the message."
	textUnread  = "A consumer reported that it could not read the message."
	textAcked   = "The consumer says that it has processed the message."

	textAsked  = "A replay was asked to send the event again and has not come to it yet."
	textEnded  = "A replay was asked to send the event again, but ended before it came to it."
	textPassed = "A replay has passed the event, which is erased now. Whether the message went out before that is not recorded."
	textResent = "A replay sent the event again, under an id of its own, and the broker took it, by the end of the replay at the latest."
	textAll    = " Every message of the replay reached at least one queue."
	textSome   = " Which messages of a replay reached a queue is counted, not listed."
)

// told is everything that a story is made of.
type told struct {
	event   bankfeed.Event
	record  *Record
	present bool // the stream's progress belongs to the log's present epoch
	facts   Facts
	replays []Replay // those that take the event
}

// tell is the story: a pure function of what is known.
func tell(t told) Story {
	e := t.event
	s := Story{Event: e, Message: e.ID(), Erased: e.Snapshot == nil}
	s.Event.Snapshot = nil
	var of bool
	s.Kind, of = banqup.KindOf(e.Type)
	s.add(StoryLogged, e.At, textLogged)
	if why := t.notCarried(s.Kind, of); why != "" {
		s.add(StoryNotCarried, time.Time{}, why)
	} else {
		s.Carried = true
		t.first(&s)
	}
	s.State, s.Steps = t.heard(0, s.State, s.Steps)
	for i := range t.replays {
		s.Replays = append(s.Replays, t.replay(&t.replays[i]))
	}
	return s
}

func (s *Story) add(state StoryState, at time.Time, text string) {
	s.State = state
	s.Steps = append(s.Steps, StoryStep{State: state, At: at, Text: text})
}

// notCarried says why the stream does not send an event; empty if it does.
func (t *told) notCarried(k banqup.Kind, of bool) string {
	switch s := &t.record.Settings; {
	case !of:
		return "There is no message for events of this type."
	case t.event.Type.Topic() == bankfeed.TopicSeen && !s.Unchanged:
		return "The settings suppress what a bank lists again unchanged."
	case t.event.Position <= t.record.Start:
		return "The stream began after this event."
	case !carries(s, k):
		return "The settings leave this kind of message out. Whether they did when the stream passed the event is not recorded."
	}
	return ""
}

// first tells of the first delivery.
func (t *told) first(s *Story) {
	p, progress, gap := t.event.Position, &t.record.Progress, t.facts.Gap
	hold, held := progress.Holds[s.Kind]
	held = held && p > hold.After
	if gap != nil && (p < gap.First || p > gap.Last || gap.Kind != s.Kind) {
		gap = nil
	}
	if gap != nil && gap.Reason == GapErased {
		s.add(StoryErased, gap.Until, textErased)
		return
	}
	if gap != nil && gap.Reason == GapUnreadable {
		s.add(StoryUnreadable, gap.Until, textFault)
		return
	}
	if p > progress.Position {
		return
	}
	mark := t.facts.ConfirmedBy
	if held && gap == nil && (!hold.Redrive || mark == nil || !mark.At.Before(hold.Since)) {
		text := textWaiting
		if hold.Redrive {
			text = textRedrive
		}
		s.add(StoryHeld, hold.Since, text)
		return
	}
	at, again := t.record.SavedAt, time.Time{}
	if mark != nil {
		at = mark.At
	}
	confirmed := textConfirm
	if !t.present {
		confirmed += textOlder
	}
	s.add(StoryConfirmed, at, confirmed)
	x := progress.Exchanges[s.Kind]
	switch {
	case gap != nil && gap.ResolvedAt.IsZero():
		s.add(StoryUnrouted, gap.Until, textNobody)
		if held {
			s.add(StoryHeld, hold.Since, textRedrive)
		}
		return
	case gap != nil:
		s.add(StoryUnrouted, gap.Until, textNobody)
		s.add(StoryRouted, gap.ResolvedAt, textAgain)
		again = gap.ResolvedAt
	case unroutedOf(&t.record.Settings, s.Kind) == UnroutedOff || p <= x.Untold || !x.Routed:
		s.Steps[len(s.Steps)-1].Text += " " + textUntold
		return // an empty queue proves nothing of a message that may be in none
	default:
		s.add(StoryRouted, at, textRouted)
	}
	if at, ok := t.drained(again); ok {
		s.add(StoryDrained, at, textDrained)
	}
}

// drained reports since when every named queue is known to have been empty after
// the event was confirmed, and after it was sent again if it was.
func (t *told) drained(again time.Time) (at time.Time, ok bool) {
	for _, name := range t.record.Settings.Queues {
		q, seen := t.record.Progress.Queues[name]
		if !seen || q.Missing || q.DrainedAt.IsZero() || t.event.Position > q.Drained || q.DrainedAt.Before(again) {
			return at, false
		}
		if q.DrainedAt.After(at) {
			at = q.DrainedAt
		}
	}
	return at, !at.IsZero()
}

// heard adds what consumers say of a delivery, 0 being the first one.
func (t *told) heard(replay int64, state StoryState, steps []StoryStep) (StoryState, []StoryStep) {
	for i := range t.facts.Faults {
		f := &t.facts.Faults[i]
		if f.Replay != replay {
			continue
		}
		text := textThrew
		if f.Kind == "" {
			text = textUnread
		}
		state = StoryFaulted
		steps = append(steps, StoryStep{State: state, At: f.At, Text: text, Fault: f})
	}
	for _, a := range t.facts.Acknowledgements {
		if a.Replay != replay {
			continue
		}
		state = StoryAcknowledged
		steps = append(steps, StoryStep{State: state, At: a.At, Text: textAcked, Consumer: a.Consumer})
	}
	return state, steps
}

func (t *told) replay(r *Replay) ReplayStory {
	s := ReplayStory{ID: r.ID, Message: r.MessageID(t.event.Position), Queue: r.Queue, Status: r.Status}
	step := StoryStep{State: StoryLogged, At: r.CreatedAt(), Text: textAsked}
	switch k, _ := banqup.KindOf(t.event.Type); {
	case t.event.Position > r.Position && r.Ended():
		step.Text = textEnded
	case t.event.Position > r.Position:
	case t.event.Snapshot == nil:
		step = StoryStep{State: StoryErased, Text: textPassed}
	case r.Unrouted == 0 && unroutedOf(&t.record.Settings, k) != UnroutedOff:
		step = StoryStep{State: StoryRouted, At: r.EndedAt, Text: textResent + textAll}
	default:
		step = StoryStep{State: StoryConfirmed, At: r.EndedAt, Text: textResent + textSome}
	}
	s.State, s.Steps = step.State, []StoryStep{step}
	s.State, s.Steps = t.heard(r.ID, s.State, s.Steps)
	return s
}

// takes reports whether a replay is about an event of a user of a world.
func (r *Replay) takes(e *bankfeed.Event, world World) bool {
	f := &r.Filter
	k, ok := banqup.KindOf(e.Type)
	return ok && e.Position <= r.end() && e.Position >= f.First &&
		(f.User == 0 || f.User == e.User) && (f.Connection == 0 || f.Connection == e.Connection) &&
		(f.Account == 0 || f.Account == e.Account) && (f.Session == 0 || f.Session == e.Session) &&
		(len(f.Messages) == 0 || slices.Contains(f.Messages, k)) && (f.World == "" || f.World == world) &&
		(f.From.IsZero() || !e.At.Before(f.From)) && (f.To.IsZero() || e.At.Before(f.To)) &&
		(f.Consent == 0 || e.Snapshot != nil && e.Snapshot.Consent != nil && e.Snapshot.Consent.ID == f.Consent)
}

// replaysKnown bounds how far back a story looks for replays.
const replaysKnown = 200

// stories tells of events of a stream.
func (i *Inspector) stories(ctx context.Context, r *Record, h *halves, events []bankfeed.Event) ([]Story, error) {
	if len(events) == 0 {
		return nil, nil
	}
	positions := make([]bankfeed.Position, len(events))
	for n, e := range events {
		positions[n] = e.Position
	}
	facts, err := i.c.Store.Facts(ctx, r.Key, positions)
	if err != nil {
		return nil, err
	}
	replays, err := i.c.Store.Replays(ctx, r.Tenant, 0, replaysKnown)
	if err != nil {
		return nil, err
	}
	replays = slices.DeleteFunc(replays, func(p Replay) bool { return p.Stream != r.Key })
	list := make([]Story, len(events))
	for n, e := range events {
		t := told{event: e, record: r, present: r.Epoch == 0 || r.Epoch == i.c.Installation.Epoch, facts: facts[e.Position]}
		for _, p := range replays {
			var w World
			if p.Filter.World != "" {
				if w, err = h.of(ctx, e.User); err != nil {
					return nil, err
				}
			}
			if p.takes(&e, w) {
				t.replays = append(t.replays, p)
			}
		}
		list[n] = tell(t)
	}
	return list, nil
}

// Story tells of the event that a message id names: the event's own id, or that
// of a replay of it. bankfeed.ErrNotFound for what is unknown, no longer kept,
// another tenant's or, unless world is empty, of the other world.
func (i *Inspector) Story(ctx context.Context, key Key, world World, message bankfeed.UUID) (Story, error) {
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return Story{}, err
	}
	h := i.halves(key.Tenant)
	found, err := i.named(ctx, &r, h, world, []bankfeed.UUID{message})
	if err != nil {
		return Story{}, err
	}
	n, ok := found[message]
	if !ok {
		return Story{}, bankfeed.ErrNotFound
	}
	list, err := i.stories(ctx, &r, h, []bankfeed.Event{n.event})
	if err != nil {
		return Story{}, err
	}
	return list[0], nil
}

// naming is what a message id names.
type naming struct {
	event  bankfeed.Event
	replay int64 // 0: the first delivery
}

// named finds the events that message ids name; those that name nothing that may
// be seen are left out.
func (i *Inspector) named(ctx context.Context, r *Record, h *halves, world World, messages []bankfeed.UUID) (map[bankfeed.UUID]naming, error) {
	type place struct {
		position bankfeed.Position
		replay   int64
	}
	places := map[bankfeed.UUID]place{}
	replays := map[int64]*Replay{}
	var positions []bankfeed.Position
	for _, id := range messages {
		epoch, tenant, lane, p, ok := bankfeed.ParseEventID(id)
		if !ok || tenant != r.Tenant || lane != r.Lane || p == 0 {
			continue
		}
		at := place{position: p}
		if epoch != i.c.Installation.Epoch {
			at.replay = int64(epoch)
			if _, asked := replays[at.replay]; !asked {
				found, err := i.c.Store.Replay(ctx, tenant, at.replay)
				switch {
				case bankfeed.ErrorKindOf(err) == bankfeed.NotFound:
					replays[at.replay] = nil
				case err != nil:
					return nil, err
				default:
					replays[at.replay] = &found
				}
			}
			if of := replays[at.replay]; of == nil || of.Stream != r.Key {
				continue
			}
		}
		places[id] = at
		positions = append(positions, p)
	}
	if len(positions) == 0 {
		return nil, nil
	}
	slices.Sort(positions)
	events, err := i.c.Index.StreamEventsAt(ctx, r.Tenant, r.Lane, slices.Compact(positions))
	if err != nil {
		return nil, err
	}
	if events, err = i.visible(ctx, r, h, world, events); err != nil {
		return nil, err
	}
	by := map[bankfeed.Position]bankfeed.Event{}
	for _, e := range events {
		by[e.Position] = e
	}
	found := map[bankfeed.UUID]naming{}
	for id, at := range places {
		e, ok := by[at.position]
		if !ok {
			continue
		}
		if at.replay != 0 {
			w, err := h.of(ctx, e.User)
			if err != nil {
				return nil, err
			}
			if !replays[at.replay].takes(&e, w) {
				continue
			}
		}
		found[id] = naming{e, at.replay}
	}
	return found, nil
}

// visible keeps the events of a world. What a bank listed again unchanged is
// for streams that ask for it.
func (i *Inspector) visible(ctx context.Context, r *Record, h *halves, world World, events []bankfeed.Event) ([]bankfeed.Event, error) {
	var failed error
	kept := slices.DeleteFunc(events, func(e bankfeed.Event) bool {
		if failed != nil || e.Type.Topic() == bankfeed.TopicSeen && !r.Settings.Unchanged {
			return true
		}
		sees, err := h.sees(ctx, world, e.User)
		failed = err
		return !sees
	})
	return kept, failed
}
