// Package ingest synchronizes connections: it opens sessions, reads accounts,
// balances and transactions from banks, works out what changed, and commits
// state and events together, a page at a time. It knows banks by the connector
// contract only, and nobody who reads the events.
//
// Decisions are plain functions over a bankfeed.ConnectionState; the store
// persists each as one bankfeed.Change. A crash at any moment costs at most the
// page that was on its way: the session is claimed again, by this node or
// another, and goes on at the stored cursor.
package ingest

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// Store is what ingest needs to remember.
type Store interface {
	Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error)
	NextIDs(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, n int) (first int64, err error)
	ConnectionState(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error)
	SessionState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.SessionID) (bankfeed.ConnectionState, error)
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	// Known lists the stored transactions of an account from a day on, and all
	// provisional ones, ordered by day and number.
	Known(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, from bankfeed.Date) ([]identity.Known, error)
	// TransactionsByID reads those that are there, in any order.
	TransactionsByID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, ids []bankfeed.TransactionID) ([]bankfeed.Transaction, error)
	Accesses(ctx context.Context, tenant bankfeed.TenantID, consent bankfeed.ConsentID, since time.Time) ([]bankfeed.QuotaUse, error)
	// Newest finds the last transaction of an account, apart from some.
	Newest(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, without []bankfeed.TransactionID) (bankfeed.TransactionKey, error)
	// User returns ErrNotFound for one that is erased.
	User(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bankfeed.User, error)
	// Answered writes down when a request may end at the earliest.
	Answered(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.RequestID, notBefore time.Time) error
	// Due lists connections whose next unattended session is due.
	Due(ctx context.Context, now time.Time, skip, limit int) ([]bankfeed.SyncOrder, error)

	ImportStore
}

// Banks finds a bank's profile and connector.
type Banks interface {
	Lookup(providerID string) (*connector.Profile, connector.Connector, error)
}

// Config is what an Engine works with.
type Config struct {
	Store        Store
	Banks        Banks
	Statements   connector.Statements // reads what is handed in
	Installation bankfeed.Installation
	Build, Node  string // written into every event
	Now          func() time.Time
	Logger       *slog.Logger
	// Kick is called when a session was put up for claiming.
	Kick func()
	// AccountsAtOnce is how many accounts of one channel are read at the same
	// time (default 4): a slow one does not hold up the others.
	AccountsAtOnce int
	// CommitRows bounds the rows of one commit (default 500), for banks that
	// know no paging.
	CommitRows int
	// Fresh is how long after a session the stored data answers a request
	// without calling the bank (default Fresh).
	Fresh time.Duration
	// CallbackDelay is how long after its answer a request may end at the
	// earliest (default CallbackDelay).
	CallbackDelay time.Duration
	// Unchanged reports whether a tenant wants to hear of accounts and
	// transactions that were listed again without a change. It is asked once for
	// each session; nil is never.
	Unchanged func(bankfeed.TenantID) bool
	// ImportsAtOnce is how many documents are being stored at the same time
	// (default 4), others wait; four times as many may be on their way in.
	ImportsAtOnce int
	// Jitter spreads daily sessions; it returns a duration below its argument.
	Jitter func(time.Duration) time.Duration
}

// Engine runs sessions.
type Engine struct {
	Config
	incoming, importing chan struct{} // places for documents
}

// New fills in what the config leaves out.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	if c.Unchanged == nil {
		c.Unchanged = func(bankfeed.TenantID) bool { return false }
	}
	if c.AccountsAtOnce == 0 {
		c.AccountsAtOnce = 4
	}
	if c.CommitRows == 0 {
		c.CommitRows = 500
	}
	c.Fresh, c.CallbackDelay = cmp.Or(c.Fresh, Fresh), cmp.Or(c.CallbackDelay, CallbackDelay)
	if c.Jitter == nil {
		c.Jitter = rand.N[time.Duration]
	}
	c.ImportsAtOnce = cmp.Or(c.ImportsAtOnce, 4)
	return &Engine{Config: c, incoming: make(chan struct{}, 4*c.ImportsAtOnce), importing: make(chan struct{}, c.ImportsAtOnce)}
}

// now is as exact as what is stored, so that events say the same times as readers.
func (e *Engine) now() time.Time { return e.Now().UTC().Truncate(time.Microsecond) }

func (e *Engine) scribe(tenant bankfeed.TenantID) bankfeed.Scribe {
	return bankfeed.Scribe{Installation: e.Installation, Tenant: tenant, Build: e.Build, Node: e.Node}
}

// Unattended sessions come once a day, a little earlier by chance, so that a
// day's sessions neither bunch nor drift past the quota's rolling day.
const (
	dailyEvery  = 24 * time.Hour
	dailySpread = 2 * time.Hour
)

func (e *Engine) daily(now time.Time) time.Time {
	return now.Add(dailyEvery - e.Jitter(dailySpread))
}
