package sandbox

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClock(t *testing.T) {
	_, c := newBank(t, Config{})
	require.Equal(t, "2026-11-21T10:00:00Z", c.do("GET", "/sandbox/clock", nil, nil).str("now"))
	c.advance("36h")
	require.Equal(t, "2026-11-22T22:00:00Z", c.do("GET", "/sandbox/clock", nil, nil).str("now"))
	require.Equal(t, "2030-01-01T00:00:00Z", c.admin("clock", map[string]string{"set": "2030-01-01T01:00:00+01:00"}).str("now"))
	for _, body := range []string{`{}`, `{"advance":"1 day"}`, `{"advance":"1h","set":"2030-01-01T00:00:00Z"}`, `{"set":"2300-01-01T00:00:00Z"}`, `{"advance":"2000000h"}`, `{"foo":1}`, `{`, `{}{}`} {
		a := c.do("POST", "/sandbox/clock", nil, body)
		require.Equal(t, 400, a.status, body)
		require.NotEmpty(t, a.str("error"))
	}
	require.Equal(t, 403, c.do("POST", "/sandbox/clock", map[string]string{"Origin": "https://evil.example"}, `{"advance":"1h"}`).status)
}

func TestConsentRunsOut(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("fine")
	c.advance("4320h") // the last day
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, attended).status)
	c.advance("24h")
	c.read(EmbeddedBase+"/v1/accounts", con, attended).requireError(401, "CONSENT_EXPIRED")
	require.Equal(t, "expired", c.do("GET", EmbeddedBase+"/v1/consents/"+con+"/status", nil, nil).str("consentStatus"))
}

func TestConsentIsDeleted(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("fine")
	self := EmbeddedBase + "/v1/consents/" + con
	require.Equal(t, 403, c.do("DELETE", RedirectBase+"/v1/consents/"+con, nil, nil).status, "not of this API")
	require.Equal(t, 204, c.do("DELETE", self, nil, nil).status)
	require.Equal(t, "terminatedByTpp", c.do("GET", self, nil, nil).str("consentStatus"))
	c.read(EmbeddedBase+"/v1/accounts", con, attended).requireError(401, "CONSENT_INVALID")
	open := c.create(EmbeddedBase, consentBody()).str("consentId")
	c.read(EmbeddedBase+"/v1/accounts", open, attended).requireError(401, "CONSENT_INVALID")
}

func TestEventsOnConsents(t *testing.T) {
	_, c := newBank(t, Config{})
	for event, want := range map[string]struct {
		status int
		code   string
	}{
		"revoke_consent":           {401, "CONSENT_INVALID"},
		"expire_consent":           {401, "CONSENT_EXPIRED"},
		"expire_token":             {401, "TOKEN_EXPIRED"},
		"change_password_required": {401, "PSU_CREDENTIALS_INVALID"},
		"require_user_action":      {403, "SERVICE_BLOCKED"},
	} {
		t.Run(event, func(t *testing.T) {
			c := c.in(t)
			con := c.embedded("fine")
			c.fire("fine", event, nil)
			c.read(EmbeddedBase+"/v1/accounts", con, attended).requireError(want.status, want.code)
			c.fire("fine", "clear", nil)
			if !strings.Contains(event, "_consent") {
				require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, attended).status)
			}
			c.embedded("fine")
		})
	}
	red, emb := c.redirected(RedirectBase, "fine", consentBody()), c.embedded("fine")
	require.Contains(t, string(c.fire("fine", "revoke_consent", map[string]any{"channel": "embedded"}).raw), `"consents":1`)
	require.Equal(t, 200, c.read(RedirectBase+"/v1/accounts", red, attended).status)
	require.Equal(t, 401, c.read(EmbeddedBase+"/v1/accounts", emb, attended).status)
	require.Equal(t, "revokedByPsu", c.do("GET", EmbeddedBase+"/v1/consents/"+emb, nil, nil).str("consentStatus"))
}

func TestEventsOnAccounts(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("fine")
	rid := c.accounts(EmbeddedBase, con)[giro]
	path := transactionsPath(EmbeddedBase, rid, sinceJune)
	balances := EmbeddedBase + "/v1/accounts/" + rid + "/balances"
	start := booked(t, c.read(balances, con, attended))

	id := c.fire("fine", "new_transaction", map[string]any{"amount": "-12.34", "purpose": "Brezel", "name": "Bäcker"}).str("transactionIds", 0)
	first := list(c.read(path, con, attended), "booked")[0]
	require.Equal(t, id, first["transactionId"])
	require.Equal(t, "Brezel", first["remittanceInformationUnstructured"])
	require.Equal(t, "Bäcker", first["creditorName"])
	require.Equal(t, "-12.34", start.Sub(booked(t, c.read(balances, con, attended))).Neg().String())
	require.Equal(t, 200, c.read(c.detailsLink(first), con, attended).status)

	held := c.fire("fine", "new_transaction", map[string]any{"amount": "5", "pending": true}).str("transactionIds", 0)
	require.Contains(t, ids(list(c.read(path, con, attended), "pending")), held)
	c.advance("48h")
	require.Contains(t, ids(list(c.read(path, con, attended), "pending")), held, "until the event")
	c.fire("fine", "book_pending", nil)
	a := c.read(path, con, attended)
	require.NotContains(t, ids(list(a, "pending")), held)
	require.NotContains(t, ids(list(a, "booked")), held, "another id")
	require.Equal(t, "5.00", list(a, "booked")[0]["transactionAmount"].(map[string]any)["amount"])

	start = booked(t, c.read(balances, con, attended))
	c.fire("fine", "balance_change", map[string]any{"amount": "100"})
	require.Equal(t, "100", booked(t, c.read(balances, con, attended)).Sub(start).String())

	name := c.fire("fine", "account_added", map[string]any{"currency": "JPY"}).str("account")
	require.Contains(t, c.accounts(EmbeddedBase, con), "Zusatzkonto JPY")
	c.fire("fine", "new_transaction", map[string]any{"account": name, "amount": "700"})
	c.fire("fine", "account_closed", map[string]any{"account": "current"})
	left := c.accounts(EmbeddedBase, con)
	require.NotContains(t, left, giro)
	require.Equal(t, "700", list(c.read(transactionsPath(EmbeddedBase, left["Zusatzkonto JPY"], sinceJune), con, attended), "booked")[0]["transactionAmount"].(map[string]any)["amount"])
	c.read(path, con, attended).requireError(404, "RESOURCE_UNKNOWN")
	c.fire("fine", "reset", nil)
	require.Len(t, c.accounts(EmbeddedBase, con), 4)
}

func TestBadEvents(t *testing.T) {
	_, c := newBank(t, Config{})
	for body, status := range map[string]int{
		`{"event":"new_transaction"}`:                                           400,
		`{"event":"party","user":"fine"}`:                                       400,
		`{"event":"clear","user":"nobody"}`:                                     404,
		`{"event":"clear","user":"fine-0"}`:                                     404,
		`{"event":"clear","user":"big-51"}`:                                     404,
		`{"event":"new_transaction","user":"fine","amount":"1.234"}`:            400,
		`{"event":"new_transaction","user":"fine","amount":"1e5"}`:              400,
		`{"event":"new_transaction","user":"fine","amount":"9999999999999999"}`: 400,
		`{"event":"new_transaction","user":"fine","account":"moon"}`:            404,
		`{"event":"new_transaction","user":"fine","times":1001}`:                400,
		`{"event":"slow","user":"fine","delay":"-1s"}`:                          400,
		`{"event":"bank_down","user":"fine","how":"fire"}`:                      400,
		`{"event":"account_added","user":"fine","account":"current"}`:           409,
		`{"event":"account_added","user":"fine","account":"Ä"}`:                 400,
		`{"event":"revoke_consent","user":"fine","channel":"both"}`:             400,
		`{"event":"clear","user":"fine","typo":1}`:                              400,
	} {
		a := c.do("POST", "/sandbox/events", nil, body)
		require.Equal(t, status, a.status, body)
		require.NotEmpty(t, a.str("error"))
	}
}

func TestUsersStateAndIndex(t *testing.T) {
	_, c := newBank(t, Config{PublicURL: "https://bank.example/"})
	users := c.do("GET", "/sandbox/users", nil, nil)
	require.Len(t, users.get("users"), len(namedUsers))
	require.Equal(t, Password, users.str("users", 0, "password"))
	con := c.do("POST", RedirectBase+"/v1/consents", psu, consentBody())
	require.True(t, strings.HasPrefix(con.href("scaRedirect"), "https://bank.example/sca/personal/"))
	page := strings.TrimPrefix(con.href("scaRedirect"), "https://bank.example")
	c.form(page, c.logIn(page, "fine", Password), url.Values{"action": {"confirm"}, "code": {Code}})
	st := c.do("GET", "/sandbox/state", nil, nil)
	require.Equal(t, "valid", st.str("consents", 0, "consentStatus"))
	require.NotContains(t, string(st.raw), "FormToken")

	index := c.do("GET", "/", nil, nil)
	require.Equal(t, 200, index.status)
	for _, u := range namedUsers {
		require.Contains(t, string(index.raw), "<code>"+u.Login+"</code>")
	}
	require.Equal(t, 404, c.do("GET", "/elsewhere", nil, nil).status)
	c.admin("reset", nil)
	require.Empty(t, c.do("GET", "/sandbox/state", nil, nil).get("consents"))
}

// A bank that is killed and started again knows everything it answered for.
func TestStateSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	_, c := newBank(t, Config{Dir: dir})
	con := c.embedded("fine")
	c.advance("24h")
	c.fire("fine", "new_transaction", map[string]any{"amount": "-1.00"})
	c.fire("user-action", "clear", nil)
	waiting := c.create(RedirectBase, consentBody())
	rid := c.accounts(EmbeddedBase, con)[giro]
	before := c.all(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended)

	// No Close: the second bank reads what lies on disk at this moment.
	_, d := newBank(t, Config{Dir: dir})
	require.Equal(t, "2026-11-22T10:00:00Z", d.do("GET", "/sandbox/clock", nil, nil).str("now"))
	require.Equal(t, rid, d.accounts(EmbeddedBase, con)[giro])
	after := d.all(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended)
	require.Equal(t, ids(before), ids(after))
	d.embedded("user-action")
	page := strings.Replace(waiting.href("scaRedirect"), c.url, d.url, 1)
	require.Equal(t, 302, d.form(page, d.logIn(page, "fine", Password), url.Values{"action": {"confirm"}, "code": {Code}}).status)
}

func TestCountersSurviveClose(t *testing.T) {
	dir := t.TempDir()
	b, c := newBank(t, Config{Dir: dir})
	con := c.embedded("fine")
	for range 4 {
		require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, unattended).status)
	}
	require.NoError(t, b.Close())
	_, d := newBank(t, Config{Dir: dir})
	d.read(EmbeddedBase+"/v1/accounts", con, unattended).requireError(429, "ACCESS_EXCEEDED")
}

func TestCountersAreWrittenWithoutClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Config{Dir: dir})
		require.NoError(t, err)
		b.mu.Lock()
		b.state.Sequence = 42
		b.counted()
		b.mu.Unlock()
		time.Sleep(lazyWrite) //nolint:forbidigo // the clock of the bubble: passes at once
		synctest.Wait()
		st, err := loadState(b.path, 0)
		require.NoError(t, err)
		require.Equal(t, int64(42), st.Sequence)
	})
}

func TestNewRefusesForeignState(t *testing.T) {
	dir := t.TempDir()
	b, err := New(Config{Dir: dir, Seed: 1})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "twice")
	_, err = New(Config{Dir: dir, Seed: 2})
	require.ErrorContains(t, err, "seed")
	path := filepath.Join(dir, stateFile)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = New(Config{Dir: dir, Seed: 1})
	require.ErrorContains(t, err, path)
	data, err := json.Marshal(state{Version: 99, Seed: 1})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err = New(Config{Dir: dir, Seed: 1})
	require.ErrorContains(t, err, "version 99")
}

// An answer is given only for what is on disk.
func TestUnwritableStateIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bank")
	b, c := newBank(t, Config{Dir: dir})
	con := c.create(EmbeddedBase, consentBody())
	require.NoError(t, os.RemoveAll(dir))
	require.Equal(t, 500, c.start(con, "fine", Password).status)
	require.Error(t, b.flush())
	require.NoError(t, os.MkdirAll(dir, 0o700))
}

func TestPruneKeepsWhatIsAlive(t *testing.T) {
	b, c := newBank(t, Config{})
	con := c.embedded("fine")
	b.mu.Lock()
	for i := range keepConsents + 10 {
		id := time.Unix(int64(i), 0).String()
		b.state.Consents[id] = &consent{ID: id, Status: statusExpired, LastAction: time.Unix(int64(i), 0)}
	}
	b.mu.Unlock()
	c.create(EmbeddedBase, consentBody())
	b.mu.Lock()
	require.Less(t, len(b.state.Consents), keepConsents)
	b.mu.Unlock()
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, attended).status)
}

// The manual lists every user in the words of the index page.
func TestManualListsEveryUser(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "sandbox.md"))
	require.NoError(t, err)
	for _, u := range allUsers() {
		require.Contains(t, string(manual), "| `"+u.Login+"` | "+u.Segment+" | "+u.Does+" |\n")
	}
}
