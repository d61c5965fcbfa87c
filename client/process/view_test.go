package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
)

type event struct {
	id   int64
	name string
	p    process.Process
}

// reader reads Server-Sent Events.
type reader struct {
	t    *testing.T
	resp *http.Response
	scan *bufio.Scanner
}

func open(t *testing.T, url, lastID string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	r.Header.Set("X-User", "anna")
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return &reader{t, resp, bufio.NewScanner(resp.Body)}
}

// next is the next event; ok is false at the end of the stream.
func (r *reader) next() (e event, ok bool) {
	r.t.Helper()
	for r.scan.Scan() {
		name, value, _ := strings.Cut(r.scan.Text(), ": ")
		switch name {
		case "id":
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(r.t, err)
			e.id = n
		case "event":
			e.name = value
		case "data":
			require.NoError(r.t, json.Unmarshal([]byte(value), &e.p))
		case "":
			if e.name != "" {
				return e, true
			}
		}
	}
	return e, false
}

func TestView(t *testing.T) {
	store, err := processsql.Open(t.Context(), filepath.Join(t.TempDir(), "p.db"))
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	w := &world{T: t, server: newServer(), store: store}
	w.server.syncFor, w.server.reportFor = 300*time.Millisecond, 0
	w.run(func(o *process.Options) { o.CallbackURL, o.Poll.Every = "", 200*time.Millisecond })
	t.Cleanup(w.stop)
	view := httptest.NewServer(http.StripPrefix("/processes", w.svc.View(func(r *http.Request, p process.Process) bool { return r.Header.Get("X-User") == p.User })))
	t.Cleanup(view.Close)
	base := view.URL + "/processes"

	all := open(t, base+"/events", "")
	require.Equal(t, "text/event-stream", all.resp.Header.Get("Content-Type"))
	p := w.start("reports")
	_, err = w.svc.Start(t.Context(), process.Order{Scenario: "reports", User: "berta", Token: "token-1"})
	require.NoError(t, err)

	one := open(t, base+"/events?process="+p.ID, "")
	var last event
	for {
		e, ok := one.next()
		if !ok {
			break
		}
		require.Equal(t, "process", e.name)
		require.Equal(t, p.ID, e.p.ID)
		require.Greater(t, e.id, last.id)
		require.Equal(t, e.id, e.p.Sequence)
		require.Empty(t, e.p.Results)
		last = e
	}
	require.Equal(t, process.Done, last.p.Status, "a stream of one ends with it")
	require.Contains(t, last.p.Steps, "report:cashFlow/balances")
	require.Equal(t, http.StatusNoContent, open(t, base+"/events?process="+p.ID, strconv.FormatInt(last.id, 10)).resp.StatusCode, "and is not opened again")

	var seen []event // the stream of all has everything, but of anna only
	for {
		e, ok := all.next()
		require.True(t, ok)
		require.Equal(t, p.ID, e.p.ID)
		seen = append(seen, e)
		if e.p.Status == process.Done {
			break
		}
	}
	require.Equal(t, process.SyncCreated, seen[0].p.Status)

	// A browser that was away goes on where it was.
	again := open(t, base+"/events", strconv.FormatInt(seen[1].id, 10))
	for _, want := range seen[2:] {
		e, ok := again.next()
		require.True(t, ok)
		require.Equal(t, want, e)
	}
	require.NoError(t, store.Prune(t.Context(), time.Now().Add(time.Hour), time.Unix(0, 0)))
	e, _ := open(t, base+"/events", strconv.FormatInt(seen[1].id, 10)).next()
	require.Equal(t, "reset", e.name, "what it missed is gone")
	require.Equal(t, http.StatusBadRequest, open(t, base+"/events?after=x", "").resp.StatusCode)

	resp := open(t, base+"/"+p.ID, "").resp
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var full process.Process
	require.NoError(t, json.Unmarshal(text, &full))
	require.Contains(t, string(full.Results["case"]), `"case-`)
	require.NotContains(t, string(text), "token-1")

	foreign := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/"+p.ID, nil)
	handler := w.svc.View(func(*http.Request, process.Process) bool { return false })
	handler.ServeHTTP(foreign, r)
	unknown := httptest.NewRecorder()
	handler.ServeHTTP(unknown, httptest.NewRequest(http.MethodGet, "/4e760145-2e65-4242-ac33-488943528c93", nil))
	require.Equal(t, 404, foreign.Code)
	require.Equal(t, foreign.Body, unknown.Body, "what is not allowed does not exist")
}

// TestViewOfADeletedProcess: its stream ends, instead of being quiet for ever.
func TestViewOfADeletedProcess(t *testing.T) {
	each(t, nil, func(w *world) {
		w.server.syncFor = time.Hour
		p := w.start("reports")
		ctx, cancel := context.WithCancel(w.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.svc.View(nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/events?process="+p.ID, nil))
		}()
		pass(5 * time.Minute)
		select {
		case <-ended:
			require.Fail(w, "it ended before its process")
		default:
		}
		require.NoError(w, w.svc.Delete(w.Context(), p.ID))
		pass(time.Minute)
		cancelled := time.AfterFunc(time.Second, cancel)
		<-ended
		require.True(w, cancelled.Stop(), "it was not over by itself")
		cancel()
	})
}
