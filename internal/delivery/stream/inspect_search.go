package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Search selects events of a stream; zero members do not filter. Numbers need
// not name anything that is still there.
type Search struct {
	World      World // of the users whose events may be seen; empty: both
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Account    bankfeed.AccountID
	Consent    bankfeed.ConsentID
	// Session is a session's number, UUID or external id.
	Session string
	// Execution is the id of a call to a bank, a UUID of version 7.
	Execution bankfeed.UUID
	// Message is the id of an event, or of a replay's message.
	Message  bankfeed.UUID
	Messages []banqup.Kind // empty: also events that become no message
	After    bankfeed.Position
	Limit    int // at least 1
}

// Found is a page of a search, in the order of the log.
type Found struct {
	Stories []Story
	// Next is where to go on; 0 at the end of the log. A search looks at a bounded
	// part of the log, so there may be more although few were found, or none.
	Next bankfeed.Position
}

// MaxFound bounds a page of a search.
const MaxFound = 200

// searchPage is how many events are read at once when the log cannot select them
// all by itself.
const searchPage = 500

// Search finds events and tells their stories; erased ones too, as far as what
// is left of them shows that they fit. bankfeed.ErrNotFound if the tenant has no
// such stream.
func (i *Inspector) Search(ctx context.Context, key Key, q Search) (Found, error) {
	if q.Limit < 1 || q.Limit > MaxFound {
		return Found{}, bankfeed.InvalidField("limit", "must be between 1 and %d", MaxFound)
	}
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return Found{}, err
	}
	s := searching{Inspector: i, q: q, record: &r, halves: i.halves(key.Tenant)}
	if some, err := s.prepare(ctx); !some || err != nil {
		return Found{}, err
	}
	var events []bankfeed.Event
	var next bankfeed.Position
	if q.Message != (bankfeed.UUID{}) {
		events, err = s.named(ctx)
	} else {
		events, next, err = s.walk(ctx)
	}
	if err != nil {
		return Found{}, err
	}
	stories, err := i.stories(ctx, &r, s.halves, events)
	return Found{stories, next}, err
}

// searching is one search.
type searching struct {
	*Inspector
	q        Search
	record   *Record
	halves   *halves
	sessions []bankfeed.SessionID // empty: any
	types    []bankfeed.EventType // empty: all
	until    time.Time            // events of a later time cannot be meant; zero: any can
}

// sessionsNamed bounds how many sessions with one external id are looked for.
const sessionsNamed = 50

// prepare finds out what the log can select by. some is false if nothing can be
// found.
func (s *searching) prepare(ctx context.Context) (some bool, err error) {
	q := &s.q
	for _, k := range q.Messages {
		s.types = append(s.types, typesOf(k, s.record.Settings.Unchanged)...)
	}
	only := func(types []bankfeed.EventType) {
		if s.types == nil {
			s.types = types
			return
		}
		s.types = slices.DeleteFunc(s.types, func(t bankfeed.EventType) bool { return !slices.Contains(types, t) })
		some = some && len(s.types) > 0
	}
	some = true
	if q.Consent != 0 {
		only([]bankfeed.EventType{bankfeed.EventConsentCreated, bankfeed.EventConsentUpdated, bankfeed.EventConsentDeleted, bankfeed.EventConsentExpiring})
	}
	if q.Execution != (bankfeed.UUID{}) {
		only([]bankfeed.EventType{bankfeed.EventBankCalled})
		at, ok := timeOf(q.Execution)
		if !ok {
			return false, nil
		}
		from, err := s.c.Store.SeekTime(ctx, s.record.Tenant, s.record.Lane, at)
		if err != nil {
			return false, err
		}
		q.After, s.until = max(q.After, from), at.Add(callLag)
	}
	if q.Session != "" {
		if n, ok := s.c.Installation.ParseID(q.Session, bankfeed.KindSession, s.record.Tenant); ok {
			s.sessions = append(s.sessions, bankfeed.SessionID(n))
		}
		named, err := s.c.Index.StreamSessions(ctx, s.record.Tenant, q.Session, sessionsNamed)
		if err != nil {
			return false, err
		}
		s.sessions = append(s.sessions, named...)
		slices.Sort(s.sessions)
		if s.sessions = slices.Compact(s.sessions); len(s.sessions) == 0 {
			return false, nil
		}
	}
	if q.Message != (bankfeed.UUID{}) || !some {
		return some, nil
	}
	return s.narrow(ctx)
}

// narrow finds the user of what is searched for, because the log finds a user's
// events fast, and the connection of a consent. What is stored no more is
// searched for in the whole log.
func (s *searching) narrow(ctx context.Context) (some bool, err error) {
	q := &s.q
	ids := []struct {
		kind   bankfeed.Kind
		number int64
	}{
		{bankfeed.KindConnection, int64(q.Connection)},
		{bankfeed.KindAccount, int64(q.Account)},
		{bankfeed.KindConsent, int64(q.Consent)},
	}
	if len(s.sessions) == 1 {
		ids = append(ids, struct {
			kind   bankfeed.Kind
			number int64
		}{bankfeed.KindSession, int64(s.sessions[0])})
	}
	for _, id := range ids {
		if id.number == 0 {
			continue
		}
		user, connection, err := s.c.Index.StreamOwner(ctx, s.record.Tenant, id.kind, id.number)
		if errors.Is(err, bankfeed.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if q.User != 0 && q.User != user || q.Connection != 0 && q.Connection != connection {
			return false, nil
		}
		q.User = user
		if id.kind == bankfeed.KindConsent {
			q.Connection = connection
		}
	}
	if q.User == 0 {
		return true, nil
	}
	return s.halves.sees(ctx, q.World, q.User)
}

// named finds the one event that a message id names.
func (s *searching) named(ctx context.Context) ([]bankfeed.Event, error) {
	found, err := s.Inspector.named(ctx, s.record, s.halves, s.q.World, []bankfeed.UUID{s.q.Message})
	if err != nil {
		return nil, err
	}
	n, ok := found[s.q.Message]
	if !ok || n.event.Position <= s.q.After || !s.matches(&n.event) {
		return nil, nil
	}
	return []bankfeed.Event{n.event}, nil
}

// walk goes through the log.
func (s *searching) walk(ctx context.Context) (found []bankfeed.Event, next bankfeed.Position, err error) {
	_, head, err := s.c.Log.Bounds(ctx, s.record.Tenant, s.record.Lane)
	if err != nil {
		return nil, 0, err
	}
	after := s.q.After
	for range looks {
		if after >= head {
			return found, 0, nil
		}
		look := LogQuery{
			Tenant: s.record.Tenant, Lane: s.record.Lane, User: s.q.User, Connection: s.q.Connection, Account: s.q.Account,
			Types: s.types, After: after, Limit: searchPage,
		}
		if len(s.sessions) == 1 {
			look.Session = s.sessions[0]
		}
		events, reached, err := s.c.Log.Select(ctx, look)
		if err != nil {
			return nil, 0, err
		}
		late := false
		if len(events) > 0 && !s.until.IsZero() {
			late = events[len(events)-1].At.After(s.until)
		}
		if events, err = s.visible(ctx, s.record, s.halves, s.q.World, events); err != nil {
			return nil, 0, err
		}
		for n := range events {
			if !s.matches(&events[n]) {
				continue
			}
			found = append(found, events[n])
			if s.q.Execution != (bankfeed.UUID{}) {
				return found, 0, nil // there is one at most
			}
			if len(found) == s.q.Limit {
				return found, events[n].Position, nil
			}
		}
		if late || reached <= after {
			return found, 0, nil
		}
		after = reached
	}
	return found, after, nil
}

// matches compares everything that the search asks for. What an erased event
// was about is not known beyond its numbers: erased events about consents of the
// right connection count as those of the consent, erased calls as none.
func (s *searching) matches(e *bankfeed.Event) bool {
	q := &s.q
	if q.User != 0 && e.User != q.User || q.Connection != 0 && e.Connection != q.Connection || q.Account != 0 && e.Account != q.Account ||
		len(s.sessions) > 0 && !slices.Contains(s.sessions, e.Session) || len(s.types) > 0 && !slices.Contains(s.types, e.Type) {
		return false
	}
	if q.Execution != (bankfeed.UUID{}) && (e.Snapshot == nil || e.Snapshot.Call == nil || e.Snapshot.Call.ExecutionID != q.Execution) {
		return false
	}
	if q.Consent == 0 {
		return true
	}
	if e.Snapshot == nil {
		return q.Connection != 0
	}
	return e.Snapshot.Consent != nil && e.Snapshot.Consent.ID == q.Consent
}

// callLag is how long after a call to a bank it is in the log at the very latest.
const callLag = time.Hour

// timeOf reads the time inside a UUID of version 7 (RFC 9562, section 5.7).
func timeOf(u bankfeed.UUID) (time.Time, bool) {
	if u[6]>>4 != 7 || u[8]>>6 != 2 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(u[:8]) >> 16)), true
}
