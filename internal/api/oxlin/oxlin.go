// Package oxlin serves the Oxlin Accounts API v2.1: users, providers,
// connections, accounts, transactions and queues. It translates requests into
// the words of package bankfeed and results into those of wire/oxlin, and
// decides nothing about banks, data or deliveries.
package oxlin

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
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
	mux      *http.ServeMux
	registry huma.Registry
	spec     []byte
}

// prefix is the version in every path but those of location headers.
const prefix = "/v2.1"

// New wires the handlers. It fails only if the OpenAPI document cannot be
// written.
func New(c Config) (*API, error) {
	a := &API{Config: c, mux: http.NewServeMux(), registry: newRegistry()}
	operations := a.operations()
	paths := map[string]route{}
	for _, op := range operations {
		if op.body != nil {
			op.schema = a.registry.Schema(op.body, false, "")
		}
		for _, path := range op.paths() {
			paths[path] = append(paths[path], op)
		}
	}
	for path, r := range paths {
		a.mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) { a.serve(w, req, r) })
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) { a.refuse(w, req, bankfeed.ErrNotFound) })
	var err error
	a.spec, err = a.document(operations)
	return a, err
}

// Mount adds the API to the routes of the hub.
func (a *API) Mount(mux *http.ServeMux) {
	mux.Handle(prefix+"/", a)
	mux.Handle("/queues/{queue_id}", a)
	mux.Handle("/users/{user_id}", a)
	mux.HandleFunc("GET /openapi/oxlin.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(a.spec)
	})
}

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.spec }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// route is what one path can do.
type route []*operation

func (r route) find(method string) *operation {
	if i := slices.IndexFunc(r, func(op *operation) bool { return op.method == method }); i >= 0 {
		return r[i]
	}
	return nil
}

func (r route) allow() string {
	var methods []string
	for _, op := range r {
		methods = append(methods, op.method)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// serve finds the operation, then the caller, then answers.
func (a *API) serve(w http.ResponseWriter, r *http.Request, paths route) {
	op := paths.find(r.Method)
	if op == nil {
		w.Header().Set("Allow", paths.allow())
		a.refuse(w, r, errMethod)
		return
	}
	c := &call{api: a, w: w, r: r, op: op, token: func(ctx context.Context) (bankfeed.Caller, error) {
		bearer, ok := access.Bearer(r)
		if !ok {
			return bankfeed.Caller{}, errNoToken
		}
		return a.Access.Authenticate(ctx, bearer)
	}}
	if err := a.answer(c); err != nil && !c.answered {
		a.refuse(w, r, err)
	}
}

func (a *API) answer(c *call) (err error) {
	if c.caller, err = c.token(c.r.Context()); err != nil {
		return err
	}
	if wait := a.Limit.Allow(c.caller.Client.Tenant); wait > 0 {
		return &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "too many requests", RetryAfter: wait}
	}
	if !c.op.allowed(c.caller.Scopes) {
		return bankfeed.Errorf(bankfeed.Forbidden, "the token's scope does not cover this request")
	}
	if err := c.readQuery(); err != nil {
		return err
	}
	return c.op.handle(c)
}

// user is the user that a request is about: the token's own, or the one that a
// client token names.
func (a *API) user(c *call) (bankfeed.UserID, error) {
	name, err := c.text(userID)
	if err != nil {
		return 0, err
	}
	if name == "" {
		if c.caller.User == 0 {
			return 0, missing(userID.name)
		}
		return c.caller.User, nil
	}
	return a.named(c, name)
}

// named reads a user's id and checks that the caller may act for it.
func (a *API) named(c *call, name string) (bankfeed.UserID, error) {
	n, ok := bankfeed.ParseNumber(name)
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	id := bankfeed.UserID(n)
	if id == c.caller.User { // Authenticate has just seen that it exists
		return id, nil
	}
	u, err := a.Access.User(c.r.Context(), c.caller, id)
	return u.ID, err
}
