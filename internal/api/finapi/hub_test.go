package finapi_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/ingest"
	wire "github.com/bankfeed/bankfeed/wire/finapi"
)

// Callers of the tests. Tenant 1 has the users 7 and 8, tenant 2 the user 9.
var callers = map[string]bankfeed.Caller{
	"user":    {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 7},
	"user8":   {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 8},
	"client":  {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}},
	"live":    {Client: bankfeed.Client{Tenant: 1, ID: "l"}, User: 7},
	"foreign": {Client: bankfeed.Client{Tenant: 2, ID: "d"}, User: 9},
}

var (
	installation = bankfeed.Installation{Born: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	born         = time.Date(2019, 12, 31, 23, 0, 0, 0, time.UTC) // midnight in Berlin
)

func sourceID(n bankfeed.ConnectionID) string {
	return installation.UUID(bankfeed.KindConnection, 1, int64(n)).String()
}

func accountID(n bankfeed.AccountID) string {
	return installation.UUID(bankfeed.KindAccount, 1, int64(n)).String()
}

// hub plays every part behind the API, for user 7 of tenant 1, and keeps what
// it was told.
type hub struct {
	err  error // what every part answers, if set
	now  time.Time
	user bankfeed.User

	connections []bankfeed.Connection
	accounts    []bankfeed.Account
	open        map[bankfeed.ConnectionID]bool // a request covers it

	created  access.NewUser
	erased   []bankfeed.UserID
	deleted  []bankfeed.ConnectionID
	orders   []ingest.RequestOrder
	answered []bankfeed.RequestID
	checked  []string
	deletion consent.DataDeletion
	ended    bool // the process
}

func newHub() *hub {
	return &hub{
		now:  born.Add(24 * time.Hour),
		user: bankfeed.User{ID: 7, ExternalID: "customer-1", CreatedAt: born, BusinessContext: bankfeed.Individual, NoAutoSync: true},
		open: map[bankfeed.ConnectionID]bool{},
		connections: []bankfeed.Connection{
			{
				ID: 123456, User: 7, ProviderID: "300", ProviderName: "Commerzbank", BIC: "COBADEFFXXX", Status: bankfeed.ConnectionSuccess, CreatedAt: born,
				Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess, LastSuccessAt: &born, LastEndAt: &born}},
			},
			{ID: 13, User: 7, ProviderID: "300", ProviderName: "never came back from its bank", CreatedAt: born, Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect}}},
		},
		accounts: []bankfeed.Account{{
			ID: 123456, Connection: 123456, Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", CreatedAt: born, LastReadAt: born,
			Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE13700800000061110500"}},
		}},
	}
}

func (h *hub) mine(tenant bankfeed.TenantID, user bankfeed.UserID) error {
	if h.err != nil {
		return h.err
	}
	if tenant != 1 || user != 7 {
		return bankfeed.ErrNotFound
	}
	return nil
}

func (h *hub) Authenticate(_ context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error) {
	c, ok := callers[string(bearer)]
	if !ok {
		return c, access.ErrToken
	}
	return c, nil
}

func (h *hub) User(_ context.Context, c bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error) {
	return h.user, h.mine(c.Client.Tenant, id)
}

func (h *hub) CreateUser(_ context.Context, _ bankfeed.Caller, n access.NewUser) (bankfeed.User, error) {
	h.created = n
	return bankfeed.User{ID: 7, ExternalID: n.ExternalID, Contact: n.Contact, NoAutoSync: n.NoAutoSync}, h.err
}

func (h *hub) EraseUser(_ context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) error {
	h.erased = append(h.erased, id)
	return h.mine(tenant, id)
}

func (h *hub) EraseData(_ context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (int64, error) {
	return 55, h.mine(tenant, id)
}

func (h *hub) DataDeletion(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id int64) (consent.DataDeletion, error) {
	if id != 55 {
		return consent.DataDeletion{}, bankfeed.ErrNotFound
	}
	return h.deletion, h.mine(tenant, user)
}

func (h *hub) StartProcess(context.Context, bankfeed.Caller) (access.NewProcess, error) {
	return access.NewProcess{Token: "bfp_token", ExpiresAt: h.now.Add(14 * 24 * time.Hour)}, h.err
}

func (h *hub) ExchangeProcess(_ context.Context, _ bankfeed.Caller, token bankfeed.Secret, end bool) (access.Exchanged, error) {
	if token != "bfp_token" || h.ended {
		return access.Exchanged{}, bankfeed.ErrNotFound
	}
	h.ended = end
	x := access.Exchanged{Grant: access.Grant{AccessToken: "bfa_user", ExpiresIn: time.Hour}, Left: 9, ExpiresAt: h.now.Add(14 * 24 * time.Hour)}
	if end {
		x.Left = 0
	}
	return x, h.err
}

func (h *hub) Request(_ context.Context, o ingest.RequestOrder) (bankfeed.Request, error) {
	h.orders = append(h.orders, o)
	r := bankfeed.Request{ID: 91, User: o.User, Kind: bankfeed.RequestSync}
	for i := range h.connections {
		if c := &h.connections[i]; c.Imported() {
			r.Members = append(r.Members, bankfeed.RequestMember{Connection: c.ID})
			h.open[c.ID] = true
		}
	}
	for _, id := range o.Connections {
		if id != 123456 {
			return r, bankfeed.ErrNotFound
		}
	}
	return r, h.mine(o.Tenant, o.User)
}

func (h *hub) Answered(_ context.Context, _ bankfeed.TenantID, r bankfeed.Request) error {
	h.answered = append(h.answered, r.ID)
	return nil
}

func (h *hub) CheckCallback(_ context.Context, field, url string, live bool) error {
	h.checked = append(h.checked, url+" "+strconv.FormatBool(live))
	if strings.Contains(url, "127.0.0.1") {
		return bankfeed.InvalidField(field, "leads to an address that this hub does not call")
	}
	return nil
}

func (h *hub) Connections(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error) {
	return h.connections, h.mine(tenant, user)
}

func (h *hub) Connection(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error) {
	for _, c := range h.connections {
		if c.ID == id {
			return c, h.mine(tenant, user)
		}
	}
	return bankfeed.Connection{}, bankfeed.ErrNotFound
}

func (h *hub) Accounts(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, _ bankfeed.AccountFilter) ([]bankfeed.Account, error) {
	return h.accounts, h.mine(tenant, user)
}

func (h *hub) OpenSync(_ context.Context, _ bankfeed.TenantID, id bankfeed.ConnectionID) (bool, error) {
	return h.open[id], nil
}

func (h *hub) DeleteConnection(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	h.deleted = append(h.deleted, id)
	return h.mine(tenant, user)
}

// config is what the API stands on in tests; every part is the hub.
func (h *hub) config(t testing.TB, log io.Writer) finapi.Config {
	zone, err := time.LoadLocation(wire.Zone)
	require.NoError(t, err)
	return finapi.Config{
		Version: "test", Installation: installation, Log: slog.New(slog.NewTextHandler(log, nil)), Now: func() time.Time { return h.now }, Zone: zone,
		Access: h, Syncer: h, Reader: h, Remover: h, Eraser: h, Processes: h, CheckCallback: h.CheckCallback,
	}
}

// client sends requests to the API and holds every answer against the OpenAPI
// document. That null is as good as absent is not in it.
type client struct {
	t      testing.TB
	hub    *hub
	api    http.Handler
	log    *bytes.Buffer
	spec   []byte
	doc    *openapi3.T
	router routers.Router
}

func newClient(t testing.TB, change ...func(*finapi.Config)) *client {
	h := newHub()
	log := &bytes.Buffer{}
	config := h.config(t, log)
	for _, f := range change {
		f(&config)
	}
	api, err := finapi.New(config)
	require.NoError(t, err)
	mux := http.NewServeMux()
	api.Mount(mux)
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec())
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return &client{t: t, hub: h, api: mux, log: log, spec: api.Spec(), doc: doc, router: router}
}

type answer struct {
	Code   int
	Header http.Header
	Body   string
}

// do sends a request as the named caller; extra are header names and values.
func (c *client) do(caller, method, target, body string, extra ...string) answer {
	c.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if caller != "" {
		r.Header.Set("Authorization", "Bearer "+caller)
	}
	for i := 0; i < len(extra); i += 2 {
		r.Header.Set(extra[i], extra[i+1])
	}
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, r)
	a := answer{w.Code, w.Header(), w.Body.String()}
	c.validate(r, body, a)
	return a
}

func (c *client) validate(r *http.Request, body string, a answer) {
	c.t.Helper()
	route, params, err := c.router.FindRoute(r)
	if err != nil { // a path or method that is not documented
		require.Contains(c.t, []int{404, 405, 200, 204}, a.Code)
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
	}}
	if a.Code < 300 && !strings.Contains(body, "null") && (body == "" || strings.TrimSpace(body) != "") { // what was accepted is documented
		r.Body = io.NopCloser(strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		require.NoError(c.t, openapi3filter.ValidateRequest(r.Context(), in))
	}
	require.NoError(c.t, openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.Code, Header: a.Header, Body: io.NopCloser(strings.NewReader(a.Body)), Options: in.Options,
	}), "%s %s: %d %s", r.Method, r.URL, a.Code, a.Body)
}

// refused checks an error's status, code, and that it has a text.
func (c *client) refused(a answer, status int, code string) {
	c.t.Helper()
	require.Equal(c.t, status, a.Code, a.Body)
	if status == http.StatusUnauthorized {
		require.Regexp(c.t, `^\{"error":"`+code+`","error_description":"[^"]+"\}$`, a.Body)
		return
	}
	require.Regexp(c.t, `^\{"errors":\[\{"message":"[^"]+","code":"`+code+`","type":"(BUSINESS|TECHNICAL)"\}\],"date":"2020-01-02 00:00:00.000","requestId":"[^"]*","endpoint":"[A-Z]+ [^"]+"\}$`, a.Body)
	require.Equal(c.t, "application/json", a.Header.Get("Content-Type"))
}

// sameText compares every byte: the order of members, and the digits of amounts.
func sameText(t testing.TB, want, got string, message ...any) {
	t.Helper()
	require.Equal(t, want, got, message...)
}
