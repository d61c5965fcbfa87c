// Package dialect is the mechanism behind the APIs that speak a vendor's
// language: a table of operations that is served and documented alike, bodies
// and parameters held against their schemas, and one function that turns errors
// into the dialect's own answers. It knows no words of any vendor.
package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// Access tells who calls: access.Service.
type Access interface {
	Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error)
}

// Config is what a dialect says about itself.
type Config struct {
	Name   string // in the log
	Log    *slog.Logger
	Access Access
	Limit  *access.Limiter[bankfeed.TenantID] // nil: no limit

	// Fault is the dialect's answer to an error. It may set headers; those that
	// RFC 6750 and 429 ask for are set afterwards.
	Fault func(w http.ResponseWriter, r *http.Request, err error) (status int, body any)
	// Reads says whether a body of a media type is read; the empty type is one
	// that was not given. Nil: all are, as curl -d calls JSON a form.
	Reads func(mediaType string) bool

	Document Document
}

// API serves a table of operations.
type API struct {
	Config
	mux      *http.ServeMux
	registry huma.Registry
	spec     []byte
}

// New builds the routes and the OpenAPI document. It fails only if the document
// cannot be written.
func New(c Config, operations []*Operation) (*API, error) {
	a := &API{Config: c, mux: http.NewServeMux(), registry: newRegistry(c.Document.Numbers)}
	paths := map[string]route{}
	for _, op := range operations {
		if op.Body != nil {
			op.schema = a.registry.Schema(op.Body, false, "")
		}
		for _, path := range op.Paths {
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

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.spec }

// ServeSpec answers with it.
func (a *API) ServeSpec(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	w.Write(a.spec)
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// route is what one path can do.
type route []*Operation

func (r route) find(method string) *Operation {
	if i := slices.IndexFunc(r, func(op *Operation) bool { return op.Method == method }); i >= 0 {
		return r[i]
	}
	return nil
}

func (r route) allow() string {
	var methods []string
	for _, op := range r {
		methods = append(methods, op.Method)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// serve finds the operation, then the caller, then answers.
func (a *API) serve(w http.ResponseWriter, r *http.Request, paths route) {
	op := paths.find(r.Method)
	if op == nil {
		w.Header().Set("Allow", paths.allow())
		a.refuse(w, r, ErrMethod)
		return
	}
	c := &Call{W: w, R: r, api: a, op: op}
	if err := a.answer(c); err != nil && !c.answered {
		a.refuse(w, r, err)
	}
}

func (a *API) answer(c *Call) (err error) {
	if c.Caller, err = c.Authenticate(c.R.Context()); err != nil {
		return err
	}
	if wait := a.Limit.Allow(c.Caller.Client.Tenant); wait > 0 {
		return &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "too many requests", RetryAfter: wait}
	}
	if err := c.op.admit(c.Caller); err != nil {
		return err
	}
	if err := c.readQuery(); err != nil {
		return err
	}
	return c.op.Handle(c)
}

// Errors that the mechanism finds itself, beside those of package bankfeed.
var (
	ErrMethod    = bankfeed.Errorf(bankfeed.Invalid, "this path does not know the method; see the Allow header")
	ErrMediaType = bankfeed.Errorf(bankfeed.Invalid, "the body must be application/json")
	ErrNoToken   = bankfeed.Errorf(bankfeed.Unauthorized, "an access token is needed")
)

// MissingError names a member or parameter that is needed and absent.
type MissingError struct{ Field string }

func (e *MissingError) Error() string { return e.Field + " is missing" }

// MalformedError says why a request cannot be read at all.
type MalformedError struct{ Text string }

func (e *MalformedError) Error() string { return e.Text }

// refuse answers with an error, and logs it if the answer hides it.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	status, body := a.Fault(w, r, err)
	var e *bankfeed.Error
	switch status {
	case http.StatusInternalServerError:
		a.Log.ErrorContext(r.Context(), "request failed", "api", a.Name, "method", r.Method, "route", r.Pattern, "error", err)
	case http.StatusUnauthorized:
		challenge := `Bearer realm="bankfeed"`
		if !errors.Is(err, ErrNoToken) {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if errors.As(err, &e) && e.RetryAfter > 0 {
			w.Header().Set("Retry-After", access.RetryAfter(e.RetryAfter))
		}
	}
	text, err := json.Marshal(body)
	if err != nil { // it is made of strings
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write(text)
}
