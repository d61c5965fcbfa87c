package app

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/config"
)

// found are the doctor's findings about streams.
func found(t *testing.T, c config.Config) (lines []string) {
	t.Helper()
	for _, f := range Examine(t.Context(), c) {
		if strings.HasPrefix(f.Subject, "stream") {
			lines = append(lines, string(f.Level)+" "+f.Subject+": "+f.Text)
		}
	}
	return lines
}

func requireLine(t *testing.T, lines []string, parts ...string) {
	t.Helper()
	for _, line := range lines {
		fits := true
		for _, p := range parts {
			fits = fits && strings.Contains(line, p)
		}
		if fits {
			return
		}
	}
	require.Failf(t, "nothing is said", "%q in\n%s", parts, strings.Join(lines, "\n"))
}

// The doctor finds what is stored of a stream while the hub runs, also when the
// broker has another address now, and what serve would refuse.
func TestTheDoctorKnowsTheStream(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	address := backingtest.AMQPURL(t)
	there := "--amqp-url=" + address
	c := settings(t, there)
	a, _ := start(t, c, io.Discard)
	requireLine(t, found(t, c), "ok stream main", "the first start begins it")

	_, err := a.Access().CreateClient(t.Context(), "", "client", false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(found(t, c), "\n"), "cursor: position") }, 30*time.Second, 100*time.Millisecond)

	moved := strings.NewReplacer("127.0.0.1", "localhost", "localhost", "127.0.0.1").Replace(there)
	require.NotEqual(t, there, moved)
	lines := found(t, settings(t, moved, "--data-dir="+c.DataDir))
	requireLine(t, lines, "ok stream main", "cursor: position")
	requireLine(t, lines, "warn stream main", "until now the stream went to")

	_, err = a.Access().CreateClient(t.Context(), "second", "client", false)
	require.NoError(t, err)
	requireLine(t, found(t, c), "fail stream main", "tenant: there are 2")

	c.Streams[0].Tenant = "third"
	requireLine(t, found(t, c), "warn stream main", "there is no third")
}
