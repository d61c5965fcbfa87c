package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/client/process"
)

// theHub is the program, built once for all tests.
var theHub = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "loancheck")
	if err != nil {
		return "", err
	}
	built = dir
	return buildHub(context.Background(), dir)
})

var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// lines is a log that a test reads.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func open(t *testing.T, environment ...string) (*site, *lines) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: it builds and starts a hub")
	}
	binary, err := theHub()
	require.NoError(t, err)
	said := &lines{}
	s, err := openSite(t.Context(), binary, t.TempDir(), slog.New(slog.NewTextHandler(said, nil)), environment...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.stop())
		if t.Failed() {
			t.Log(said.String(), s.hub.complaints.String())
		}
	})
	return s, said
}

// TestCallbackDrivesIt plays the customer over HTTP: the hub's own signed
// callback makes the process go on, long before it would be polled.
func TestCallbackDrivesIt(t *testing.T) {
	s, said := open(t)
	b, err := newBrowser(customer, func(string) {})
	require.NoError(t, err)
	id, err := inquire(t.Context(), b, s.url, "99999999", func() {})
	require.NoError(t, err)
	status, err := watch(t.Context(), b, s.url, id, func(process.Process) {})
	require.NoError(t, err)
	require.Equal(t, process.Done, status)
	require.Contains(t, said.String(), `msg="process: a callback came" process=`+id+` scenario=loan signed=true`)
	p, err := read(t.Context(), b, s.url, id)
	require.NoError(t, err)
	require.Contains(t, string(p.Results["check:balancesCheck"]), `"NOT_COVERED"`)
	require.NoError(t, tell(p, func(string, ...any) {}))

	other, err := newBrowser(nil, func(string) {})
	require.NoError(t, err)
	_, err = other.open(t.Context(), http.MethodGet, s.url+"/", nil, nil)
	require.NoError(t, err)
	for _, path := range []string{"/inquiries/", "/processes/", "/processes/events?process="} {
		_, err = other.open(t.Context(), http.MethodGet, s.url+path+id, nil, nil)
		require.ErrorContains(t, err, "404", "another browser sees nothing of it: %s", path)
	}
	resp, err := http.Post(s.url+"/callbacks/reports-and-checks", "application/json", strings.NewReader(`{"callbackHandle":"`+id+`","status":"SUCCESSFUL"}`))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode, "a forged callback")
}

// TestKilled kills the application with SIGKILL while a synchronization runs. It
// is away when the hub calls back, and goes on when it is there again.
func TestKilled(t *testing.T) {
	s, _ := open(t, "BANKFEED_CALLBACK_DELAY=3s") // for its hub
	dir := t.TempDir()
	binary := filepath.Join(dir, "loancheck")
	text, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(text))
	address, err := freePort(t.Context())
	require.NoError(t, err)
	said := &lines{}
	start := func() (kill func()) {
		c := exec.CommandContext(t.Context(), binary, "--hub", s.hub.URL, "--listen", address, "--database", filepath.Join(dir, "l.db"))
		c.Env = append(os.Environ(), "LOANCHECK_CLIENT_ID="+string(s.hub.Client.ID), "LOANCHECK_CLIENT_SECRET="+string(s.hub.Client.Secret),
			"LOANCHECK_KEY="+base64.StdEncoding.EncodeToString(make([]byte, 32)), "LOANCHECK_CALLBACK_SECRETS="+string(s.hub.CallbackSecret))
		c.Stderr = said
		require.NoError(t, c.Start())
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + address + "/")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}, patience, 20*time.Millisecond)
		return func() {
			_ = c.Process.Kill()
			_ = c.Wait() // killed
		}
	}
	kill := start()
	b, err := newBrowser(customer, func(string) {})
	require.NoError(t, err)
	id, err := inquire(t.Context(), b, "http://"+address, "250.00", func() {})
	require.NoError(t, err)
	kill()
	require.NotContains(t, said.String(), "to=SYNC_SUCCESSFUL", "it was killed before")
	inVain(t, address)
	kill = start()
	defer kill()
	status, err := watch(t.Context(), b, "http://"+address, id, func(process.Process) {})
	require.NoError(t, err)
	require.Equal(t, process.Done, status)
	p, err := read(t.Context(), b, "http://"+address, id)
	require.NoError(t, err)
	require.NoError(t, tell(p, func(string, ...any) {}))
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "a callback came") }, patience, 20*time.Millisecond, "the hub came again")
}

// inVain waits until the hub has called back where nobody can take it. It comes
// again when the application had time to start, also on a slow machine.
func inVain(t *testing.T, address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	called := make(chan struct{}, 1)
	nobody := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "12")
		w.WriteHeader(http.StatusServiceUnavailable)
		if strings.HasPrefix(r.URL.Path, "/callbacks/reports") {
			select {
			case called <- struct{}{}:
			default:
			}
		}
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = nobody.Serve(l) }()
	select {
	case <-called:
	case <-time.After(patience):
		t.Error("the hub does not call back")
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	require.NoError(t, nobody.Shutdown(late)) // what was answered is sent
	<-ended
}

// TestPage goes through it in Chromium.
func TestPage(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT RUN: chromium is not installed")
	}
	s, _ := open(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(390, 900), chromedp.Flag("lang", "en"), chromedp.Flag("accept-lang", "en"))
	allocator, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	tab, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	require.NoError(t, chromedp.Do(tab))
	complaints := listen(tab, t, s.url)

	c := &chromium{t, tab}
	c.do(chromedp.Navigate(s.url + "/"))
	c.fill("#amount", "abc")
	c.press("button")
	require.Contains(t, c.text(), "Please enter an amount such as 250.00.")
	c.fill("#amount", "250,00")
	c.press("button")
	require.Contains(t, c.text(), "Your inquiry about 250.00 €")
	c.press("#connect")
	c.choose("input[value='200']")
	c.press("button[type=submit]:not(.quiet)")
	c.press("button[value=link]")
	c.fill("input[name=username]", customer["username"])
	c.fill("input[name=password]", customer["password"])
	c.press("button[value=login]")
	c.fill("input[name=code]", customer["code"])
	c.press("button[value=confirm]")

	c.visible(`#process[data-status="DONE"]`)
	c.visible(`#check[data-result="COVERED"]`)
	c.visible("#report table")
	text := c.text()
	require.Regexp(t, `(?s)Yes.*The amount can be paid.*Balance.*\d+\.\d\d EUR.*Your accounts.*Days below zero.*Income and spending in EUR.*Signs of risk`, text)
	require.NotContains(t, text, "undefined")
	require.NotContains(t, text, "NaN")
	c.picture("loancheck")
	c.do(chromedp.Reload())
	c.visible("#report table") // it is still there
	require.Empty(t, complaints(), "the page keeps its own content security policy")
}

// TestAnswers looks at what needs no hub.
func TestAnswers(t *testing.T) {
	a, err := newApp(t.Context(), settings{Hub: "http://127.0.0.1:1", PublicURL: "https://shop.example", ClientID: "a", ClientSecret: "b",
		Database: filepath.Join(t.TempDir(), "l.db"), Key: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(a.close)
	serve := func(method, path, body, origin string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "https://shop.example"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, r)
		return w
	}
	home := serve("GET", "/", "", "")
	require.Equal(t, 200, home.Code)
	require.Contains(t, home.Header().Get("Content-Security-Policy"), "default-src 'none'")
	cookies := home.Result().Cookies()
	require.Len(t, cookies, 1)
	require.True(t, cookies[0].HttpOnly && cookies[0].Secure)
	require.Equal(t, 303, serve("POST", "/inquiries", "amount=1", "https://shop.example").Code, "without a cookie: to the beginning")
	require.Equal(t, 422, serve("POST", "/inquiries", "amount=-1", "https://shop.example", cookies...).Code)
	require.Equal(t, 403, serve("POST", "/inquiries", "amount=1", "https://evil.example", cookies...).Code)
	require.Equal(t, 502, serve("POST", "/inquiries", "amount=1", "https://shop.example", cookies...).Code, "the hub is down")
	require.Equal(t, 404, serve("GET", "/inquiries/x", "", "", cookies...).Code)
	require.Equal(t, 404, serve("POST", "/callbacks/forms/x", "", "").Code)
	require.Equal(t, 200, serve("GET", "/assets/style.css", "", "").Code)
}

// listen collects what the browser has against the application's own pages,
// other than that it said what was wrong with an amount.
func listen(tab context.Context, t *testing.T, app string) func() []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	_, err := chromedp.Call(tab, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	require.NoError(t, chromedp.Listen(tab, func(e any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case *log.EventEntryAdded:
			if strings.HasPrefix(e.Entry.URL, app) && !strings.Contains(e.Entry.Text, "status of 422") {
				all = append(all, e.Entry.Text+" "+e.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			all = append(all, e.ExceptionDetails.Text)
		}
	}))
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

type chromium struct {
	t   *testing.T
	tab context.Context
}

const patience = 60 * time.Second

func (c *chromium) do(steps ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.tab, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		c.t.Fatalf("%v\n%s", err, c.text())
	}
}

// press clicks and waits for the page after it.
func (c *chromium) press(selector string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.tab, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		c.t.Fatalf("pressing %s: %v\n%s", selector, err, c.text())
	}
}

func (c *chromium) choose(selector string) {
	c.t.Helper()
	c.do(chromedp.Click(chromedp.CSS(selector)))
}

func (c *chromium) fill(selector, value string) {
	c.t.Helper()
	c.do(chromedp.SendKeys(chromedp.CSS(selector), value))
}

func (c *chromium) visible(selector string) {
	c.t.Helper()
	c.do(chromedp.WaitVisible(chromedp.CSS(selector)))
}

func (c *chromium) text() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.tab, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	require.NoError(c.t, err)
	return s
}

// picture keeps a picture of the page for people, if they name a directory.
func (c *chromium) picture(name string) {
	c.t.Helper()
	dir := os.Getenv("BANKFEED_TEST_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(c.tab, chromedp.FullScreenshot(100))
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}
