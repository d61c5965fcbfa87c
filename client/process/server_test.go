package process_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// server speaks the interface as the contract has it, and has the faults that a
// test gives it. It is reached without a network, so that time can be faked.
type server struct {
	mu sync.Mutex
	// syncFor is how long a synchronization takes; reportFor a report.
	syncFor, reportFor time.Duration
	// status and code are how data sources end.
	status, code string
	codes        map[string]string // of single data sources
	tokens       map[string]bool   // that are taken
	sources      []string
	answer       string // of the synchronization, if it is not the usual one
	// before sees every call first; an answer other than nil is what the client gets. after
	// sees what the client would get, and may lose it.
	before, after func(c callOf) *http.Response
	// callback is told when a synchronization ends; nil sends none.
	callback func(handle string)

	calls   []callOf
	began   map[string]time.Time // by handle: when it was last asked for
	cases   map[string]string    // by Idempotency-Key
	ncases  int
	reports map[string]time.Time // by path
	checks  int
}

type resp = http.Response

type callOf struct {
	at           time.Time
	method, path string
	n            int // of calls to the same method and kind of path
	body         string
	ctx          context.Context
}

func newServer() *server {
	return &server{syncFor: 2 * time.Second, reportFor: time.Second, status: "SUCCESSFUL", code: "SYNC_SUCCESSFUL",
		tokens: map[string]bool{"token-1": true}, sources: []string{"11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"},
		began: map[string]time.Time{}, cases: map[string]string{}, reports: map[string]time.Time{}}
}

var errReset = errors.New("connection reset by peer")

// drop, as an answer, is a connection that breaks.
var drop = &http.Response{}

func says(status int, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func refuses(status int, code string) *http.Response {
	return says(status, `{"errors":[{"message":"No.","code":"`+code+`","type":"BUSINESS"}],"requestId":"r-1","somethingNew":[1]}`)
}

// kind is a path without ids.
func kind(method, path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) == 36 || strings.HasPrefix(p, "case-") {
			parts[i] = "{id}"
		}
	}
	return method + " " + strings.Join(parts, "/")
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	s.mu.Lock()
	c := callOf{at: time.Now(), method: r.Method, path: r.URL.Path, body: string(body), ctx: r.Context(), n: 1}
	for _, past := range s.calls {
		if kind(past.method, past.path) == kind(c.method, c.path) {
			c.n++
		}
	}
	s.calls = append(s.calls, c)
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if resp := before(c); resp == drop {
			return nil, errReset
		} else if resp != nil {
			return resp, nil
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := s.serve(r, body)
	if after != nil {
		if other := after(c); other == drop {
			return nil, errReset
		} else if other != nil {
			return other, nil
		}
	}
	return resp, nil
}

func (s *server) serve(r *http.Request, body []byte) *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] {
		return says(401, `{"error":"invalid_token","error_description":"The token has expired."}`)
	}
	switch k := kind(r.Method, r.URL.Path); k {
	case "POST /api/v1/dataSources/bankConnections/synchronization":
		return s.synchronize(body)
	case "GET /api/v1/dataSources/{id}/status":
		return s.statusOf(strings.Split(r.URL.Path, "/")[4])
	case "POST /api/v1/cases":
		key := r.Header.Get("Idempotency-Key")
		if s.cases[key] == "" || key == "" {
			s.ncases++
			s.cases[key] = fmt.Sprintf("case-%d", s.ncases)
		}
		return says(201, `{"id":"`+s.cases[key]+`","name":"x"}`)
	case "POST /api/v1/checks/balancesCheck":
		s.checks++
		return says(200, `{"result":"COVERED","payable":true,"overdraftRequired":false,"amount":250.00,"newMember":{}}`)
	default:
		if strings.HasPrefix(k, "POST /api/v1/cases/{id}/reports/") {
			if _, ok := s.reports[r.URL.Path]; ok {
				return refuses(422, "ENTITY_EXISTS")
			}
			s.reports[r.URL.Path] = time.Now()
			return says(201, `{"id":"report","status":"PENDING"}`)
		}
		if begun, ok := s.reports[r.URL.Path]; ok && r.Method == http.MethodGet {
			if time.Since(begun) < s.reportFor {
				return says(200, `{"id":"report","status":"COMPUTING_HARD"}`)
			}
			return says(200, `{"id":"report","status":"SUCCESSFUL","result":{"path":"`+r.URL.Path+`"}}`)
		}
		return refuses(404, "UNKNOWN_ENTITY")
	}
}

func (s *server) synchronize(body []byte) *http.Response {
	var order struct {
		URL    string `json:"callbackUrl"`
		Handle string `json:"callbackHandle"`
	}
	if err := json.Unmarshal(body, &order); err != nil {
		return refuses(400, "BAD_REQUEST")
	}
	s.began[order.Handle] = time.Now()
	if s.callback != nil && order.URL != "" {
		callback, after := s.callback, s.syncFor
		go func() {
			pass(after)
			callback(order.Handle)
		}()
	}
	if s.answer != "" {
		return says(200, s.answer)
	}
	var list []string
	for _, id := range s.sources {
		list = append(list, `{"dataSourceId":"`+id+`","bankName":"Bank `+id[35:]+`","externalId":7,"bankStatus":"IN_PROGRESS","accounts":[{"accountId":"a","iban":null}],"shoeSize":44}`)
	}
	return says(200, `{"bankConnections":[`+strings.Join(list, ",")+`]}`)
}

func (s *server) statusOf(id string) *http.Response {
	for _, known := range s.sources {
		if id != known {
			continue
		}
		for _, at := range s.began { // the newest synchronization decides
			if time.Since(at) < s.syncFor {
				return says(200, `{"status":"IN_PROGRESS","code":"SYNC_IN_PROGRESS"}`)
			}
		}
		code := s.code
		if own := s.codes[id]; own != "" {
			code = own
		}
		return says(200, `{"status":"`+s.status+`","code":"`+code+`","since":"today"}`)
	}
	return refuses(404, "UNKNOWN_ENTITY")
}

// set changes the server while it is in use.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// times are those of the calls of a kind.
func (s *server) times(k string) (list []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if kind(c.method, c.path) == k {
			list = append(list, c.at)
		}
	}
	return list
}

func (s *server) count(k string) int { return len(s.times(k)) }

// Kinds of calls.
const (
	syncCall   = "POST /api/v1/dataSources/bankConnections/synchronization"
	statusCall = "GET /api/v1/dataSources/{id}/status"
	caseCall   = "POST /api/v1/cases"
)

// key seals tokens.
var key = bytes.Repeat([]byte{7}, 32)

var reportTypes = []finapi.ReportType{finapi.ReportBalances, finapi.ReportRisk}

// options are a service's against a server.
func options(t *testing.T, s *server, store process.Store) process.Options {
	t.Helper()
	sealer, err := process.NewSealer(key)
	require.NoError(t, err)
	return process.Options{
		API:   &client.DataIntelligence{BaseURL: "https://di.example/api/v1", HTTP: &http.Client{Transport: s, Timeout: 15 * time.Second}},
		Store: store, Sealer: sealer, CallbackURL: "https://app.example/callbacks",
		Scenarios: map[string]process.Scenario{"reports": process.Reports(reportTypes...), "checks": process.Checks()},
	}
}

// world is a service at work.
type world struct {
	*testing.T
	server *server
	store  *processsql.Store
	svc    *process.Service
	stop   func()
}

// relaxed is a database whose commits need not survive the machine: what these
// tests are about does not need it, and disks are slow.
//
// A test has one of each engine. It may use it again and again if all its
// processes end.
func relaxed(t *testing.T, engine string) string {
	t.Helper()
	of, _ := databases.LoadOrStore(t.Name()+" "+engine, sync.OnceValue(func() string { return newDatabase(t, engine) }))
	return of.(func() string)()
}

var databases sync.Map // by test and engine: func() string

func newDatabase(t *testing.T, engine string) string {
	t.Helper()
	if engine == "sqlite" {
		return filepath.Join(t.TempDir(), "p.db") + "?_pragma=synchronous(OFF)"
	}
	return backingtest.PostgresURL(t) + "&synchronous_commit=off" // it has a parameter already
}

// openStore opens what relaxed names.
func openStore(t *testing.T, address string) *processsql.Store {
	t.Helper()
	driver, engine := "pgx", processsql.Postgres
	if file, ok := strings.CutSuffix(address, "?_pragma=synchronous(OFF)"); ok {
		driver, engine, address = "sqlite", processsql.SQLite, "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate"
	}
	db, err := sql.Open(driver, address)
	require.NoError(t, err)
	if engine == processsql.SQLite {
		db.SetMaxOpenConns(1)
	}
	store := processsql.New(db, engine)
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

// each runs a test with a fake clock, on SQLite: what is due when does not depend
// on the engine. The suite of processsql holds both to the same behaviour, and
// the tests that kill and that run several programs use both here.
func each(t *testing.T, change func(*process.Options), do func(w *world)) {
	address := relaxed(t, "sqlite")
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, address)
		w := &world{T: t, server: newServer(), store: store}
		defer store.Close()
		w.run(change)
		defer func() { w.stop() }() // of the last one that was started
		do(w)
	})
}

// run starts a service on the world's store.
func (w *world) run(change func(*process.Options)) {
	w.Helper()
	o := options(w.T, w.server, w.store)
	if change != nil {
		change(&o)
	}
	svc, err := process.New(o)
	require.NoError(w, err)
	w.svc = svc
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w, <-ended)
	})
}

// callsBack lets the server send callbacks as the hub does: again after 5 s
// until one is taken.
func (w *world) callsBack(scenario string) {
	w.server.set(func() {
		w.server.callback = func(handle string) {
			for range 5 {
				if w.deliver(scenario, handle, "SUCCESSFUL") < 300 {
					return
				}
				pass(5 * time.Second)
			}
		}
	})
}

// deliver sends a callback and returns the answer's status.
func (w *world) deliver(scenario, handle, status string) int {
	body, err := json.Marshal(map[string]any{"callbackHandle": handle, "dataSourceIds": w.server.sources, "status": status, "code": "X", "message": "m", "extra": 1})
	require.NoError(w, err)
	return w.post(scenario, string(body), nil)
}

func (w *world) post(scenario, body string, header http.Header) int {
	r := httptest.NewRequest(http.MethodPost, "/callbacks/"+scenario, strings.NewReader(body))
	for k, v := range header {
		r.Header[k] = v
	}
	answer := httptest.NewRecorder()
	w.svc.Callback(scenario).ServeHTTP(answer, r)
	return answer.Code
}

func (w *world) start(scenario string) process.Process {
	w.Helper()
	p, err := w.svc.Start(w.Context(), process.Order{Scenario: scenario, User: "anna", Token: "token-1", Params: map[string]string{"amount": "250.00"}})
	require.NoError(w, err)
	return p
}

// ends waits until the process has ended.
func (w *world) ends(id string, within time.Duration) process.Process {
	w.Helper()
	began := time.Now()
	for {
		p, err := w.svc.Get(w.Context(), id)
		require.NoError(w, err)
		if p.Status.Ended() {
			return p
		}
		require.Less(w, time.Since(began), within, p.Status)
		pass(max(100*time.Millisecond, time.Since(began)/20))
	}
}

// history are the statuses that the stream of changes tells of a process.
func (w *world) history(id string) (list []process.Status) {
	w.Helper()
	changes, err := w.store.Changes(w.Context(), 0, 10_000)
	require.NoError(w, err)
	for _, c := range changes {
		if c.Process.ID == id && (len(list) == 0 || list[len(list)-1] != c.Process.Status) {
			list = append(list, c.Process.Status)
		}
	}
	return list
}

func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // fake time

// hook verifies what sign signs.
var hook = client.Webhook{Secrets: []bankfeed.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}

func sign(t *testing.T, secret bankfeed.Secret, body string) http.Header {
	t.Helper()
	wh, err := webhooks.NewWebhook(string(secret))
	require.NoError(t, err)
	now := time.Now()
	signature, err := wh.Sign("msg_1", now, []byte(body))
	require.NoError(t, err)
	return http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signature}}
}

// tokens gives a token and counts.
func tokens(asked *atomic.Int32, token bankfeed.Secret) func(context.Context, process.Process) (bankfeed.Secret, error) {
	return func(context.Context, process.Process) (bankfeed.Secret, error) {
		asked.Add(1)
		return token, nil
	}
}
