// Package consent links connections to banks and lets them go: the redirect to
// the bank's pages and the way back, challenges, renewal, expiry, removal and
// erasure. It reads no accounts: a channel that its bank has authorised is
// handed to the session engine as work.
//
// A bank is never called inside a transaction. What it said is decided on in
// plain functions over a bankfeed.ConnectionState and stored as one
// bankfeed.Change, so a crash in between leaves what was there before: a link
// that can be opened again, or a wait that ends at its deadline. Life cycles:
// docs/states.md.
package consent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/pages"
)

// Store is what consent needs to remember.
type Store interface {
	Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error)
	NextIDs(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, n int) (first int64, err error)
	User(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bankfeed.User, error)
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	Account(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error)
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	Consent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConsentID) (bankfeed.Consent, error)
	ConnectionState(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error)
	SessionState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.SessionID) (bankfeed.ConnectionState, error)
	LinkByToken(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Link, error)
	LinkByState(ctx context.Context, hash []byte) (bankfeed.TenantID, bankfeed.Link, error)
	RemovalStore
	DeletionStore
	SweepStore
}

// Banks finds banks. Provider and Providers see those of one world, sandbox or
// live.
type Banks interface {
	Lookup(providerID string) (*connector.Profile, connector.Connector, error)
	Provider(id string, sandbox bool) (bankfeed.Provider, error)
	Providers(sandbox bool) []bankfeed.Provider
}

// Config is what a Service works with.
type Config struct {
	Store        Store
	Banks        Banks
	Installation bankfeed.Installation
	Build, Node  string // written into every event
	Now          func() time.Time
	Logger       *slog.Logger
	// Kick is called when a session was put up for claiming.
	Kick func()
	// PublicURL is where PSUs' browsers reach the hub, without a slash at the
	// end.
	PublicURL string
	// Address finds the address of the browser behind a request; empty if it
	// is not known. Nil takes the peer's address, which is right without a
	// proxy only.
	Address func(*http.Request) string

	// LinkTimeout is how long a session waits for its user to come and to come
	// back from the bank (default 30 min); ChallengeTimeout how long for an
	// answer (5 min).
	LinkTimeout, ChallengeTimeout time.Duration

	// For erasures; the log for removals too.
	Users Users
	Keys  Keys
	Log   Log
	// Told reports whether every sink has been told what a user's log says up
	// to now. Until it has, or DeletionsKept (24 h) has passed, its deletions
	// stay readable. Nil: there is no sink to wait for.
	Told          func(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error)
	DeletionsKept time.Duration
}

// Waiting times.
const (
	linkTimeout      = 30 * time.Minute
	challengeTimeout = 5 * time.Minute
	// credentialsTimeout is how long credentials wait, sealed, for the PSU's
	// browser.
	credentialsTimeout = 10 * time.Minute
	// stepTimeout bounds one step at a bank, all its calls together.
	stepTimeout = 2 * time.Minute
	// freshFor is how long after SCA a bank is asked for deep history. Some
	// give it for five minutes only; asking in vain costs one call.
	freshFor = time.Hour
	// retrySoon is what a client is told to wait when the bank is busy.
	retrySoon = 10 * time.Second
)

// Service is safe for concurrent use, and by several nodes on one store.
type Service struct {
	Config
	opening keyedLocks
}

// New fills in what the config leaves out.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.DeletionsKept = cmp.Or(c.DeletionsKept, deletionsKept)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	if c.Address == nil {
		c.Address = pages.PeerAddress
	}
	if c.LinkTimeout == 0 {
		c.LinkTimeout = linkTimeout
	}
	if c.ChallengeTimeout == 0 {
		c.ChallengeTimeout = challengeTimeout
	}
	return &Service{Config: c}
}

// Providers lists the banks of one world: sandbox or live.
func (s *Service) Providers(sandbox bool) []bankfeed.Provider { return s.Banks.Providers(sandbox) }

// Provider finds a bank of one world.
func (s *Service) Provider(id string, sandbox bool) (bankfeed.Provider, error) {
	return s.Banks.Provider(id, sandbox)
}

// now is as exact as what is stored, so that events say the same times as readers.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

func (s *Service) scribe(tenant bankfeed.TenantID) bankfeed.Scribe {
	return bankfeed.Scribe{Installation: s.Installation, Tenant: tenant, Build: s.Build, Node: s.Node}
}

// maxConflicts bounds how often a decision is made anew because others changed
// the same rows. Each loss is another's progress, so reaching it is a fault.
const maxConflicts = 50

// commit decides on the state of a session and stores the decision; when
// somebody else changed the same rows meanwhile, it reads and decides again.
func (s *Service) commit(ctx context.Context, tenant bankfeed.TenantID, session bankfeed.SessionID, decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) (bankfeed.ConnectionState, error) {
	return s.change(ctx, tenant, func() (bankfeed.ConnectionState, error) { return s.Store.SessionState(ctx, tenant, session) }, decide)
}

func (s *Service) change(ctx context.Context, tenant bankfeed.TenantID, read func() (bankfeed.ConnectionState, error), decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) (st bankfeed.ConnectionState, err error) {
	for range maxConflicts {
		if st, err = read(); err != nil {
			return st, err
		}
		c := &bankfeed.Change{Tenant: tenant, User: st.User.ID}
		if err = decide(&st, c); err != nil {
			return st, err
		}
		_, err = s.Store.Apply(ctx, c)
		if errors.Is(err, bankfeed.ErrConflict) || errors.Is(err, bankfeed.ErrBusy) {
			continue
		}
		if err == nil && len(c.Ready) > 0 {
			s.Kick()
		}
		return st, err
	}
	return st, err
}
