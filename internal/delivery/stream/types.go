package stream

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Key names a stream in a lane of its tenant's log.
type Key struct {
	Tenant bankfeed.TenantID
	Name   string
	Lane   int
}

// Settings are what an operator says about a stream.
type Settings struct {
	Name   string          `json:"name"`
	Tenant string          `json:"-"` // by name; empty: the only one
	URL    bankfeed.Secret `json:"-"` // amqp(s)://user:password@host:port/vhost

	Face      banqup.Settings `json:"face"`
	Messages  []banqup.Kind   `json:"messages"`  // those it carries
	Unchanged bool            `json:"unchanged"` // also what a bank lists again without a change
	FromNow   bool            `json:"from_now"`  // a new stream begins at the head of the log, not with the oldest event
	// Unrouted is what happens to a message that no queue takes.
	Unrouted map[banqup.Kind]Unrouted `json:"unrouted"`
	// Queues are watched for being empty: the client's own, by name.
	Queues []string `json:"queues"`
}

// Unrouted is what happens when the broker returns a message because no queue is
// bound to its exchange.
type Unrouted string

// Ways to treat unrouted messages. Hold waits, from the first message that is
// returned after others were routed, until the binding is back; an exchange that
// was never bound is recorded and goes on. Record always goes on. Off asks the
// broker not to tell.
const (
	UnroutedHold   Unrouted = "hold"
	UnroutedRecord Unrouted = "record"
	UnroutedOff    Unrouted = "off"
)

// Record is what is stored about a stream.
type Record struct {
	Key
	Settings  Settings // without URL
	Target    string   // host:port/vhost of the broker; one stream to each
	Enabled   bool     // false once no node's configuration names it
	Reason    string   // why it is not enabled
	CreatedAt time.Time
	Start     bankfeed.Position // it began after this one: nothing up to here was ever sent by it

	Term     int64  // of the present or last leader
	Leader   string // its node
	LedAt    time.Time
	Epoch    bankfeed.Epoch // of the log when Progress was saved
	SavedAt  time.Time      // of Progress; zero if it never was
	Progress Progress
	Asked    bool // for a redrive, which the leader has not taken up yet
}

// Progress is how far a stream has come in its lane. Only its leader writes it.
type Progress struct {
	// Position: everything up to here is confirmed by the broker, but for what
	// Holds say.
	Position bankfeed.Position `json:"position"`
	// Holds are exchanges that wait or catch up.
	Holds map[banqup.Kind]Hold `json:"holds,omitempty"`
	// Exchanges by kind; a kind that was never published is missing.
	Exchanges map[banqup.Kind]Exchange `json:"exchanges,omitempty"`
	// Queues as they were last seen, by name.
	Queues map[string]Queue `json:"queues,omitempty"`
	// Expired is what was lost while the stream was not enabled; nil if nothing
	// ever was.
	Expired *Expired `json:"expired,omitempty"`
	// Trouble is why the leader does not get on, empty when it does.
	Trouble string `json:"trouble,omitempty"`
	// Blind is why the leader sees neither queues nor faults, empty when it does.
	Blind string `json:"blind,omitempty"`
}

// Expired are events that retention removed before the stream had sent them. An
// enabled stream keeps the log; one that was disabled for longer does not.
type Expired struct {
	First bankfeed.Position `json:"first"`
	Last  bankfeed.Position `json:"last"`
	At    time.Time         `json:"at"` // when the stream came back and noticed
}

// Hold is an exchange that waits for its binding, or catches up after it came
// back. Transactions take the session messages with them.
type Hold struct {
	After   bankfeed.Position `json:"after"`          // what comes after it waits
	From    bankfeed.Position `json:"from,omitempty"` // what comes after it reached somebody, up to After
	Since   time.Time         `json:"since"`
	Redrive bool              `json:"redrive,omitempty"` // asked for by a person; not because a binding was lost
}

// Back is the hold that begins at a position at the latest.
func (h Hold) Back(after bankfeed.Position) Hold {
	if after < h.After {
		h.After, h.From = after, after
	}
	return h
}

// Exchange is what is known about one exchange.
type Exchange struct {
	Routed     bool              `json:"routed"`    // a message was routed at least once
	Published  int64             `json:"published"` // confirmed messages, repeats included
	Unrouted   int64             `json:"unrouted"`
	Faults     int64             `json:"faults"`
	Last       bankfeed.Position `json:"last"` // of the last confirmed message
	LastAt     time.Time         `json:"last_at"`
	LastRouted bool              `json:"last_routed"`
	// Untold is the last that was published without asking whether a queue
	// takes it (UnroutedOff): what is known of routing begins after it.
	Untold bankfeed.Position `json:"untold,omitempty"`
}

// Queue is a client's queue as a passive declare showed it.
type Queue struct {
	SeenAt    time.Time `json:"seen_at"`           // zero if nobody has, or the broker does not show it
	Refused   string    `json:"refused,omitempty"` // why the broker does not show it
	Missing   bool      `json:"missing,omitempty"`
	Depth     int       `json:"depth"` // ready messages; those that a consumer holds unacknowledged do not count
	Consumers int       `json:"consumers"`
	// Drained: everything up to here was confirmed before the queue was seen
	// empty. Never beyond what a hold comes after, and set back by one.
	Drained   bankfeed.Position `json:"drained"`
	DrainedAt time.Time         `json:"drained_at,omitzero"`
}

// Gap is a range of events of one kind that the broker confirmed, or was never
// given, without any consumer getting them. Every event of the kind in the range
// is part of it.
type Gap struct {
	Kind        banqup.Kind
	Reason      GapReason
	First, Last bankfeed.Position
	Count       int64
	Since       time.Time // of the first
	Until       time.Time // of the last
	ResolvedAt  time.Time // redriven to the end; zero while open
}

// GapReason is why events did not reach a consumer.
type GapReason string

// Gap reasons.
const (
	GapUnrouted   GapReason = "unrouted"   // no queue was bound
	GapErased     GapReason = "erased"     // its user, consent or account was removed before it was sent
	GapUnreadable GapReason = "unreadable" // the event could not be rendered; a fault of the hub
)

// Mark notes when the broker had confirmed everything up to a position.
type Mark struct {
	Position bankfeed.Position
	At       time.Time
	Term     int64
	Leader   string
}

// Fault is a consumer's report that it could not process a message.
type Fault struct {
	Message  bankfeed.UUID     // as delivered: the event's id, or a replay's
	Position bankfeed.Position // of the event
	Replay   int64             // 0 for the first delivery
	Kind     banqup.Kind       // empty for a message that could not be read
	At       time.Time
	Type     string // of the exception
	Text     string // sealed at rest
	Host     string // machine of the consumer
}

// Acknowledgement is a consumer's word that it has processed an event.
type Acknowledgement struct {
	Position bankfeed.Position
	Replay   int64 // 0 for the first delivery
	At       time.Time
	Consumer string
}

// Replay sends events again, under new message ids.
type Replay struct {
	// ID is the millisecond in which it was asked for, unique in its tenant and
	// no epoch of its log: message ids of the replay hold it in place of the epoch.
	ID        int64
	Stream    Key
	Filter    ReplayFilter
	Queue     string // instead of the exchanges
	Status    ReplayStatus
	Until     bankfeed.Position // the head when it was asked for
	Total     int64             // messages that it will send
	Position  bankfeed.Position // looked at up to here
	Published int64
	Unrouted  int64
	Erased    int64
	Text      string // why it failed
	StartedAt time.Time
	EndedAt   time.Time
}

// CreatedAt is when it was asked for.
func (r *Replay) CreatedAt() time.Time { return time.UnixMilli(r.ID).UTC() }

// ReplayStatus is the state of a replay.
type ReplayStatus string

// Replay states: pending → running → done | failed | cancelled.
const (
	ReplayPending   ReplayStatus = "pending"
	ReplayRunning   ReplayStatus = "running"
	ReplayDone      ReplayStatus = "done"
	ReplayFailed    ReplayStatus = "failed"
	ReplayCancelled ReplayStatus = "cancelled"
)

// ReplayFilter selects events; zero members do not filter.
type ReplayFilter struct {
	User       bankfeed.UserID       `json:"user,omitempty"`
	Connection bankfeed.ConnectionID `json:"connection,omitempty"`
	Account    bankfeed.AccountID    `json:"account,omitempty"`
	Session    bankfeed.SessionID    `json:"session,omitempty"`
	Consent    bankfeed.ConsentID    `json:"consent,omitempty"`
	Messages   []banqup.Kind         `json:"messages,omitempty"`
	First      bankfeed.Position     `json:"first,omitempty"` // inclusive
	Last       bankfeed.Position     `json:"last,omitempty"`  // inclusive
	From       time.Time             `json:"from,omitzero"`   // by the event's time, inclusive
	To         time.Time             `json:"to,omitzero"`     // exclusive
	World      World                 `json:"world,omitempty"`
}

// World is a half of a tenant's users. They share its log, and a client acts for
// one half only.
type World string

// Worlds.
const (
	Live    World = "live"
	Sandbox World = "sandbox"
)

// LogReader is the event log as streams read it: what is seen unchanged is part of it.
type LogReader interface {
	// Select returns up to q.Limit events after q.After that q selects, in their
	// order. No such event lies between q.After and next without being among
	// them. It looks at a bounded number of rows.
	Select(ctx context.Context, q LogQuery) (events []bankfeed.Event, next bankfeed.Position, err error)
	// Bounds finds what is left of a lane: floor is the last position that was
	// removed, head the last one given out.
	Bounds(ctx context.Context, tenant bankfeed.TenantID, lane int) (floor, head bankfeed.Position, err error)
}

// LogQuery selects events of one lane. Zero members do not filter.
type LogQuery struct {
	Tenant     bankfeed.TenantID
	Lane       int
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Account    bankfeed.AccountID
	Session    bankfeed.SessionID
	Types      []bankfeed.EventType
	After      bankfeed.Position
	Limit      int
}

// Store keeps streams. Every method is one transaction. Methods that a leader
// calls carry its term and fail with bankfeed.ErrFenced once there is a newer one.
type Store interface {
	// EnableStream inserts a stream, or updates the settings of one that is
	// there and enables it. A new one begins after start. It fails with a
	// Conflict when another enabled stream has the same target.
	EnableStream(ctx context.Context, key Key, s Settings, target string, start bankfeed.Position, now time.Time) error
	// DisableStreams disables the enabled streams whose keys are not among keep.
	DisableStreams(ctx context.Context, keep []Key, reason string, now time.Time) error
	// LeadStream begins the next term.
	LeadStream(ctx context.Context, key Key, node string, now time.Time) (Record, error)
	// SaveStream stores how far the leader has come; gaps are inserted, or
	// extended, by kind, reason and first position. A mark is added unless the
	// last one is younger than a second. Epoch and SavedAt follow.
	SaveStream(ctx context.Context, key Key, term int64, p Progress, gaps []Gap, now time.Time) error
	// ResolveGaps closes the unrouted gaps of a kind that begin after one position
	// and end at or before another.
	ResolveGaps(ctx context.Context, key Key, kind banqup.Kind, after, upTo bankfeed.Position, now time.Time) error
	// RecordFaults adds what is new among faults of events that are in the log
	// and returns how many that were, by kind.
	RecordFaults(ctx context.Context, key Key, faults []Fault) (map[banqup.Kind]int64, error)

	// Streams lists a tenant's, or all (tenant 0), by name.
	Streams(ctx context.Context, tenant bankfeed.TenantID) ([]Record, error)
	Stream(ctx context.Context, key Key) (Record, error) // bankfeed.ErrNotFound
	// RedriveStream asks for a redrive: a Hold with Redrive that begins before
	// the first open unrouted gap of the kind, or earlier if it holds already.
	// It is written beside Progress, and the leader takes it up (TakeRedrives).
	RedriveStream(ctx context.Context, key Key, kinds []banqup.Kind, now time.Time) error
	// TakeRedrives moves what was asked for into the stored Progress, and hands it
	// to the leader, once.
	TakeRedrives(ctx context.Context, key Key, term int64) (map[banqup.Kind]Hold, error)

	// Gaps lists gaps, newest first, from before a position on (0: all).
	Gaps(ctx context.Context, key Key, open bool, before bankfeed.Position, limit int) ([]Gap, error)
	// Faults lists faults, newest event first; of one event when position is set.
	Faults(ctx context.Context, key Key, position, before bankfeed.Position, limit int) ([]Fault, error)
	// Facts collects what is known about events at positions of the stream.
	Facts(ctx context.Context, key Key, positions []bankfeed.Position) (map[bankfeed.Position]Facts, error)
	// Acknowledge records what a consumer says of events that are in the log;
	// repeating it changes nothing. It returns how many were new.
	Acknowledge(ctx context.Context, key Key, list []Acknowledgement) (int, error)

	// AddReplay stores a new replay, with an ID at or after now, and puts up its work.
	AddReplay(ctx context.Context, r Replay, now time.Time) (Replay, error)
	Replay(ctx context.Context, tenant bankfeed.TenantID, id int64) (Replay, error) // bankfeed.ErrNotFound
	Replays(ctx context.Context, tenant bankfeed.TenantID, before int64, limit int) ([]Replay, error)
	// SaveReplay stores how far a replay has come, under the fence of its work;
	// a release gives the work back. It fails with ErrCancelled after a cancel.
	SaveReplay(ctx context.Context, f bankfeed.Fence, r Replay, release *bankfeed.Release) error
	CancelReplay(ctx context.Context, tenant bankfeed.TenantID, id int64, now time.Time) (Replay, error)

	// SeekTime finds a position such that every event up to it was committed
	// before t; it may be earlier than it need be by the events of some minutes.
	SeekTime(ctx context.Context, tenant bankfeed.TenantID, lane int, t time.Time) (bankfeed.Position, error)
}

// ErrCancelled: the replay was cancelled.
var ErrCancelled = &bankfeed.Error{Kind: bankfeed.Conflict, Text: "the replay was cancelled"}

// Facts is what is stored about one event of a stream beside its progress.
type Facts struct {
	ConfirmedBy      *Mark // the first mark at or after it
	Gap              *Gap  // an open one that contains it, or the last resolved one
	Faults           []Fault
	Acknowledgements []Acknowledgement
}
