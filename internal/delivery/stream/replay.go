package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// ReplayStore is what replays need of a Store.
type ReplayStore interface {
	Streams(ctx context.Context, tenant bankfeed.TenantID) ([]Record, error)
	Stream(ctx context.Context, key Key) (Record, error)
	AddReplay(ctx context.Context, r Replay, now time.Time) (Replay, error)
	Replay(ctx context.Context, tenant bankfeed.TenantID, id int64) (Replay, error)
	Replays(ctx context.Context, tenant bankfeed.TenantID, before int64, limit int) ([]Replay, error)
	SaveReplay(ctx context.Context, f bankfeed.Fence, r Replay, release *bankfeed.Release) error
	CancelReplay(ctx context.Context, tenant bankfeed.TenantID, id int64, now time.Time) (Replay, error)
	SeekTime(ctx context.Context, tenant bankfeed.TenantID, lane int, t time.Time) (bankfeed.Position, error)
}

// Worlds tells in which world a user lives, also one that was erased.
type Worlds interface {
	// SandboxUser returns bankfeed.ErrNotFound for a user who never was.
	SandboxUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error)
}

// ReplaysConfig is what replays are ordered with.
type ReplaysConfig struct {
	Store  ReplayStore
	Log    LogReader
	Worlds Worlds
	Epoch  bankfeed.Epoch // of the log
	Now    func() time.Time
}

// Replays takes orders for replays and tells how they get on; ReplayRunner does
// the work. Safe for concurrent use.
type Replays struct{ c ReplaysConfig }

// NewReplays returns the replays of all tenants.
func NewReplays(c ReplaysConfig) *Replays { return &Replays{c} }

// ReplayOrder asks for a replay.
type ReplayOrder struct {
	Tenant bankfeed.TenantID
	Stream string // empty: the only one
	Filter ReplayFilter
	// Event is the id of the one event to send, or of a message of an earlier
	// replay of it; it excludes First and Last of the filter.
	Event bankfeed.UUID
	Queue string // instead of the exchanges
	// CountFor bounds the time that counting may take; 0: no bound.
	CountFor time.Duration
}

// ReplayCount is what a replay would send.
type ReplayCount struct {
	Kinds  map[banqup.Kind]int64 // messages; without those of erased users
	Total  int64                 // of Kinds
	Erased int64                 // events that say nothing any more
	// First and Last are the range that the filter leaves to look at; empty when
	// Last is before First.
	First, Last bankfeed.Position
	// Complete is false if the time was over first; then Position is how far the
	// count got.
	Complete bool
	Position bankfeed.Position
}

// maxQueueName is what AMQP can carry, in bytes.
const maxQueueName = 255

// ownQueues is what the names of the hub's own queues begin with.
const ownQueues = "bankfeed."

// TotalUnknown is the Total of a replay that is not counted yet.
const TotalUnknown = -1

// Count says what a replay would send, and sends nothing. The count is exact at
// the moment it is taken: erasure and retention may leave less to be sent.
//
// Errors are those of Start.
func (s *Replays) Count(ctx context.Context, o ReplayOrder) (ReplayCount, error) {
	sel, _, err := s.resolve(ctx, o)
	if err != nil {
		return ReplayCount{}, err
	}
	return s.count(ctx, sel, o.CountFor)
}

// Start stores a replay, for a runner to do. If counting takes too long, Total
// is TotalUnknown until the runner has counted.
//
// Errors: NotFound for a stream or event that the tenant does not have, Conflict
// for a stream that is not enabled, Gone for a position or an event that
// retention has removed, Invalid naming the member of the order.
func (s *Replays) Start(ctx context.Context, o ReplayOrder) (Replay, ReplayCount, error) {
	sel, head, err := s.resolve(ctx, o)
	if err != nil {
		return Replay{}, ReplayCount{}, err
	}
	n, err := s.count(ctx, sel, o.CountFor)
	if err != nil {
		return Replay{}, n, err
	}
	r := Replay{Stream: sel.key, Filter: sel.filter, Queue: o.Queue, Status: ReplayPending, Until: head, Total: n.Total, Position: sel.filter.First - 1}
	if !n.Complete {
		r.Total = TotalUnknown
	}
	r, err = s.c.Store.AddReplay(ctx, r, s.c.Now())
	return r, n, err
}

// Replay finds a replay; ErrNotFound if the tenant has none with the id.
func (s *Replays) Replay(ctx context.Context, tenant bankfeed.TenantID, id int64) (Replay, error) {
	return s.c.Store.Replay(ctx, tenant, id)
}

// List returns a tenant's replays, newest first, those with ids below before
// (0: all).
func (s *Replays) List(ctx context.Context, tenant bankfeed.TenantID, before int64, limit int) ([]Replay, error) {
	return s.c.Store.Replays(ctx, tenant, before, limit)
}

// Cancel ends a replay; what is on its way to the broker at that moment still
// goes out. A replay that has ended stays as it is. ErrNotFound if the tenant has
// none with the id.
func (s *Replays) Cancel(ctx context.Context, tenant bankfeed.TenantID, id int64) (Replay, error) {
	return s.c.Store.CancelReplay(ctx, tenant, id, s.c.Now())
}

// Ended reports whether the replay will not send any more.
func (r *Replay) Ended() bool {
	return r.Status == ReplayDone || r.Status == ReplayFailed || r.Status == ReplayCancelled
}

// MessageID is the id under which the replay sends the event at a position. It
// has the layout of event ids, so it maps back (bankfeed.ParseEventID).
func (r *Replay) MessageID(p bankfeed.Position) bankfeed.UUID {
	return bankfeed.EventID(bankfeed.Epoch(r.ID), r.Stream.Tenant, r.Stream.Lane, p)
}

// end is the last position that the replay looks at.
func (r *Replay) end() bankfeed.Position {
	if r.Filter.Last != 0 {
		return min(r.Filter.Last, r.Until)
	}
	return r.Until
}

// resolve checks an order and finds the range of positions that it is about:
// the selection's filter has First and Last set.
func (s *Replays) resolve(ctx context.Context, o ReplayOrder) (sel *selection, head bankfeed.Position, err error) {
	if err := o.check(); err != nil {
		return nil, 0, err
	}
	rec, err := s.stream(ctx, o.Tenant, o.Stream)
	if err != nil {
		return nil, 0, err
	}
	f := o.Filter
	for i, k := range f.Messages {
		if !slices.Contains(carried(rec.Settings), k) {
			return nil, 0, bankfeed.InvalidField(fmt.Sprintf("messages[%d]", i), "the stream does not carry these messages")
		}
	}
	if o.Event != (bankfeed.UUID{}) {
		p, err := s.position(ctx, rec.Key, o.Event)
		if err != nil {
			return nil, 0, err
		}
		f.First, f.Last = p, p
	}
	floor, head, err := s.c.Log.Bounds(ctx, rec.Tenant, rec.Lane)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case f.First != 0 && f.First <= floor:
		return nil, 0, &bankfeed.Error{Kind: bankfeed.Gone, Field: "first", Text: fmt.Sprintf("events up to %d were removed by retention", floor)}
	case o.Event != (bankfeed.UUID{}) && f.First > head:
		return nil, 0, bankfeed.ErrNotFound
	}
	if o.Event != (bankfeed.UUID{}) {
		if err := newSelection(s.c.Log, s.c.Worlds, &rec, f).sees(ctx, f.First); err != nil {
			return nil, 0, err
		}
	}
	f.First, f.Last, err = s.bounds(ctx, rec.Key, f, floor, head)
	return newSelection(s.c.Log, s.c.Worlds, &rec, f), head, err
}

// check finds what is wrong with an order before anything is asked.
func (o *ReplayOrder) check() error {
	f := &o.Filter
	for i, k := range f.Messages {
		if k.Exchange() == "" {
			return bankfeed.InvalidField(fmt.Sprintf("messages[%d]", i), "unknown kind of message; there are %s", kindNames)
		}
	}
	switch {
	case len(o.Queue) > maxQueueName:
		return bankfeed.InvalidField("queue", "expected at most %d bytes", maxQueueName)
	case strings.Contains(o.Queue, "\x00") || !utf8.ValidString(o.Queue): // PostgreSQL stores no such text
		return bankfeed.InvalidField("queue", "holds a character that no queue has in its name")
	case strings.HasPrefix(o.Queue, ownQueues):
		return bankfeed.InvalidField("queue", "is the hub's own: no consumer reads it")
	case f.Consent != 0 && len(f.Messages) > 0 && !slices.Contains(f.Messages, banqup.Consent):
		return bankfeed.InvalidField("messages", "only consent messages belong to a consent")
	case f.First < 0:
		return bankfeed.InvalidField("first", "expected a position")
	case f.Last < 0:
		return bankfeed.InvalidField("last", "expected a position")
	case f.Last != 0 && f.Last < f.First:
		return bankfeed.InvalidField("last", "is before first")
	case !f.From.IsZero() && !f.To.IsZero() && !f.To.After(f.From):
		return bankfeed.InvalidField("to", "must be after from")
	case o.Event != (bankfeed.UUID{}) && (f.First != 0 || f.Last != 0):
		return bankfeed.InvalidField("event", "excludes first and last")
	}
	return nil
}

var kindNames = func() string {
	names := make([]string, len(banqup.Kinds))
	for i, k := range banqup.Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}()

// stream finds the stream that an order names.
func (s *Replays) stream(ctx context.Context, tenant bankfeed.TenantID, name string) (Record, error) {
	list, err := s.c.Store.Streams(ctx, tenant)
	if err != nil {
		return Record{}, err
	}
	if name == "" {
		list = slices.DeleteFunc(list, func(r Record) bool { return !r.Enabled })
		if len(list) > 1 {
			return Record{}, bankfeed.InvalidField("stream", "there are several: name one")
		}
	} else {
		list = slices.DeleteFunc(list, func(r Record) bool { return r.Name != name })
	}
	switch {
	case len(list) == 0:
		return Record{}, bankfeed.ErrNotFound
	case !list[0].Enabled:
		return Record{}, &bankfeed.Error{Kind: bankfeed.Conflict, Field: "stream", Text: disabled(&list[0])}
	}
	return list[0], nil
}

func disabled(r *Record) string {
	if r.Reason == "" {
		return "the stream is not enabled"
	}
	return "the stream is not enabled: " + r.Reason
}

// position finds the event that an id names: an event's own, or the id under
// which a replay has sent it.
func (s *Replays) position(ctx context.Context, key Key, id bankfeed.UUID) (bankfeed.Position, error) {
	epoch, tenant, lane, p, ok := bankfeed.ParseEventID(id)
	if !ok || tenant != key.Tenant || lane != key.Lane || p == 0 {
		return 0, bankfeed.ErrNotFound
	}
	if epoch == s.c.Epoch {
		return p, nil
	}
	r, err := s.c.Store.Replay(ctx, tenant, int64(epoch))
	if err == nil && r.Stream != key {
		err = bankfeed.ErrNotFound
	}
	return p, err
}

// commitSlack is how long after an event's time it is committed at the very latest,
// clocks that differ and the reserve of SeekTime included.
const commitSlack = time.Hour

// bounds turns what a filter says of positions and times into one range. Times
// still have to be compared one by one inside it.
func (s *Replays) bounds(ctx context.Context, key Key, f ReplayFilter, floor, head bankfeed.Position) (first, last bankfeed.Position, err error) {
	first, last = max(f.First, floor+1), head
	if f.Last != 0 {
		last = min(f.Last, head)
	}
	if !f.From.IsZero() {
		before, err := s.c.Store.SeekTime(ctx, key.Tenant, key.Lane, f.From)
		if err != nil {
			return 0, 0, err
		}
		first = max(first, before+1)
	}
	if !f.To.IsZero() && f.To.Add(commitSlack).Before(s.c.Now()) {
		before, err := s.c.Store.SeekTime(ctx, key.Tenant, key.Lane, f.To.Add(commitSlack))
		if err != nil {
			return 0, 0, err
		}
		last = min(last, before)
	}
	return first, last, nil
}

func (s *Replays) count(ctx context.Context, sel *selection, limit time.Duration) (ReplayCount, error) {
	begun := s.c.Now()
	return sel.count(ctx, func() bool { return limit == 0 || s.c.Now().Sub(begun) < limit })
}
