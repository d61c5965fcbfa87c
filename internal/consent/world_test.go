package consent_test

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// world is a hub without its APIs, a bank, and a PSU with a browser.
type world struct {
	t       *testing.T
	store   *store.Store
	consent *consent.Service
	engine  *ingest.Engine
	hub     *httptest.Server
	bankURL string
	tenant  bankfeed.TenantID
	user    bankfeed.User
	browser *http.Client
	seen    bankfeed.Position

	mu  sync.Mutex
	now time.Time
}

var psu = &bankfeed.PSU{IP: "203.0.113.7"}

const clientURL = "https://client.example/done?order=7"

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// newWorld runs against the simulated bank, or against another one.
func newWorld(t *testing.T, s *store.Store, other ...connector.Connector) *world {
	w := &world{t: t, store: s, now: storetest.Now}
	ctx := t.Context()
	w.tenant, w.user = storetest.User(t, s)

	master, err := secret.LoadMaster(secret.MasterOptions{Key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})
	require.NoError(t, err)
	ring, err := secret.OpenKeyring(ctx, master, s.Keys())
	require.NoError(t, err)
	keys := secret.NewUserKeys(ring, s.Keys(), secret.UserKeysOptions{})
	s.UseKeys(ring, keys)

	bank, err := sandbox.New(sandbox.Config{Seed: 1, Now: w.clock})
	require.NoError(t, err)
	bankServer := httptest.NewServer(bank)
	t.Cleanup(func() { bankServer.Close(); require.NoError(t, bank.Close()) })
	w.bankURL = bankServer.URL
	var speak connector.Connector = berlingroup.New(bankServer.Client())
	if len(other) > 0 {
		speak = other[0]
	}
	banks, err := connector.NewRegistry(map[string]connector.Connector{"test": speak}, connector.Profile{
		Provider: bankfeed.Provider{ID: "200", Name: "WBX <Test> Bank", BIC: sandbox.BIC, Sandbox: true, Channels: []bankfeed.ChannelDefinition{
			{Mode: bankfeed.Redirect}, {Mode: bankfeed.Embedded, Credentials: []bankfeed.CredentialField{{Key: "login", Label: "Customer number"},
				{Key: "password", Label: "PIN", Secret: true}}}}},
		Standard: "test", PageSize: 500, HistoryDays: 20,
		Endpoints: []connector.Endpoint{{Mode: bankfeed.Redirect, BusinessContext: bankfeed.Individual, BaseURL: w.bankURL + sandbox.RedirectBase},
			{Mode: bankfeed.Embedded, BusinessContext: bankfeed.Individual, BaseURL: w.bankURL + sandbox.EmbeddedBase}},
		Rules: []connector.ErrorRule{{Code: "PSU_CREDENTIALS_INVALID", Contains: "password has expired", Reason: bankfeed.FailPassword}},
	})
	require.NoError(t, err)

	mux := http.NewServeMux()
	w.hub = httptest.NewServer(mux)
	t.Cleanup(w.hub.Close)
	w.consent = consent.New(consent.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab", Now: w.clock,
		PublicURL: w.hub.URL, Users: users{s}, Keys: keys, Log: &eventlog.Cleaner{Store: s}})
	w.consent.Mount(mux)
	w.engine = ingest.New(ingest.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab", Now: w.clock,
		Jitter: func(time.Duration) time.Duration { return 0 }})
	w.browser = newBrowser(t)
	return w
}

type users struct{ s *store.Store }

func (u users) MarkErased(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) error {
	return u.s.Access().EraseUser(ctx, tenant, id, storetest.Now)
}

// newBrowser keeps cookies and goes where it is sent one step at a time.
func newBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// work does what is ready until nothing is.
func (w *world) work() {
	w.t.Helper()
	for range 20 {
		did := 0
		for kind, run := range map[bankfeed.WorkKind]func(context.Context, bankfeed.Fence) error{
			bankfeed.WorkSession: w.engine.Run, bankfeed.WorkRemoval: w.consent.RunRemoval, bankfeed.WorkErasure: w.consent.RunErasure,
			bankfeed.WorkBlanking: w.consent.RunBlanking,
		} {
			for _, f := range w.claim(kind) {
				did++
				require.NoError(w.t, run(w.t.Context(), f))
			}
		}
		if did == 0 {
			return
		}
	}
	w.t.Fatal("the work never ends")
}

func (w *world) claim(kind bankfeed.WorkKind) (fences []bankfeed.Fence) {
	w.t.Helper()
	now := w.clock()
	claims, err := w.store.ClaimWork(w.t.Context(), lease.Request{Kind: kind, Owner: "test", Now: now, Until: now.Add(time.Minute), Limit: 10,
		Cap: func(string) int { return 0 }})
	require.NoError(w.t, err)
	for _, c := range claims {
		fences = append(fences, c.Fence)
	}
	return fences
}

// events lists what came into the log since the last call.
func (w *world) events() []bankfeed.Event {
	w.t.Helper()
	var all []bankfeed.Event
	for {
		events, next, err := w.store.ReadEvents(w.t.Context(), eventlog.Query{Tenant: w.tenant, User: w.user.ID, After: w.seen, Limit: 500})
		require.NoError(w.t, err)
		if len(events) == 0 {
			return all
		}
		all, w.seen = append(all, events...), next
	}
}

// told is events without calls and data.
func (w *world) told() (types []string) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Type.Topic() == bankfeed.TopicConnections {
			name := string(e.Type)
			if e.Snapshot != nil && e.Snapshot.Reason != "" {
				name += " " + string(e.Snapshot.Reason)
			}
			types = append(types, name)
		}
	}
	return types
}

func (w *world) linking(channels ...bankfeed.LinkChannel) bankfeed.Linking {
	return bankfeed.Linking{Tenant: w.tenant, User: w.user.ID, Sandbox: true, Provider: "200", Channels: channels, RedirectURL: clientURL}
}

func (w *world) link(l bankfeed.Linking) bankfeed.Linked {
	w.t.Helper()
	linked, err := w.consent.Link(w.t.Context(), l)
	require.NoError(w.t, err)
	return linked
}

func (w *world) state(id bankfeed.ConnectionID) bankfeed.ConnectionState {
	w.t.Helper()
	st, err := w.store.ConnectionState(w.t.Context(), w.tenant, w.user.ID, id)
	require.NoError(w.t, err)
	return st
}

func (w *world) channel(id bankfeed.ConnectionID, m bankfeed.Mode) bankfeed.Channel {
	w.t.Helper()
	c := w.state(id).Connection
	return *c.Channel(m)
}

func (w *world) session(id bankfeed.SessionID) bankfeed.Session {
	w.t.Helper()
	n, err := w.store.Session(w.t.Context(), w.tenant, w.user.ID, id)
	require.NoError(w.t, err)
	return n
}

// answer is what a server said.
type answer struct {
	*http.Response
	body string
}

func (w *world) do(method, to string, form url.Values) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, to, strings.NewReader(form.Encode()))
	require.NoError(w.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := w.browser.Do(r)
	require.NoError(w.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return answer{res, string(b)}
}

func (w *world) get(to string) answer {
	w.t.Helper()
	return w.do(http.MethodGet, to, nil)
}

// sent is where the browser is sent.
func (w *world) sent(a answer) string {
	w.t.Helper()
	require.Contains(w.t, []int{http.StatusFound, http.StatusSeeOther}, a.StatusCode, a.body)
	return a.Header.Get("Location")
}

var hidden = regexp.MustCompile(`name="(token|csrf|step)" value="([^"]*)"`)

// form takes the hidden fields of a page and adds others.
func form(page string, fields ...string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return v
}

// atBank logs in at the bank's page and confirms, and returns where the bank
// sends its user.
func (w *world) atBank(page, login string) string {
	w.t.Helper()
	a := w.get(page)
	require.Equal(w.t, http.StatusOK, a.StatusCode, a.body)
	a = w.do(http.MethodPost, page, form(a.body, "action", "login", "username", login, "password", sandbox.Password))
	require.Equal(w.t, http.StatusOK, a.StatusCode, a.body)
	return w.sent(w.do(http.MethodPost, page, form(a.body, "action", "confirm", "code", sandbox.Code)))
}

func (w *world) refuse(page string) string {
	w.t.Helper()
	return w.sent(w.do(http.MethodPost, page, form(w.get(page).body, "action", "refuse")))
}

// linked links a REDIRECT channel and reads its accounts.
func (w *world) linked(login string) bankfeed.ConnectionID {
	w.t.Helper()
	l := w.link(w.linking(redirect))
	w.confirm(l, login)
	w.work()
	require.Equal(w.t, bankfeed.ConnectionSuccess, w.state(l.Connection.ID).Connection.Status)
	w.events()
	return l.Connection.ID
}

// confirm goes all the way through a REDIRECT link.
func (w *world) confirm(l bankfeed.Linked, login string) {
	w.t.Helper()
	back := w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), login)
	require.Contains(w.t, w.sent(w.get(back)), "result=success")
}

var (
	redirect = bankfeed.LinkChannel{Mode: bankfeed.Redirect}
	embedded = bankfeed.LinkChannel{Mode: bankfeed.Embedded}
)

func credentials(login string) bankfeed.LinkChannel {
	return bankfeed.LinkChannel{Mode: bankfeed.Embedded, Login: bankfeed.Secret(login), Password: sandbox.Password}
}

// event makes something happen at the bank.
func (w *world) event(json string) {
	w.t.Helper()
	res, err := http.Post(w.bankURL+"/sandbox/events", "application/json", strings.NewReader(json))
	require.NoError(w.t, err)
	defer res.Body.Close()
	require.Less(w.t, res.StatusCode, 300)
}
