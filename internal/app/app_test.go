package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// A server that backingtest has started is watched until the process ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/bankfeed/bankfeed/internal/backing.(*process).start.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"))
}

// settings are those of serve with a data directory of the test's own and a
// free port.
func settings(t *testing.T, args ...string) config.Config {
	t.Helper()
	var s config.Settings
	var r config.Resolver
	k, err := kong.New(&s, kong.Resolvers(&r))
	require.NoError(t, err)
	_, err = k.Parse(append([]string{"--data-dir=" + t.TempDir(), "--listen=127.0.0.1:0"}, args...))
	require.NoError(t, err)
	c, err := s.Check(r.File)
	require.NoError(t, err)
	return c
}

func usePostgres(t *testing.T) {
	t.Helper()
	t.Setenv("BANKFEED_DATABASE_URL", backingtest.PostgresURL(t))
	t.Setenv("BANKFEED_MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
}

// lines are what a logger wrote, readable while others write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func logger(w io.Writer) *slog.Logger { return telemetry.NewLogger(w, "json", slog.LevelDebug) }

// start runs a node; stop ends it and returns what Run returned.
func start(t *testing.T, c config.Config, w io.Writer) (a *App, stop func() error) {
	t.Helper()
	a, err := New(t.Context(), c, logger(w))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return a, stop
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body), resp.Header
}

func TestStartAndStop(t *testing.T) {
	for name, args := range map[string][]string{
		"sqlite":      nil,
		"with a bank": {"--sandbox"},
		"without API": {"--roles=sync"},
		"postgres":    {"--migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" {
				usePostgres(t)
			}
			var log lines
			a, stop := start(t, settings(t, args...), &log)
			status, body, header := get(t, a.URL()+"/readyz")
			require.Equal(t, 200, status, body)
			require.Contains(t, body, `"status": "ready"`)
			require.Contains(t, body, `"event hub"`)
			require.NotEmpty(t, header.Get("X-Request-ID"))
			status, _, _ = get(t, a.URL()+"/healthz")
			require.Equal(t, 200, status)
			_, body, _ = get(t, a.URL()+"/metrics")
			require.Contains(t, body, "bankfeed_sessions_open 0\n")
			require.Contains(t, body, `bankfeed_http_requests_total{method="GET",route="/readyz",status="200"} 1`)
			switch status, body, _ = get(t, a.URL()+"/docs"); name {
			case "without API":
				require.Equal(t, 404, status)
				require.Contains(t, body, "does not have the role api")
			case "with a bank":
				require.Equal(t, 200, status)
				status, body, _ = get(t, a.SandboxURL()+"/sandbox/clock")
				require.Equal(t, 200, status, body)
			}
			require.NoError(t, stop())
			require.NoError(t, a.Stop(t.Context()), "a second stop does nothing")
			require.Contains(t, log.String(), `"msg":"stopped"`)
		})
	}
}

// New must not leave a lock, a listener or a database behind when it fails.
func TestNewRollsBack(t *testing.T) {
	c := settings(t)
	first, stop := start(t, c, io.Discard)
	second := c
	second.DataDir = t.TempDir()
	second.Listen = first.Addr()
	_, err := New(t.Context(), second, logger(io.Discard))
	require.ErrorContains(t, err, "address already in use (another address: --listen)")
	require.NoError(t, stop())
	_, stop = start(t, second, io.Discard) // the lock and the address are free
	require.NoError(t, stop())
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	c := settings(t)
	_, stop := start(t, c, io.Discard)
	_, err := New(t.Context(), c, logger(io.Discard))
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("(process %d)", os.Getpid()))
	d, err := OpenData(t.Context(), c.Storage)
	require.NoError(t, err, "a command works beside a running node")
	require.NoError(t, d.Close())
	require.NoError(t, stop())
}

func TestPostgresIsNotMigratedUnasked(t *testing.T) {
	usePostgres(t)
	c := settings(t)
	_, err := New(t.Context(), c, logger(io.Discard))
	require.ErrorIs(t, err, store.ErrPending)
	_, err = OpenData(t.Context(), c.Storage)
	require.ErrorIs(t, err, store.ErrPending)
	_, err = Migrate(t.Context(), c.Storage, true)
	require.ErrorIs(t, err, store.ErrPending)
	applied, err := Migrate(t.Context(), c.Storage, false)
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	_, err = Migrate(t.Context(), c.Storage, true)
	require.NoError(t, err)
	_, stop := start(t, c, io.Discard)
	require.NoError(t, stop())
}

// The port of the bank stays: consents and cursors hold its links.
func TestSandboxKeepsItsAddress(t *testing.T) {
	c := settings(t, "--sandbox")
	a, stop := start(t, c, io.Discard)
	before := a.SandboxURL()
	require.NoError(t, stop())
	a, stop = start(t, c, io.Discard)
	require.Equal(t, before, a.SandboxURL())
	require.NoError(t, stop())
}

func TestDataDirectoryIsPrivate(t *testing.T) {
	c := settings(t)
	c.DataDir += "/new"
	_, stop := start(t, c, io.Discard)
	require.NoError(t, stop())
	info, err := os.Stat(c.DataDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestStopWhileStarting(t *testing.T) {
	for range 5 {
		a, err := New(t.Context(), settings(t), logger(io.Discard))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- a.Run(context.Background()) }()
		require.NoError(t, a.Stop(context.Background()))
		require.NoError(t, <-done)
	}
}
