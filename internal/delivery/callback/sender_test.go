package callback

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newSender(t testing.TB, c SenderConfig) *Sender {
	t.Helper()
	if c.Allow == nil {
		c.Allow = loopback
	}
	c.Build = "20261121.1"
	s := NewSender(c)
	t.Cleanup(s.Close)
	return s
}

// quiet hides the complaints of servers that are meant to be let down.
var quiet = slog.NewLogLogger(slog.DiscardHandler, 0)

var testSecrets = []bankfeed.Secret{NewSecret(), NewSecret()}

func message(url string) Message {
	return Message{
		ID: bankfeed.EventID(1_700_000_000_000, 1, 0, 7), Type: bankfeed.EventSyncSucceeded, Sequence: 7, URL: bankfeed.Secret(url),
		Secrets: testSecrets[:1], Body: []byte(`{"amount":"12.50"}`), Attempt: 1,
	}
}

// answering is a receiver with one answer.
func answering(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestSendIsAStandardWebhook(t *testing.T) {
	var got *http.Request
	var body []byte
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	})
	s := newSender(t, SenderConfig{})
	m := message(url + "/in?key=1")
	m.Headers.Static = map[string]bankfeed.Secret{"Authorization": "Bearer x", "content-type": "text/plain"}
	r := s.Send(t.Context(), m)
	require.True(t, r.Delivered(), r)
	require.Equal(t, http.StatusAccepted, r.Status)
	require.Positive(t, r.Duration)
	require.Equal(t, m.Body, body)
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "/in?key=1", got.RequestURI)
	require.Equal(t, int64(len(m.Body)), got.ContentLength)
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "bankfeed/20261121.1", "Authorization": "Bearer x", "Webhook-Id": m.ID.String(),
		"Bankfeed-Event": "sync.succeeded", "Bankfeed-Sequence": "7", "Bankfeed-Attempt": "1", "Bankfeed-Original-Id": "",
	} {
		require.Equal(t, want, got.Header.Get(name), name)
	}
	require.NotContains(t, got.Header, "Idempotency-Key")
	require.NotContains(t, got.Header, "Accept-Encoding")

	verifier, err := webhooks.NewWebhook(string(testSecrets[0]))
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(body, got.Header))
	require.Error(t, verifier.Verify(append(body, ' '), got.Header))

	// While secrets rotate, a receiver that knows either accepts it.
	m.Secrets, m.Attempt, m.Original = testSecrets, 3, bankfeed.EventID(1_700_000_000_000, 1, 0, 3)
	require.True(t, s.Send(t.Context(), m).Delivered())
	for _, secret := range testSecrets {
		verifier, err := webhooks.NewWebhook(string(secret))
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(body, got.Header))
	}
	require.Equal(t, "3", got.Header.Get(HeaderAttempt))
	require.Equal(t, m.Original.String(), got.Header.Get(HeaderOriginalID))

	// Under other names the values are the same.
	m.Headers = Headers{ID: "X-Finapi-Id", Timestamp: "X-Time", Signature: "X-Signature"}
	require.True(t, s.Send(t.Context(), m).Delivered())
	require.NotContains(t, got.Header, "Webhook-Id")
	usual := http.Header{
		"Webhook-Id": got.Header["X-Finapi-Id"], "Webhook-Timestamp": got.Header["X-Time"], "Webhook-Signature": got.Header["X-Signature"],
	}
	require.NoError(t, verifier.Verify(body, usual))

	m.URL = bankfeed.Secret(strings.Replace(url, "http://", "http://me:pa%20ss@", 1))
	require.True(t, s.Send(t.Context(), m).Delivered())
	user, password, ok := got.BasicAuth()
	require.True(t, ok)
	require.Equal(t, "me pa ss", user+" "+password)
}

func TestAnswers(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status     int
		retryAfter string
		want       Cause
		wait       time.Duration
	}{
		{200, "", "", 0},
		{204, "7", "", 0},
		{299, "", "", 0},
		{300, "", CauseRedirect, 0},
		{304, "", CauseRedirect, 0},
		{307, "", CauseRedirect, 0},
		{400, "", CauseStatus, 0},
		{401, "", CauseStatus, 0},
		{404, "", CauseStatus, 0},
		{410, "", CauseGone, 0},
		{429, "", CauseLimited, 0},
		{429, "120", CauseLimited, 2 * time.Minute},
		{429, now.Add(time.Hour).Format(http.TimeFormat), CauseLimited, time.Hour},
		{429, now.Add(-time.Hour).Format(http.TimeFormat), CauseLimited, 0},
		{429, "soon", CauseLimited, 0},
		{429, "-5", CauseLimited, 0},
		{429, "99999999999999999999", CauseLimited, maxRetryAfter},
		{503, "2000000000", CauseStatus, maxRetryAfter},
		{503, now.AddDate(9, 0, 0).Format(http.TimeFormat), CauseStatus, maxRetryAfter},
		{500, "", CauseStatus, 0},
		{599, "", CauseStatus, 0},
	} {
		url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			if c.retryAfter != "" {
				w.Header().Set("Retry-After", c.retryAfter)
			}
			w.WriteHeader(c.status)
			if c.status != 204 && c.status != 304 {
				_, _ = io.WriteString(w, "why\x00 \xff")
			}
		})
		r := newSender(t, SenderConfig{Now: func() time.Time { return now }}).Send(t.Context(), message(url))
		require.Equal(t, c.want, r.Cause, "%d %s", c.status, c.retryAfter)
		require.Equal(t, c.status, r.Status)
		require.Equal(t, c.wait, r.RetryAfter, "%d %s", c.status, c.retryAfter)
		if c.status != 204 && c.status != 304 {
			require.Equal(t, "why \uFFFD", r.Text)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := answering(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	url := answering(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	require.Equal(t, CauseRedirect, newSender(t, SenderConfig{}).Send(t.Context(), message(url)).Cause)
	require.Zero(t, elsewhere.Load())
}

// raw is a receiver that treats connections as it likes.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// asked reads a request to its end.
func asked(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func reset(c net.Conn) {
	asked(c)
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func TestFaultsOfConnections(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	hang := func(c net.Conn) { <-held; _ = c.Close() }
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no server") }}
	for _, c := range []struct {
		name, url string
		config    SenderConfig
		want      Cause
	}{
		{"nobody listens", "http://" + closed.Addr().String(), SenderConfig{}, CauseRefused},
		{"reset", "http://" + raw(t, reset), SenderConfig{}, CauseReset},
		{"closed without an answer", "http://" + raw(t, func(c net.Conn) { asked(c); _ = c.Close() }), SenderConfig{}, CauseReset},
		{"no HTTP", "http://" + raw(t, func(c net.Conn) { asked(c); _, _ = io.WriteString(c, "220 smtp\r\n"); _ = c.Close() }), SenderConfig{}, CauseReset},
		{"endless header", "http://" + raw(t, func(c net.Conn) {
			asked(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			_, _ = c.Write(bytes.Repeat([]byte("x"), 4*maxAnswerHeader))
			_ = c.Close()
		}), SenderConfig{}, CauseReset},
		{"hangs", "http://" + raw(t, hang), SenderConfig{Timeout: 50 * time.Millisecond}, CauseTimeout},
		{"hangs before TLS", "https://" + raw(t, hang), SenderConfig{Timeout: 50 * time.Millisecond}, CauseTimeout},
		{"reset before TLS", "https://" + raw(t, func(c net.Conn) { _ = c.Close() }), SenderConfig{}, CauseReset},
		{"drips its header", "http://" + raw(t, func(c net.Conn) {
			asked(c)
			for _, b := range []byte("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-held:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}), SenderConfig{Timeout: 100 * time.Millisecond}, CauseTimeout},
		{"no TLS", strings.Replace(answering(t, func(http.ResponseWriter, *http.Request) {}), "http:", "https:", 1), SenderConfig{}, CauseTLS},
		{"forbidden", answering(t, func(http.ResponseWriter, *http.Request) { t.Error("called") }),
			SenderConfig{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, CauseForbidden},
		{"forbidden over TLS", "https://127.0.0.1:1", SenderConfig{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, CauseForbidden},
		{"metadata of a cloud", "http://169.254.169.254/latest", SenderConfig{}, CauseForbidden},
		{"no name", "http://receiver.example/", SenderConfig{Resolver: nowhere}, CauseDNS},
		{"no URL", "http://[", SenderConfig{}, CauseInvalid},
		{"no port", "http://127.0.0.1:99999/", SenderConfig{}, CauseInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newSender(t, c.config).Send(t.Context(), message(c.url))
			require.Equal(t, c.want, r.Cause, r.Text)
			require.Zero(t, r.Status)
			require.NotEmpty(t, r.Text)
			require.NotContains(t, r.Text, "127.0.0.1", "addresses behind names are nobody's business")
			require.Less(t, r.Duration, 3*time.Second)
		})
	}
	m := message("http://127.0.0.1:1")
	m.Secrets = []bankfeed.Secret{"whsec_hunter2!"}
	r := newSender(t, SenderConfig{}).Send(t.Context(), m)
	require.Equal(t, CauseInvalid, r.Cause, "nothing goes out unsigned")
	require.NotContains(t, r.Text, "hunter2")
	m.Secrets = nil
	require.Equal(t, CauseInvalid, newSender(t, SenderConfig{}).Send(t.Context(), m).Cause)
}

func TestTLS(t *testing.T) {
	var proto string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto = r.Proto }))
	srv.Config.ErrorLog = quiet
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ours := x509.NewCertPool()
	ours.AddCert(srv.Certificate())

	r := newSender(t, SenderConfig{Roots: ours}).Send(t.Context(), message(srv.URL))
	require.True(t, r.Delivered(), r)
	require.Equal(t, "HTTP/2.0", proto)

	r = newSender(t, SenderConfig{}).Send(t.Context(), message(srv.URL))
	require.Equal(t, CauseTLS, r.Cause)
	require.Contains(t, r.Text, "certificate")

	named := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1) // which the certificate does not name
	r = newSender(t, SenderConfig{Roots: ours, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}).Send(t.Context(), message(named))
	require.Equal(t, CauseTLS, r.Cause, r.Text)

	old := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	require.Equal(t, CauseTLS, newSender(t, SenderConfig{Roots: ours}).Send(t.Context(), message(old.URL)).Cause)
}

// An answer is read as far as it is of use; its status has decided by then.
func TestBodiesAreBounded(t *testing.T) {
	var conns, written atomic.Int64
	size := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 1<<10)
		w.WriteHeader(http.StatusInternalServerError)
		for range size >> 10 {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	s := newSender(t, SenderConfig{})
	for _, c := range []struct{ size, conns int }{{0, 1}, {keptAnswer, 1}, {readAnswer - 1<<10, 1}, {1 << 30, 2}} {
		before := conns.Load()
		size = c.size
		for range 2 {
			r := s.Send(t.Context(), message(srv.URL))
			require.Equal(t, CauseStatus, r.Cause)
			require.Len(t, r.Text, min(c.size, keptAnswer))
		}
		if before > 0 {
			require.Equal(t, int64(c.conns-1), conns.Load()-before, "%d bytes", c.size)
		}
	}
	require.Less(t, written.Load(), int64(64<<20))
}

func TestAnswerThatNeverEnds(t *testing.T) {
	for status, want := range map[int]Cause{200: "", 500: CauseStatus} {
		url := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		r := newSender(t, SenderConfig{Timeout: 100 * time.Millisecond}).Send(t.Context(), message(url))
		require.Equal(t, want, r.Cause, "the status is the answer")
		require.Equal(t, status, r.Status)
		require.Equal(t, "begin", r.Text)
		require.Less(t, r.Duration, 3*time.Second)
	}
}

// A receiver may close a kept connection whenever it likes: that is no failure.
func TestClosedKeptConnectionIsNoFailure(t *testing.T) {
	addr := raw(t, func(c net.Conn) {
		asked(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		asked(c) // the second message is read, and answered by a reset
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	})
	s := newSender(t, SenderConfig{})
	for range 4 {
		r := s.Send(t.Context(), message("http://"+addr))
		require.True(t, r.Delivered(), r)
	}
}

func TestCheckHeaders(t *testing.T) {
	for _, h := range []Headers{
		{}, {ID: "svix-id", Timestamp: "svix-timestamp", Signature: "svix-signature"}, {ID: "webhook-timestamp", Timestamp: "webhook-id"},
		{Static: map[string]bankfeed.Secret{"Authorization": "Bearer x", "X-Tenant": "7"}}, {ID: "x-id", Static: map[string]bankfeed.Secret{"webhook-id": "free"}},
	} {
		require.NoError(t, CheckHeaders("body.headers", h))
	}
	many := map[string]bankfeed.Secret{}
	for i := range maxStatic + 1 {
		many["X-"+strconv.Itoa(i)] = "v"
	}
	for i, c := range []struct {
		headers Headers
		field   string
	}{
		{Headers{ID: "no name"}, "id"},
		{Headers{ID: "Content-Type"}, "id"},
		{Headers{Timestamp: "webhook-id"}, "timestamp"},
		{Headers{Signature: "bankfeed-event"}, "signature"},
		{Headers{Signature: strings.Repeat("x", 101)}, "signature"},
		{Headers{Static: map[string]bankfeed.Secret{"WEBHOOK-signature": "x"}}, "static"},
		{Headers{ID: "x-id", Static: map[string]bankfeed.Secret{"X-ID": "x"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"X-A": "x", "x-a": "y"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"host": "x"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"": "x"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"X-Ä": "x"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"X": "hunter2\r\nHost: x"}}, "static"},
		{Headers{Static: map[string]bankfeed.Secret{"X": bankfeed.Secret(strings.Repeat("x", maxHeaderValue+1))}}, "static"},
		{Headers{Static: many}, "static"},
	} {
		var e *bankfeed.Error
		require.ErrorAs(t, CheckHeaders("body.headers", c.headers), &e, "%d", i)
		require.Equal(t, "body.headers."+c.field, e.Field)
		require.NotContains(t, e.Error(), "hunter2")
	}
}

// BenchmarkSend stands beside a bare client with the same body and connections.
func BenchmarkSend(b *testing.B) {
	receiver := answering(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	u, err := url.Parse(receiver)
	require.NoError(b, err)
	body := fmt.Appendf(nil, `{"data":%q}`, strings.Repeat("x", 1200))
	b.Run("bare", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				resp, err := c.Post(u.String(), "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	})
	b.Run("sender", func(b *testing.B) {
		s := newSender(b, SenderConfig{})
		m := message(u.String())
		m.Body = body
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if r := s.Send(context.Background(), m); !r.Delivered() {
					b.Error(r)
					return
				}
			}
		})
	})
}
