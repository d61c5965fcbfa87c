package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	NewLogger(&b, "auto", slog.LevelInfo).Info("hello", "n", 1)
	var line map[string]any
	require.NoError(t, json.Unmarshal(b.Bytes(), &line), "not a terminal: JSON")
	require.Equal(t, "hello", line["msg"])

	b.Reset()
	NewLogger(&b, "json", slog.LevelInfo).With("part", "x").InfoContext(WithRequestID(t.Context(), "r-1"), "hello")
	require.Contains(t, b.String(), `"part":"x","request_id":"r-1"`)

	b.Reset()
	l := NewLogger(&b, "text", slog.LevelWarn)
	l.Info("hello")
	l.Warn("look", "n", 1)
	require.Contains(t, b.String(), "WRN look n=1\n")
	require.NotContains(t, b.String(), "hello")
	require.NotContains(t, b.String(), "\x1b", "colour where nobody sees it")
}

// IBANs reach no log, wherever they stand in a line.
func TestLogsHaveNoIBANs(t *testing.T) {
	const iban = "DE89370400440532013000"
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		l := NewLogger(&b, format, slog.LevelInfo).With("given", iban).WithGroup("bank")
		l.Info("no account "+iban, "text", "for DE89 3704 0044 0532 0130 00", "error", fmt.Errorf("wrapped: %w", errors.New(iban)),
			slog.Group("g", "deep", iban, "url", &url.URL{Path: "/" + iban}), "lazy", lazy(iban), "n", 3)
		require.NotContains(t, b.String(), "0532")
		require.Equal(t, 7, strings.Count(b.String(), "DE****3000"), b.String())
		require.Regexp(t, `"?n"?[=:]3`, b.String(), "other values stay as they are")
	}
	var b bytes.Buffer
	var none *url.Error
	NewLogger(&b, "json", slog.LevelInfo).Info("x", "error", error(none), "plain", errors.New("plain"))
	require.Contains(t, b.String(), `"plain":"plain"`)
}

type lazy string

func (l lazy) LogValue() slog.Value { return slog.StringValue(string(l)) }

func TestNames(t *testing.T) {
	require.Regexp(t, `^[0-9]{8}\.[0-9]+$`, BuildID())
	require.Regexp(t, `^[0-9a-f]{12}$`, NewNode())
	one, other := NewNode(), NewNode()
	require.NotEqual(t, one, other)
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	m.Started()
	m.Answered("/v1/accounts", "GET", 200, time.Millisecond, false)
	m.Started()
	m.Answered("/v2.1/queues/{queue_id}", "GET", 204, time.Minute, true)
	m.Polled("empty")
	m.Committed(bankfeed.Committed{First: 5, Last: 7})
	end := m.Claimed(bankfeed.WorkSession)
	m.Claimed(bankfeed.WorkSession)
	end("done")
	m.BankAnswered(503, time.Second)
	m.Restarted("lease")
	m.Gauge("bankfeed_sessions_open", "Open sessions.", nil, func() (float64, bool) { return 3, true })
	m.Gauge("bankfeed_unknown", "Not to be had.", nil, func() (float64, bool) { return 0, false })

	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`bankfeed_http_requests_total{method="GET",route="/v1/accounts",status="200"} 1`,
		`bankfeed_http_requests_total{method="GET",route="/v2.1/queues/{queue_id}",status="204"} 1`,
		`bankfeed_http_request_seconds_count{route="/v1/accounts"} 1`,
		"bankfeed_http_requests_in_flight 0",
		`bankfeed_queue_polls_total{result="empty"} 1`,
		"bankfeed_events_appended_total 3",
		`bankfeed_lease_claims_total{kind="session",result="done"} 1`,
		`bankfeed_lease_running{kind="session"} 1`,
		`bankfeed_bank_requests_total{status="503"} 1`,
		`bankfeed_worker_restarts_total{worker="lease"} 1`,
		"bankfeed_sessions_open 3",
	} {
		require.Contains(t, w.Body.String(), want+"\n")
	}
	require.NotContains(t, w.Body.String(), "bankfeed_unknown")
	require.NotContains(t, w.Body.String(), `bankfeed_http_request_seconds_count{route="/v2.1/queues/{queue_id}"}`, "a long poll is not slow")
}
