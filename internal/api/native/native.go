// Package native is the hub's own HTTP API under /v1: users, connections,
// sessions, consents, accounts, transactions, the event log, replays of it and
// callbacks, with errors as problem+json. It translates requests into the words of package
// bankfeed and results into JSON, and decides nothing about banks, data or
// deliveries.
package native

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Authenticator turns a bearer token into a caller; Unauthorized for whatever
// is not, or no longer, good.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error)
}

// Config is what the API stands on.
type Config struct {
	Version      string // of the build, shown in the OpenAPI document
	Installation bankfeed.Installation
	Log          *slog.Logger

	Access    Authenticator
	Limiter   *access.Limiter[bankfeed.TenantID] // nil: no limit
	Users     Users
	Eraser    Eraser
	Linker    Linker
	Remover   Remover
	Catalogue Catalogue
	Syncer    Syncer
	Reader    Reader
	Events    EventLog
	Worlds    Worlds
	Streams   Streams // nil: there is no stream
	Replays   Replays // nil: there is no stream

	Callbacks       Callbacks
	CallbackSecrets CallbackSecrets
}

// Reader reads what is stored of a user, and nothing of anybody else.
type Reader interface {
	ConnectionReader
	SessionReader
	ConsentReader
	AccountReader
	TransactionReader
}

// API serves /v1 and /openapi/native.json.
type API struct {
	Config
	mux    *http.ServeMux
	api    huma.API
	spec   []byte
	worlds worlds
}

// New wires the handlers. It fails only if the OpenAPI document cannot be
// written.
func New(c Config) (*API, error) {
	a := &API{Config: c, mux: http.NewServeMux(), worlds: worlds{ask: c.Worlds}}
	a.api = humago.New(a.mux, a.humaConfig())
	a.routeUsers()
	a.routeProviders()
	a.routeConnections()
	a.routeSessions()
	a.routeConsents()
	a.routeAccounts()
	a.routeTransactions()
	a.routeEvents()
	a.routeStreams()
	a.routeReplays()
	a.routeCallbacks()
	var err error
	a.spec, err = document(a.api.OpenAPI())
	return a, err
}

// Mount adds the API to the routes of the hub.
func (a *API) Mount(mux *http.ServeMux) {
	mux.Handle("/v1/", a)
	mux.HandleFunc("GET /openapi/native.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(a.spec) // if nobody is there to read it, nobody is told
	})
}

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.spec }

// ServeHTTP finds the route, then the caller, then answers.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.noRoute(w, r)
		return
	}
	c := &call{w: w, authenticate: a.authenticator(r)}
	var err error
	if c.Caller, err = c.authenticate(r.Context()); err != nil {
		a.problem(r.Context(), err).write(w)
		return
	}
	if wait := a.Limiter.Allow(c.Client.Tenant); wait > 0 {
		problemOf(&bankfeed.Error{Kind: bankfeed.RateLimited, Text: "too many requests", RetryAfter: wait}).write(w)
		return
	}
	if err := checkQuery(r.URL.RawQuery); err != nil {
		a.problem(r.Context(), err).write(w)
		return
	}
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

// checkQuery refuses what would be understood by half: huma reads the first of
// several values, and leaves out what is malformed.
func checkQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return bankfeed.InvalidField("query", "is malformed")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if len(query[name]) > 1 {
			return bankfeed.InvalidField(cut("query."+name), "is given more than once; several values are parted by commas")
		}
	}
	return nil
}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// noRoute is 405 if the path is known with another method, else 404.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := *r
		other.Method = m
		if _, pattern := a.mux.Handler(&other); pattern != "" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		newProblem(http.StatusNotFound, bankfeed.NotFound.String(), "no such path").write(w)
		return
	}
	p := newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "the path does not know this method")
	p.headers = http.Header{"Allow": {strings.Join(allowed, ", ")}}
	p.write(w)
}

// authenticator returns a function, because a stream outlives its token and
// asks again.
func (a *API) authenticator(r *http.Request) func(context.Context) (bankfeed.Caller, error) {
	token, ok := access.Bearer(r)
	return func(ctx context.Context) (bankfeed.Caller, error) {
		if !ok {
			return bankfeed.Caller{}, bankfeed.Errorf(bankfeed.Unauthorized, "an access token is needed")
		}
		return a.Access.Authenticate(ctx, token)
	}
}

// problem makes the answer to an error and logs what the answer hides.
func (a *API) problem(ctx context.Context, err error) *Problem {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError && ctx.Err() == nil {
		a.Log.ErrorContext(ctx, "request failed", "api", "native", "error", err)
	}
	return p
}

// call is one authenticated request.
type call struct {
	bankfeed.Caller
	w            http.ResponseWriter
	authenticate func(context.Context) (bankfeed.Caller, error)
}

type callKey struct{}

// register adds an operation. The handler gets the caller; its errors become
// problems.
func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *call, *I) (*O, error)) {
	op.MaxBodyBytes = maxBody
	op.RejectUnknownQueryParameters = true
	op.Responses = a.responses(op)
	guard(&op)
	huma.Register(a.api, op, func(ctx context.Context, in *I) (*O, error) {
		c := ctx.Value(callKey{}).(*call)
		// huma limits the reading of a body by a deadline on the connection and
		// leaves it there: it would end the request's context while a bank is
		// being asked. Only a writer without deadlines (in tests) refuses.
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
		out, err := handle(ctx, c, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// maxBody is far more than any request of this API needs.
const maxBody = 64 << 10

// Scope is embedded by the parameters of whatever belongs to one user.
type Scope struct {
	User string `query:"user" doc:"The user, by number or UUID. Needed with a client's token; a user's token acts for that user only."`
}

// PathScoped names a thing of a user.
type PathScoped struct {
	Scope
	ID string `path:"id" doc:"Number or UUID."`
}

// pathID names a user.
type pathID struct {
	ID string `path:"id" doc:"Number or UUID."`
}

// Attended is embedded by the parameters of whatever may happen while the PSU
// is there.
type Attended struct {
	IP        string `header:"PSU-IP-Address" maxLength:"64" doc:"The address of the PSU's device. It says that the PSU is present, and is passed to the bank; never send anything else."`
	UserAgent string `header:"PSU-User-Agent" maxLength:"512" doc:"The browser or app of the PSU."`
}

// psu is nil when nobody is there.
func (p Attended) psu() (*bankfeed.PSU, error) {
	psu, ok := access.PSU(p.IP, p.UserAgent)
	if !ok {
		return nil, bankfeed.InvalidField("header.PSU-IP-Address", "expected the IP address of the PSU's device")
	}
	return psu, nil
}

// user finds the user that a request is about. names are the places where it
// may be named; empty ones do not count.
func (a *API) user(ctx context.Context, c *call, names ...string) (bankfeed.UserID, error) {
	names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
	if len(names) == 0 {
		if c.User == 0 {
			return 0, bankfeed.InvalidField("query.user", "a client's token needs it")
		}
		return c.User, nil
	}
	var user bankfeed.UserID
	for i, name := range names {
		n, ok := a.Installation.ParseID(name, bankfeed.KindUser, c.Client.Tenant)
		if !ok {
			return 0, bankfeed.ErrNotFound
		}
		if i > 0 && bankfeed.UserID(n) != user {
			return 0, bankfeed.InvalidField("body.user", "differs from query.user")
		}
		user = bankfeed.UserID(n)
	}
	if c.User != 0 {
		if user != c.User {
			return 0, bankfeed.ErrNotFound
		}
		return user, nil
	}
	// A client sees the users of its own world: sandbox or live.
	u, err := a.Users.User(ctx, c.Caller, user)
	return u.ID, err
}

func (a *API) renderer(c *call) wire.Renderer {
	return wire.Renderer{Installation: a.Installation, Tenant: c.Client.Tenant}
}

// number reads an id of a kind; 0, which names nothing, if it is none.
func number[T ~int64](a *API, c *call, kind bankfeed.Kind, s string) T {
	n, ok := a.Installation.ParseID(s, kind, c.Client.Tenant)
	if !ok {
		return 0
	}
	return T(n)
}
