package berlingroup_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/connector/connectortest"
)

const prefix = "/xs2a"

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// request is what a fake bank saw.
type request struct {
	method, path, query string
	header              http.Header
	body                string
}

// bank answers each "METHOD /path" with a list of answers, the last one again
// and again.
type bank struct {
	*httptest.Server
	mu       sync.Mutex
	answers  map[string][]string // "status body" or "status Header: value|body"
	requests []request
	calls    []bankfeed.BankCall
}

func newBank(t *testing.T, answers map[string][]string) *bank {
	b := &bank{answers: answers}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	path := strings.TrimPrefix(r.URL.EscapedPath(), prefix)
	b.requests = append(b.requests, request{r.Method, path, r.URL.RawQuery, r.Header.Clone(), string(body)})
	list := b.answers[r.Method+" "+path]
	if len(list) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if len(list) > 1 {
		b.answers[r.Method+" "+path] = list[1:]
	}
	status, text, _ := strings.Cut(list[0], " ")
	if head, rest, ok := strings.Cut(text, "|"); ok && !strings.HasPrefix(text, "{") {
		name, value, _ := strings.Cut(head, ": ")
		w.Header().Set(name, value)
		text = rest
	} else if text != "" {
		w.Header().Set("Content-Type", "application/json")
	}
	code := 0
	for _, c := range status {
		code = code*10 + int(c-'0')
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.ReplaceAll(text, "{{url}}", b.URL+prefix))
}

func (b *bank) last() request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests[len(b.requests)-1]
}

// bodies lists what was sent, with method and path.
func (b *bank) bodies() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		list = append(list, strings.TrimSpace(r.method+" "+r.path+" "+r.body))
	}
	return list
}

// access reaches the fake bank with a person present.
func (b *bank) access(mode bankfeed.Mode) connector.Access {
	return connector.Access{
		Profile: &connector.Profile{Endpoints: []connector.Endpoint{{Mode: mode, BaseURL: b.URL + prefix}}, Timeout: 5 * time.Second},
		Mode:    mode,
		PSU:     &bankfeed.PSU{IP: "192.0.2.7", UserAgent: "Firefox"},
		Record:  func(c bankfeed.BankCall) { b.calls = append(b.calls, c) },
	}
}

// contexts lists what the recorded calls were for.
func (b *bank) contexts() (list []bankfeed.CallContext) {
	for _, c := range b.calls {
		list = append(list, c.Context)
	}
	return list
}

// connect makes a connector whose requests are held against the OpenAPI file,
// if that is there.
func connect(t *testing.T, prefix string) *berlingroup.Connector {
	t.Helper()
	c := berlingroup.New(&http.Client{Transport: checked(t, prefix, http.DefaultTransport)})
	c.Now = func() time.Time { return now }
	return c
}

var validator struct {
	sync.Once
	*connectortest.Validator
}

func checked(t *testing.T, prefix string, next http.RoundTripper) http.RoundTripper {
	dir := os.Getenv("BANKFEED_SPEC_DIR")
	if dir == "" {
		return next // TestRequestsFollowTheStandard says so
	}
	validator.Do(func() { validator.Validator = connectortest.NewValidator(t, connectortest.BerlinGroup(t, dir)) })
	return validator.Transport(t, prefix, next)
}

// refused asserts that err is a refusal of a kind.
func refused(t *testing.T, err error, reason bankfeed.FailureReason) *connector.Error {
	t.Helper()
	var e *connector.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, reason, e.Reason, "%v", err)
	return e
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
