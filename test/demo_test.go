package test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/demo"
)

// The demo shows everything that it promises, wherever the environment points.
func TestDemoOnce(t *testing.T) {
	t.Setenv("BANKFEED_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
	dir := t.TempDir()
	for _, name := range []string{"keep.txt", filepath.Join(demo.Folder, "empty-me.txt")} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	var out output
	err := demo.Run(t.Context(), demo.Options{DataDir: dir, Once: true, Out: &out, Log: slog.New(slog.DiscardHandler)})
	require.NoErrorf(t, err, "%s", &out)
	shown := out.String()
	for _, want := range []string{
		"SYNC_ALL_STARTED", "AUTH_STARTED", "AUTH_SUCCESS", "CHALLENGE_REQUIRED", "PROVIDER_CONNECTED", "LIST_ACCOUNTS_SUCCESS",
		"LIST_TRANSACTIONS_SUCCESS", "CONSENT_CREATED", "SYNC_ALL_SUCCESS", "CHECKINGS", "SAVINGS", "CREDIT_CARD", "LOAN", " transactions\n",
		"transaction.created", "no event about data", "Everything arrived.",
	} {
		require.Contains(t, shown, want)
	}
	require.Equal(t, 3, strings.Count(shown, "SYNC_ALL_SUCCESS"))
	require.NotContains(t, shown, "\x1b", "colours where nobody sees them")
	require.FileExists(t, filepath.Join(dir, "keep.txt"), "only the demo's folder is emptied")
	require.NoFileExists(t, filepath.Join(dir, demo.Folder, "empty-me.txt"))
}

// Without --once it says where things are, and ends when it is told to.
func TestDemoKeepsRunning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &signpost{seen: cancel}
	require.NoError(t, demo.Run(ctx, demo.Options{DataDir: t.TempDir(), Out: out, Log: slog.New(slog.DiscardHandler)}))
	for _, want := range []string{"/docs", "/readyz", "client_id=", "/sandbox/events", "/v1/events/stream"} {
		require.Contains(t, out.String(), want)
	}
}

// signpost stops the demo when it has shown the last of its lines.
type signpost struct {
	output
	seen func()
}

func (s *signpost) Write(p []byte) (int, error) {
	n, err := s.output.Write(p)
	if strings.Contains(string(p), "/v1/events/stream") {
		s.seen()
	}
	return n, err
}

// The same way on both databases, as a client goes it.
func TestJourney(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		id, secret := h.client(t)
		var out output
		j := demo.NewJourney(h.URL(), h.SandboxURL(), id, secret, &out)
		require.NoErrorf(t, j.Run(t.Context()), "%s", &out)
		log := h.log.String()
		require.NotContains(t, log, `"level":"ERROR"`)
		require.NotContains(t, log, `"level":"WARN"`)
		for _, leak := range []string{secret, "state=", "/link/return?", "DE89"} {
			require.NotContains(t, log, leak)
		}
		require.NoError(t, h.stop())
	})
}
