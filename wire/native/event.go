package native

import (
	"time"

	"github.com/bankfeed/bankfeed"
)

// Event is one fact of the log.
type Event struct {
	ID         string     `json:"id" format:"uuid"`
	Position   int64      `json:"position" doc:"Where it stands among the events of its user: rises with each."`
	Type       string     `json:"type" example:"transaction.created"`
	At         time.Time  `json:"at"`
	User       string     `json:"user" doc:"Number of the user."`
	Connection string     `json:"connection,omitempty" doc:"Number of the connection, if the fact has one; likewise account and session."`
	Account    string     `json:"account,omitempty"`
	Session    string     `json:"session,omitempty"`
	Data       *EventData `json:"data,omitempty" doc:"Everything as it was when it happened; absent once the user was erased."`
}

// EventData is the snapshot of an event. Which parts are there depends on the
// type: docs/events.md.
type EventData struct {
	Schema          int           `json:"schema" doc:"Version of the snapshot."`
	Initiator       string        `json:"initiator,omitempty" enum:"user,backgroundTask"`
	Build           string        `json:"build" doc:"The build that wrote the event."`
	Node            string        `json:"node" doc:"The node that wrote the event."`
	User            EventUser     `json:"user"`
	Session         *EventSession `json:"session,omitempty"`
	Connection      *Connection   `json:"connection,omitempty"`
	Channel         string        `json:"channel,omitempty" enum:"REDIRECT,EMBEDDED" doc:"The channel that the event is about."`
	Reason          string        `json:"reason,omitempty" doc:"What a channel needs its user for: a status of the channel."`
	Failure         *Failure      `json:"failure,omitempty"`
	Account         *Account      `json:"account,omitempty"`
	Accounts        []Account     `json:"accounts,omitempty" nullable:"false"`
	Transaction     *Transaction  `json:"transaction,omitempty"`
	LastTransaction string        `json:"last_transaction,omitempty" doc:"Number of the newest transaction of the account."`
	Consent         *Consent      `json:"consent,omitempty"`
	Call            *BankCall     `json:"call,omitempty"`
	Request         *EventRequest `json:"request,omitempty"`
}

// EventUser names the user of an event.
type EventUser struct {
	ID              string `json:"id"`
	UUID            string `json:"uuid" format:"uuid"`
	ExternalID      string `json:"external_id,omitempty"`
	BusinessContext string `json:"business_context" enum:"individual,business"`
}

// EventSession is the session of an event as it was then.
type EventSession struct {
	ID         string `json:"id"`
	UUID       string `json:"uuid" format:"uuid"`
	ExternalID string `json:"external_id,omitempty"`
	Type       string `json:"type" enum:"ALL,LIST_ACCOUNTS"`
	Status     string `json:"status" enum:"Initiated,InProgress,Finished,Failed"`
	Stage      string `json:"stage" enum:"Authentication,Accounts,AccountBalances,Transactions"`
	Attended   bool   `json:"attended"`
	TraceID    string `json:"trace_id" format:"uuid" doc:"The same in logs, spans and messages of the session."`
}

// BankCall is one HTTP exchange with a bank, without credentials.
type BankCall struct {
	ExecutionID string    `json:"execution_id" format:"uuid"`
	Context     string    `json:"context" doc:"What the call was for." example:"GetTransactions"`
	Method      string    `json:"method"`
	URL         string    `json:"url" doc:"Ids of accounts and consents are masked."`
	Status      int       `json:"status" doc:"0 when no HTTP answer came."`
	DurationMS  int64     `json:"duration_ms"`
	Attended    bool      `json:"attended"`
	RequestID   string    `json:"request_id" doc:"X-Request-ID"`
	Exception   string    `json:"exception,omitempty" doc:"Why no answer came."`
	ErrorBody   string    `json:"error_body,omitempty" doc:"What the bank said, if it was an error."`
	At          time.Time `json:"at"`
}

// EventRequest is an API call whose work went on after its answer.
type EventRequest struct {
	ID      string        `json:"id"`
	UUID    string        `json:"uuid" format:"uuid"`
	Kind    string        `json:"kind" enum:"synchronization,web_form,task,import,report"`
	Status  string        `json:"status" doc:"The request's own state, in the words of its kind."`
	Handle  string        `json:"handle,omitempty" doc:"The caller's own name for it, as it was given."`
	Client  string        `json:"client,omitempty" doc:"client_id of the caller."`
	Sources []EventSource `json:"sources" nullable:"false" doc:"The connections that it covers, as they stood at its end."`
	Page    *EventPage    `json:"page,omitempty" doc:"The web form that the user is needed for."`
	Code    string        `json:"code,omitempty" doc:"Why it did not succeed."`
	Message string        `json:"message,omitempty"`
}

// EventSource is a connection as a source of data.
type EventSource struct {
	Connection string   `json:"connection"`
	UUID       string   `json:"uuid" format:"uuid"`
	Status     string   `json:"status" enum:"running,succeeded,user_needed,failed"`
	UserNeeded bool     `json:"user_needed" doc:"A channel does not work without its user, whatever the status is."`
	Failure    *Failure `json:"failure,omitempty"`
}

// EventPage is a page of the hub that a user is needed on.
type EventPage struct {
	ID     string `json:"id"`
	UUID   string `json:"uuid" format:"uuid"`
	Status string `json:"status"`
}

// Event draws an event: a pure function of it and of the installation.
func (r Renderer) Event(e bankfeed.Event) Event {
	v := Event{
		ID: e.ID().String(), Position: int64(e.Position), Type: string(e.Type), At: e.At.UTC(), User: Decimal(e.User),
		Connection: Decimal(e.Connection), Account: Decimal(e.Account), Session: Decimal(e.Session),
	}
	if e.Snapshot != nil {
		v.Data = r.snapshot(e, e.Snapshot)
	}
	return v
}

// snapshot draws the parts of a snapshot in the shapes of the API. Whom they
// belong to is not repeated in a stored snapshot; the event knows.
func (r Renderer) snapshot(e bankfeed.Event, s *bankfeed.Snapshot) *EventData {
	owned := func(a bankfeed.Account) Account {
		a.User, a.Connection = e.User, e.Connection
		return r.Account(a)
	}
	d := &EventData{
		Schema: s.Schema, Initiator: string(s.Initiator), Build: s.Build, Node: s.Node,
		User: EventUser{
			ID: Decimal(s.User.ID), UUID: s.User.UUID.String(), ExternalID: s.User.ExternalID, BusinessContext: string(s.User.BusinessContext),
		},
		Channel: string(s.Channel), Reason: string(s.Reason), Failure: failure(s.Failure),
		Accounts: Each(s.Accounts, owned), LastTransaction: Decimal(s.LastTransaction), Call: bankCall(s.Call), Request: request(s.Request),
	}
	if n := s.Session; n != nil {
		d.Session = &EventSession{
			ID: Decimal(n.ID), UUID: n.UUID.String(), ExternalID: n.ExternalID, Type: string(n.Type), Status: string(n.Status),
			Stage: string(n.Stage), Attended: n.Attended, TraceID: n.TraceID.String(),
		}
	}
	if s.Connection != nil {
		c := *s.Connection
		c.User = e.User
		d.Connection = new(r.Connection(c))
	}
	if s.Account != nil {
		d.Account = new(owned(*s.Account))
	}
	if s.Transaction != nil {
		t := *s.Transaction
		t.User, t.Account = e.User, e.Account
		d.Transaction = new(r.Transaction(t))
	}
	if s.Consent != nil {
		k := *s.Consent
		k.User, k.Connection = e.User, e.Connection
		d.Consent = new(r.Consent(k))
	}
	return d
}

func bankCall(c *bankfeed.BankCall) *BankCall {
	if c == nil {
		return nil
	}
	return &BankCall{
		ExecutionID: c.ExecutionID.String(), Context: string(c.Context), Method: c.Method, URL: c.URL, Status: c.Status,
		DurationMS: c.Duration.Milliseconds(), Attended: c.Attended, RequestID: c.RequestID, Exception: c.Exception,
		ErrorBody: c.ErrorBody, At: c.At.UTC(),
	}
}

func request(q *bankfeed.RequestRef) *EventRequest {
	if q == nil {
		return nil
	}
	v := &EventRequest{
		ID: Decimal(q.ID), UUID: q.UUID.String(), Kind: string(q.Kind), Status: q.Status, Handle: q.Handle, Client: q.Client,
		Code: q.Code, Message: q.Message,
		Sources: Each(q.Sources, func(s bankfeed.SourceRef) EventSource {
			return EventSource{
				Connection: Decimal(s.Connection), UUID: s.UUID.String(), Status: string(s.Outcome.Status), UserNeeded: s.Outcome.UserNeeded,
				Failure: failure(s.Outcome.Failure),
			}
		}),
	}
	if q.Page != nil {
		v.Page = &EventPage{ID: Decimal(q.Page.ID), UUID: q.Page.UUID.String(), Status: q.Page.Status}
	}
	return v
}
