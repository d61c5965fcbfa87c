package bankfeed

import (
	"encoding/json"
	"time"
)

// Request is one call to an API whose work goes on after its answer: it covers 0
// to n sessions, those that it joined included, and ends with a
// request.finished event. Several requests may share a session.
type Request struct {
	ID      RequestID
	User    UserID
	Client  string // client_id of the caller
	Sandbox bool
	Kind    RequestKind
	// Status is the request's own state; the list belongs to its kind. A
	// request has ended once EndedAt is set.
	Status string
	// Handle is the caller's own name for it, returned unchanged.
	Handle string
	// Callbacks are where its moments are told.
	Callbacks []RequestCallback
	// Token is the hash of the secret in the URL of the request's page, if it
	// has one.
	Token     []byte
	CreatedAt time.Time
	// NotBefore is when it may end at the earliest: its caller has stored the
	// answer by then.
	NotBefore time.Time
	ExpiresAt time.Time // zero: never by itself
	EndedAt   *time.Time
	Members   []RequestMember
	// Detail is what its kind needs to remember; sealed at rest.
	Detail  json.RawMessage
	Version int64 // grows with each stored change; compare-and-set
}

// Calls lists the callbacks of a moment, to go out with its event.
func (r *Request) Calls(m CallbackMoment, at time.Time) (orders []CallbackOrder) {
	for _, c := range r.Callbacks {
		if c.Moment == m {
			orders = append(orders, CallbackOrder{URL: c.URL, ReadyAt: at, Once: c.Once})
		}
	}
	return orders
}

// RequestKind says what was asked for.
type RequestKind string

// Kinds of request.
const (
	RequestSync    RequestKind = "synchronization" // stored data is brought up to date
	RequestWebForm RequestKind = "web_form"        // a user links a bank on a page of the hub
	RequestTask    RequestKind = "task"            // a connection is updated in the background
	RequestImport  RequestKind = "import"          // accounts and transactions are handed in
	RequestReport  RequestKind = "report"          // a report is computed
)

// RequestCallback is a URL that is told of a moment of a request.
type RequestCallback struct {
	Moment CallbackMoment `json:"moment"`
	// URL may hold a secret of the caller: it is sealed at rest and never logged.
	URL Secret `json:"-"`
	// Once: whatever comes of the first attempt, there is no other.
	Once bool `json:"once,omitempty"`
}

// CallbackMoment is what a callback is about.
type CallbackMoment string

// Moments of a request.
const (
	MomentFinished   CallbackMoment = "finished"
	MomentUserNeeded CallbackMoment = "user_needed"
)

// RequestMember is one connection that a request covers.
type RequestMember struct {
	Connection ConnectionID
	Session    SessionID // 0: what is stored counts, no bank is called
	// Outcome is how the connection stood when its session ended; nil before.
	Outcome *Outcome
}

// Outcome says how a connection stands as a source of data.
type Outcome struct {
	Status OutcomeStatus `json:"status"`
	// UserNeeded: a channel does not work without its user, whatever Status is.
	UserNeeded bool     `json:"user_needed,omitempty"`
	Failure    *Failure `json:"failure,omitempty"` // why it is not OutcomeSucceeded
}

// OutcomeStatus is the state of a source of data.
type OutcomeStatus string

// Outcome statuses.
const (
	OutcomeRunning    OutcomeStatus = "running"
	OutcomeSucceeded  OutcomeStatus = "succeeded"   // there is data, and it is as fresh as the bank allows
	OutcomeUserNeeded OutcomeStatus = "user_needed" // nothing works without the user
	OutcomeFailed     OutcomeStatus = "failed"      // there never was any data
)

// Imported reports whether a connection is a source of data: its bank has let
// the hub in at least once, or it was handed in without a bank.
func (c *Connection) Imported() bool {
	if c.Status == ConnectionClosed {
		return false
	}
	for _, ch := range c.Channels {
		if ch.LastSuccessAt != nil || ch.Expires != nil {
			return true
		}
	}
	return len(c.Channels) == 0
}

// Outcome derives how a connection stands from its channels. Data of an earlier
// run counts while the bank only asks for patience or is down. An imported
// connection has no channels: its data is there, once all of it is stored.
func (c *Connection) Outcome() Outcome {
	if len(c.Channels) == 0 {
		if c.Status == ConnectionRunning {
			return Outcome{Status: OutcomeRunning}
		}
		return Outcome{Status: OutcomeSucceeded}
	}
	var running, succeeded, needed bool
	var failure, missing *Failure
	for _, ch := range c.Channels {
		switch {
		case ch.Status == ChannelRunning:
			running = true
		case ch.Status.Succeeded(), ch.Status == ChannelUnavailable && ch.LastSuccessAt != nil:
			succeeded = true
		case ch.Status.NeedsUser():
			needed = true
			missing = ch.Failure
		case failure == nil:
			failure = ch.Failure
		}
	}
	switch {
	case running:
		return Outcome{Status: OutcomeRunning, UserNeeded: needed}
	case succeeded:
		return Outcome{Status: OutcomeSucceeded, UserNeeded: needed}
	case needed:
		return Outcome{Status: OutcomeUserNeeded, UserNeeded: true, Failure: missing}
	}
	return Outcome{Status: OutcomeFailed, Failure: failure}
}

// RequestRef is a request in a snapshot: all that its callback says.
type RequestRef struct {
	ID     RequestID   `json:"id"`
	UUID   UUID        `json:"uuid"`
	Kind   RequestKind `json:"kind"`
	Status string      `json:"status"`
	Handle string      `json:"handle,omitempty"`
	Client string      `json:"client,omitempty"`
	// Sources are the data sources that it covers, in its own order.
	Sources []SourceRef `json:"sources,omitempty"`
	// Page is what belongs to a web form that the user is needed for.
	Page *PageRef `json:"page,omitempty"`
	// Report is what a request of kind report was for; ID and UUID are the
	// report's own then.
	Report *ReportRef `json:"report,omitempty"`
	// Code and Message say why it did not succeed, in the words of its kind.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// SourceRef is a connection in a RequestRef.
type SourceRef struct {
	Connection ConnectionID `json:"connection"`
	UUID       UUID         `json:"uuid"`
	Outcome    Outcome      `json:"outcome"`
}

// ReportRef says in a RequestRef of which case and type a report is.
type ReportRef struct {
	Case     UUID   `json:"case"`
	Category string `json:"category"`
	Type     string `json:"type"`
}

// PageRef is a page of the hub in a RequestRef.
type PageRef struct {
	ID     RequestID `json:"id"`
	UUID   UUID      `json:"uuid"`
	Status string    `json:"status"`
}

// CallbackOrder asks for an event to be delivered to one URL, apart from all
// subscriptions. The body is a pure function of the event.
type CallbackOrder struct {
	URL     Secret
	ReadyAt time.Time // the first attempt comes no earlier
	Once    bool      // whatever comes of it, there is no other attempt
}
