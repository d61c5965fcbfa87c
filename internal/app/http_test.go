package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

func newFront(ending context.Context, t *testing.T, w io.Writer, handlers map[string]http.HandlerFunc) *front {
	t.Helper()
	mux := http.NewServeMux()
	for p, h := range handlers {
		mux.HandleFunc(p, h)
	}
	known, err := newRoutes(mux, []byte(`{"paths":{"/v1/accounts/{id}":{"get":{}},"/v1/accounts/own/{id}":{"delete":{}},"/v1/accounts/{id}/end":{"post":{},"summary":""}}}`))
	require.NoError(t, err)
	return &front{next: mux, routes: known, log: logger(w), metrics: telemetry.NewMetrics(), ending: ending}
}

func TestAccessLog(t *testing.T) {
	var log lines
	h := newFront(t.Context(), t, &log, nil)
	h.next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("abc")) })
	token := "tok_secret-" + strings.Repeat("a", 32)
	for path, want := range map[string]string{
		"/link/tok_secret?state=hunter2":                 "/link/***",
		"/link/tok_secret/answer":                        "/link/***/answer",
		"/v1/x/DE89370400440532013000":                   "/v1/x/DE****3000",
		"/v2.1/transactions?iban=hunter2":                "/v2.1/transactions",
		"/link/return?state=hunter2&code=x":              "/link/return",
		"//link/tok_secret":                              "/link/***",
		"/LINK/tok_secret":                               "/LINK/***",
		"/x/../link/tok_secret":                          "/link/***",
		"/x/./Link//tok_secret/":                         "/x/Link/***",
		"/%6Cink/tok_secret":                             "/link/***",
		"/" + token + "/x":                               "/***/x",
		"/v1/users/bfa_" + token:                         "/v1/users/***",
		"/v1/users/018bcfe5-6800-8000-8000-010000000001": "/v1/users/018bcfe5-6800-8000-8000-010000000001",
	} {
		log.reset()
		r := httptest.NewRequest(http.MethodGet, "http://hub.example"+path, nil)
		r.Header.Set("X-Request-ID", "abc-1")
		r.Header.Set("Authorization", "Bearer hunter2")
		h.ServeHTTP(httptest.NewRecorder(), r)
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(log.String()), &line), "one line for a request: %s", log.String())
		require.Equal(t, want, line["path"])
		require.Equal(t, "abc-1", line["request_id"])
		require.EqualValues(t, 200, line["status"])
		require.EqualValues(t, 3, line["bytes"])
		for _, secret := range []string{"tok_secret", "hunter2", "DE8937"} {
			require.NotContains(t, log.String(), secret)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	for given, kept := range map[string]bool{"a-b_c.9": true, "": false, "a b": false, "x\ny": false, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Request-ID", given)
		got := requestID(r)
		require.NotEmpty(t, got)
		require.Equal(t, kept, got == given, "%q", given)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var log lines
	h := newFront(t.Context(), t, &log, map[string]http.HandlerFunc{
		"/early": func(http.ResponseWriter, *http.Request) { panic("hunter2") },
		"/late":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("boom") },
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/early", nil))
	require.Equal(t, 500, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.NotContains(t, w.Body.String(), "hunter2")
	require.Contains(t, log.String(), "request panicked")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/late", nil))
	}, "half an answer must end the connection")
}

func TestBodiesAreBounded(t *testing.T) {
	h := newFront(t.Context(), t, io.Discard, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintln(w, n, err)
	}})
	srv := httptest.NewServer(h)
	defer srv.Close()
	for size, want := range map[int]string{10: "10 <nil>\n", maxBody: fmt.Sprintln(maxBody, "<nil>"), maxBody + 1: fmt.Sprintln(maxBody, "http: request body too large")} {
		resp, err := srv.Client().Post(srv.URL, "text/plain", strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, string(b))
	}
}

// A stop ends requests that wait, and no others.
func TestWaitingRequestsEndWithTheNode(t *testing.T) {
	ending, end := context.WithCancel(context.Background())
	end()
	h := newFront(ending, t, io.Discard, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait") != "" {
			<-r.Context().Done()
		}
		_, _ = fmt.Fprint(w, r.Context().Err())
	}})
	for path, want := range map[string]string{"/?wait=30": "context canceled", "/": "<nil>"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, want, w.Body.String())
	}
	h = newFront(ending, t, io.Discard, map[string]http.HandlerFunc{"/": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?wait=30", nil))
	require.Equal(t, http.StatusNoContent, w.Code, "an empty 200 is no answer to a poll")
}

func TestRoutesHaveNoIDs(t *testing.T) {
	f := newFront(t.Context(), t, io.Discard, map[string]http.HandlerFunc{"/v1/": http.NotFound, "POST /token": http.NotFound,
		"/queues/{queue_id}": http.NotFound, "/": http.NotFound})
	for path, want := range map[string]string{"/v1/accounts/17": "/v1/accounts/{id}", "/v1/made-up": "/v1/", "/queues/abc": "/queues/{queue_id}", "/made-up": "other"} {
		require.Equal(t, want, f.routes.of(httptest.NewRequest(http.MethodGet, path, nil)))
	}
	require.Equal(t, "/token", f.routes.of(httptest.NewRequest(http.MethodPost, "/token", nil)))
}

// Whom a call is for decides where it may go: loopback is for sandbox banks and
// for what the operator allowed.
func TestBanksAreCalledOutside(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer srv.Close()
	bank := func(sandbox bool) connector.Profile {
		p := connector.Profile{Endpoints: []connector.Endpoint{{BaseURL: srv.URL + "/redirect"}}}
		p.Provider.Sandbox = sandbox
		return p
	}
	call := func(p connector.Profile, allow ...netip.Prefix) error {
		tr := newBankTransport([]connector.Profile{p}, allow, telemetry.NewMetrics())
		defer tr.CloseIdleConnections()
		r, err := http.NewRequest(http.MethodGet, srv.URL+"/redirect/v1/accounts", nil)
		require.NoError(t, err)
		resp, err := tr.RoundTrip(r)
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
		return err
	}
	require.NoError(t, call(bank(true)))
	require.ErrorIs(t, call(bank(false)), ssrf.ErrProhibitedIP)
	require.NoError(t, call(bank(false), netip.MustParsePrefix("127.0.0.0/8")))
	require.ErrorIs(t, call(bank(false), netip.MustParsePrefix("10.0.0.0/8")), ssrf.ErrProhibitedIP)
}
