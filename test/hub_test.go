package test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	hubwords "github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// output is a buffer that is read while others write.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// masterKey is 32 zero bytes.
const masterKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// each runs a test on a hub with its bank, on SQLite and on PostgreSQL.
func each(t *testing.T, f func(t *testing.T, h *hub)) {
	t.Run("sqlite", func(t *testing.T) { f(t, start(t, sqliteSettings(t))) })
	t.Run("postgres", func(t *testing.T) { f(t, start(t, postgresSettings(t))) })
}

func sqliteSettings(t *testing.T) config.Settings {
	s := config.Defaults()
	s.DataDir, s.Listen, s.Sandbox = t.TempDir(), "127.0.0.1:0", "true"
	return s
}

func postgresSettings(t *testing.T) config.Settings {
	s := sqliteSettings(t)
	s.DatabaseURL, s.MasterKey, s.Migrate, s.DatabaseConns = hubwords.Secret(backingtest.PostgresURL(t)), masterKey, "true", "16"
	return s
}

// hub is a running node.
type hub struct {
	*app.App
	log  *output
	stop func() error
}

// start runs a node until the test ends.
func start(t *testing.T, s config.Settings) *hub {
	t.Helper()
	c, err := s.Check(nil)
	require.NoError(t, err)
	h := &hub{log: &output{}}
	h.App, err = app.New(t.Context(), c, telemetry.NewLogger(h.log, "json", slog.LevelInfo))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the hub's log:\n%s", h.log)
		}
	})
	return h
}

// client makes a sandbox client.
func (h *hub) client(t *testing.T) (id, secret string) {
	t.Helper()
	c, err := h.Access().CreateClient(t.Context(), "", "test", true)
	require.NoError(t, err)
	return c.ID, string(c.Secret)
}
