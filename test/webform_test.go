//go:build unix

package test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// loopback lets a hub call receivers on this machine.
func loopback(s config.Settings) config.Settings {
	s.CallbackAllow = "127.0.0.0/8,::1/128"
	return s
}

// receiver keeps the bodies of callbacks, by path.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	told map[string][]string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{told: map[string][]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil || req.Header.Get("Webhook-Signature") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told[req.URL.Path] = append(r.told[req.URL.Path], string(b))
	}))
	t.Cleanup(r.Close)
	return r
}

// last waits for a callback.
func (r *receiver) last(t *testing.T, path string) string {
	t.Helper()
	var body string
	eventually(t, time.Minute, "a callback at "+path, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.told[path]); n > 0 {
			body = r.told[path][n-1]
		}
		return body != ""
	})
	return body
}

// lender is the software of a company that uses the finAPI dialect: curl.
type lender struct {
	t     *testing.T
	base  string
	token string // of its user
}

func newLender(t *testing.T, h *hub) *lender {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("NOT RUN: curl is not installed")
	}
	id, secret := h.client(t)
	c := &lender{t: t, base: h.URL()}
	login := func(grant string) string {
		var token struct {
			AccessToken string `json:"access_token"`
		}
		c.curl(200, &token, `-d 'client_id=`+id+`&client_secret=`+secret+`&`+grant+`'`, "/oauth/token")
		return token.AccessToken
	}
	c.token = login("grant_type=client_credentials")
	var user struct{ ID, Password string }
	c.call(201, &user, "POST", "/api/v1/users", "{}")
	c.token = login("grant_type=password&username=" + user.ID + "&password=" + user.Password)
	return c
}

func (c *lender) curl(status int, out any, options, path string) {
	c.t.Helper()
	line, _, body := curl(c.t, `curl `+options+` `+c.base+path)
	require.Contains(c.t, line, " "+strings.TrimSpace(http.StatusText(status)), "%s: %s", path, body)
	if out != nil {
		require.NoError(c.t, json.Unmarshal([]byte(body), out), body)
	}
}

func (c *lender) call(status int, out any, method, path, body string) {
	c.t.Helper()
	options := `-X ` + method + ` -H 'Authorization: Bearer ` + c.token + `'`
	if body != "" {
		options += ` -H 'Content-Type: application/json' -d '` + body + `'`
	}
	c.curl(status, out, options, path)
}

// becomes waits for a form's status.
func (c *lender) becomes(f finapi.WebForm, want finapi.WebFormStatus) finapi.WebForm {
	c.t.Helper()
	eventually(c.t, time.Minute, "the form is "+string(want), func() bool {
		c.call(200, &f, "GET", "/api/webForms/"+f.ID.String(), "")
		return f.Status == want
	})
	return f
}

// atBank is the bank's own page.
func (b *chromium) atBank(login string) {
	b.t.Helper()
	b.fill("input[name=username]", login)
	b.fill("input[name=password]", sandbox.Password)
	b.press("button[value=login]")
	b.fill("input[name=code]", sandbox.Code)
	b.press("button[value=confirm]")
}

// A client's first data source: web form, callback, synchronization, callback;
// then the bank wants to see the user again.
func TestWebFormByRedirect(t *testing.T) {
	run := func(t *testing.T, s config.Settings) {
		h := start(t, loopback(s))
		c, hooks := newLender(t, h), newReceiver(t)
		client := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<p>back at the client") }))
		t.Cleanup(client.Close)
		var f finapi.WebForm
		c.call(201, &f, "POST", "/api/webForms/bankConnectionImport", `{"callbacks":{"finalised":"`+hooks.URL+`/form?state=42"},"redirectUrl":"`+client.URL+`/done"}`)
		require.Equal(t, finapi.FormNotYetOpened, f.Status)
		require.True(t, strings.HasPrefix(f.URL, h.URL()+"/widget/"), f.URL)

		b := newChromium(t, "en")
		b.do(navigate(f.URL))
		b.picture("1-banks")
		c.becomes(f, finapi.FormInProgress)
		b.choose("input[value='200']")
		b.press("button[type=submit]:not(.quiet)")
		b.picture("2-ways")
		b.press("button[value=link]")
		require.True(t, strings.HasPrefix(b.at(), h.SandboxURL()), b.at())
		b.picture("3-bank")
		b.atBank("fine")
		b.reads("back at the client")
		require.Equal(t, client.URL+"/done", b.at())

		f = c.becomes(f, finapi.FormCompleted)
		require.NotNil(t, f.Payload.BankConnectionID)
		require.JSONEq(t, `{"webFormId":"`+f.ID.String()+`","status":"COMPLETED"}`, hooks.last(t, "/form"))
		require.NotContains(t, h.log.String(), strings.TrimPrefix(f.URL, h.URL()+"/widget/"), "the page's secret is in no log")

		var sources finapi.BankConnections
		c.call(200, &sources, "POST", "/api/v1/dataSources/bankConnections/synchronization", `{"callbackUrl":"`+hooks.URL+`/sync","callbackHandle":"7"}`)
		require.Len(t, sources.BankConnections, 1)
		require.Equal(t, *f.Payload.BankConnectionID, sources.BankConnections[0].ExternalID)
		require.Contains(t, hooks.last(t, "/sync"), `"callbackHandle":"7"`)

		resp, err := http.Post(h.SandboxURL()+"/sandbox/events", "application/json", strings.NewReader(`{"user":"fine","event":"revoke_consent"}`))
		require.NoError(t, err)
		resp.Body.Close()
		var k finapi.Task
		body, err := json.Marshal(map[string]any{"bankConnectionId": f.Payload.BankConnectionID,
			"callbacks": map[string]string{"webFormRequired": hooks.URL + "/needed", "finalised": hooks.URL + "/task"}})
		require.NoError(t, err)
		c.call(201, &k, "POST", "/api/tasks/backgroundUpdate", string(body))
		require.Equal(t, finapi.TaskNotYetStarted, k.Status)
		require.Contains(t, hooks.last(t, "/needed"), `"status":"WEB_FORM_REQUIRED"`)
		c.call(200, &k, "GET", "/api/tasks/"+k.ID.String(), "")
		require.Equal(t, finapi.TaskWebFormRequired, k.Status)
		b.do(navigate(k.Payload.WebForm.URL))
		b.picture("4-renew")
		b.press("button[value=link]")
		b.atBank("fine")
		b.reads("Your accounts can be read again")
		require.Contains(t, hooks.last(t, "/task"), `"status":"COMPLETED"`)
	}
	t.Run("sqlite", func(t *testing.T) { run(t, sqliteSettings(t)) })
	t.Run("postgres", func(t *testing.T) { run(t, postgresSettings(t)) })
}

// The login, the method and the code on pages of the hub, in a browser that runs
// no script, in German; first with a wrong password.
func TestWebFormWithCredentials(t *testing.T) {
	h := start(t, loopback(sqliteSettings(t)))
	c := newLender(t, h)
	var f finapi.WebForm
	c.call(201, &f, "POST", "/api/webForms/bankConnectionImport", `{"bank":{"id":200},"allowedInterfaces":["WEB_SCRAPER"]}`)
	b := newChromium(t, "de")
	b.withoutScripts()
	b.do(navigate(f.URL))
	b.reads("Ihre Bank verbinden")
	b.picture("5-ways-de")
	b.press("button[value=link]")
	b.picture("6-login-de")
	for range 3 {
		b.fill("#login", "methods")
		b.fill("#password", "not-my-password")
		b.press("button[value=answer]")
		if strings.HasPrefix(b.at(), h.URL()+"/widget/") {
			break
		}
	}
	b.reads("Das hat nicht geklappt")
	b.reads("Ihre Bank hat die Anmeldung nicht angenommen.")
	b.picture("7-failed-de")
	b.press("button[value=again]")
	b.fill("#login", "methods")
	b.fill("#password", sandbox.Password)
	b.press("button[value=answer]")
	b.picture("8-method-de")
	b.press("button[value=answer]")
	b.fill("#code", sandbox.Code)
	b.picture("9-code-de")
	b.press("button[value=answer]")
	b.reads("Ihre Konten sind verbunden")
	b.picture("10-done-de")
	f = c.becomes(f, finapi.FormCompleted)
	require.NotNil(t, f.Payload.BankConnectionID)
	require.NotContains(t, h.log.String(), "not-my-password")

	c.call(201, &f, "POST", "/api/webForms/bankConnectionImport", "")
	b.do(navigate(f.URL))
	b.press("button[value=cancel]")
	b.reads("Abgebrochen")
	c.becomes(f, finapi.FormAborted)
	c.call(201, &f, "POST", "/api/webForms/bankConnectionImport", "")
	c.call(204, nil, "DELETE", "/api/webForms/"+f.ID.String(), "")
	c.becomes(f, finapi.FormAborted)
}

// What a person does beside the straight way, in a browser with scripts.
func TestWebFormBackAndForth(t *testing.T) {
	h := start(t, loopback(sqliteSettings(t)))
	c := newLender(t, h)
	var f finapi.WebForm
	c.call(201, &f, "POST", "/api/webForms/bankConnectionImport", `{"bank":{"id":200}}`)
	first := newChromium(t, "en")
	first.do(navigate(f.URL))
	first.press("button[value=link]")
	first.do(navigate(f.URL)) // the back button, out of a bookmark
	first.reads("Not finished yet")
	first.picture("11-unfinished")

	second := first.window() // a second window of the same browser goes all the way
	second.do(navigate(f.URL))
	second.press("a.button")
	second.atBank("fine")
	second.reads("Your accounts are connected")
	first.reads("Your accounts are connected") // and the first one notices
	c.becomes(f, finapi.FormCompleted)
}
