// Package webform lets a user connect a bank on a page of the hub, and brings a
// connection up to date in the background: a web form is a request that a user
// answers in the browser, a task one that asks for a form only when its bank wants
// to see the user. The way to the bank itself, with its redirects, logins and
// challenges, is that of every link: a form sends the browser to its start page
// and has it back afterwards, so credentials never come here.
//
// A form: NOT_YET_OPENED → IN_PROGRESS → COMPLETED | COMPLETED_WITH_ERROR |
// EXPIRED | ABORTED. A task: NOT_YET_STARTED → IN_PROGRESS → (WEB_FORM_REQUIRED →)
// COMPLETED | COMPLETED_WITH_ERROR. Both are requests of the core: they end with
// request.finished.
package webform

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

// Store is what forms and tasks need to remember.
type Store interface {
	Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error)
	FinishWork(ctx context.Context, f bankfeed.Fence, r bankfeed.Release) error
	NextIDs(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, n int) (first int64, err error)
	User(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bankfeed.User, error)
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	ConnectionState(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error)
	SessionState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.SessionID) (bankfeed.ConnectionState, error)
	SessionsByExternalID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, externalID string) ([]bankfeed.Session, error)
	Request(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (bankfeed.Request, error)
	RequestByToken(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Request, error)
	Requests(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, kind bankfeed.RequestKind, before bankfeed.RequestID, limit int) ([]bankfeed.Request, error)
}

// Links is the way to a bank.
type Links interface {
	Providers(sandbox bool) []bankfeed.Provider
	Provider(id string, sandbox bool) (bankfeed.Provider, error)
	Link(ctx context.Context, l bankfeed.Linking) (bankfeed.Linked, error)
	DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error
}

// Syncs reads what a bank has already agreed to.
type Syncs interface {
	Synchronize(ctx context.Context, o bankfeed.SyncOrder) (session bankfeed.Session, joined bool, err error)
}

// Config is what a Service works with.
type Config struct {
	Store        Store
	Links        Links
	Syncs        Syncs
	Installation bankfeed.Installation
	Build, Node  string // written into every event
	Now          func() time.Time
	Logger       *slog.Logger
	// Kick is called when a request was put up for claiming.
	Kick func()
	// PublicURL is where PSUs' browsers reach the hub, without a slash at the
	// end.
	PublicURL string
	// Address finds the address of the browser behind a request; nil takes the
	// peer's, which is right without a proxy only.
	Address func(*http.Request) string
	// Lifetime is how long a form can be used (default 20 min).
	Lifetime time.Duration
	// Grace is how long after its creation a request tells nobody of its end
	// (default 500 ms): its caller has stored the answer by then.
	Grace time.Duration
}

const (
	lifetime = 20 * time.Minute
	grace    = 500 * time.Millisecond
)

// Service is safe for concurrent use, and by several nodes on one store.
type Service struct{ Config }

// New fills in what the config leaves out.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	if c.Address == nil {
		c.Address = pages.PeerAddress
	}
	c.Lifetime = cmp.Or(c.Lifetime, lifetime)
	c.Grace = cmp.Or(c.Grace, grace)
	return &Service{Config: c}
}

// now is as exact as what is stored.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

func (s *Service) scribe(tenant bankfeed.TenantID) bankfeed.Scribe {
	return bankfeed.Scribe{Installation: s.Installation, Tenant: tenant, Build: s.Build, Node: s.Node}
}

func (s *Service) uuid(tenant bankfeed.TenantID, id bankfeed.RequestID) bankfeed.UUID {
	return s.Installation.UUID(bankfeed.KindRequest, tenant, int64(id))
}

// Statuses of forms and tasks.
const (
	NotYetOpened       = "NOT_YET_OPENED"
	NotYetStarted      = "NOT_YET_STARTED"
	InProgress         = "IN_PROGRESS"
	WebFormRequired    = "WEB_FORM_REQUIRED"
	Completed          = "COMPLETED"
	CompletedWithError = "COMPLETED_WITH_ERROR"
	Expired            = "EXPIRED"
	Aborted            = "ABORTED"
)

// Type says what a form is for.
type Type string

// Form types.
const (
	Import Type = "BANK_CONNECTION_IMPORT" // a new connection
	Update Type = "BANK_CONNECTION_UPDATE" // one that needs its user
)

// Code says why a form or task did not succeed.
type Code string

// Codes.
const (
	CodeEntityExists     Code = "ENTITY_EXISTS"
	CodeBankRejection    Code = "BANK_SERVER_REJECTION"
	CodeInterrupted      Code = "INTERRUPTED"
	CodeMisconfiguration Code = "MANDATOR_MISCONFIGURATION"
	CodeUnexpected       Code = "UNEXPECTED_ACCESS_RESPONSE"
	CodeUnsupported      Code = "UNSUPPORTED_FEATURE"
	CodeInternal         Code = "INTERNAL_ERROR"
)

// codeOf is the table from what went wrong at a bank to its code.
func codeOf(f *bankfeed.Failure) (Code, string) {
	if f == nil {
		return CodeInternal, "the reason is not known"
	}
	text := cmp.Or(f.Text, string(f.Reason))
	switch f.Reason {
	case bankfeed.FailInternal:
		return CodeInternal, "a fault of the hub"
	case bankfeed.FailOperator:
		return CodeMisconfiguration, text
	case bankfeed.FailProtocol, bankfeed.FailUnstable:
		return CodeUnexpected, text
	case bankfeed.FailFormat:
		return CodeUnsupported, text
	}
	return CodeBankRejection, text
}

// Form is a web form as its client sees it.
type Form struct {
	ID                   bankfeed.RequestID
	UUID                 bankfeed.UUID
	Type                 Type
	Status               string
	URL                  bankfeed.Secret // of the page
	CreatedAt, ExpiresAt time.Time
	// Connection is the one that the form came to; 0 without.
	Connection bankfeed.ConnectionID
	Code       Code // why it did not succeed
	Message    string
}

// Task is a task as its client sees it.
type Task struct {
	ID         bankfeed.RequestID
	UUID       bankfeed.UUID
	Status     string
	CreatedAt  time.Time
	Connection bankfeed.ConnectionID
	Form       *Form // that the user is needed for, or was
	Code       Code
	Message    string
}

// form is what a form remembers, sealed.
type form struct {
	Type   Type               `json:"type"`
	Secret string             `json:"secret"`           // in the URL of its page
	Bank   string             `json:"bank,omitempty"`   // the only one to choose
	Search string             `json:"search,omitempty"` // what the list of banks begins with
	Modes  []bankfeed.Mode    `json:"modes,omitempty"`  // empty: all
	Return returns            `json:"return,omitzero"`
	Task   bankfeed.RequestID `json:"task,omitempty"` // that waits for the form
	// Update is the connection that a form of that type is about.
	Update bankfeed.ConnectionID `json:"update,omitempty"`

	Tries   int                   `json:"tries,omitempty"`
	Try     *try                  `json:"try,omitempty"` // the last one
	Result  bankfeed.ConnectionID `json:"result,omitempty"`
	Code    Code                  `json:"code,omitempty"`
	Message string                `json:"message,omitempty"`
}

// returns are the client's own pages, where the user goes afterwards.
type returns struct {
	Success string `json:"success,omitempty"`
	Error   string `json:"error,omitempty"`
	Abort   string `json:"abort,omitempty"`
	Support string `json:"support,omitempty"`
}

// try is one attempt to link a bank. A later one has a higher number.
type try struct {
	Number     int                   `json:"number"`
	Connection bankfeed.ConnectionID `json:"connection"`
	Session    bankfeed.SessionID    `json:"session"`
	Mode       bankfeed.Mode         `json:"mode"`
	Page       string                `json:"page,omitempty"` // the start page of the link
}

// task is what a task remembers, sealed.
type task struct {
	Connection bankfeed.ConnectionID `json:"connection"`
	PSU        *bankfeed.PSU         `json:"psu,omitempty"` // until it has started
	Return     returns               `json:"return,omitzero"`
	Modes      []bankfeed.Mode       `json:"modes,omitempty"`
	Form       bankfeed.RequestID    `json:"form,omitempty"`
	Code       Code                  `json:"code,omitempty"`
	Message    string                `json:"message,omitempty"`
}

func read[D any](r *bankfeed.Request) (d D, err error) {
	if json.Unmarshal(r.Detail, &d) != nil {
		return d, fmt.Errorf("webform: what is stored of request %d cannot be read", r.ID)
	}
	return d, nil
}

// write puts d into r. Members stay out of it: the end of a session changes them
// without changing the request, so whoever changes none must not store any.
func write(r *bankfeed.Request, d any) (bankfeed.Request, error) {
	b, err := json.Marshal(d)
	changed := *r
	changed.Detail, changed.Members = b, nil
	return changed, err
}

func (s *Service) work(tenant bankfeed.TenantID, id bankfeed.RequestID, at time.Time) bankfeed.WorkItem {
	return bankfeed.WorkItem{Tenant: tenant, Kind: bankfeed.WorkRequest, ID: int64(id), ReadyAt: at}
}

// apply stores a change and tells whoever waits for work.
func (s *Service) apply(ctx context.Context, c *bankfeed.Change) error {
	_, err := s.Store.Apply(ctx, c)
	if err == nil && len(c.Ready) > 0 {
		s.Kick()
	}
	return err
}

func (s *Service) pageURL(secret string) string { return s.PublicURL + "/widget/" + secret }

func (s *Service) formOf(tenant bankfeed.TenantID, r *bankfeed.Request) (Form, error) {
	d, err := read[form](r)
	return Form{ID: r.ID, UUID: s.uuid(tenant, r.ID), Type: d.Type, Status: r.Status, URL: bankfeed.Secret(s.pageURL(d.Secret)),
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Connection: d.Result, Code: d.Code, Message: d.Message}, err
}

func (s *Service) taskOf(ctx context.Context, tenant bankfeed.TenantID, r *bankfeed.Request) (Task, error) {
	d, err := read[task](r)
	t := Task{ID: r.ID, UUID: s.uuid(tenant, r.ID), Status: r.Status, CreatedAt: r.CreatedAt, Connection: d.Connection, Code: d.Code, Message: d.Message}
	if err != nil || d.Form == 0 {
		return t, err
	}
	f, err := s.Form(ctx, tenant, r.User, d.Form)
	t.Form = &f
	return t, err
}
