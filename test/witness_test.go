//go:build unix

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// company is a client's software: it knows the hub by HTTP only.
type company struct {
	t     *testing.T
	at    func() string // the node that it asks
	http  *http.Client
	token string
	bank  string // that its users link

	id, secret string // of the client
}

// newCompany makes a client at a node and logs it in.
func newCompany(n *node) *company {
	n.t.Helper()
	c := &company{t: n.t, at: n.address, bank: smallPagesID, http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second}}
	n.t.Cleanup(c.http.CloseIdleConnections)
	c.id, c.secret = n.client()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	c.must(http.MethodPost, "/token", map[string]string{"grant_type": "client_credentials", "client_id": c.id, "client_secret": c.secret}, &answer)
	c.token = answer.AccessToken
	return c
}

// via is the same company asking another node.
func (c *company) via(n *node) *company {
	other := *c
	other.at = n.address
	return &other
}

// do returns the status of the answer; out is filled if it is a success with a
// body. The PSU is always there.
func (c *company) do(ctx context.Context, method, path string, in, out any) (status int, err error) {
	resp, err := c.ask(ctx, method, path, in)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, err // half an answer is none
	case resp.StatusCode >= 300:
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, answer)
	case out != nil && resp.StatusCode != http.StatusNoContent:
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, err
}

func (c *company) ask(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.at()+path, &body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("PSU-IP-Address", "127.0.0.1")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(r)
}

func (c *company) must(method, path string, in, out any) {
	c.t.Helper()
	_, err := c.do(c.t.Context(), method, path, in, out)
	require.NoError(c.t, err)
}

// located makes something and returns where it is.
func (c *company) located(path string, in any) string {
	c.t.Helper()
	resp, err := c.ask(c.t.Context(), http.MethodPost, path, in)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	require.Equal(c.t, http.StatusCreated, resp.StatusCode)
	return resp.Header.Get("Location")
}

// link is a user's link to the bank.
type link struct {
	login      string
	entries    int // that the bank has
	user       string
	connection string
	session    string // the first one
}

func total(links []link) (n int) {
	for _, l := range links {
		n += l.entries
	}
	return n
}

// newUser makes a user.
func (c *company) newUser() string {
	c.t.Helper()
	var user struct {
		ID string `json:"id"`
	}
	c.must(http.MethodPost, "/v1/users", map[string]string{}, &user)
	return user.ID
}

// link makes a user who links a `big` login, which begins the first session:
// EMBEDDED, so that it takes no browser.
func (c *company) link(login string) link {
	c.t.Helper()
	l := link{login: login, entries: 100_000, user: c.newUser()}
	if _, n, ok := strings.Cut(login, "-"); ok {
		var err error
		l.entries, err = strconv.Atoi(n)
		require.NoError(c.t, err)
	}
	l.connection, l.session = c.connect(l.user, login)
	return l
}

func (c *company) connect(user, login string) (connection, session string) {
	c.t.Helper()
	var linked struct {
		Connection struct {
			ID string `json:"id"`
		} `json:"connection"`
		Session struct {
			ID string `json:"id"`
		} `json:"session"`
		Steps []struct {
			Challenge *struct {
				Kind string `json:"kind"`
			} `json:"challenge"`
		} `json:"steps"`
	}
	c.must(http.MethodPost, "/v1/connections", map[string]any{"user": user, "provider_id": c.bank, "channels": []map[string]any{
		{"mode": "EMBEDDED", "credentials": map[string]string{"login": login, "password": sandbox.Password}}}}, &linked)
	require.Len(c.t, linked.Steps, 1)
	require.NotNil(c.t, linked.Steps[0].Challenge)
	require.Equal(c.t, "CODE", linked.Steps[0].Challenge.Kind)
	c.must(http.MethodPost, "/v1/connections/"+linked.Connection.ID+"/answers", map[string]string{"user": user, "code": sandbox.Code}, nil)
	return linked.Connection.ID, linked.Session.ID
}

// open counts the links whose first session has not ended.
func (c *company) open(links []link) (n int) {
	c.t.Helper()
	for _, l := range links {
		var s struct {
			EndedAt *time.Time `json:"ended_at"`
		}
		c.must(http.MethodGet, "/v1/sessions/"+l.session+"?user="+l.user, nil, &s)
		if s.EndedAt == nil {
			n++
		}
	}
	return n
}

// state is how a connection stands, and each channel that was ever used.
func (c *company) state(l link) string {
	c.t.Helper()
	var s struct {
		Status   string `json:"status"`
		Channels []struct {
			Mode   string `json:"mode"`
			Status string `json:"status"`
		} `json:"channels"`
	}
	c.must(http.MethodGet, "/v1/connections/"+l.connection+"?user="+l.user, nil, &s)
	text := s.Status
	for _, ch := range s.Channels {
		if ch.Status != "EMPTY" {
			text += " " + ch.Mode + ":" + ch.Status
		}
	}
	return text
}

// logged is how many events the log has.
func (c *company) logged() (n int) {
	c.t.Helper()
	var page struct {
		Next string `json:"next"`
	}
	c.must(http.MethodGet, "/v1/events?after=latest", nil, &page)
	at, err := eventlog.ParseCursor(page.Next)
	require.NoError(c.t, err)
	for _, p := range at.Lanes {
		n += int(p)
	}
	return n
}

// fact is what the audit looks at in an event.
type fact struct {
	ID       string `json:"id"`
	Position int64  `json:"position"`
	Type     string `json:"type"`
	User     string `json:"user"`
	Account  string `json:"account"`
	Session  string `json:"session"`
	Data     struct {
		Node        string `json:"node"`
		Transaction struct {
			ID     string `json:"id"`
			BankID string `json:"bank_id"`
		} `json:"transaction"`
	} `json:"data"`
}

// ends reports whether a fact is the end of a session.
func (f fact) ends() bool { return f.Type == "sync.succeeded" || f.Type == "sync.failed" }

type eventPage struct {
	Items []fact `json:"items"`
	Next  string `json:"next"`
}

// history reads the whole log.
func (c *company) history() (all []fact) {
	c.t.Helper()
	for after := ""; ; {
		var page eventPage
		c.must(http.MethodGet, "/v1/events?limit=1000&after="+after, nil, &page)
		if len(page.Items) == 0 {
			return all
		}
		all, after = append(all, page.Items...), page.Next
	}
}

// lively are all types but transaction.*, which are most of the work to read.
// Each page of transactions is one commit with the bank.called that brought it,
// so a reader of these notices a page that it misses.
var lively = []string{"connection.*", "sync.*", "channel.*", "consent.*", "account.*", "session.*", "bank.called"}

// reader follows the log over all that happens to the node that it asks: when
// there is no answer, or only half of one, it asks again from where it stands.
type reader struct {
	types []string // none: all

	mu      sync.Mutex
	facts   []fact
	refused []string // answers that would have made a client give up
	broken  int      // answers that did not come
}

// follow starts a reader of some types that ends with the test.
func (c *company) follow(types ...string) *reader {
	r := &reader{types: types}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for after := ""; ctx.Err() == nil; {
			var page eventPage
			status, err := c.do(ctx, http.MethodGet, "/v1/events?limit=1000&wait=5&types="+strings.Join(types, ",")+"&after="+after, nil, &page)
			if r.add(page.Items, status, err) {
				after = page.Next
				continue
			}
			select {
			case <-again.C:
			case <-ctx.Done():
			}
		}
	})
	c.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return r
}

func (r *reader) add(facts []fact, status int, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.facts = append(r.facts, facts...)
		return true
	case status >= 400 && status < 500:
		r.refused = append(r.refused, err.Error())
	default:
		r.broken++
	}
	return false
}

// read is what it has got so far, and how often it got no answer.
func (r *reader) read() (facts []fact, broken int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.facts), r.broken
}

// wants reports whether the reader asks for the type of a fact.
func (r *reader) wants(f fact) bool {
	return len(r.types) == 0 || slices.ContainsFunc(r.types, func(t string) bool {
		group, isGroup := strings.CutSuffix(t, "*")
		return f.Type == t || isGroup && strings.HasPrefix(f.Type, group)
	})
}

// ended counts the sessions that it has seen end.
func (r *reader) ended() int { return r.count(fact.ends) }

func (r *reader) count(f func(fact) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.facts {
		if f(x) {
			n++
		}
	}
	return n
}

// wholeSync is what a link of a `big` login leaves in the log, calls of the
// bank aside: each once, in this order, transaction.created for each entry.
var wholeSync = []string{
	"connection.created", "sync.started", "channel.auth_started", "channel.action_required", "channel.auth_succeeded",
	"channel.accounts_list_started", "channel.provider_connected", "account.created", "consent.created", "channel.accounts_list_succeeded",
	"channel.transactions_list_started", "transaction.created", "session.account_finished",
	"channel.transactions_list_succeeded", "sync.succeeded",
}

// audit counts what went wrong.
type audit struct {
	lost, repeated, disordered int
	notes                      []string
}

func (a *audit) note(n *int, by int, format string, args ...any) {
	if by <= 0 {
		return
	}
	*n += by
	if a.notes = append(a.notes, fmt.Sprintf(format, args...)); len(a.notes) > 20 {
		a.notes = a.notes[:20]
	}
}

// String is what tests print.
func (a *audit) String() string {
	return fmt.Sprintf("lost %d, repeated %d, out of order %d", a.lost, a.repeated, a.disordered)
}

func (a *audit) require(t *testing.T) {
	t.Helper()
	require.Zero(t, a.lost+a.repeated+a.disordered, "%s\n%s", a, strings.Join(a.notes, "\n"))
}

// lane checks a list of everything: positions are 1, 2, 3 …
func (a *audit) lane(facts []fact) {
	seen := make(map[string]bool, len(facts))
	last := int64(0)
	for _, f := range facts {
		switch {
		case seen[f.ID]:
			a.note(&a.repeated, 1, "event %s at %d", f.ID, f.Position)
		case f.Position <= last:
			a.note(&a.disordered, 1, "%d after %d", f.Position, last)
		default:
			a.note(&a.lost, int(f.Position-last-1), "positions between %d and %d", last, f.Position)
		}
		seen[f.ID], last = true, max(last, f.Position)
	}
}

// followed compares what a reader got on the way with what the log has.
func (a *audit) followed(got, all []fact) {
	for i, f := range all {
		if i >= len(got) {
			a.note(&a.lost, len(all)-i, "the reader got %d of %d events", len(got), len(all))
			break
		}
		if got[i].ID != f.ID || got[i].Type != f.Type {
			a.note(&a.disordered, 1, "the reader got %s %s as number %d, the log has %s %s there", got[i].Type, got[i].ID, i+1, f.Type, f.ID)
		}
	}
	a.note(&a.repeated, len(got)-len(all), "the reader got %d events more than there are", len(got)-len(all))
}

// sessions checks that each session has one end, and nothing after it.
func (a *audit) sessions(facts []fact) {
	end := map[string]fact{}
	seen := map[string]bool{}
	for _, f := range facts {
		if f.Session == "" {
			continue
		}
		seen[f.Session] = true
		if e, over := end[f.Session]; over {
			a.note(&a.disordered, 1, "%s at %d after %s of session %s at %d", f.Type, f.Position, e.Type, f.Session, e.Position)
		}
		if f.ends() {
			end[f.Session] = f
		}
	}
	for s := range seen {
		if _, over := end[s]; !over {
			a.note(&a.lost, 1, "the end of session %s", s)
		}
	}
}

// story checks that a link's events are those of one undisturbed session.
func (a *audit) story(l link, facts []fact) {
	var got []string
	count := map[string]int{}
	for _, f := range facts {
		if f.User != l.user || f.Type == "bank.called" {
			continue
		}
		if f.Type == "transaction.created" && len(got) > 0 && got[len(got)-1] == f.Type {
			continue // counted one by one elsewhere
		}
		got = append(got, f.Type)
		count[f.Type]++
	}
	for _, t := range wholeSync {
		a.note(&a.lost, 1-count[t], "%s of %s", t, l.login)
	}
	for t, n := range count {
		once := 0
		if slices.Contains(wholeSync, t) {
			once = 1
		}
		a.note(&a.repeated, n-once, "%s of %s came %d times", t, l.login, n)
	}
	if !slices.Equal(got, wholeSync) {
		a.note(&a.disordered, 1, "%s has %v", l.login, got)
	}
}

// transactions checks that each entry of the bank made one event and is stored
// once, under the same number. The bank lists the newest first and its ids end
// in day and number, so the order can be seen.
func (a *audit) transactions(c *company, l link, facts []fact) {
	c.t.Helper()
	number := map[string]string{} // of the hub, by the bank's id
	events, last := 0, ""
	for _, f := range facts {
		if f.User != l.user || f.Type != "transaction.created" {
			continue
		}
		events++
		t := f.Data.Transaction
		number[t.BankID] = t.ID
		_, place, ok := strings.Cut(t.BankID, "-")
		require.True(c.t, ok, "the bank's ids look different: %s", t.BankID)
		if last != "" && place >= last {
			a.note(&a.disordered, 1, "%s after …-%s", t.BankID, last)
		}
		last = place
	}
	a.note(&a.lost, l.entries-len(number), "events of %s: %d entries, not %d", l.login, len(number), l.entries)
	a.note(&a.repeated, events-len(number), "%d events of %s for %d entries", events, l.login, len(number))
	a.note(&a.repeated, len(number)-l.entries, "events of %s: %d entries, not %d", l.login, len(number), l.entries)

	stored := 0
	q := url.Values{"user": {l.user}, "limit": {"500"}}
	for {
		var page struct {
			Items []struct {
				ID     string `json:"id"`
				BankID string `json:"bank_id"`
			} `json:"items"`
			Next string `json:"next"`
		}
		c.must(http.MethodGet, "/v1/transactions?"+q.Encode(), nil, &page)
		for _, t := range page.Items {
			stored++
			if number[t.BankID] != t.ID {
				a.note(&a.repeated, 1, "%s is stored as %s, its event says %q", t.BankID, t.ID, number[t.BankID])
			}
			delete(number, t.BankID)
		}
		if page.Next == "" {
			break
		}
		q.Set("after", page.Next)
	}
	a.note(&a.lost, len(number), "%d entries of %s have an event and are not stored", len(number), l.login)
	a.note(&a.repeated, stored-l.entries, "%d transactions of %s are stored, not %d", stored, l.login, l.entries)
}

// settle audits links whose first session went through whatever happened, and
// readers who watched; facts is the whole log.
func settle(c *company, links []link, readers ...*reader) (a *audit, facts []fact) {
	c.t.Helper()
	facts = c.history()
	a = &audit{}
	a.lane(facts)
	a.sessions(facts)
	for _, l := range links {
		a.story(l, facts)
		a.transactions(c, l, facts)
	}
	for _, r := range readers {
		var all []fact
		for _, f := range facts {
			if r.wants(f) {
				all = append(all, f)
			}
		}
		eventually(c.t, time.Minute, "a reader has read everything", func() bool { return r.count(func(fact) bool { return true }) >= len(all) })
		got, _ := r.read()
		a.followed(got, all)
		require.Empty(c.t, r.refused, "a reader was refused")
	}
	return a, facts
}
