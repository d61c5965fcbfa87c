package webform_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/bankfeed/bankfeed/internal/webform"
)

// world is a hub without its APIs, two banks, and a PSU with a browser.
type world struct {
	t       *testing.T
	store   *store.Store
	consent *consent.Service
	engine  *ingest.Engine
	forms   *webform.Service
	hub     *httptest.Server
	bankURL string
	tenant  bankfeed.TenantID
	user    bankfeed.User
	browser *http.Client
	faults  error // that work on requests may end with
	seen    bankfeed.Position

	mu  sync.Mutex
	now time.Time
}

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

func newWorld(t *testing.T, s *store.Store) *world {
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
	profile := func(id, name string, modes ...bankfeed.Mode) connector.Profile {
		p := connector.Profile{Provider: bankfeed.Provider{ID: id, Name: name, BIC: sandbox.BIC, Sandbox: true}, Standard: "test", PageSize: 500, HistoryDays: 20,
			Rules: []connector.ErrorRule{{Code: "PSU_CREDENTIALS_INVALID", Contains: "password has expired", Reason: bankfeed.FailPassword}}}
		for _, m := range modes {
			base := sandbox.RedirectBase
			if m == bankfeed.Embedded {
				base = sandbox.EmbeddedBase
			}
			p.Provider.Channels = append(p.Provider.Channels, bankfeed.ChannelDefinition{Mode: m})
			p.Endpoints = append(p.Endpoints, connector.Endpoint{Mode: m, BusinessContext: bankfeed.Individual, BaseURL: w.bankURL + base})
		}
		return p
	}
	banks, err := connector.NewRegistry(map[string]connector.Connector{"test": berlingroup.New(bankServer.Client())},
		profile("200", "WBX <Test> Bank", bankfeed.Redirect, bankfeed.Embedded), profile("201", "Andere Bank", bankfeed.Redirect))
	require.NoError(t, err)

	mux := http.NewServeMux()
	w.hub = httptest.NewServer(mux)
	t.Cleanup(w.hub.Close)
	w.consent = consent.New(consent.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab", Now: w.clock,
		PublicURL: w.hub.URL, Keys: keys, Log: &eventlog.Cleaner{Store: s}})
	w.consent.Mount(mux)
	w.engine = ingest.New(ingest.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab", Now: w.clock,
		Jitter: func(time.Duration) time.Duration { return 0 }})
	w.forms = webform.New(webform.Config{Store: s, Links: w.consent, Syncs: w.engine, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab",
		Now: w.clock, PublicURL: w.hub.URL})
	w.forms.Mount(mux)
	w.browser = newBrowser(t)
	return w
}

// newBrowser keeps cookies and goes where it is sent one step at a time.
func newBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) run(ctx context.Context, f bankfeed.Fence) error {
	r, err := w.store.RequestOf(ctx, f)
	if err != nil {
		return err
	}
	if err = w.forms.Run(ctx, f, r); w.faults != nil && errors.Is(err, w.faults) {
		err = nil // it stays claimed, as after a kill
	}
	return err
}

// work does what is ready until nothing is.
func (w *world) work() {
	w.t.Helper()
	w.workOn(bankfeed.WorkSession, bankfeed.WorkRemoval, bankfeed.WorkRequest)
}

func (w *world) workOn(kinds ...bankfeed.WorkKind) {
	w.t.Helper()
	runs := map[bankfeed.WorkKind]func(context.Context, bankfeed.Fence) error{
		bankfeed.WorkSession: w.engine.Run, bankfeed.WorkRemoval: w.consent.RunRemoval, bankfeed.WorkRequest: w.run,
	}
	for range 30 {
		did := 0
		for _, kind := range kinds {
			now := w.clock()
			claims, err := w.store.ClaimWork(w.t.Context(), lease.Request{Kind: kind, Owner: "test", Now: now, Until: now.Add(time.Minute), Limit: 10,
				Cap: func(string) int { return 0 }})
			require.NoError(w.t, err)
			for _, c := range claims {
				did++
				require.NoError(w.t, runs[kind](w.t.Context(), c.Fence))
			}
		}
		if did == 0 {
			return
		}
	}
	w.t.Fatal("the work never ends")
}

// told lists the events of requests since the last call.
func (w *world) told() (events []bankfeed.Event) {
	w.t.Helper()
	for {
		more, next, err := w.store.ReadEvents(w.t.Context(), eventlog.Query{Tenant: w.tenant, User: w.user.ID, After: w.seen, Limit: 500})
		require.NoError(w.t, err)
		if len(more) == 0 {
			return events
		}
		w.seen = next
		for _, e := range more {
			if e.Snapshot != nil && e.Snapshot.Request != nil {
				events = append(events, e)
			}
		}
	}
}

func (w *world) order() webform.Order {
	return webform.Order{Tenant: w.tenant, User: w.user.ID, Client: "client", Sandbox: true}
}

func (w *world) create(o webform.Order) webform.Form {
	w.t.Helper()
	f, err := w.forms.Import(w.t.Context(), o)
	require.NoError(w.t, err)
	require.Equal(w.t, webform.NotYetOpened, f.Status)
	w.advance(time.Second) // a request ends no earlier than its caller can know of it
	return f
}

func (w *world) form(f webform.Form) webform.Form {
	w.t.Helper()
	f, err := w.forms.Form(w.t.Context(), w.tenant, w.user.ID, f.ID)
	require.NoError(w.t, err)
	return f
}

func (w *world) task(k webform.Task) webform.Task {
	w.t.Helper()
	k, err := w.forms.Task(w.t.Context(), w.tenant, w.user.ID, k.ID)
	require.NoError(w.t, err)
	return k
}

// connections lists those that are there.
func (w *world) connections() (there []bankfeed.Connection) {
	w.t.Helper()
	all, err := w.store.Connections(w.t.Context(), w.tenant, w.user.ID)
	require.NoError(w.t, err)
	for _, c := range all {
		if c.Status != bankfeed.ConnectionClosed {
			there = append(there, c)
		}
	}
	return there
}

// answer is what a server said.
type answer struct {
	*http.Response
	body string
}

func (w *world) ask(r *http.Request) answer {
	w.t.Helper()
	res, err := w.browser.Do(r)
	require.NoError(w.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return answer{res, string(b)}
}

func (w *world) get(to string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, to, nil)
	require.NoError(w.t, err)
	return w.ask(r)
}

// shown is a page that asks for something.
func (w *world) shown(to string) answer {
	w.t.Helper()
	a := w.get(to)
	require.Equal(w.t, http.StatusOK, a.StatusCode, a.body)
	return a
}

var hidden = regexp.MustCompile(`name="(token|csrf|step)" value="([^"]*)"`)

// press answers a page's form.
func (w *world) press(to string, page answer, fields ...string) answer {
	w.t.Helper()
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page.body, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, to, strings.NewReader(v.Encode()))
	require.NoError(w.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.ask(r)
}

// sent is where the browser is sent.
func (w *world) sent(a answer) string {
	w.t.Helper()
	require.Contains(w.t, []int{http.StatusFound, http.StatusSeeOther}, a.StatusCode, a.body)
	return a.Header.Get("Location")
}

// choose begins to link a bank on a form's page and returns the start page.
func (w *world) choose(page string, bank string, m bankfeed.Mode) string {
	w.t.Helper()
	start := w.sent(w.press(page, w.shown(page+"?bank="+bank), "action", "link", "bank", bank, "mode", string(m)))
	require.True(w.t, strings.HasPrefix(start, w.hub.URL+"/link/"), start)
	return start
}

// atBank logs in at the bank's page and confirms, and returns where the bank
// sends its user.
func (w *world) atBank(page, login string) string {
	w.t.Helper()
	a := w.press(page, w.shown(page), "action", "login", "username", login, "password", sandbox.Password)
	require.Equal(w.t, http.StatusOK, a.StatusCode, a.body)
	return w.sent(w.press(page, a, "action", "confirm", "code", sandbox.Code))
}

// confirm goes to the bank and back to the form.
func (w *world) confirm(start, login string) string {
	w.t.Helper()
	return w.sent(w.get(w.atBank(w.sent(w.get(start)), login)))
}

// refuse does so without letting the hub in.
func (w *world) refuse(start string) string {
	w.t.Helper()
	page := w.sent(w.get(start))
	return w.sent(w.get(w.sent(w.press(page, w.shown(page), "action", "refuse"))))
}

// back follows the way back onto the form's own page.
func (w *world) back(form webform.Form, to string) answer {
	w.t.Helper()
	require.True(w.t, strings.HasPrefix(to, string(form.URL)+"?"), to)
	to = w.sent(w.get(to))
	require.Equal(w.t, string(form.URL), to, "the page's own address, without what the way back adds")
	return w.get(to)
}

// event makes something happen at the bank.
func (w *world) event(what map[string]any) {
	w.t.Helper()
	b, err := json.Marshal(what)
	require.NoError(w.t, err)
	res, err := http.Post(w.bankURL+"/sandbox/events", "application/json", strings.NewReader(string(b)))
	require.NoError(w.t, err)
	defer res.Body.Close()
	require.Less(w.t, res.StatusCode, 300)
}

// connected links a bank by a form.
func (w *world) connected(login string) bankfeed.ConnectionID {
	w.t.Helper()
	f := w.create(w.order())
	w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), login)
	w.work()
	f = w.form(f)
	require.Equal(w.t, webform.Completed, f.Status)
	w.told()
	return f.Connection
}
