package native

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// The world of these tests: tenant 1 with a live client (users 11 and 12) and a
// sandbox client (user 21), tenant 2 with a live client (user 11 too). Each user
// has connection 10x, with one of everything, x being the user's last digit and
// the sandbox user's things beginning with 2.
var (
	t0           = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	installation = bankfeed.Installation{Born: time.UnixMilli(1_700_000_000_000), Epoch: 1_700_000_000_000}
	live         = bankfeed.Client{Tenant: 1, ID: "live"}
	sandbox      = bankfeed.Client{Tenant: 1, ID: "sandbox", Sandbox: true}
	foreign      = bankfeed.Client{Tenant: 2, ID: "foreign"}
	errBroken    = io.ErrUnexpectedEOF
)

const secretText = "hunter2-DE89370400440532013000"

type owner struct {
	tenant bankfeed.TenantID
	user   bankfeed.UserID
}

// fake is everything that the API stands on.
type fake struct {
	mu      sync.Mutex
	tokens  map[bankfeed.Secret]bankfeed.Caller
	users   map[owner]access.User
	created access.NewUser
	erased  []owner
	linking bankfeed.Linking
	answer  bankfeed.Answer
	order   bankfeed.SyncOrder
	deleted []string
	filter  bankfeed.TransactionFilter
	fail    error // of whatever is called next

	connections  map[owner][]bankfeed.Connection
	accounts     map[owner][]bankfeed.Account
	transactions map[owner][]bankfeed.Transaction
	sessions     map[owner][]bankfeed.Session
	consents     map[owner][]bankfeed.Consent
	stored       []bankfeed.Event
	floor        bankfeed.Position
}

func newFake() *fake {
	f := &fake{
		tokens: map[bankfeed.Secret]bankfeed.Caller{
			"live":    {Client: live},
			"sandbox": {Client: sandbox},
			"foreign": {Client: foreign},
			"user11":  {Client: live, User: 11},
			"user21":  {Client: sandbox, User: 21},
		},
		users:        map[owner]access.User{},
		connections:  map[owner][]bankfeed.Connection{},
		accounts:     map[owner][]bankfeed.Account{},
		transactions: map[owner][]bankfeed.Transaction{},
		sessions:     map[owner][]bankfeed.Session{},
		consents:     map[owner][]bankfeed.Consent{},
	}
	f.add(owner{1, 11}, 101, false)
	f.add(owner{1, 12}, 102, false)
	f.add(owner{1, 21}, 201, true)
	f.add(owner{2, 11}, 901, false)
	return f
}

// add gives a user a connection n, and one of everything with that number.
func (f *fake) add(o owner, n int64, sandbox bool) {
	f.users[o] = access.User{Sandbox: sandbox, User: bankfeed.User{
		ID: o.user, ExternalID: "customer-" + wire.Decimal(o.user), Email: "u" + wire.Decimal(o.user) + "@example.com",
		BusinessContext: bankfeed.Individual, CreatedAt: t0,
	}}
	later := t0.Add(time.Minute)
	f.connections[o] = []bankfeed.Connection{{
		ID: bankfeed.ConnectionID(n), User: o.user, ProviderID: "200", ProviderName: "WBX Test Bank", BIC: "WBXTDEFFXXX",
		Status: bankfeed.ConnectionPartialSuccess, AutoSync: true, NextSyncAt: later, CreatedAt: t0, Sandbox: sandbox,
		Channels: []bankfeed.Channel{
			{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess, LastStatus: bankfeed.ChannelSuccess, Expires: &later, LastSuccessAt: &later, LastEndAt: &later},
			{
				Mode: bankfeed.Embedded, Status: bankfeed.ChannelRunning, LastStatus: bankfeed.ChannelEmpty, Action: bankfeed.ActionChallenge,
				Failure: &bankfeed.Failure{Reason: bankfeed.FailChallenge, Code: "PSU_TIMEOUT", Text: "no answer"}, NextTryAt: &later,
				Challenge: &bankfeed.Challenge{
					Kind: bankfeed.ChallengeMethodChoice, Methods: []bankfeed.ChallengeMethod{{ID: "901", Type: "SMS_OTP", Name: "SMS"}},
					Text: "Choose", Format: "characters", MaxLen: 6, Image: []byte{1, 2, 3}, Deadline: later,
				},
			},
		},
	}}
	f.accounts[o] = []bankfeed.Account{account(o.user, n)}
	f.transactions[o] = []bankfeed.Transaction{transaction(o.user, n, n+1000, "2026-02-27"), transaction(o.user, n, n, "2026-02-26")}
	f.sessions[o] = []bankfeed.Session{{
		ID: bankfeed.SessionID(n), User: o.user, Connection: bankfeed.ConnectionID(n), ExternalID: "run-" + wire.Decimal(n),
		Status: bankfeed.SessionFailed, Stage: bankfeed.StageTransactions, Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser,
		Attended: true, CreatedAt: t0, EndedAt: &later, Failure: &bankfeed.Failure{Reason: bankfeed.FailUnavailable, Retry: true},
		PSU: &bankfeed.PSU{IP: "192.0.2.1"},
	}}
	f.consents[o] = []bankfeed.Consent{{
		ID: bankfeed.ConsentID(n), User: o.user, Connection: bankfeed.ConnectionID(n), ExternalID: "consent-" + wire.Decimal(n), Mode: bankfeed.Redirect,
		Status: bankfeed.ConsentInvalid, Previous: bankfeed.ConsentConfirmed, ValidUntil: "2026-05-30", CreatedAt: t0, ConfirmedAt: &later,
		Invalidation: &bankfeed.Invalidation{At: later, Reason: bankfeed.InvalidExpired, Description: "CONSENT_EXPIRED"},
		Accounts:     []bankfeed.ConsentAccount{{ID: bankfeed.AccountID(n), IBAN: "DE89370400440532013000", Currency: "EUR"}},
		Grant:        bankfeed.Grant{AccessToken: secretText},
	}}
}

func account(user bankfeed.UserID, n int64) bankfeed.Account {
	yes := true
	return bankfeed.Account{
		ID: bankfeed.AccountID(n), User: user, Connection: bankfeed.ConnectionID(n), Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK,
		Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}, Currency: "EUR", Name: "Giro",
		IsBusiness: &yes, Source: bankfeed.Redirect, CreatedAt: t0, LastReadAt: t0,
		Balances: []bankfeed.Balance{{
			Type: "interimAvailable", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1234.50"), Currency: "EUR"}, ReferenceDate: "2026-02-28", LastChangeAt: &t0, FetchedAt: t0,
		}},
	}
}

func transaction(user bankfeed.UserID, account, n int64, day bankfeed.Date) bankfeed.Transaction {
	after := bankfeed.Money{Amount: bankfeed.MustAmount("100.00"), Currency: "EUR"}
	return bankfeed.Transaction{
		ID: bankfeed.TransactionID(n), User: user, Account: bankfeed.AccountID(account), Status: bankfeed.TransactionBooked,
		Money: bankfeed.Money{Amount: bankfeed.MustAmount("-12.50"), Currency: "EUR"}, BookingDate: day, ValueDate: day,
		BankID: "T" + wire.Decimal(bankfeed.TransactionID(n)), Creditor: bankfeed.Party{Name: "Shop", Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "FR7630006000011234567890189"}},
		Remittance: []string{"Invoice 7"}, BalanceAfter: &after, Exchange: []bankfeed.Exchange{{SourceCurrency: "USD", Rate: "1.08"}}, CreatedAt: t0,
	}
}

func (f *fake) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.fail
	f.fail = nil
	return err
}

func (f *fake) Authenticate(_ context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.tokens[bearer]
	if !ok {
		return c, access.ErrToken
	}
	return c, nil
}

func (f *fake) CreateUser(_ context.Context, c bankfeed.Caller, n access.NewUser) (bankfeed.User, error) {
	f.created = n
	if c.User != 0 {
		return bankfeed.User{}, bankfeed.Errorf(bankfeed.Forbidden, "this needs a client token")
	}
	if err := f.failed(); err != nil {
		return bankfeed.User{}, err
	}
	return bankfeed.User{ID: 13, ExternalID: n.ExternalID, Email: n.Email, BusinessContext: n.BusinessContext, CreatedAt: t0}, nil
}

func (f *fake) User(_ context.Context, c bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error) {
	if err := f.failed(); err != nil {
		return bankfeed.User{}, err
	}
	u, ok := f.users[owner{c.Client.Tenant, id}]
	if !ok || u.Sandbox != c.Client.Sandbox || c.User != 0 && c.User != id {
		return bankfeed.User{}, bankfeed.ErrNotFound
	}
	return u.User, nil
}

func (f *fake) UserByExternalID(ctx context.Context, c bankfeed.Caller, externalID string) (bankfeed.User, error) {
	for o, u := range f.users {
		if u.ExternalID == externalID && o.tenant == c.Client.Tenant {
			return f.User(ctx, c, u.ID)
		}
	}
	return bankfeed.User{}, bankfeed.ErrNotFound
}

func (f *fake) Users(_ context.Context, c bankfeed.Caller, after bankfeed.UserID, limit int) ([]bankfeed.User, error) {
	var list []bankfeed.User
	for o, u := range f.users {
		if o.tenant == c.Client.Tenant && u.Sandbox == c.Client.Sandbox && u.ID > after {
			list = append(list, u.User)
		}
	}
	slices.SortFunc(list, func(a, b bankfeed.User) int { return int(a.ID - b.ID) })
	return list[:min(limit, len(list))], nil
}

func (f *fake) EraseUser(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	f.erased = append(f.erased, owner{tenant, user})
	return f.failed()
}

func (f *fake) SandboxUser(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
	u, ok := f.users[owner{tenant, user}]
	if !ok {
		return false, bankfeed.ErrNotFound
	}
	return u.Sandbox, nil
}

func (f *fake) Link(_ context.Context, l bankfeed.Linking) (bankfeed.Linked, error) {
	f.linking = l
	if err := f.failed(); err != nil {
		return bankfeed.Linked{}, err
	}
	o := owner{l.Tenant, l.User}
	return bankfeed.Linked{
		Connection: f.connections[o][0], Session: f.sessions[o][0],
		Steps: []bankfeed.LinkStep{{Mode: bankfeed.Redirect, RedirectURL: "https://hub.example/widget/abc"}, {Mode: bankfeed.Embedded, Challenge: f.connections[o][0].Channels[1].Challenge}},
	}, nil
}

func (f *fake) Answer(_ context.Context, a bankfeed.Answer) (bankfeed.LinkStep, error) {
	f.answer = a
	return bankfeed.LinkStep{Mode: bankfeed.Embedded}, f.failed()
}

func (f *fake) DeleteConnection(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, id bankfeed.ConnectionID) error {
	f.deleted = append(f.deleted, "connection "+wire.Decimal(id))
	return f.failed()
}

func (f *fake) DeleteConsent(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, id bankfeed.ConsentID) error {
	f.deleted = append(f.deleted, "consent "+wire.Decimal(id))
	return f.failed()
}

func (f *fake) DeleteAccount(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.AccountID) error {
	if _, err := find(f, f.accounts[owner{t, u}], func(a bankfeed.Account) bool { return a.ID == id }); err != nil {
		return err
	}
	f.deleted = append(f.deleted, "account "+wire.Decimal(id))
	return nil
}

var banks = []bankfeed.Provider{
	{ID: "200", Name: "WBX Test Bank", Country: "DE", Sandbox: true, Channels: []bankfeed.ChannelDefinition{
		{Mode: bankfeed.Embedded, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent}, Credentials: []bankfeed.CredentialField{{Key: "login", Label: "User"}}},
	}},
	{ID: "300", Name: "Real Bank", Country: "FR", BIC: "REALFRPP", Contexts: []bankfeed.BusinessContext{bankfeed.Business}, Channels: []bankfeed.ChannelDefinition{{Mode: bankfeed.Redirect}}},
}

func (f *fake) Providers(sandbox bool) []bankfeed.Provider {
	return slices.DeleteFunc(slices.Clone(banks), func(p bankfeed.Provider) bool { return p.Sandbox != sandbox })
}

func (f *fake) Provider(id string, sandbox bool) (bankfeed.Provider, error) {
	for _, p := range f.Providers(sandbox) {
		if p.ID == id {
			return p, nil
		}
	}
	return bankfeed.Provider{}, bankfeed.ErrNotFound
}

func (f *fake) Synchronize(_ context.Context, o bankfeed.SyncOrder) (bankfeed.Session, bool, error) {
	f.order = o
	s := f.sessions[owner{o.Tenant, o.User}][0]
	s.Status, s.EndedAt, s.Failure, s.Attended = bankfeed.SessionInProgress, nil, nil, o.PSU != nil
	return s, o.ExternalID == "second", f.failed()
}

// find is the scope of every reader: the owner's own, else unknown.
func find[T any](f *fake, list []T, match func(T) bool) (T, error) {
	var none T
	if err := f.failed(); err != nil {
		return none, err
	}
	if i := slices.IndexFunc(list, match); i >= 0 {
		return list[i], nil
	}
	return none, bankfeed.ErrNotFound
}

func (f *fake) Connections(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID) ([]bankfeed.Connection, error) {
	return f.connections[owner{t, u}], f.failed()
}

func (f *fake) Connection(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error) {
	return find(f, f.connections[owner{t, u}], func(c bankfeed.Connection) bool { return c.ID == id })
}

func (f *fake) Accounts(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, filter bankfeed.AccountFilter) (list []bankfeed.Account, err error) {
	for _, a := range f.accounts[owner{t, u}] {
		if (filter.Connection == 0 || a.Connection == filter.Connection) && (filter.Removed || a.RemovedAt.IsZero()) {
			list = append(list, a)
		}
	}
	return list, f.failed()
}

func (f *fake) Account(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error) {
	return find(f, f.accounts[owner{t, u}], func(a bankfeed.Account) bool { return a.ID == id })
}

func (f *fake) Transactions(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, filter bankfeed.TransactionFilter) (list []bankfeed.Transaction, err error) {
	f.filter = filter
	for _, tr := range f.transactions[owner{t, u}] {
		b := filter.Before
		behind := b.Day == "" || tr.Day() < b.Day || tr.Day() == b.Day && tr.ID < b.ID
		if behind && len(list) < filter.Limit && (filter.Accounts == nil || slices.Contains(filter.Accounts, tr.Account)) {
			list = append(list, tr)
		}
	}
	return list, f.failed()
}

func (f *fake) Transaction(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.TransactionID) (bankfeed.Transaction, error) {
	return find(f, f.transactions[owner{t, u}], func(x bankfeed.Transaction) bool { return x.ID == id })
}

func (f *fake) Sessions(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, c bankfeed.ConnectionID, before bankfeed.SessionID, limit int) (list []bankfeed.Session, err error) {
	for _, s := range f.sessions[owner{t, u}] {
		if (c == 0 || s.Connection == c) && (before == 0 || s.ID < before) && len(list) < limit {
			list = append(list, s)
		}
	}
	return list, f.failed()
}

func (f *fake) SessionsByExternalID(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id string) (list []bankfeed.Session, err error) {
	for _, s := range f.sessions[owner{t, u}] {
		if s.ExternalID == id {
			list = append(list, s)
		}
	}
	return list, f.failed()
}

func (f *fake) Session(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.SessionID) (bankfeed.Session, error) {
	return find(f, f.sessions[owner{t, u}], func(s bankfeed.Session) bool { return s.ID == id })
}

func (f *fake) Consents(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, c bankfeed.ConnectionID) (list []bankfeed.Consent, err error) {
	for _, k := range f.consents[owner{t, u}] {
		if c == 0 || k.Connection == c {
			list = append(list, k)
		}
	}
	return list, f.failed()
}

func (f *fake) Consent(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID, id bankfeed.ConsentID) (bankfeed.Consent, error) {
	return find(f, f.consents[owner{t, u}], func(k bankfeed.Consent) bool { return k.ID == id })
}

// ReadEvents and Lane make the fake a store of the real event log.
func (f *fake) ReadEvents(_ context.Context, q eventlog.Query) (found []bankfeed.Event, next bankfeed.Position, err error) {
	if err := f.failed(); err != nil {
		return nil, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next = q.After
	for _, e := range f.stored {
		if e.Tenant != q.Tenant || e.Position <= q.After || len(found) == q.Limit {
			continue
		}
		next = e.Position
		if (q.User == 0 || e.User == q.User) && (q.Connection == 0 || e.Connection == q.Connection) && (q.Account == 0 || e.Account == q.Account) &&
			(q.Session == 0 || e.Session == q.Session) && (len(q.Types) == 0 || slices.Contains(q.Types, e.Type)) {
			found = append(found, e)
		}
	}
	return found, next, nil
}

func (f *fake) Lane(_ context.Context, tenant bankfeed.TenantID, lane int) (eventlog.Lane, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return eventlog.Lane{Tenant: tenant, Number: lane, Floor: f.floor, Head: f.head(tenant)}, nil
}

func (f *fake) head(tenant bankfeed.TenantID) (head bankfeed.Position) {
	for _, e := range f.stored {
		if e.Tenant == tenant {
			head = max(head, e.Position)
		}
	}
	return head
}

func (f *fake) Heads(context.Context, []bankfeed.TenantID) ([]eventlog.Lane, error) { return nil, nil }

// harness is the API over a fake.
type harness struct {
	*fake
	api *API
	hub *eventlog.Hub
	log *bytes.Buffer
	mux *http.ServeMux
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{fake: newFake(), log: &bytes.Buffer{}, mux: http.NewServeMux()}
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	h.hub = eventlog.NewHub(h.fake, 0, logger)
	var err error
	h.api, err = New(Config{
		Version: "test", Installation: installation, Log: logger, Access: h.fake, Users: h.fake, Eraser: h.fake, Linker: h.fake, Remover: h.fake,
		Catalogue: h.fake, Syncer: h.fake, Reader: h.fake, Events: eventlog.New(h.fake, h.hub, installation.Epoch), Worlds: h.fake,
	})
	require.NoError(t, err)
	h.api.Mount(h.mux)
	return h
}

// append commits an event.
func (h *harness) append(tenant bankfeed.TenantID, user bankfeed.UserID, typ bankfeed.EventType, fill func(*bankfeed.Event)) bankfeed.Event {
	h.mu.Lock()
	e := bankfeed.Event{
		Epoch: installation.Epoch, Tenant: tenant, Position: h.head(tenant) + 1, Type: typ, At: t0, User: user,
		Snapshot: &bankfeed.Snapshot{
			Schema: 1, Initiator: bankfeed.ByUser, Build: "20260301.1", Node: "0123456789ab",
			User: bankfeed.UserRef{ID: user, UUID: installation.UUID(bankfeed.KindUser, tenant, int64(user)), BusinessContext: bankfeed.Individual},
		},
	}
	if fill != nil {
		fill(&e)
	}
	h.stored = append(h.stored, e)
	h.mu.Unlock()
	h.hub.Committed(bankfeed.Committed{Tenant: tenant, User: user, First: e.Position, Last: e.Position, Topics: bankfeed.Topics{true, true}})
	return e
}

func (h *harness) uuid(kind bankfeed.Kind, tenant bankfeed.TenantID, n int64) string {
	return installation.UUID(kind, tenant, n).String()
}

// request builds a request; headers are "Name: value".
func request(method, target, token, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return r
}

func (h *harness) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.mux.ServeHTTP(w, r)
	return w
}
