package native

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

type eventPage struct {
	Items []struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		User string `json:"user"`
	} `json:"items"`
	Next string `json:"next"`
}

func (h *harness) events(t testing.TB, query, token string) eventPage {
	t.Helper()
	w := h.do(request("GET", "/v1/events?"+query, token, ""))
	require.Equal(t, 200, w.Code, w.Body.String())
	var p eventPage
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.NotNil(t, p.Items)
	require.NotEmpty(t, p.Next)
	return p
}

func (p eventPage) types() string {
	var types []string
	for _, e := range p.Items {
		types = append(types, e.Type)
	}
	return strings.Join(types, " ")
}

func about(connection bankfeed.ConnectionID, account bankfeed.AccountID, session bankfeed.SessionID) func(*bankfeed.Event) {
	return func(e *bankfeed.Event) { e.Connection, e.Account, e.Session = connection, account, session }
}

// full fills every part of a snapshot.
func full(h *harness) func(*bankfeed.Event) {
	return func(e *bankfeed.Event) {
		e.Connection, e.Account, e.Session = 101, 101, 101
		o := owner{1, 11}
		c, a, tr, k := h.connections[o][0], h.accounts[o][0], h.transactions[o][0], h.consents[o][0]
		// A stored snapshot does not repeat whom its parts belong to.
		c.User, a.User, a.Connection, tr.User, tr.Account, k.User, k.Connection = 0, 0, 0, 0, 0, 0, 0
		id := installation.UUID(bankfeed.KindSession, 1, 101)
		s := e.Snapshot
		s.Session = &bankfeed.SessionRef{ID: 101, UUID: id, Type: bankfeed.SessionAll, Status: bankfeed.SessionInProgress, Stage: bankfeed.StageTransactions, TraceID: bankfeed.TraceID(id)}
		s.Connection, s.Channel, s.Reason, s.Account, s.Accounts = &c, bankfeed.Redirect, bankfeed.ChannelTokenExpired, &a, []bankfeed.Account{a}
		s.Failure = &bankfeed.Failure{Reason: bankfeed.FailTokenExpired}
		s.Transaction, s.LastTransaction, s.Consent = &tr, 1101, &k
		s.Call = &bankfeed.BankCall{
			ExecutionID: id, Context: bankfeed.CallGetTransactions, Method: "GET", URL: "https://bank.example/v1/accounts/***/transactions",
			Status: 429, Duration: 1500 * time.Millisecond, RequestID: "r-1", ErrorBody: "{}", At: t0,
		}
	}
}

func TestEventsAreDrawnInTheShapesOfTheAPI(t *testing.T) {
	h := newHarness(t)
	h.append(1, 11, bankfeed.EventTransactionCreated, full(h))
	h.append(1, 11, bankfeed.EventUserErased, func(e *bankfeed.Event) { e.Snapshot = nil })
	r := request("GET", "/v1/events", "live", "")
	w := h.do(r)
	newContract(t, h).check(t, r, "", w)
	golden(t, "events", w.Body.Bytes())
	require.NotContains(t, w.Body.String(), "hunter2")
}

func TestEventsPageByPage(t *testing.T) {
	h := newHarness(t)
	empty := h.events(t, "", "live")
	require.Empty(t, empty.Items)
	for range 3 {
		h.append(1, 11, bankfeed.EventSyncStarted, nil)
	}
	first := h.events(t, "limit=2", "live")
	require.Len(t, first.Items, 2)
	second := h.events(t, "limit=2&after="+first.Next, "live")
	require.Len(t, second.Items, 1)
	last := h.events(t, "after="+second.Next, "live")
	require.Empty(t, last.Items)
	require.Equal(t, second.Next, last.Next)
	require.Len(t, h.events(t, "after="+empty.Next, "live").Items, 3, "an older cursor gives the same again")
	require.Empty(t, h.events(t, "after=latest", "live").Items)
}

func TestEventFilters(t *testing.T) {
	h := newHarness(t)
	h.append(1, 11, bankfeed.EventTransactionCreated, about(101, 501, 31))
	h.append(1, 11, bankfeed.EventTransactionUpdated, about(101, 502, 31))
	h.append(1, 12, bankfeed.EventSyncSucceeded, about(102, 0, 32))
	h.append(1, 12, bankfeed.EventAccountCreated, about(103, 503, 33))
	for query, want := range map[string]string{
		"":                  "transaction.created transaction.updated sync.succeeded account.created",
		"types=transaction": "!",
		"types=transaction.*,sync.succeeded,transaction.created": "transaction.created transaction.updated sync.succeeded",
		"types=*":                     "!",
		"types=.*":                    "!",
		"types=transaction.*,":        "!",
		"user=12":                     "sync.succeeded account.created",
		"user=" + h.uuid(2, 1, 12):    "sync.succeeded account.created",
		"user=12&connection=102":      "sync.succeeded",
		"connection=101&account=502":  "transaction.updated",
		"session=33":                  "account.created",
		"session=" + h.uuid(7, 1, 33): "account.created",
		"session=" + h.uuid(7, 2, 33): "", // another tenant's
		"connection=999":              "",
		"connection=" + h.uuid(bankfeed.KindAccount, 1, 101): "",
	} {
		if want == "!" {
			require.Equal(t, 422, h.do(request("GET", "/v1/events?"+query, "live", "")).Code, query)
			continue
		}
		require.Equal(t, want, h.events(t, query, "live").types(), query)
	}
}

func TestEventsStayWithTheirOwners(t *testing.T) {
	h := newHarness(t)
	h.append(1, 11, bankfeed.EventSyncStarted, nil)
	h.append(1, 12, bankfeed.EventSyncSucceeded, nil)
	h.append(1, 21, bankfeed.EventSyncFailed, nil)
	h.append(2, 11, bankfeed.EventAccountCreated, nil)
	h.append(1, 99, bankfeed.EventAccountRemoved, nil) // of nobody who is known
	require.Equal(t, "sync.started sync.succeeded", h.events(t, "", "live").types())
	require.Equal(t, "sync.failed", h.events(t, "", "sandbox").types())
	require.Equal(t, "account.created", h.events(t, "", "foreign").types())
	require.Equal(t, "sync.started", h.events(t, "", "user11").types())
	require.Equal(t, "sync.failed", h.events(t, "user=21", "user21").types())
	require.Empty(t, h.events(t, "connection=102", "user11").types())

	h.fail = errBroken
	require.Equal(t, 500, h.do(request("GET", "/v1/events", "live", "")).Code)
}

func TestCursorsThatCannotBeFollowed(t *testing.T) {
	h := newHarness(t)
	c := newContract(t, h)
	for range 5 {
		h.append(1, 11, bankfeed.EventSyncStarted, nil)
	}
	old := h.events(t, "limit=1", "live").Next
	h.retain(3)
	ahead := eventlog.Cursor{Epoch: installation.Epoch, Lanes: []bankfeed.Position{99}}.String()
	stale := eventlog.Cursor{Epoch: installation.Epoch - 1, Lanes: []bankfeed.Position{2}}.String()
	for name, x := range map[string]struct {
		after  string
		status int
	}{"gone": {old, 410}, "stale_epoch": {stale, 409}, "ahead": {ahead, 422}} {
		for _, path := range []string{"/v1/events?after=", "/v1/events/stream?after="} {
			r := request("GET", path+x.after, "live", "")
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			require.Equal(t, problemType, w.Header().Get("Content-Type"))
			c.check(t, r, "", w)
			golden(t, "problem_"+name, w.Body.Bytes())
			if x.status == 422 {
				continue
			}
			var p Problem
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.Len(t, h.events(t, "after="+p.Next, "live").Items, 2, "next is a good start")
		}
	}
	require.Len(t, h.events(t, "", "live").Items, 2)
}

// retain removes what retention would.
func (f *fake) retain(floor bankfeed.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.floor = floor
	f.stored = f.stored[floor:]
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		start := time.Now()
		require.Empty(t, h.events(t, "wait=30", "live").Items)
		require.Equal(t, 30*time.Second, time.Since(start))

		// Events of others, of the other world and of other types do not end it.
		start = time.Now()
		got := make(chan eventPage, 1)
		go func() { got <- h.events(t, "wait=30&types=sync.*", "live") }()
		for _, step := range []func(){
			func() { h.append(2, 11, bankfeed.EventSyncStarted, nil) },
			func() { h.append(1, 21, bankfeed.EventSyncStarted, nil) },
			func() { h.append(1, 11, bankfeed.EventAccountCreated, nil) },
		} {
			synctest.Wait()
			<-time.After(time.Second)
			step()
		}
		synctest.Wait()
		require.Empty(t, got)
		h.append(1, 11, bankfeed.EventSyncSucceeded, nil)
		p := <-got
		require.Equal(t, "sync.succeeded", p.types())
		require.Equal(t, 3*time.Second, time.Since(start))

		// The other world wakes nobody for longer than was asked for.
		start = time.Now()
		go func() { got <- h.events(t, "wait=5&after="+p.Next, "live") }()
		<-time.After(4 * time.Second)
		h.append(1, 21, bankfeed.EventSyncStarted, nil)
		q := <-got
		require.Empty(t, q.Items)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.NotEqual(t, p.Next, q.Next, "the cursor moves past what was not shown")
	})
}

// A hub that stops answers its waiting readers with where they stand.
func TestLongPollEndsWithTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.append(1, 11, bankfeed.EventSyncStarted, nil)
		next := h.events(t, "", "live").Next
		ctx, cancel := context.WithCancel(t.Context())
		r := request("GET", "/v1/events?wait=30&after="+next, "live", "").WithContext(ctx)
		time.AfterFunc(time.Second, cancel)
		w := h.do(r)
		require.Equal(t, 200, w.Code)
		require.JSONEq(t, `{"items":[],"next":"`+next+`"}`, w.Body.String())
		require.Empty(t, h.log.String())
	})
}

// recorder is a response that a test looks at while it grows.
type recorder struct {
	*httptest.ResponseRecorder
	mu      sync.Mutex
	text    strings.Builder
	flushed int
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = r.text.Len()
}

// take returns what was flushed and forgets it.
func (r *recorder) take() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.text.String()[:r.flushed]
	r.text.Reset()
	r.flushed = 0
	return s
}

// follow opens a stream; done is closed when it ends.
func (h *harness) follow(ctx context.Context, target, token string, headers ...string) (*recorder, chan struct{}) {
	w, done := &recorder{ResponseRecorder: httptest.NewRecorder()}, make(chan struct{})
	go func() {
		defer close(done)
		h.mux.ServeHTTP(w, request("GET", target, token, "", headers...).WithContext(ctx))
	}()
	return w, done
}

func (h *harness) cursor(p bankfeed.Position) string {
	return eventlog.Cursor{Epoch: installation.Epoch, Lanes: []bankfeed.Position{p}}.String()
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.append(1, 11, bankfeed.EventSyncStarted, nil)
		h.append(1, 21, bankfeed.EventSyncStarted, nil)
		ctx, cancel := context.WithCancel(t.Context())
		w, done := h.follow(ctx, "/v1/events/stream", "live")
		first := w.take()
		require.Equal(t, 200, w.Code)
		require.Equal(t, "text/event-stream", w.Header().Get("Content-Type"))
		lines := strings.Split(first, "\n")
		require.Equal(t, "id: "+h.cursor(1), lines[0])
		require.Equal(t, "event: sync.started", lines[1])
		data, ok := strings.CutPrefix(lines[2], "data: ")
		require.True(t, ok)
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		require.NoError(t, json.Unmarshal(h.do(request("GET", "/v1/events", "live", "")).Body.Bytes(), &list))
		require.JSONEq(t, string(list.Items[0]), data, "the same JSON as in the list")
		require.Equal(t, []string{"", ": ", "id: " + h.cursor(2), "", ""}, lines[3:], "and past the sandbox's event")

		h.append(1, 12, bankfeed.EventSyncFailed, nil)
		require.Contains(t, w.take(), "id: "+h.cursor(3)+"\nevent: sync.failed\n")

		<-time.After(heartbeat)
		require.Equal(t, ": \nid: "+h.cursor(3)+"\n\n", w.take())

		// Where an interrupted reader goes on; the header wins.
		again, _ := h.follow(ctx, "/v1/events/stream?after="+h.cursor(0), "live", "Last-Event-ID: "+h.cursor(2))
		require.True(t, strings.HasPrefix(again.take(), "id: "+h.cursor(3)))
		behind, _ := h.follow(ctx, "/v1/events/stream?types=account.*&after=latest", "user11")
		require.Equal(t, ": \nid: "+h.cursor(3)+"\n\n", behind.take())

		cancel()
		<-done
		require.Empty(t, h.log.String())
	})
}

func TestStreamEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		w, done := h.follow(t.Context(), "/v1/events/stream", "user11")
		w.take()
		h.mu.Lock()
		delete(h.tokens, "user11")
		h.mu.Unlock()
		start := time.Now()
		<-done
		require.LessOrEqual(t, time.Since(start), heartbeat)
		require.Contains(t, w.take(), "event: problem\ndata: "+`{"title":"Unauthorized","status":401,`)
	})
}

func TestStreamTellsWhyItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		w, done := h.follow(t.Context(), "/v1/events/stream", "user11")
		w.take()
		h.mu.Lock()
		h.fail = errBroken
		h.mu.Unlock()
		<-done
		require.Contains(t, w.take(), "event: problem\ndata: "+`{"title":"Internal Server Error","status":500,"code":"internal","detail":"internal error"}`+"\n\n")
		require.Contains(t, h.log.String(), errBroken.Error())
	})
}

// deadlines is a listener whose connections remember the read deadline.
type deadlines struct {
	net.Listener
	mu   sync.Mutex
	read time.Time
}

type deadlineConn struct {
	net.Conn
	to *deadlines
}

func (l *deadlines) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return deadlineConn{c, l}, err
}

func (c deadlineConn) SetReadDeadline(t time.Time) error {
	c.to.mu.Lock()
	c.to.read = t
	c.to.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

type slowBank struct {
	*fake
	asked func()
}

func (s slowBank) Synchronize(ctx context.Context, o bankfeed.SyncOrder) (bankfeed.Session, bool, error) {
	s.asked()
	return s.fake.Synchronize(ctx, o)
}

// huma sets a read deadline of 5 s before it reads a body and leaves it on the
// connection, where the server's background read runs into it and cancels the
// request: a bank that takes longer to answer would never be waited for.
func TestASlowBankDoesNotCancelItsRequest(t *testing.T) {
	h := newHarness(t)
	server := httptest.NewUnstartedServer(h.mux)
	l := &deadlines{Listener: server.Listener}
	server.Listener = l
	asked := false
	h.api.Syncer = slowBank{h.fake, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		asked = true
		require.Zero(t, l.read)
	}}
	server.Start()
	defer server.Close()
	r := request("POST", server.URL+"/v1/connections/101/sessions", "user11", "{}")
	r.RequestURI = ""
	res, err := server.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	require.True(t, asked)
}

func TestStreamOverHTTP(t *testing.T) {
	h := newHarness(t)
	server := httptest.NewServer(h.mux)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := request("GET", server.URL+"/v1/events/stream", "user11", "").WithContext(ctx)
	r.RequestURI = ""
	res, err := server.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	require.True(t, in.Scan()) // the first comment came: the stream waits
	h.append(1, 11, bankfeed.EventSyncStarted, nil)
	for in.Scan() && in.Text() != "event: sync.started" {
	}
	require.Equal(t, "event: sync.started", in.Text())
}

// impatient never waits.
type impatient struct{ EventLog }

func (l impatient) Read(ctx context.Context, q eventlog.Query, after eventlog.Cursor, _ time.Duration) (eventlog.Page, error) {
	return l.EventLog.Read(ctx, q, after, 0)
}

// FuzzEventsQuery: whatever the query, the answer is a page with next or a
// problem that names a field, and never a fault of the hub.
func FuzzEventsQuery(f *testing.F) {
	h := newHarness(f)
	h.api.Events = impatient{h.api.Events}
	h.append(1, 11, bankfeed.EventTransactionCreated, about(101, 501, 31))
	h.append(1, 21, bankfeed.EventSyncFailed, about(201, 0, 32))
	for _, seed := range []string{
		"", "after=latest", "after=" + h.cursor(1), "after=" + h.cursor(9), "after=AAAA", "after=%00", "types=transaction.*", "types=,", "types=*",
		"limit=0", "limit=-1", "limit=99999999999999999999", "wait=0", "wait=30", "wait=-5", "wait=1e9", "user=11", "user=" + h.uuid(2, 2, 11),
		"connection=00000000-0000-8003-8000-000000000065", "account=%ff", "session=1;limit=2", "%zz=1", "limit", "limit=1&limit=2", "a=b&=c", "=&&&",
		"connection=9223372036854775808",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := request("GET", "/v1/events", "live", "")
		r.URL.RawQuery = query
		w := h.do(r)
		require.Contains(t, []int{200, 404, 409, 410, 422}, w.Code, w.Body.String())
		if w.Code == 200 {
			var p eventPage
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.NotEmpty(t, p.Next)
			for _, e := range p.Items {
				require.NotEqual(t, "21", e.User)
			}
			return
		}
		var p Problem
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		require.Equal(t, w.Code, p.Status)
		if w.Code == 422 {
			require.NotEmpty(t, p.Errors)
		}
	})
}

func FuzzCursors(f *testing.F) {
	f.Add("MjAyNi0wMi0yNy4xMTAx")
	f.Add("MTE")
	f.Add("MjAyNi0wMi0zMC4x")
	f.Add("====")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := readTransactionCursor(s); err == nil && s != "" {
			require.Equal(t, s, transactionCursor(bankfeed.Transaction{ID: k.ID, BookingDate: k.Day}))
		}
		if n, err := readNumberCursor[bankfeed.SessionID](s); err == nil && s != "" {
			require.Equal(t, s, numberCursor(n))
		}
	})
}
