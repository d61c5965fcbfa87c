// Package analysis answers questions about stored accounts and transactions:
// cases, which bind data sources to reports; reports, which are computed in the
// background; and checks, which are computed at once.
//
// What a report says is a document of the finAPI dialect (wire/finapi), since it
// is the one that has them. Rules put labels on transactions (Rules). Nothing
// here asks a bank: a report tells of what is stored, and says up to which day
// that is.
package analysis

import (
	"context"
	"encoding/json"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Numbers of cases and reports, per tenant.
type (
	CaseID   int64
	ReportID int64
)

// Case binds data sources to reports. It goes with any of its data sources.
type Case struct {
	ID        CaseID
	User      bankfeed.UserID
	Name      string // sealed at rest
	Sources   []bankfeed.ConnectionID
	CreatedAt time.Time
	// Key is a hash of the caller's own key for the request that made the case:
	// repeated, it makes no other. Nil: there was none.
	Key []byte
}

// Report is one report of a case, of which there is one of a type.
type Report struct {
	ID        ReportID
	Case      CaseID
	User      bankfeed.UserID
	Type      finapi.ReportType
	Status    finapi.ReportStatus
	Code      string // why it failed
	Faults    int    // runs that ended by a fault of the hub
	CreatedAt time.Time
	EndedAt   time.Time

	// What follows is sealed at rest.
	Order  Order
	Result json.RawMessage // nil until it is successful
}

// Order is what was asked for with a report.
type Order struct {
	Client      string          `json:"client,omitempty"`
	Handle      string          `json:"handle,omitempty"`
	CallbackURL bankfeed.Secret `json:"-"`
	Once        bool            `json:"once,omitempty"` // the callback is tried once
	Days        int             `json:"days"`           // how far back it looks
}

// Source reads what is stored of a user.
type Source interface {
	User(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bankfeed.User, error)
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	OpenSync(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.ConnectionID) (bool, error)
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	Transactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error)
}

// Store keeps cases and reports. Cases of which a data source was removed are as
// unknown as those that never were.
type Store interface {
	Source
	NextID(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind) (int64, error)

	// AddCase stores a case. ErrConflict if there is one of the same key.
	AddCase(ctx context.Context, tenant bankfeed.TenantID, c Case) error
	// CaseByKey finds a case by its key.
	CaseByKey(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, key []byte) (Case, error)
	Case(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID) (Case, error)
	// Cases lists a user's cases, newest first, before a number (0: from the
	// newest).
	Cases(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, before CaseID, limit int) ([]Case, error)
	DeleteCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID) error

	// AddReport stores a report and puts its work up. ErrReportExists if the
	// case has one of the type.
	AddReport(ctx context.Context, tenant bankfeed.TenantID, r Report) error
	// Reports lists the reports of a case in the order in which they were made;
	// of one type, or of all (zero).
	Reports(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, t finapi.ReportType) ([]Report, error)
	DeleteReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, report ReportID) error
	// ReportWork reads a report by its number alone, with its case.
	ReportWork(ctx context.Context, tenant bankfeed.TenantID, id ReportID) (Report, Case, error)
	// SaveReport stores a report in one commit with a change, which holds the
	// fence of its work. ErrNotFound if it was removed in the meantime.
	SaveReport(ctx context.Context, r Report, c *bankfeed.Change) error
	// FinishWork gives claimed work back without any other change.
	FinishWork(ctx context.Context, f bankfeed.Fence, r bankfeed.Release) error
}

// Errors of this package.
var (
	ErrReportExists = &bankfeed.Error{Kind: bankfeed.Conflict, Text: "the case has a report of this type"}
	// ErrKeyReused: the key names another request.
	ErrKeyReused = &bankfeed.Error{Kind: bankfeed.Conflict, Field: "Idempotency-Key", Text: "was used for another body"}
	// ErrNotSuccessful: reports and checks only look at what was synchronized.
	ErrNotSuccessful = &bankfeed.Error{Kind: bankfeed.Conflict, Text: "every data source must be SUCCESSFUL, and not be synchronizing"}
)

// Config describes a Service.
type Config struct {
	Store        Store
	Rules        *Rules
	Installation bankfeed.Installation
	Build, Node  string // named in events
	Zone         *time.Location
	Now          func() time.Time
	// NotBefore is how long after the request a report's callback leaves at the
	// earliest: its caller has stored the answer by then.
	NotBefore time.Duration
	Kick      func() // a report was put up
}

// Service keeps cases and computes reports and checks.
type Service struct {
	Config
}

// New makes a Service.
func New(c Config) *Service {
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	return &Service{c}
}

// Bounds of what is asked for.
const (
	MaxSources  = 100
	MaxName     = 200 // characters
	MaxDays     = 3650
	defaultDays = 730
)
