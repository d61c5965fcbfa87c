package test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
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
		"transaction.created", "no event about data", "its signature is good: SUCCESSFUL, SYNC_SUCCESSFUL", "callback SUCCESSFUL\n", "(TransactionMessage)",
		"Everything arrived.",
	} {
		require.Contains(t, shown, want)
	}
	require.Equal(t, 3, strings.Count(shown, "▸ SYNC_ALL_SUCCESS"))
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

// With a broker, the five messages arrive, and the environment's broker is left
// alone.
func TestDemoStreams(t *testing.T) {
	t.Setenv("BANKFEED_AMQP_URL", "amqp://nobody@127.0.0.1:1/production")
	address := backingtest.AMQPURL(t)
	var out output
	err := demo.Run(t.Context(), demo.Options{DataDir: t.TempDir(), Once: true, AMQPURL: bankfeed.Secret(address), Out: &out, Log: slog.New(slog.DiscardHandler)})
	require.NoErrorf(t, err, "%s", &out)
	shown := out.String()
	for _, want := range []string{
		"It streams to RabbitMQ at ", "◂ AccountMessage ", "◂ TransactionMessage ", "◂ SessionFinishedMessage ", "◂ AspspCall ", "◂ ConsentMessage             created, ",
		"◂ ConsentMessage             deleted, ", ": 0 lost, ", " TransactionMessage  ", "callback SUCCESSFUL\n", "transaction.created: acknowledged", "  routed  ", "  drained  ", "Everything arrived.",
	} {
		require.Contains(t, shown, want)
	}
	require.LessOrEqual(t, strings.Count(shown, "◂ TransactionMessage "), 4, "they are many: the first must do")
	u, err := url.Parse(address)
	require.NoError(t, err)
	password, _ := u.User.Password()
	require.NotContains(t, shown, password+"@")
	require.False(t, queueExists(t, address, demo.Queue), "the consumer leaves its queue behind")
}

// Without --once the consumer goes on, and is gone when the demo is.
func TestDemoStreamKeepsRunning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address := backingtest.AMQPURL(t)
	out := &signpost{seen: cancel}
	require.NoError(t, demo.Run(ctx, demo.Options{DataDir: t.TempDir(), AMQPURL: bankfeed.Secret(address), Out: out, Log: slog.New(slog.DiscardHandler)}))
	require.Contains(t, out.String(), "what the consumer receives is shown from now on")
	require.NotContains(t, out.String(), "takes a consent back", "there is nothing to try then")
	require.False(t, queueExists(t, address, demo.Queue), "the consumer leaves its queue behind")
}

func queueExists(t *testing.T, address, name string) bool {
	t.Helper()
	conn, err := amqp.Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(t, err)
	_, err = ch.QueueDeclarePassive(name, true, false, false, false, nil)
	return err == nil
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
