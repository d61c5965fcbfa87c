// Package oauth serves the token endpoints: POST /oauth/token and /oauth/revoke
// as finAPI's clients call them (RFC 6749, RFC 7009: a form; those of a later
// version under /api/v2 too), and POST /token
// as Oxlin's do (JSON or a form, whatever the content type says).
//
// It is a handler of its own over access.Service: go-oauth2 v4.5.4 answers
// invalid_grant with 401 and a missing grant type as an unsupported one, takes
// secrets from the query, hands raw tokens to its stores, and has neither
// revocation nor refresh families, so little of it would have stayed in use.
package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// Requests that one address may make by default: a second, and at once.
const (
	DefaultRate  = 20
	DefaultBurst = 40
)

// Options of a Handler; the zero value has no limit, logs to slog.Default and
// writes times in UTC.
type Options struct {
	Proxies access.Proxies
	Limit   *access.Limiter[netip.Prefix] // per client address
	Log     *slog.Logger
	Now     func() time.Time
	Zone    *time.Location // of the times in finAPI's errors
}

// Handler serves the endpoints.
type Handler struct {
	access  *access.Service
	proxies access.Proxies
	limit   *access.Limiter[netip.Prefix]
	log     *slog.Logger
	now     func() time.Time
	zone    *time.Location
}

// New makes a Handler.
func New(a *access.Service, o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	return &Handler{access: a, proxies: o.Proxies, limit: o.Limit, log: o.Log, now: o.Now, zone: o.Zone}
}

// face is how a vendor's clients know the endpoint. RFC 6749 leaves the case of
// the token type open; clients compare it with what they have always seen.
type face struct {
	read      func([]byte) (params, *fault)
	tokenType string
	allScopes string // what a request without a scope gets to see
	locked    int    // status of a login that was tried too often
	// fault is the body of a fault.
	fault func(h *Handler, w http.ResponseWriter, r *http.Request, f *fault) any
}

var (
	finAPI = face{read: readForm, tokenType: "bearer", allScopes: "all", locked: http.StatusLocked, fault: finAPIFault}
	oxlin  = face{read: readAny, tokenType: "Bearer", locked: http.StatusTooManyRequests, fault: plainFault}
)

// Mount adds the endpoints to a mux.
func (h *Handler) Mount(mux *http.ServeMux) {
	for _, version := range []string{"", "/api/v2"} { // of finAPI Access
		mux.Handle(version+"/oauth/token", h.endpoint(finAPI, func(w http.ResponseWriter, r *http.Request) *fault { return h.token(w, r, finAPI) }))
		mux.Handle(version+"/oauth/revoke", h.endpoint(finAPI, h.revoke))
	}
	mux.Handle("/token", h.endpoint(oxlin, func(w http.ResponseWriter, r *http.Request) *fault { return h.token(w, r, oxlin) }))
}

// endpoint is what the three have in common.
func (h *Handler) endpoint(face face, serve func(http.ResponseWriter, *http.Request) *fault) http.Handler {
	write := func(w http.ResponseWriter, r *http.Request, f *fault) {
		if f.locked {
			f.status = face.locked
		}
		write(w, f, face.fault(h, w, r, f))
	}
	return h.limit.Middleware(
		func(r *http.Request) (netip.Prefix, bool) { return h.proxies.ClientNet(r), true },
		func(w http.ResponseWriter, r *http.Request, wait time.Duration) {
			write(w, r, &fault{status: http.StatusTooManyRequests, code: "temporarily_unavailable", text: "too many requests", retryAfter: wait})
		},
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			write(w, r, &fault{status: http.StatusMethodNotAllowed, code: "invalid_request", text: "the method must be POST"})
			return
		}
		if f := serve(w, r); f != nil {
			write(w, r, f)
		}
	}))
}

// token answers a token request (RFC 6749, sections 4.3, 4.4 and 6).
func (h *Handler) token(w http.ResponseWriter, r *http.Request, face face) *fault {
	p, f := readBody(w, r, face.read)
	if f != nil {
		return f
	}
	ctx := r.Context()
	var grant func(bankfeed.Client) (access.Grant, error)
	var needs []string
	switch p["grant_type"] {
	case "":
		return missing("grant_type")
	case "client_credentials":
		grant = func(c bankfeed.Client) (access.Grant, error) { return h.access.ClientToken(ctx, c, p["scope"]) }
	case "password":
		needs = []string{"username", "password"}
		grant = func(c bankfeed.Client) (access.Grant, error) {
			return h.access.PasswordToken(ctx, c, p["username"], bankfeed.Secret(p["password"]), p["scope"])
		}
	case "refresh_token":
		needs = []string{"refresh_token"}
		grant = func(c bankfeed.Client) (access.Grant, error) {
			return h.access.Refresh(ctx, c, bankfeed.Secret(p["refresh_token"]), p["scope"])
		}
	default:
		return &fault{status: http.StatusBadRequest, code: "unsupported_grant_type", text: "grant_type must be client_credentials, password or refresh_token"}
	}
	for _, name := range needs {
		if p[name] == "" {
			return missing(name)
		}
	}
	client, f := h.client(r, p)
	if f != nil {
		return f
	}
	g, err := grant(client)
	if err != nil {
		return h.faultOf(ctx, client, err)
	}
	scope := g.Scope
	if scope == "" {
		scope = face.allScopes
	}
	writeJSON(w, http.StatusOK, tokenAnswer{
		AccessToken: string(g.AccessToken), TokenType: face.tokenType, RefreshToken: string(g.RefreshToken),
		ExpiresIn: int64(g.ExpiresIn / time.Second), Scope: scope,
	})
	return nil
}

// tokenAnswer is that of RFC 6749, section 5.1.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token,omitempty"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	Scope        string `json:"scope,omitempty"`
}

// revoke ends a token and its family (RFC 7009). finAPI's clients authenticate
// with a client token instead of the client's secret and put the token into the
// query; it is of no use to whoever reads it there afterwards.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) *fault {
	p, f := readBody(w, r, readForm)
	if f != nil {
		return f
	}
	token := p["token"]
	if token == "" {
		token = r.URL.Query().Get("token")
	}
	if token == "" {
		return missing("token")
	}
	var client bankfeed.Client
	if bearer, ok := access.Bearer(r); ok {
		caller, err := h.access.Authenticate(r.Context(), bearer)
		if err != nil {
			return h.faultOf(r.Context(), client, err)
		}
		if caller.User != 0 {
			return &fault{status: http.StatusForbidden, code: "insufficient_scope", text: "this needs a client token"}
		}
		client = caller.Client
	} else if client, f = h.client(r, p); f != nil {
		return f
	}
	if err := h.access.Revoke(r.Context(), client, bankfeed.Secret(token)); err != nil {
		return h.faultOf(r.Context(), client, err)
	}
	noStore(w)
	w.WriteHeader(http.StatusOK)
	return nil
}

// client authenticates the client by HTTP Basic or by the body, never by both
// (RFC 6749, section 2.3.1).
func (h *Handler) client(r *http.Request, p params) (bankfeed.Client, *fault) {
	id, secret := p["client_id"], p["client_secret"]
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") {
		basicID, basicSecret, ok := basic(r)
		switch {
		case !ok:
			return bankfeed.Client{}, invalidClient("the Authorization header is malformed")
		case secret != "" || id != "" && id != basicID:
			return bankfeed.Client{}, invalidRequest("the client authenticates both in the header and in the body")
		}
		id, secret = basicID, basicSecret
	}
	switch {
	case id == "":
		return bankfeed.Client{}, invalidClient("client_id is missing")
	case secret == "":
		return bankfeed.Client{}, invalidClient("client_secret is missing")
	}
	c, err := h.access.AuthenticateClient(r.Context(), id, secret)
	if err != nil {
		return c, h.faultOf(r.Context(), c, err)
	}
	return c, nil
}

// basic reads the header. Id and secret are form-encoded inside it; those of
// this hub look the same either way, so it matters only for wrong ones.
func basic(r *http.Request) (id, secret string, ok bool) {
	id, secret, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	return id, secret, errors.Join(err1, err2) == nil
}

// faultOf is the table from errors to answers; what is not for the caller goes
// to the log.
func (h *Handler) faultOf(ctx context.Context, client bankfeed.Client, err error) *fault {
	var e *bankfeed.Error
	switch {
	case errors.Is(err, access.ErrClient):
		return invalidClient(access.ErrClient.Text)
	case errors.Is(err, access.ErrToken):
		return &fault{status: http.StatusUnauthorized, code: "invalid_token", text: access.ErrToken.Text, challenge: `Bearer error="invalid_token"`}
	case errors.Is(err, access.ErrGrant):
		if errors.Is(err, access.ErrReused) {
			h.log.WarnContext(ctx, access.ErrReused.Error(), "tenant", client.Tenant, "client", client.ID)
		}
		return &fault{status: http.StatusBadRequest, code: "invalid_grant", text: access.ErrGrant.Text}
	case errors.Is(err, access.ErrScope):
		return &fault{status: http.StatusBadRequest, code: "invalid_scope", text: "scope " + access.ErrScope.Text}
	case errors.As(err, &e) && e.Kind == bankfeed.RateLimited:
		return &fault{status: http.StatusTooManyRequests, code: "invalid_grant", text: e.Text, retryAfter: e.RetryAfter, locked: true}
	}
	if ctx.Err() == nil { // else nobody waits for the answer
		h.log.ErrorContext(ctx, "token request failed", "tenant", client.Tenant, "client", client.ID, "error", err)
	}
	return &fault{status: http.StatusInternalServerError, code: "server_error", text: "the request could not be served, try again later"}
}
