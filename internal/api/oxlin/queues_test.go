package oxlin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// event is the sample of the vendor's page.
func event(position bankfeed.Position) bankfeed.Event {
	expires, end := time.Unix(1527761000, 0), time.Unix(1527760963, 0)
	return bankfeed.Event{
		Position: position, Type: bankfeed.EventSyncStarted, At: time.Unix(1527761001, 0), Snapshot: &bankfeed.Snapshot{
			Connection: &bankfeed.Connection{ID: 12, ProviderID: "87", ProviderName: "WBX Test Bank", Status: bankfeed.ConnectionRunning, CreatedAt: born, Channels: []bankfeed.Channel{
				{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning, Expires: &expires, LastSuccessAt: &end, LastEndAt: &end},
				{Mode: bankfeed.Embedded, Status: bankfeed.ChannelRunning, LastSuccessAt: &end, LastEndAt: &end},
			}},
		},
	}
}

func erased(position bankfeed.Position) bankfeed.Event {
	return bankfeed.Event{Position: position, Type: bankfeed.EventSyncStarted}
}

const eventBody = `{"id":"14","event_type":"SYNC_ALL_STARTED","resource_type":"CONNECTION","creation_date":1527761001,"channel_definition_id":"8701",` +
	`"category":"global","resource":{"id":"12","provider_id":"87","name":"WBX Test Bank","status":"RUNNING","creation_date":1639524236,"channels":[` +
	`{"channel_definition_id":"8701","expires":1527761000,"status":"RUNNING","last_success_date":1527760963,"last_end_date":1527760963},` +
	`{"channel_definition_id":"8700","status":"RUNNING","last_success_date":1527760963,"last_end_date":1527760963}]}}`

// The commands of the vendor's page over a real connection, as curl sends
// them: -d without a content type says that the body is a form.
func TestPageCommands(t *testing.T) {
	c := newClient(t)
	server := httptest.NewServer(c.api)
	defer server.Close()
	curl := func(method, path, body string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("authorization", "Bearer user")
		r.Header.Set("User-Agent", "curl/7.88.1")
		r.Header.Set("Accept", "*/*")
		if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	res := curl("POST", "/v2.1/queues/subscribe", "{\n\"topics\": [\"connections\"]\n}")
	require.Equal(t, "201 Created", res.Status)
	require.Equal(t, "/queues/q1", res.Header.Get("location"))
	require.Equal(t, []string{"0"}, res.Header["Content-Length"])
	require.Empty(t, res.TransferEncoding)

	for _, path := range []string{"/v2.1" + res.Header.Get("location"), res.Header.Get("location")} {
		res = curl("GET", path, "")
		require.Equal(t, "204 No Content", res.Status)
		require.Empty(t, res.Header.Get("Content-Type"))
		require.Empty(t, res.TransferEncoding)

		c.hub.put(event(14))
		res = curl("GET", path, "")
		require.Equal(t, "200 OK", res.Status)
		require.Equal(t, "application/json", res.Header.Get("Content-Type"))
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		sameText(t, "["+eventBody+"]", string(body))
	}
	require.Equal(t, "204 No Content", curl("DELETE", "/v2.1/queues/q1", "").Status)
	require.Equal(t, "404 Not Found", curl("GET", "/v2.1/queues/q1", "").Status)
	server.Close() // waits for the handlers
	require.Equal(t, []bool{true, true, true, true}, c.hub.written)
}

func TestSubscribeRefuses(t *testing.T) {
	c := newClient(t)
	for _, body := range []string{`{"topics":["transactions"]}`, `{"topics":[]}`, `{"topics":"connections"}`, `{"topics":[1]}`, `"connections"`} {
		c.refused(c.do("user", "POST", "/v2.1/queues/subscribe", body), 400, "BAD_PARAMETER")
	}
	c.refused(c.do("user", "POST", "/v2.1/queues/subscribe", `{}`), 400, "PARAMETER_MISSING")
	c.refused(c.do("user", "POST", "/v2.1/queues/subscribe", `topics=connections`), 400, "FORMAT_ERROR")
	require.Empty(t, c.hub.queues)
}

func TestPollParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that no time passes between deadline and wait
		c := newClient(t)
		c.hub.queues["q1"] = true
		for query, want := range map[string]read{
			"":                                 {-1, 500, 0},
			"?wait=30&limit=1":                 {-1, 1, 30 * time.Second},
			"?after=0":                         {0, 500, 0},
			"?after=14&user_id=7":              {14, 500, 0},
			"?after=&limit=&wait=&anything=42": {-1, 500, 0},
		} {
			c.hub.reads = nil
			require.Equal(t, 204, c.do("user", "GET", "/queues/q1"+query, "").Code, query)
			require.Equal(t, []read{want}, c.hub.reads, query)
		}
		c.hub.reads = nil
		for _, query := range []string{"after=-1", "after=x", "after=014", "after=1.0", "after=9999999999999999999", "limit=0", "limit=501", "wait=31", "wait=-1", "wait=1s"} {
			c.refused(c.do("user", "GET", "/queues/q1?"+query, ""), 400, "BAD_PARAMETER")
		}
		c.refused(c.do("user", "GET", "/queues/q1?after=1;limit=2", ""), 400, "FORMAT_ERROR")
		require.Empty(t, c.hub.reads)
	})
}

// A batch of nothing but erased events is passed over and the next one read.
func TestPollPassesErasedEvents(t *testing.T) {
	c := newClient(t)
	c.hub.queues["q1"] = true
	c.hub.batches = [][]bankfeed.Event{{erased(12), erased(13)}, {event(14), erased(15)}}
	a := c.do("user", "GET", "/queues/q1?after=11", "")
	sameText(t, "["+eventBody+"]", a.Body)
	require.Equal(t, bankfeed.Position(11), c.hub.reads[0].after)
	require.Equal(t, bankfeed.Position(-1), c.hub.reads[1].after, "the queue stands behind the first batch now")
	require.Equal(t, []bool{true, true}, c.hub.written)
}

// brokenWriter is a connection that is gone when the answer is sent.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) FlushError() error { return errors.New("broken pipe") }

func TestPollReportsWhetherTheAnswerWasWritten(t *testing.T) {
	c := newClient(t)
	c.hub.queues["q1"] = true
	poll := func(ctx context.Context, broken bool) {
		c.hub.batches = [][]bankfeed.Event{{event(14)}}
		r := httptest.NewRequestWithContext(ctx, "GET", "/queues/q1", nil)
		r.Header.Set("Authorization", "Bearer user")
		w := http.ResponseWriter(httptest.NewRecorder())
		if broken {
			w = brokenWriter{w}
		}
		c.api.ServeHTTP(w, r)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	poll(t.Context(), false)
	poll(t.Context(), true)
	poll(gone, false)
	require.Equal(t, []bool{true, false, false}, c.hub.written)
	require.Empty(t, c.log.String(), "a client that goes is no fault of the hub")
}

// Many clients stop reading at the end of the JSON and close the connection. The
// answer was written without an error, so it does not come again: a repeated
// SYNC_ALL_SUCCESS would end their next wait before it began.
func TestAClientThatHangsUpAfterTheLastByteHasTheAnswer(t *testing.T) {
	c := newClient(t)
	c.hub.queues["q1"] = true
	c.hub.put(event(14))
	hungUp := make(chan struct{})
	c.hub.onDone = func() { <-hungUp }
	server := httptest.NewServer(c.api)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/queues/q1", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer user")
	res, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, int64(len("["+eventBody+"]")), res.ContentLength, "the length tells which byte is the last")
	var batch []json.RawMessage
	require.NoError(t, json.NewDecoder(res.Body).Decode(&batch))
	require.NoError(t, res.Body.Close())
	server.CloseClientConnections()
	close(hungUp)
	server.Close() // waits for the handler
	require.Equal(t, []bool{true}, c.hub.written)
}

// streamWriter collects what a stream writes.
type streamWriter struct {
	mu     sync.Mutex
	header http.Header
	code   int
	text   strings.Builder
}

func (w *streamWriter) Header() http.Header  { return w.header }
func (w *streamWriter) WriteHeader(code int) { w.code = code }
func (w *streamWriter) Flush()               {}
func (w *streamWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *streamWriter) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.text.String()
	w.text.Reset()
	return s
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t)
		c.hub.queues["q1"] = true
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/v2.1/queues/q1?after=5", nil)
		r.Header.Set("Authorization", "Bearer user")
		r.Header.Set("Accept", "application/json;q=0.1, text/event-stream")
		r.Header.Set("Last-Event-ID", "9")
		w := &streamWriter{header: http.Header{}}
		ended := make(chan struct{})
		go func() {
			c.api.ServeHTTP(w, r)
			close(ended)
		}()
		synctest.Wait()
		require.Equal(t, 200, w.code)
		require.Equal(t, "text/event-stream", w.header.Get("Content-Type"))
		require.Equal(t, "no-store", w.header.Get("Cache-Control"))
		require.Equal(t, ":\n\n", w.take(), "at once, so that the client knows that it is connected")

		c.hub.follow <- []bankfeed.Event{event(14), erased(15)}
		synctest.Wait()
		sameText(t, "id: 14\ndata: "+eventBody+"\n\n", w.take())

		time.Sleep(heartbeat) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		require.Equal(t, ":\n\n", w.take())

		cancel()
		<-ended
		require.Equal(t, []bankfeed.Position{9, 9, 15, 15}, c.hub.follows, "Last-Event-ID wins over after; erased events are passed")
		require.Empty(t, c.hub.reads, "the queue did not move")
		require.Empty(t, c.log.String())
	})
}

const heartbeat = 15 * time.Second

// A stream ends when its queue does, and when its token does.
func TestStreamEnds(t *testing.T) {
	for name, end := range map[string]func(*client){
		"queue": func(c *client) { close(c.hub.follow) },
		"token": func(c *client) {
			c.hub.revoked.Store(true)
			time.Sleep(2 * heartbeat) //nolint:forbidigo // the bubble's clock
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t)
				c.hub.queues["q1"] = true
				r := httptest.NewRequestWithContext(t.Context(), "GET", "/queues/q1", nil)
				r.Header.Set("Authorization", "Bearer user")
				r.Header.Set("Accept", "text/event-stream")
				w := &streamWriter{header: http.Header{}}
				ended := make(chan struct{})
				go func() {
					c.api.ServeHTTP(w, r)
					close(ended)
				}()
				synctest.Wait()
				end(c)
				<-ended
				require.NotContains(t, w.take(), "error")
				require.Empty(t, c.log.String())
			})
		})
	}
}

// The stream as a client reads it, over a real connection.
func TestStreamOverHTTP(t *testing.T) {
	c := newClient(t)
	c.hub.queues["q1"] = true
	server := httptest.NewServer(c.api)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v2.1/queues/q1?user_id=7", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer client")
	r.Header.Set("Accept", "text/event-stream")
	res, err := server.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	require.True(t, lines.Scan())
	require.Equal(t, ":", lines.Text())
	require.True(t, lines.Scan())
	c.hub.follow <- []bankfeed.Event{event(14)}
	require.True(t, lines.Scan())
	sameText(t, "id: 14", lines.Text())
	require.True(t, lines.Scan())
	require.Equal(t, "data: "+eventBody, lines.Text())
	close(c.hub.follow)
	for lines.Scan() {
		require.Empty(t, lines.Text())
	}
	require.NoError(t, lines.Err(), "the end is a regular one")
}
