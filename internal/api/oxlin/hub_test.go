package oxlin_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
)

// Callers of the tests. Tenant 1 has the users 7 and 8, tenant 2 the user 9.
var callers = map[string]bankfeed.Caller{
	"user":    {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 7},
	"user8":   {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 8},
	"client":  {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}},
	"foreign": {Client: bankfeed.Client{Tenant: 2, ID: "d"}},
	"narrow":  {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 7, Scopes: []string{"accounts_read"}},
	"alien":   {Client: bankfeed.Client{Tenant: 1, ID: "c", Sandbox: true}, User: 7, Scopes: []string{"reports_read"}},
}

var (
	born     = time.Date(2021, 12, 14, 23, 23, 56, 0, time.UTC)
	testUser = bankfeed.User{ID: 7, Email: "a@example.org", BusinessContext: bankfeed.Individual, CreatedAt: born}
	testBank = bankfeed.Provider{ID: "200", Name: "WBX Test Bank", Country: "FR", Sandbox: true, Channels: []bankfeed.ChannelDefinition{
		{Mode: bankfeed.Redirect, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountCard}},
		{
			Mode: bankfeed.Embedded, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings},
			Credentials: []bankfeed.CredentialField{{Key: "login", Label: "Login"}, {Key: "password", Label: "Password", Secret: true}},
		},
	}}
	testConnection = bankfeed.Connection{
		ID: 12, User: 7, ProviderID: "200", ProviderName: "WBX Test Bank", Status: bankfeed.ConnectionSuccess, CreatedAt: born, AutoSync: true,
		Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess}, {Mode: bankfeed.Embedded, Status: bankfeed.ChannelEmpty}},
	}
	testAccounts = []bankfeed.Account{
		{
			ID: 501, Connection: 12, Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", Name: "Main", OwnerName: "CAMILLE MARTIN",
			Usage: "PRIV", Source: bankfeed.Redirect, CreatedAt: born, Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "FR7630006000011234567890189"}},
			Balances: []bankfeed.Balance{{Type: "closingBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount("12345678901234567.80"), Currency: "EUR"}, FetchedAt: born}},
		},
		{ID: 502, Connection: 12, Type: bankfeed.AccountSavings, Status: bankfeed.AccountGone, Currency: "EUR", Name: "Aside", Source: bankfeed.Redirect, CreatedAt: born.Add(time.Hour)},
	}
	testTransaction = bankfeed.Transaction{
		ID: 9001, Account: 501, Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-12.30"), Currency: "EUR"},
		BookingDate: "2021-12-14", Remittance: []string{"BAKERY"}, CreatedAt: born,
	}
)

// hub plays every part behind the API, for user 7 of tenant 1, and keeps what
// it was told.
type hub struct {
	mu      sync.Mutex
	revoked atomic.Bool // all tokens are
	err     error       // what every part answers, if set

	created access.NewUser
	erased  []bankfeed.UserID
	linking bankfeed.Linking
	steps   []bankfeed.LinkStep
	answer  bankfeed.Answer
	deleted []bankfeed.ConnectionID
	orders  []bankfeed.SyncOrder
	filters []bankfeed.TransactionFilter

	queues  map[string]bool
	batches [][]bankfeed.Event // one for each read
	reads   []read
	written []bool
	onDone  func() // before written is noted, if set
	follow  chan []bankfeed.Event
	follows []bankfeed.Position // after, -1 for none
}

type read struct {
	after bankfeed.Position // -1 for none
	limit int
	wait  time.Duration
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
	if !ok || h.revoked.Load() {
		return c, access.ErrToken
	}
	return c, nil
}

func (h *hub) User(_ context.Context, c bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error) {
	if c.User != 0 && c.User != id {
		return bankfeed.User{}, bankfeed.ErrNotFound
	}
	return testUser, h.mine(c.Client.Tenant, id)
}

func (h *hub) CreateUser(_ context.Context, _ bankfeed.Caller, n access.NewUser) (bankfeed.User, error) {
	h.created = n
	return testUser, h.err
}

func (h *hub) EraseUser(_ context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) error {
	h.erased = append(h.erased, id)
	return h.mine(tenant, id)
}

func (h *hub) Providers(sandbox bool) []bankfeed.Provider {
	if !sandbox {
		return nil
	}
	return []bankfeed.Provider{testBank}
}

func (h *hub) Provider(id string, sandbox bool) (bankfeed.Provider, error) {
	if id != "200" || !sandbox {
		return bankfeed.Provider{}, bankfeed.ErrNotFound
	}
	return testBank, h.err
}

func (h *hub) Link(_ context.Context, l bankfeed.Linking) (bankfeed.Linked, error) {
	h.linking = l
	return bankfeed.Linked{Connection: testConnection, Steps: h.steps}, h.mine(l.Tenant, l.User)
}

func (h *hub) Answer(_ context.Context, a bankfeed.Answer) (bankfeed.LinkStep, error) {
	h.answer = a
	return h.steps[0], h.mine(a.Tenant, a.User)
}

func (h *hub) DeleteConnection(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	h.deleted = append(h.deleted, id)
	return h.one(tenant, user, int64(id), 12)
}

func (h *hub) one(tenant bankfeed.TenantID, user bankfeed.UserID, id, known int64) error {
	if id != known {
		return bankfeed.ErrNotFound
	}
	return h.mine(tenant, user)
}

func (h *hub) Synchronize(_ context.Context, o bankfeed.SyncOrder) (bankfeed.Session, bool, error) {
	h.orders = append(h.orders, o)
	return bankfeed.Session{ID: 31, Connection: o.Connection}, false, h.one(o.Tenant, o.User, int64(o.Connection), 12)
}

func (h *hub) SynchronizeAll(_ context.Context, o bankfeed.SyncOrder) ([]bankfeed.Session, error) {
	h.orders = append(h.orders, o)
	return []bankfeed.Session{{ID: 31, Connection: 12}, {ID: 32, Connection: 13}}, h.mine(o.Tenant, o.User)
}

func (h *hub) Connections(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error) {
	return []bankfeed.Connection{testConnection}, h.mine(tenant, user)
}

func (h *hub) Connection(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error) {
	return testConnection, h.one(tenant, user, int64(id), 12)
}

func (h *hub) Accounts(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error) {
	if !f.Removed {
		return append([]bankfeed.Account(nil), testAccounts[:1]...), h.mine(tenant, user)
	}
	return append([]bankfeed.Account(nil), testAccounts...), h.mine(tenant, user)
}

func (h *hub) Account(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error) {
	return testAccounts[0], h.one(tenant, user, int64(id), 501)
}

func (h *hub) Transactions(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error) {
	h.filters = append(h.filters, f)
	return []bankfeed.Transaction{testTransaction}, h.mine(tenant, user)
}

func (h *hub) Transaction(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.TransactionID) (bankfeed.Transaction, error) {
	return testTransaction, h.one(tenant, user, int64(id), 9001)
}

func (h *hub) Create(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, _ []bankfeed.Topic) (string, error) {
	h.queues["q1"] = true
	return "q1", h.mine(tenant, user)
}

func (h *hub) known(q oxlin.Queue) error {
	if !h.queues[q.ID] {
		return bankfeed.ErrNotFound
	}
	return h.mine(q.Tenant, q.User)
}

// put makes a batch for the next read.
func (h *hub) put(events ...bankfeed.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches = append(h.batches, events)
}

func orNone(after *bankfeed.Position) bankfeed.Position {
	if after == nil {
		return -1
	}
	return *after
}

func (h *hub) Read(_ context.Context, q oxlin.Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, func(bool), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.known(q); err != nil {
		return nil, nil, err
	}
	h.reads = append(h.reads, read{orNone(after), limit, wait})
	var batch []bankfeed.Event
	if len(h.batches) > 0 {
		batch, h.batches = h.batches[0], h.batches[1:]
	}
	return batch, func(written bool) {
		if h.onDone != nil {
			h.onDone()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.written = append(h.written, written)
	}, nil
}

func (h *hub) Follow(ctx context.Context, q oxlin.Queue, after *bankfeed.Position, _ int, wait time.Duration) ([]bankfeed.Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.known(q); err != nil {
		return nil, err
	}
	h.follows = append(h.follows, orNone(after))
	if wait == 0 {
		return nil, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(wait):
		return nil, nil
	case events, ok := <-h.follow:
		if !ok {
			return nil, bankfeed.ErrNotFound
		}
		return events, nil
	}
}

func (h *hub) Delete(_ context.Context, q oxlin.Queue) error {
	err := h.known(q)
	if err == nil {
		delete(h.queues, q.ID)
	}
	return err
}

// client sends requests to the API and holds every answer against the OpenAPI
// document.
type client struct {
	t      testing.TB
	hub    *hub
	api    http.Handler
	log    *bytes.Buffer
	spec   []byte
	doc    *openapi3.T
	router routers.Router
}

func newClient(t testing.TB, change ...func(*oxlin.Config)) *client {
	h := &hub{queues: map[string]bool{}, follow: make(chan []bankfeed.Event)}
	log := &bytes.Buffer{}
	config := oxlin.Config{
		Version: "test", Log: slog.New(slog.NewTextHandler(log, nil)), Access: h, Eraser: h, Linker: h, Syncer: h, Reader: h, Queues: h,
	}
	for _, f := range change {
		f(&config)
	}
	api, err := oxlin.New(config)
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
		require.Contains(c.t, []int{404, 405}, a.Code)
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
	}}
	if a.Code < 300 { // what was accepted is documented
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

// refused checks an error's status, code and that it has a text.
func (c *client) refused(a answer, status int, code string) {
	c.t.Helper()
	require.Equal(c.t, status, a.Code, a.Body)
	require.Regexp(c.t, `^\{"error":"`+code+`","error_description":"[^"]+"\}$`, a.Body)
	require.Equal(c.t, "application/json", a.Header.Get("Content-Type"))
}

// sameText compares every byte: the order of members, and the digits of amounts.
func sameText(t testing.TB, want, got string, message ...any) {
	t.Helper()
	require.Equal(t, want, got, message...)
}
