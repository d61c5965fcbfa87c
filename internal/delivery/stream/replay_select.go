package stream

import (
	"context"
	"errors"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// carried are the kinds of message of a stream.
func carried(s Settings) []banqup.Kind {
	if len(s.Messages) == 0 {
		return banqup.Kinds
	}
	return s.Messages
}

// selection finds the events of a replay.
type selection struct {
	log    LogReader
	worlds Worlds
	key    Key
	filter ReplayFilter // First and Last are set
	face   banqup.Settings
	types  []bankfeed.EventType

	known map[bankfeed.UserID]bool // whether a user is of the filter's world
}

// maxWorldsKnown bounds the memory of a selection.
const maxWorldsKnown = 10_000

func newSelection(log LogReader, worlds Worlds, rec *Record, f ReplayFilter) *selection {
	s := &selection{log: log, worlds: worlds, key: rec.Key, filter: f, face: rec.Settings.Face, known: map[bankfeed.UserID]bool{}}
	for _, e := range bankfeed.EventTypes {
		k, ok := banqup.KindOf(e.Type)
		switch {
		case !ok || !slices.Contains(carried(rec.Settings), k):
		case len(f.Messages) > 0 && !slices.Contains(f.Messages, k):
		case f.Consent != 0 && k != banqup.Consent:
		case e.Topic == bankfeed.TopicSeen && !rec.Settings.Unchanged:
		default:
			s.types = append(s.types, e.Type)
		}
	}
	return s
}

// page returns the next events after a position, and up to which it looked.
// removed is the last position that retention has removed: events up to it can
// be missing.
func (s *selection) page(ctx context.Context, after bankfeed.Position, limit int) (events []bankfeed.Event, next, removed bankfeed.Position, err error) {
	if len(s.types) == 0 || after >= s.filter.Last {
		return nil, s.filter.Last, 0, nil
	}
	events, next, err = s.log.Select(ctx, LogQuery{
		Tenant: s.key.Tenant, Lane: s.key.Lane, User: s.filter.User, Connection: s.filter.Connection, Account: s.filter.Account,
		Session: s.filter.Session, Types: s.types, After: after, Limit: limit,
	})
	if err != nil {
		return nil, 0, 0, err
	}
	// Looked at after the read: whatever was removed before it shows here.
	floor, _, err := s.log.Bounds(ctx, s.key.Tenant, s.key.Lane)
	if err != nil {
		return nil, 0, 0, err
	}
	events, err = s.pick(ctx, events)
	return events, min(next, s.filter.Last), min(floor, s.filter.Last), err
}

// pick keeps what the filter takes of a page.
func (s *selection) pick(ctx context.Context, events []bankfeed.Event) ([]bankfeed.Event, error) {
	var failed error
	kept := slices.DeleteFunc(events, func(e bankfeed.Event) bool {
		if failed != nil || !s.takes(&e) {
			return true
		}
		ours, err := s.ours(ctx, e.User)
		failed = err
		return !ours
	})
	return kept, failed
}

// takes compares what the log does not select by. What an erased event was about
// is not known beyond its columns, so none belongs to a consent.
func (s *selection) takes(e *bankfeed.Event) bool {
	f := &s.filter
	return e.Position >= f.First && e.Position <= f.Last &&
		(f.From.IsZero() || !e.At.Before(f.From)) && (f.To.IsZero() || e.At.Before(f.To)) &&
		(f.Consent == 0 || e.Snapshot != nil && e.Snapshot.Consent != nil && e.Snapshot.Consent.ID == f.Consent)
}

// sees returns ErrNotFound for an event of the other world, as for one that never
// was.
func (s *selection) sees(ctx context.Context, p bankfeed.Position) error {
	events, _, err := s.log.Select(ctx, LogQuery{Tenant: s.key.Tenant, Lane: s.key.Lane, After: p - 1, Limit: 1})
	if err != nil || len(events) == 0 || events[0].Position != p {
		return err // removed since: nothing is counted or sent
	}
	ours, err := s.ours(ctx, events[0].User)
	if err == nil && !ours {
		err = bankfeed.ErrNotFound
	}
	return err
}

// ours reports whether a user is of the filter's world.
func (s *selection) ours(ctx context.Context, user bankfeed.UserID) (bool, error) {
	if s.filter.World == "" {
		return true, nil
	}
	if ours, ok := s.known[user]; ok {
		return ours, nil
	}
	sandbox, err := s.worlds.SandboxUser(ctx, s.key.Tenant, user)
	if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
		return false, err
	}
	ours := err == nil && sandbox == (s.filter.World == Sandbox)
	if len(s.known) >= maxWorldsKnown {
		clear(s.known)
	}
	s.known[user] = ours
	return ours, nil
}

// countPage is how many events one step of counting reads.
const countPage = 1000

// count goes through the log from the filter's First as long as more says so,
// which is asked between the steps.
func (s *selection) count(ctx context.Context, more func() bool) (ReplayCount, error) {
	n := ReplayCount{Kinds: map[banqup.Kind]int64{}, First: s.filter.First, Last: s.filter.Last, Position: s.filter.First - 1}
	for n.Position < s.filter.Last {
		if !more() {
			return n, nil
		}
		events, next, _, err := s.page(ctx, n.Position, countPage)
		if err != nil {
			return n, err
		}
		for i := range events {
			if events[i].Snapshot == nil {
				n.Erased++
				continue
			}
			k, _ := banqup.KindOf(events[i].Type)
			n.Kinds[k]++
			n.Total++
		}
		n.Position = next
	}
	n.Complete = true
	return n, nil
}
