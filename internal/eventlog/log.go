// Package eventlog reads the log of events: from a cursor, with filters, and
// waiting for what comes next. It also ends events: by age, and by erasing what
// they say about a user. Appending belongs to the store, because events commit
// together with the state that they are about.
//
// A lane's positions are 1, 2, 3 … in commit order (Store.appendEvents has the
// proof), so a reader that goes on after the last position it saw never skips
// an event. Readers of a whole tenant hold a Cursor.
package eventlog

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Query selects events of one lane. Zero members do not filter.
type Query struct {
	Tenant     bankfeed.TenantID
	Lane       int
	User       bankfeed.UserID // whose lane it then must be
	Connection bankfeed.ConnectionID
	Account    bankfeed.AccountID
	Session    bankfeed.SessionID
	Types      []bankfeed.EventType
	Topic      *bankfeed.Topic
	Seen       bool // also bankfeed.TopicSeen; false for every reader but a stream that asks
	After      bankfeed.Position
	Limit      int // at least 1
}

// Store reads lanes.
type Store interface {
	// ReadEvents returns up to Limit events after After, in their order, and
	// the position up to which it looked: no event that the query selects lies
	// between After and next without being among events. It looks at a bounded
	// number of rows, so next may be short of the head although fewer than
	// Limit events were found.
	ReadEvents(ctx context.Context, q Query) (events []bankfeed.Event, next bankfeed.Position, err error)
	// Lane finds the bounds of a lane; zero bounds if nothing was ever written
	// to it.
	Lane(ctx context.Context, tenant bankfeed.TenantID, lane int) (Lane, error)
}

// MaxLimit bounds one page.
const MaxLimit = 1000

// Log reads the events of tenants. Safe for concurrent use.
type Log struct {
	store Store
	hub   *Hub
	epoch bankfeed.Epoch
}

// New returns the log of the given epoch. The hub wakes its waiting readers.
func New(store Store, hub *Hub, epoch bankfeed.Epoch) *Log {
	return &Log{store: store, hub: hub, epoch: epoch}
}

// Page is what one read found.
type Page struct {
	Events []bankfeed.Event
	Next   Cursor // where to go on, also when there are no events
}

// Read returns the events that q selects after the cursor, from all lanes, or
// from the user's when q names a user; q's Lane and After are not looked at. If
// there are none, it waits for them as long as wait.
//
// Errors: Gone with the oldest cursor (OldestOf) when events after the cursor
// were removed, StaleEpoch with the oldest one when the cursor is from before a
// restore, Invalid when it is ahead of the log.
func (l *Log) Read(ctx context.Context, q Query, after Cursor, wait time.Duration) (Page, error) {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return Page{}, bankfeed.InvalidField("limit", "must be between 1 and %d", MaxLimit)
	}
	for _, t := range q.Types {
		if _, ok := t.Info(); !ok {
			return Page{}, bankfeed.InvalidField("types", "unknown event type")
		}
	}
	if wait <= 0 {
		p, _, err := l.read(ctx, q, after)
		return p, err
	}
	// Registered first, so that what commits during the read is not missed.
	wake, stop := l.hub.Subscribe(q.Tenant, q.User, topics(q.Topic)...)
	defer stop()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		p, atEnd, err := l.read(ctx, q, after)
		if err != nil || len(p.Events) > 0 {
			return p, err
		}
		after = p.Next
		if !atEnd {
			select {
			case <-timeout.C:
				return p, nil
			default:
				continue
			}
		}
		select {
		case <-wake:
		case <-timeout.C:
			return p, nil
		case <-ctx.Done():
			return Page{}, ctx.Err()
		}
	}
}

func topics(t *bankfeed.Topic) []bankfeed.Topic {
	if t == nil {
		return nil
	}
	return []bankfeed.Topic{*t}
}

// read is one look at the log. If it found no events, atEnd tells whether all
// of the log was seen.
func (l *Log) read(ctx context.Context, q Query, after Cursor) (p Page, atEnd bool, err error) {
	if after.Epoch != l.epoch {
		oldest, err := l.Oldest(ctx, q.Tenant)
		if err != nil {
			return p, false, err
		}
		return p, false, &bankfeed.Error{Kind: bankfeed.StaleEpoch, Text: "the log was restored from a backup after this cursor was made",
			Err: &cursorError{oldest}}
	}
	lanes := allLanes(Lanes)
	if q.User != 0 {
		lanes = []int{LaneOf(q.User, Lanes)}
	}
	p.Next, atEnd = after.clone(), true
	limit := q.Limit
	for i, lane := range lanes {
		// An even share of what is left, so that a busy lane starves none.
		q.Lane, q.After = lane, after.Lanes[lane]
		q.Limit = max(1, (limit-len(p.Events))/(len(lanes)-i))
		events, next, err := l.store.ReadEvents(ctx, q)
		if err != nil {
			return p, false, err
		}
		p.Events = append(p.Events, events...)
		p.Next.Lanes[lane] = next
		if len(events) > 0 && events[0].Position == q.After+1 {
			continue // nothing can be missing, and the end does not matter
		}
		// Looked at after the read: whatever was removed before it shows here.
		bounds, err := l.store.Lane(ctx, q.Tenant, lane)
		if err != nil {
			return p, false, err
		}
		if q.After < bounds.Floor {
			oldest, err := l.Oldest(ctx, q.Tenant)
			if err != nil {
				return p, false, err
			}
			return p, false, &bankfeed.Error{Kind: bankfeed.Gone, Text: "events after this cursor were removed by retention", Err: &cursorError{oldest}}
		}
		if q.After > bounds.Head {
			return p, false, bankfeed.InvalidField("after", "is ahead of the log")
		}
		atEnd = atEnd && next >= bounds.Head
	}
	return p, atEnd, nil
}

// Oldest is the cursor from which everything that is left can be read.
func (l *Log) Oldest(ctx context.Context, tenant bankfeed.TenantID) (Cursor, error) {
	return l.cursor(ctx, tenant, func(b Lane) bankfeed.Position { return b.Floor })
}

// Newest is the cursor after everything that is committed now.
func (l *Log) Newest(ctx context.Context, tenant bankfeed.TenantID) (Cursor, error) {
	return l.cursor(ctx, tenant, func(b Lane) bankfeed.Position { return b.Head })
}

func (l *Log) cursor(ctx context.Context, tenant bankfeed.TenantID, pick func(Lane) bankfeed.Position) (Cursor, error) {
	c := Cursor{Epoch: l.epoch, Lanes: make([]bankfeed.Position, Lanes)}
	for i := range c.Lanes {
		b, err := l.store.Lane(ctx, tenant, i)
		if err != nil {
			return Cursor{}, err
		}
		c.Lanes[i] = pick(b)
	}
	return c, nil
}

func allLanes(n int) []int {
	lanes := make([]int, n)
	for i := range lanes {
		lanes[i] = i
	}
	return lanes
}
