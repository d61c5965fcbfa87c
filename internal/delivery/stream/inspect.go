package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Index finds things in the log by what names them.
type Index interface {
	// StreamEventsAt returns those events of a lane that are still kept, in
	// their order.
	StreamEventsAt(ctx context.Context, tenant bankfeed.TenantID, lane int, positions []bankfeed.Position) ([]bankfeed.Event, error)
	// StreamMark finds the last mark at or before a time, or the first one if
	// they are all later; bankfeed.ErrNotFound if there is none.
	StreamMark(ctx context.Context, key Key, at time.Time) (Mark, error)
	// StreamOwner tells whose a connection, account, consent or session is, and
	// of which connection; bankfeed.ErrNotFound once nothing of it is stored.
	StreamOwner(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, number int64) (bankfeed.UserID, bankfeed.ConnectionID, error)
	// StreamSessions lists the newest sessions with an external id, joined ones
	// included, at most limit.
	StreamSessions(ctx context.Context, tenant bankfeed.TenantID, externalID string, limit int) ([]bankfeed.SessionID, error)
}

// InspectorConfig is what an Inspector reads.
type InspectorConfig struct {
	Store        Store
	Log          LogReader
	Index        Index
	Worlds       Worlds
	Installation bankfeed.Installation
	Now          func() time.Time
	// Here tells why the relay of this node does not get on, "" if it does. What
	// keeps every node from leading is stored nowhere. Nil: no relay runs here.
	Here func(key Key) string
}

// Inspector tells what is known about streams and about each event on its way.
// It reads and, but for acknowledgements and redrives, changes nothing; it never
// claims more than was recorded. Safe for concurrent use.
type Inspector struct{ c InspectorConfig }

// NewInspector returns an inspector of the log's present epoch.
func NewInspector(c InspectorConfig) *Inspector { return &Inspector{c} }

// Status is how a stream is doing.
type Status struct {
	Record // never with a URL: it holds a password
	Head   bankfeed.Position
	// Settled is Progress.Position less what exchanges hold back or send again:
	// everything up to here was confirmed, or is in a gap that nobody redrives.
	Settled   bankfeed.Position
	Lag       Lag
	Rate      float64 // events a second that the cursor passed, over the last minute
	Exchanges []ExchangeStatus
	Queues    []QueueStatus
	Trouble   []string // for people; empty when there is none
}

// Lag is how far a stream is behind.
type Lag struct {
	Events int64         // between the cursor and the head; what exchanges hold back is not counted
	Age    time.Duration // of the oldest event that is not confirmed, held ones included; 0: none
}

// ExchangeStatus is how one of the five exchanges is doing.
type ExchangeStatus struct {
	Exchange
	Kind     banqup.Kind
	Carried  bool // the settings name it
	Unrouted Unrouted
	State    ExchangeState
	Hold     *Hold
	// Waiting is the time of the oldest event that the exchange keeps from being
	// sent for the first time; zero when there is none.
	Waiting time.Time
}

// ExchangeState says in a word how an exchange is doing.
type ExchangeState string

// Exchange states.
const (
	ExchangeOff        ExchangeState = "not_carried"
	ExchangeUnused     ExchangeState = "unused"      // nothing was published yet
	ExchangeUntold     ExchangeState = "untold"      // the settings say not to ask
	ExchangeRouted     ExchangeState = "routed"      // the last message reached a queue
	ExchangeUnrouted   ExchangeState = "unrouted"    // the last message reached none
	ExchangeHolding    ExchangeState = "holding"     // waits for its binding
	ExchangeCatchingUp ExchangeState = "catching_up" // the binding is back; what waited goes out
	ExchangeRedriving  ExchangeState = "redriving"   // somebody asked for it
)

// QueueStatus is a watched queue.
type QueueStatus struct {
	Queue
	Name string
}

// silence is how long a leader may save nothing: it saves every quarter of a
// minute while nothing happens, and far more often otherwise.
const silence = 45 * time.Second

// rateWindow is what a rate is measured over.
const rateWindow = time.Minute

// Streams tells of all streams of a tenant, by name.
func (i *Inspector) Streams(ctx context.Context, tenant bankfeed.TenantID) ([]Status, error) {
	records, err := i.c.Store.Streams(ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := make([]Status, len(records))
	for n, r := range records {
		if list[n], err = i.status(ctx, r); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Status tells of one stream; bankfeed.ErrNotFound if the tenant has none of
// that name.
func (i *Inspector) Status(ctx context.Context, key Key) (Status, error) {
	r, err := i.c.Store.Stream(ctx, key)
	if err != nil {
		return Status{}, err
	}
	return i.status(ctx, r)
}

func (i *Inspector) status(ctx context.Context, r Record) (Status, error) {
	r.Settings.URL = ""
	s := Status{Record: r, Settled: settled(r.Progress)}
	floor, head, err := i.c.Log.Bounds(ctx, r.Tenant, r.Lane)
	if err != nil {
		return s, err
	}
	s.Head = head
	s.Exchanges = exchanges(&r)
	var oldest time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (oldest.IsZero() || t.Before(oldest)) {
			oldest = t
		}
	}
	s.Lag.Events = max(0, int64(head-max(r.Progress.Position, floor)))
	if s.Lag.Events > 0 {
		first, err := i.first(ctx, r.Key, nil, r.Progress.Position, head)
		if err != nil {
			return s, err
		}
		earlier(first)
	}
	for n := range s.Exchanges {
		x := &s.Exchanges[n]
		if x.Hold == nil {
			continue
		}
		after, err := i.heldAfter(ctx, r.Key, x.Hold)
		if err != nil {
			return s, err
		}
		if x.Waiting, err = i.first(ctx, r.Key, typesOf(x.Kind, r.Settings.Unchanged), after, r.Progress.Position); err != nil {
			return s, err
		}
		earlier(x.Waiting)
	}
	now := i.c.Now()
	if !oldest.IsZero() {
		s.Lag.Age = max(0, now.Sub(oldest))
	}
	for _, name := range r.Settings.Queues {
		s.Queues = append(s.Queues, QueueStatus{r.Progress.Queues[name], name})
	}
	if s.Rate, err = i.rate(ctx, &r, now); err != nil {
		return s, err
	}
	s.Trouble = i.trouble(&s, now)
	return s, nil
}

// settled is how far nothing waits.
func settled(p Progress) bankfeed.Position {
	at := p.Position
	for _, h := range p.Holds {
		at = min(at, h.After)
	}
	return at
}

// heldAfter is a position after which a hold keeps events from being confirmed
// at all. A redrive begins before that, with what was confirmed already.
func (i *Inspector) heldAfter(ctx context.Context, key Key, h *Hold) (bankfeed.Position, error) {
	if !h.Redrive {
		return h.After, nil
	}
	m, err := i.c.Index.StreamMark(ctx, key, h.Since)
	if errors.Is(err, bankfeed.ErrNotFound) || err == nil && m.At.After(h.Since) {
		return h.After, nil
	}
	return max(h.After, m.Position), err
}

// carries reports whether the settings name a kind.
func carries(s *Settings, k banqup.Kind) bool {
	return len(s.Messages) == 0 || slices.Contains(s.Messages, k)
}

// unroutedOf is what a stream does with messages of a kind that no queue takes.
func unroutedOf(s *Settings, k banqup.Kind) Unrouted {
	if u, ok := s.Unrouted[k]; ok {
		return u
	}
	return UnroutedHold
}

// typesOf are the events that become a message.
func typesOf(k banqup.Kind, unchanged bool) (types []bankfeed.EventType) {
	for _, e := range bankfeed.EventTypes {
		if of, ok := banqup.KindOf(e.Type); ok && of == k && (unchanged || e.Topic != bankfeed.TopicSeen) {
			types = append(types, e.Type)
		}
	}
	return types
}

func exchanges(r *Record) []ExchangeStatus {
	list := make([]ExchangeStatus, 0, len(banqup.Kinds))
	for _, k := range banqup.Kinds {
		x := ExchangeStatus{Exchange: r.Progress.Exchanges[k], Kind: k, Carried: carries(&r.Settings, k), Unrouted: unroutedOf(&r.Settings, k)}
		if h, held := r.Progress.Holds[k]; held {
			x.Hold = &h
		}
		x.State = exchangeState(&x)
		list = append(list, x)
	}
	return list
}

func exchangeState(x *ExchangeStatus) ExchangeState {
	switch {
	case !x.Carried:
		return ExchangeOff
	case x.Hold != nil && x.Hold.Redrive:
		return ExchangeRedriving
	case x.Hold != nil && x.LastRouted:
		return ExchangeCatchingUp
	case x.Hold != nil:
		return ExchangeHolding
	case x.Unrouted == UnroutedOff:
		return ExchangeUntold
	case x.Published == 0:
		return ExchangeUnused
	case x.LastRouted:
		return ExchangeRouted
	}
	return ExchangeUnrouted
}

// first finds the time of the first event of some types, all if there are none,
// after one position and up to another. It gives up, with the time that it has
// come to, when that takes too long.
func (i *Inspector) first(ctx context.Context, key Key, types []bankfeed.EventType, after, upTo bankfeed.Position) (time.Time, error) {
	for range looks {
		if after >= upTo {
			return time.Time{}, nil
		}
		events, next, err := i.c.Log.Select(ctx, LogQuery{Tenant: key.Tenant, Lane: key.Lane, Types: types, After: after, Limit: 1})
		if err != nil {
			return time.Time{}, err
		}
		if len(events) > 0 && events[0].Position <= upTo {
			return events[0].At, nil
		}
		if len(events) > 0 || next <= after {
			return time.Time{}, nil
		}
		after = next
	}
	if types == nil {
		return time.Time{}, nil
	}
	return i.first(ctx, key, nil, after, upTo)
}

// looks bounds how often one request asks for another stretch of the log.
const looks = 10

// rate is how many events the cursor passed in a second, over the last minute.
func (i *Inspector) rate(ctx context.Context, r *Record, now time.Time) (float64, error) {
	from := now.Add(-rateWindow)
	if r.SavedAt.IsZero() || r.SavedAt.Before(from) {
		return 0, nil
	}
	m, err := i.c.Index.StreamMark(ctx, r.Key, from)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	window := rateWindow
	if m.At.After(from) {
		window = max(now.Sub(m.At), time.Second)
	}
	return float64(max(0, r.Progress.Position-m.Position)) / window.Seconds(), nil
}

func (i *Inspector) trouble(s *Status, now time.Time) (list []string) {
	if s.Progress.Trouble != "" {
		list = append(list, s.Progress.Trouble)
	}
	switch {
	case !s.Enabled:
		list = append(list, "the stream is not enabled: "+s.Reason)
	case s.Term == 0:
		list = append(list, "no node has led the stream yet")
		list = append(list, i.here(s)...)
	default:
		saved := s.LedAt
		if s.SavedAt.After(saved) {
			saved = s.SavedAt
		}
		if s.Lag.Events > 0 && now.Sub(saved) > silence {
			list = append(list, fmt.Sprintf("the leader has stored nothing for %s: it was stopped, or reaches the database or the broker no more, and no other node has taken over",
				now.Sub(saved).Round(time.Second)))
		}
		list = append(list, i.here(s)...)
	}
	if s.Epoch != 0 && s.Epoch != i.c.Installation.Epoch {
		list = append(list, "the log was restored from a backup, and nothing was stored since")
	}
	if s.Progress.Blind != "" {
		list = append(list, "neither queues nor faults are seen: "+s.Progress.Blind)
	}
	if x := s.Progress.Expired; x != nil {
		list = append(list, fmt.Sprintf("events %d to %d were removed by age before they were sent: the stream was not enabled until %s", x.First, x.Last, clock(x.At)))
	}
	for _, x := range s.Exchanges {
		switch x.State {
		case ExchangeHolding:
			list = append(list, fmt.Sprintf("no queue is bound to %s any more: its messages wait since %s", x.Kind.Exchange(), clock(x.Hold.Since)))
		case ExchangeUnrouted:
			if !x.Routed { // most consumers bind fewer than five
				continue
			}
			list = append(list, "the last message to "+x.Kind.Exchange()+" reached no queue")
		default:
		}
	}
	for _, q := range s.Queues {
		switch {
		case q.Refused != "":
			list = append(list, "the broker does not show the queue "+q.Name+": "+q.Refused)
		case q.SeenAt.IsZero():
		case q.Missing:
			list = append(list, "there is no queue "+q.Name)
		case q.Consumers == 0:
			list = append(list, "nobody consumes the queue "+q.Name)
		}
	}
	return list
}

// here is what this node's own relay says, unless it is stored already.
func (i *Inspector) here(s *Status) []string {
	if i.c.Here == nil {
		return nil
	}
	if text := i.c.Here(s.Key); text != "" && text != s.Progress.Trouble {
		return []string{"this node: " + text}
	}
	return nil
}

// clock writes a time for people.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// halves tells in which world users live. It remembers the answers of one
// request.
type halves struct {
	worlds Worlds
	tenant bankfeed.TenantID
	known  map[bankfeed.UserID]World
}

func (i *Inspector) halves(tenant bankfeed.TenantID) *halves {
	return &halves{worlds: i.c.Worlds, tenant: tenant, known: map[bankfeed.UserID]World{}}
}

// of is the world of a user; empty for one who never was.
func (h *halves) of(ctx context.Context, user bankfeed.UserID) (World, error) {
	if w, ok := h.known[user]; ok {
		return w, nil
	}
	w := Live
	switch sandbox, err := h.worlds.SandboxUser(ctx, h.tenant, user); {
	case errors.Is(err, bankfeed.ErrNotFound):
		w = ""
	case err != nil:
		return "", err
	case sandbox:
		w = Sandbox
	}
	h.known[user] = w
	return w, nil
}

// sees reports whether somebody of a world, or (empty) of both, may see what a
// user has.
func (h *halves) sees(ctx context.Context, world World, user bankfeed.UserID) (bool, error) {
	if world == "" {
		return true, nil
	}
	w, err := h.of(ctx, user)
	return w == world, err
}
