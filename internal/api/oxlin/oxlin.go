// Package oxlin serves the Oxlin Accounts API v2.1: users, providers,
// connections, accounts, transactions and queues. It translates requests into
// the words of package bankfeed and results into those of wire/oxlin, and
// decides nothing about banks, data or deliveries.
package oxlin

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
)

// Access tells who calls and for whom: access.Service.
type Access interface {
	Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error)
	// User returns a user that the caller may act for.
	User(ctx context.Context, caller bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error)
	CreateUser(ctx context.Context, caller bankfeed.Caller, n access.NewUser) (bankfeed.User, error)
}

// Eraser removes a user with everything that belongs to it.
type Eraser interface {
	EraseUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
}

// Linker links channels to banks and lets them go: consent.Service.
type Linker interface {
	Providers(sandbox bool) []bankfeed.Provider
	Provider(id string, sandbox bool) (bankfeed.Provider, error)
	Link(ctx context.Context, l bankfeed.Linking) (bankfeed.Linked, error)
	Answer(ctx context.Context, a bankfeed.Answer) (bankfeed.LinkStep, error)
	DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) error
}

// Syncer starts sessions.
type Syncer interface {
	Synchronize(ctx context.Context, o bankfeed.SyncOrder) (session bankfeed.Session, joined bool, err error)
	SynchronizeAll(ctx context.Context, o bankfeed.SyncOrder) ([]bankfeed.Session, error)
}

// Reader reads what is stored. What belongs to another user or tenant is
// bankfeed.ErrNotFound.
type Reader interface {
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	Connection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error)
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	Account(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error)
	Transactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error)
	Transaction(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.TransactionID) (bankfeed.Transaction, error)
}

// Config is what the API stands on.
type Config struct {
	Version string // of the build, shown in the OpenAPI document
	Log     *slog.Logger

	Access Access
	Eraser Eraser
	Linker Linker
	Syncer Syncer
	Reader Reader
	Queues Queues
	Limit  *access.Limiter[bankfeed.TenantID] // nil: no limit
}

// API serves /v2.1, the two paths that location headers name without it, and
// /openapi/oxlin.json.
type API struct {
	Config
	dialect *dialect.API
}

// prefix is the version in every path but those of location headers.
const prefix = "/v2.1"

// New wires the handlers. It fails only if the OpenAPI document cannot be
// written.
func New(c Config) (*API, error) {
	a := &API{Config: c}
	var err error
	a.dialect, err = dialect.New(dialect.Config{
		Name: "oxlin", Log: c.Log, Access: c.Access, Limit: c.Limit, Fault: answerTo, Document: document(c.Version),
	}, a.operations())
	return a, err
}

// Mount adds the API to the routes of the hub.
func (a *API) Mount(mux *http.ServeMux) {
	mux.Handle(prefix+"/", a.dialect)
	mux.Handle("/queues/{queue_id}", a.dialect)
	mux.Handle("/users/{user_id}", a.dialect)
	mux.HandleFunc("GET /openapi/oxlin.json", a.dialect.ServeSpec)
}

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.dialect.Spec() }

// user is the user that a request is about: the token's own, or the one that a
// client token names.
func (a *API) user(c *dialect.Call) (bankfeed.UserID, error) {
	name, err := c.Text(userID)
	if err != nil {
		return 0, err
	}
	if name == "" {
		if c.Caller.User == 0 {
			return 0, &dialect.MissingError{Field: userID.Name}
		}
		return c.Caller.User, nil
	}
	return a.named(c, name)
}

// named reads a user's id and checks that the caller may act for it.
func (a *API) named(c *dialect.Call, name string) (bankfeed.UserID, error) {
	n, ok := bankfeed.ParseNumber(name)
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	id := bankfeed.UserID(n)
	if id == c.Caller.User { // Authenticate has just seen that it exists
		return id, nil
	}
	u, err := a.Access.User(c.R.Context(), c.Caller, id)
	return u.ID, err
}

// pathID reads an id of the path. What cannot be one names nothing.
func pathID[N ~int64](c *dialect.Call) (N, error) {
	n, ok := bankfeed.ParseNumber(c.R.PathValue("id"))
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	return N(n), nil
}
