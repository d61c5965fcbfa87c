//go:build unix

package test

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// callee is a company's server that takes callbacks. It believes what the
// verifier of Standard Webhooks believes, which nobody here wrote.
type callee struct {
	t      *testing.T
	server *httptest.Server
	hook   *webhooks.Webhook

	mu       sync.Mutex
	more     sync.Cond
	budget   int // callbacks that are let in; -1: all
	receipts map[string]*receipt
	accepted int // answers of 2xx, repeats included
	strange  []string
	// behave, if set, answers a callback instead of 204; nth counts those of an id.
	behave func(w http.ResponseWriter, id string, nth int) (accepts bool)
}

// receipt is what came under one id.
type receipt struct {
	came, accepted int
	body           [sha256.Size]byte
	handle         string
}

// newCallee starts one that lets everything in.
func newCallee(t *testing.T) *callee {
	t.Helper()
	r := &callee{t: t, budget: -1, receipts: map[string]*receipt{}}
	r.more.L = &r.mu
	r.server = httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(func() {
		r.open()
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

func (r *callee) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off: it did not come
	}
	id := req.Header.Get("webhook-id")
	var said struct {
		Handle string `json:"callbackHandle"`
	}
	r.mu.Lock()
	for r.budget == 0 {
		r.more.Wait()
	}
	if r.budget > 0 {
		r.budget--
	}
	if r.hook != nil {
		if err := r.hook.Verify(body, req.Header); err != nil {
			r.strange = append(r.strange, id+": "+err.Error())
		}
	}
	if err := json.Unmarshal(body, &said); err != nil {
		r.strange = append(r.strange, id+": "+err.Error())
	}
	got, sum := r.receipts[id], sha256.Sum256(body)
	if got == nil {
		got = &receipt{body: sum, handle: said.Handle}
		r.receipts[id] = got
	}
	if got.body != sum {
		r.strange = append(r.strange, id+": a copy says something else")
	}
	got.came++
	nth, behave := got.came, r.behave
	r.mu.Unlock()
	accepts := true
	if behave != nil {
		accepts = behave(w, id, nth)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if accepts {
		got.accepted++
		r.accepted++
	}
}

// allow lets so many more in and returns how many have come to be accepted by
// half of that.
func (r *callee) allow(n int) (half int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget = n
	r.more.Broadcast()
	return r.accepted + n/2
}

// open lets everything in.
func (r *callee) open() { r.allow(-1) }

// flowing lets about so many more in and returns in the middle of them.
func (r *callee) flowing(n int) {
	r.t.Helper()
	half := r.allow(n)
	eventually(r.t, time.Minute, "callbacks flow", func() bool { return r.took() >= half })
}

func (r *callee) took() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// distinct is how many ids were accepted.
func (r *callee) distinct() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, got := range r.receipts {
		if got.accepted > 0 {
			n++
		}
	}
	return n
}

// handles are those of the callbacks of requests that were accepted, with how
// often each came.
func (r *callee) handles() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]int{}
	for _, got := range r.receipts {
		if got.handle != "" {
			all[got.handle] += got.accepted
		}
	}
	return all
}

// calling is a company with a subscription.
type calling struct {
	*callee
	c  *company
	id string
}

// subscribe asks for everything in the log, from its beginning.
func (r *callee) subscribe(c *company, settings map[string]any) *calling {
	r.t.Helper()
	var made struct {
		ID string `json:"id"`
	}
	settings["url"], settings["after"] = r.server.URL+"/callbacks", "oldest"
	r.knowSecret(c)
	c.must(http.MethodPost, "/v1/callbacks", settings, &made)
	return &calling{r, c, made.ID}
}

// knowSecret lets the receiver verify what comes, if it cannot yet.
func (r *callee) knowSecret(c *company) {
	r.t.Helper()
	r.mu.Lock()
	known := r.hook != nil
	r.mu.Unlock()
	if known {
		return
	}
	var made struct {
		Secret string `json:"secret"`
	}
	c.must(http.MethodPost, "/v1/callbacks/secrets", nil, &made)
	hook, err := webhooks.NewWebhook(made.Secret)
	require.NoError(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

// callbacks lets a node call receivers on this machine, quickly again and again.
func callbacks(n *node) *node {
	n.env = append(n.env, "BANKFEED_CALLBACK_ALLOW=127.0.0.0/8", "BANKFEED_CALLBACK_TIMEOUT=2s",
		"BANKFEED_CALLBACK_SCHEDULE=200ms,400ms,1s,1s,2s,2s,5s,5s,10s,30s,1m,5m")
	return n
}

// overKept starts a node over a copy of a long log: see keptLog.
func overKept(t *testing.T) (*node, *company) {
	t.Helper()
	dir, from := t.TempDir(), keptLog(t)
	files, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600)) // one holds the key
	}
	n := callbacks(newNode(t, "serve", database{dir: dir}, &simulatedBank{url: nobody}))
	n.start()
	return n, newCompany(n)
}

// person makes a user with a password who has linked a bank, and returns what the
// user's own token does.
func (c *company) person(login string) *company {
	c.t.Helper()
	const password = "a-long-password"
	var made struct {
		ID string `json:"id"`
	}
	c.must(http.MethodPost, "/v1/users", map[string]string{"external_id": login, "password": password}, &made)
	r := c.follow("sync.*")
	c.connect(made.ID, login)
	eventually(c.t, time.Minute, "the first session has ended", func() bool { return r.ended() == 1 })
	var token struct {
		AccessToken string `json:"access_token"`
	}
	c.must(http.MethodPost, "/token", map[string]string{"grant_type": "password", "client_id": c.id, "client_secret": c.secret, "username": login, "password": password}, &token)
	user := *c
	user.token = token.AccessToken
	return &user
}

// settle waits until all events of the log have been accepted, compares, and
// prints what it counted.
func (s *calling) settle(name string, fits func(fact) bool) (repeated int) {
	s.t.Helper()
	s.open()
	expected := map[string]bool{}
	for _, f := range s.c.history() {
		if fits == nil || fits(f) {
			expected[f.ID] = true
		}
	}
	missing := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range expected {
			if got := s.receipts[id]; got == nil || got.accepted == 0 {
				n++
			}
		}
		return n
	}
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for waiting := true; waiting && missing() > 0; {
		select {
		case <-look.C:
		case <-patience.C:
			waiting = false
		}
	}
	lost := missing()
	s.mu.Lock()
	defer s.mu.Unlock()
	attempts, stray := 0, 0
	for id, got := range s.receipts {
		attempts += got.came
		repeated += max(0, got.accepted-1)
		if !expected[id] {
			stray++
		}
	}
	s.t.Logf("%s: %d events, lost %d, repeated %d (%d attempts)", name, len(expected), lost, repeated, attempts)
	require.Zero(s.t, lost)
	require.Zero(s.t, stray, "callbacks that are no events")
	require.Empty(s.t, s.strange)
	return repeated
}

// deaf is an address where nobody listens, and a server that can begin to.
func deaf(t *testing.T) (address string, listen func(http.Handler)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = l.Addr().String()
	require.NoError(t, l.Close())
	return address, func(h http.Handler) {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = s.Serve(l) }() // ends with the test
		t.Cleanup(func() { _ = s.Close() })
	}
}
