// Package callback tells receivers by HTTP what happened: each request the URL
// that it named, and standing subscriptions every event that they ask for.
//
// A target is a receiver. A subscription is a target of its own, led by one node
// that follows the log with a cursor; the callbacks of requests share a target
// for each origin (scheme, host and port) and tenant. A delivery that succeeds at
// once leaves a finished row, written in bulk with the cursor; one that does not
// is an open row until it is delivered or given up, and it is the target that is
// claimed, not the delivery: what waits costs neither memory nor a place in a
// queue, and a receiver that hangs holds nobody but itself.
package callback

import (
	"time"

	"github.com/bankfeed/bankfeed"
)

// TargetID numbers the receivers of a tenant (bankfeed.KindTarget).
type TargetID int64

// Key names a target.
type Key struct {
	Tenant bankfeed.TenantID
	ID     TargetID
}

// DeliveryID numbers the deliveries of a tenant that have a row
// (bankfeed.KindDelivery).
type DeliveryID int64

// Message is one delivery, ready to be sent.
type Message struct {
	// ID stays the same over retries and redrives: the event's id, or for a
	// replay one of its own.
	ID       bankfeed.UUID
	Original bankfeed.UUID // of a replay: the event's id
	Type     bankfeed.EventType
	// Sequence rises with the events of a connection; numbers are left out.
	Sequence bankfeed.Position
	URL      bankfeed.Secret
	Headers  Headers
	Secrets  []bankfeed.Secret // one, or two during a rotation; the newest first
	Body     []byte
	Attempt  int // 1 for the first
}

// Headers names the headers of Standard Webhooks, and the hub's own, for
// receivers that expect other names. Empty members mean the usual ones.
type Headers struct {
	ID        string `json:"id,omitempty"`        // webhook-id
	Timestamp string `json:"timestamp,omitempty"` // webhook-timestamp
	Signature string `json:"signature,omitempty"` // webhook-signature
	// Static are sent as they are.
	Static map[string]bankfeed.Secret `json:"-"`
}

// Result is what became of an attempt.
type Result struct {
	Cause      Cause // empty: delivered
	Status     int   // of the answer; 0 without one
	RetryAfter time.Duration
	Duration   time.Duration
	// Text says more about the cause: the beginning of the receiver's answer, or
	// of what kept the hub from asking. It may hold data of the user: it is
	// sealed at rest.
	Text string
}

// Delivered reports success: an answer of 2xx.
func (r Result) Delivered() bool { return r.Cause == "" }

// Cause is why an attempt failed.
type Cause string

// Causes.
const (
	CauseDNS       Cause = "dns"       // the name does not resolve
	CauseForbidden Cause = "forbidden" // the address is one that the hub does not call
	CauseRefused   Cause = "refused"   // no connection
	CauseReset     Cause = "reset"     // the connection broke
	CauseTLS       Cause = "tls"
	CauseTimeout   Cause = "timeout"
	CauseRedirect  Cause = "redirect" // 3xx: never followed
	CauseGone      Cause = "gone"     // 410: the receiver wants no more
	CauseLimited   Cause = "limited"  // 429
	CauseStatus    Cause = "status"   // any other answer that is not 2xx
	CauseInvalid   Cause = "invalid"  // there is no making a request of it: its URL, a header, a secret
	CauseRender    Cause = "render"   // the hub could not write the body: its own fault
)

// Answered reports whether the receiver said anything at all.
func (c Cause) Answered() bool {
	return c == CauseRedirect || c == CauseGone || c == CauseLimited || c == CauseStatus
}

// Sent reports whether the attempt says anything about the receiver: a failure
// that happened before anything was sent does not.
func (c Cause) Sent() bool { return c != CauseRender && c != CauseInvalid }

// Settings are what a client says about a subscription.
type Settings struct {
	Name  string               `json:"name,omitempty"`
	Types []bankfeed.EventType `json:"types"` // empty: all
	// Filter narrows it further; zero members do not.
	User       bankfeed.UserID       `json:"user,omitempty"`
	Connection bankfeed.ConnectionID `json:"connection,omitempty"`
	Account    bankfeed.AccountID    `json:"account,omitempty"`
	Ordered    bool                  `json:"ordered,omitempty"`     // what follows for a connection waits
	Concurrent int                   `json:"concurrent,omitempty"`  // at most; 0: the hub's
	PerSecond  int                   `json:"per_second,omitempty"`  // at most; 0: no limit
	Retries    *int                  `json:"max_retries,omitempty"` // nil: the whole schedule
	Headers    Headers               `json:"headers,omitzero"`
}

// Status is what a client, or its receiver, made of a target.
type Status string

// Target statuses. What a subscription would have got while it is disabled is kept
// and listed as skipped, to be redriven; the callbacks of requests wait.
const (
	Active   Status = "active"
	Paused   Status = "paused"   // by its client: nothing is sent, everything waits
	Disabled Status = "disabled" // by its client, or by an answer of 410: what comes to a subscription is recorded as skipped
	Deleted  Status = "deleted"  // listed no more; its deliveries are, until retention removes them
)

// Target is a receiver.
type Target struct {
	Key
	Client  string // client_id of whoever made it
	Sandbox bool   // whose users it hears of: of the two worlds of a tenant, each has targets of its own
	// Subscription is nil for an origin that requests name.
	Subscription *Settings
	URL          bankfeed.Secret // of a subscription; sealed at rest
	Origin       string          // scheme://host:port
	Status       Status
	Reason       string // why it is not active
	Health       Health // written by whoever leads it
	Cursors      []Cursor
	Notes        []Note // newest last, a few
	CreatedAt    time.Time
	// Version grows with everything that others than its leader do to it:
	// settings, status, a redrive, a replay.
	Version int64
}

// Cursor is how far a subscription has come in a lane of its tenant's log: every
// event up to Position has a row, or is none of its business.
type Cursor struct {
	Lane     int
	Epoch    bankfeed.Epoch // of the log when it was written
	Position bankfeed.Position
}

// Note tells of something that happened to a subscription's place in the log.
type Note struct {
	Kind  NoteKind          `json:"kind"`
	At    time.Time         `json:"at"`
	Lane  int               `json:"lane"`
	First bankfeed.Position `json:"first"`
	Last  bankfeed.Position `json:"last,omitempty"` // 0: open
}

// NoteKind says what a Note is about.
type NoteKind string

// Kinds of note.
const (
	// NoteExpired: retention removed the events from First to Last before they
	// could be sent.
	NoteExpired NoteKind = "expired"
	// NoteRestored: the log was restored from a backup. What comes from First on
	// may have been delivered before, under ids of the former epoch.
	NoteRestored NoteKind = "restored"
)

// Health is what is known of a target's answers.
type Health struct {
	Failures  int       `json:"failures,omitempty"`  // attempts in a row without a success
	Different int       `json:"different,omitempty"` // deliveries among them, counted up to 3
	Silent    int       `json:"silent,omitempty"`    // the last of them, in a row, that nobody answered
	Since     time.Time `json:"since,omitzero"`      // the first of them

	LastSuccessAt time.Time `json:"last_success_at,omitzero"`
	LastFailureAt time.Time `json:"last_failure_at,omitzero"`
	LastCause     Cause     `json:"last_cause,omitempty"`
	LastStatus    int       `json:"last_status,omitempty"`
	// OutageSince: it accepts nothing since. Deliveries do not use up their
	// schedule; one of them probes at ProbeAt.
	OutageSince time.Time `json:"outage_since,omitzero"`
	Probes      int       `json:"probes,omitempty"`
	ProbeAt     time.Time `json:"probe_at,omitzero"`
	// NotBefore is what Retry-After asked for.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Version is the target's that the leader knew. A change by others since then
	// is a reason to probe at once.
	Version int64 `json:"version,omitempty"`
}

// Delivery is one event on its way to one target.
type Delivery struct {
	Tenant     bankfeed.TenantID
	ID         DeliveryID
	Target     TargetID
	Type       bankfeed.EventType
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	// Epoch is that of the log when the row was made: with it the event keeps
	// the id under which it was first sent.
	Epoch    bankfeed.Epoch
	Lane     int
	Position bankfeed.Position // of the event
	Replay   int64             // 0 for the first delivery; else the replay's number, a millisecond that is no epoch
	URL      bankfeed.Secret   // of a request's callback; sealed with the key of the user
	Once     bool
	State    State
	Reason   string
	Attempts int // how often it was tried
	// Cause is that of the last attempt, if it failed; the store takes it from there.
	Cause Cause
	Step  int // how much of the schedule it has used up
	// Behind: a delivery of the same connection must end first. Only where the
	// subscription is ordered; NextAt is zero then.
	Behind    bool
	CreatedAt time.Time
	FirstAt   time.Time // of the first attempt, since the last redrive
	LastAt    time.Time // of the last attempt
	NextAt    time.Time // of the next attempt while it waits
	EndedAt   time.Time
}

// EventID is the id of the event as receivers know it.
func (d *Delivery) EventID() bankfeed.UUID {
	return bankfeed.EventID(d.Epoch, d.Tenant, d.Lane, d.Position)
}

// MessageID is the id of the delivery.
func (d *Delivery) MessageID() bankfeed.UUID {
	if d.Replay != 0 {
		return bankfeed.EventID(bankfeed.Epoch(d.Replay), d.Tenant, d.Lane, d.Position)
	}
	return d.EventID()
}

// State is the state of a delivery: waiting → delivered | given_up | erased |
// expired | skipped; a redrive makes what was given up or skipped wait again.
type State string

// Delivery states.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	GivenUp   State = "given_up" // the schedule is used up while the target accepted others
	Erased    State = "erased"   // its user, or what it tells of, is gone
	Expired   State = "expired"  // retention removed its event while the target was disabled
	Skipped   State = "skipped"  // the target was disabled
)

// Attempt is one try.
type Attempt struct {
	Delivery DeliveryID
	Number   int
	At       time.Time
	Node     string
	Result
}
