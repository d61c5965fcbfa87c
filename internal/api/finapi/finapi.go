// Package finapi serves finAPI's APIs as their clients know them: the data
// sources of Data Intelligence, the users of Access, the process controller,
// web forms and tasks. It translates requests into the words of package
// bankfeed and results into those of wire/finapi, and decides nothing about
// banks, data or deliveries.
//
// An operation is one row of a table (operations): its row makes the route and
// the OpenAPI document. internal/api/dialect is the mechanism behind it.
package finapi

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Access tells who calls: access.Service.
type Access interface {
	Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error)
	// User returns a user that the caller may act for.
	User(ctx context.Context, caller bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error)
	CreateUser(ctx context.Context, caller bankfeed.Caller, n access.NewUser) (bankfeed.User, error)
}

// Syncer brings stored data up to date: ingest.Engine.
type Syncer interface {
	Request(ctx context.Context, o ingest.RequestOrder) (bankfeed.Request, error)
	// Answered is called when the answer to a request was written.
	Answered(ctx context.Context, tenant bankfeed.TenantID, r bankfeed.Request) error
}

// Reader reads what is stored. What belongs to another user or tenant is
// bankfeed.ErrNotFound.
type Reader interface {
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	Connection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error)
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	// OpenSync reports whether a request for a connection's data is under way.
	OpenSync(ctx context.Context, tenant bankfeed.TenantID, connection bankfeed.ConnectionID) (bool, error)
}

// Remover removes connections with their consents and data, in the background.
type Remover interface {
	DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) error
}

// Config is what the API stands on.
type Config struct {
	Version      string // of the build, shown in the OpenAPI document
	Installation bankfeed.Installation
	Log          *slog.Logger
	Now          func() time.Time
	Zone         *time.Location // of every time on the wire

	Access    Access
	Syncer    Syncer
	Reader    Reader
	Remover   Remover
	Importer  Importer
	Eraser    Eraser
	Processes Processes
	Analysis  Analysis
	Forms     Forms
	// CheckCallback refuses a URL that the hub must not call; live clients need
	// https.
	CheckCallback func(ctx context.Context, field, url string, live bool) error
	Limit         *access.Limiter[bankfeed.TenantID] // nil: no limit
}

// API serves /api/v1, /api/webForms, /api/tasks and /openapi/finapi.json.
type API struct {
	Config
	dialect *dialect.API
	render  finapi.Renderer
	polls   *access.Limiter[poll]
}

// New wires the handlers. It fails only if the OpenAPI document cannot be
// written.
func New(c Config) (*API, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &API{Config: c, render: finapi.Renderer{Installation: c.Installation, Zone: c.Zone},
		polls: access.NewLimiter[poll](pollRate, pollBurst, pollsKnown, c.Now)}
	var err error
	a.dialect, err = dialect.New(dialect.Config{
		Name: "finapi", Log: c.Log, Access: c.Access, Limit: c.Limit, Fault: a.answerTo, Reads: reads, Document: document(c.Version),
	}, a.operations())
	return a, err
}

// operations is the whole API.
func (a *API) operations() []*dialect.Operation {
	all := slices.Concat(
		a.dataSourceOperations(),
		a.importOperations(),
		a.userOperations(),
		a.processOperations(),
		a.caseOperations(),
		a.webFormOperations(),
	)
	for _, op := range all {
		op.Also = append(op.Also, http.StatusNotFound, http.StatusServiceUnavailable)
		if op.Method != http.MethodGet {
			op.Also = append(op.Also, http.StatusUnprocessableEntity, http.StatusLocked)
		}
		if op.Body != nil {
			op.Also = append(op.Also, http.StatusUnsupportedMediaType)
		}
	}
	return all
}

// Where the operations are. Data Intelligence, Access and the process
// controller share the first, on hosts of their own.
const (
	prefix   = "/api/v1"
	accessV2 = "/api/v2" // of Access alone, for what both versions have
	webForms = "/api/webForms"
	tasks    = "/api/tasks"
)

// Mount adds the API to the routes of the hub.
func (a *API) Mount(mux *http.ServeMux) {
	for _, path := range []string{prefix, webForms, tasks} {
		mux.Handle(path, a)
		mux.Handle(path+"/", a)
	}
	mux.Handle(accessV2+"/users", a) // not all of it: other dialects have paths there
	mux.HandleFunc("GET /openapi/finapi.json", a.dialect.ServeSpec)
}

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.dialect.Spec() }

// ServeHTTP implements http.Handler. A POST may stand for another method, for
// clients behind proxies that let nothing else through.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m := r.Header.Get("X-HTTP-Method-Override"); r.Method == http.MethodPost && (m == http.MethodPatch || m == http.MethodDelete) {
		r = r.Clone(r.Context())
		r.Method = m
	}
	if path := served(r.URL.Path); path != r.URL.Path {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = path, ""
	}
	a.dialect.ServeHTTP(w, r)
}

// reads: JSON under any of its names, and what curl -d and fetch call it when
// nobody tells them.
func reads(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream":
		return true
	}
	return strings.HasSuffix(mediaType, "+json")
}

// pathID reads an id of the path in either of its faces, UUID and number. What
// cannot be one names nothing.
func pathID[N ~int64](a *API, c *dialect.Call, name string, kind bankfeed.Kind) (N, error) {
	n, ok := a.Installation.ParseID(c.R.PathValue(name), kind, c.Tenant())
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	return N(n), nil
}
