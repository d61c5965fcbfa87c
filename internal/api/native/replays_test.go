package native

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// replayDesk is a Replays that keeps what it was asked.
type replayDesk struct {
	order   stream.ReplayOrder
	list    []stream.Replay // newest first
	lists   int
	cancels []int64
	fail    error
}

var counted = stream.ReplayCount{
	Kinds: map[banqup.Kind]int64{banqup.Transaction: 5, banqup.Session: 1}, Total: 6, Erased: 2, First: 3, Last: 90, Complete: true, Position: 90,
}

func (d *replayDesk) Count(_ context.Context, o stream.ReplayOrder) (stream.ReplayCount, error) {
	d.order = o
	return counted, d.fail
}

func (d *replayDesk) Start(_ context.Context, o stream.ReplayOrder) (stream.Replay, stream.ReplayCount, error) {
	d.order = o
	return d.list[0], counted, d.fail
}

func (d *replayDesk) Replay(_ context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error) {
	for _, r := range d.list {
		if r.ID == id && r.Stream.Tenant == tenant {
			return r, d.fail
		}
	}
	return stream.Replay{}, bankfeed.ErrNotFound
}

func (d *replayDesk) List(_ context.Context, tenant bankfeed.TenantID, before int64, limit int) (page []stream.Replay, err error) {
	d.lists++
	for _, r := range d.list {
		if r.Stream.Tenant == tenant && (before == 0 || r.ID < before) && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, d.fail
}

func (d *replayDesk) Cancel(ctx context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error) {
	d.cancels = append(d.cancels, id)
	r, err := d.Replay(ctx, tenant, id)
	r.Status = stream.ReplayCancelled
	return r, err
}

const replayID = 1_772_442_000_000

func aReplay(id int64, w stream.World) stream.Replay {
	return stream.Replay{
		ID: id, Stream: stream.Key{Tenant: 1, Name: "main"}, Queue: "again", Status: stream.ReplayRunning, Until: 99, Total: 6, Position: 40,
		Filter: stream.ReplayFilter{
			User: 11, Connection: 101, Account: 101, Session: 101, Messages: []banqup.Kind{banqup.Transaction, banqup.Session}, First: 3, Last: 90,
			From: t0, To: t0.Add(time.Hour), World: w,
		},
		Published: 3, Unrouted: 1, Erased: 1, Text: "waiting: the broker is away", StartedAt: t0.Add(time.Second),
	}
}

// withReplays is a harness whose API has them.
func withReplays(t *testing.T) (*harness, *replayDesk) {
	t.Helper()
	h := newHarness(t)
	d := &replayDesk{list: []stream.Replay{aReplay(replayID, stream.Live)}}
	c := h.api.Config
	c.Replays = d
	var err error
	h.api, err = New(c)
	require.NoError(t, err)
	h.mux = http.NewServeMux()
	h.api.Mount(h.mux)
	return h, d
}

const replayOrderBody = `{"stream":"main","queue":"again","user":"11","connection":"101","account":"101","session":"101","consent":"101",
	"messages":["consent","session"],"first":3,"last":90,"from":"2026-03-01T12:00:00+01:00","to":"2026-03-01T12:00:00Z"}`

func TestReplays(t *testing.T) {
	h, d := withReplays(t)
	c := newContract(t, h)
	for _, x := range []struct {
		name, method, target, body string
		status                     int
		location                   string
	}{
		{"replay_create", "POST", "/v1/replays", replayOrderBody, 202, "/v1/replays/1772442000000"},
		{"replay_dry_run", "POST", "/v1/replays", `{"dry_run":true}`, 200, ""},
		{"replays", "GET", "/v1/replays", "", 200, ""},
		{"replay", "GET", "/v1/replays/1772442000000", "", 200, ""},
		{"replay_cancel", "POST", "/v1/replays/1772442000000/cancel", "", 200, ""},
	} {
		r := request(x.method, x.target, "live", x.body)
		w := h.do(r)
		require.Equal(t, x.status, w.Code, w.Body.String())
		require.Equal(t, x.location, w.Header().Get("Location"))
		c.check(t, r, x.body, w)
		golden(t, x.name, w.Body.Bytes())
		if x.name == "replay_create" {
			require.Equal(t, stream.ReplayOrder{Tenant: 1, Stream: "main", Queue: "again", CountFor: countFor, Filter: stream.ReplayFilter{
				User: 11, Connection: 101, Account: 101, Session: 101, Consent: 101, Messages: []banqup.Kind{banqup.Consent, banqup.Session},
				First: 3, Last: 90, From: time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), World: stream.Live,
			}}, d.order)
		}
	}
	require.Equal(t, []int64{replayID}, d.cancels)

	event := bankfeed.EventID(installation.Epoch, 1, 0, 5)
	require.Equal(t, 200, h.do(request("POST", "/v1/replays", "live", `{"dry_run":true,"event":"`+event.String()+`"}`)).Code)
	require.Equal(t, event, d.order.Event)
	require.Empty(t, h.log.String())
}

func TestReplayRequestsAreChecked(t *testing.T) {
	h, d := withReplays(t)
	c := newContract(t, h)
	for body, field := range map[string]string{
		`{"messages":["transaction","payment"]}`:       "body.messages[1]",
		`{"queue":"` + strings.Repeat("q", 256) + `"}`: "body.queue",
		`{"first":0}`:           "body.first",
		`{"last":-1}`:           "body.last",
		`{"from":"yesterday"}`:  "body.from",
		`{"account":"hunter2"}`: "body.account",
		`{"event":"hunter2"}`:   "body.event",
		`{"strem":"main"}`:      "body.strem",
		`{"messages":["call","call","call","call","call","call"]}`: "body.messages",
	} {
		r := request("POST", "/v1/replays", "live", body)
		w := h.do(r)
		require.Equal(t, 422, w.Code, body)
		require.Contains(t, w.Body.String(), `"field":"`+field+`"`, body)
		require.NotContains(t, w.Body.String(), "hunter2")
		c.check(t, r, body, w)
	}
	// What only the capability knows is placed as well.
	for _, x := range []struct {
		fail   error
		status int
		field  string
	}{
		{bankfeed.InvalidField("to", "must be after from"), 422, "body.to"},
		{bankfeed.InvalidField("queue", "expected at most 255 bytes"), 422, "body.queue"},
		{&bankfeed.Error{Kind: bankfeed.Conflict, Field: "stream", Text: "the stream is not enabled"}, 409, "body.stream"},
		{&bankfeed.Error{Kind: bankfeed.Gone, Field: "first", Text: "events up to 7 were removed by retention"}, 410, "body.first"},
		{bankfeed.ErrNotFound, 404, ""},
		{errBroken, 500, ""},
	} {
		d.fail = x.fail
		for _, body := range []string{`{}`, `{"dry_run":true}`} {
			r := request("POST", "/v1/replays", "live", body)
			w := h.do(r)
			require.Equal(t, x.status, w.Code)
			if x.field != "" {
				require.Contains(t, w.Body.String(), `"field":"`+x.field+`"`)
			}
			c.check(t, r, body, w)
		}
	}
}

// A replay is the client's, and of its world: no user's token reaches it, and a
// sandbox client neither sends nor sees what is of live users.
func TestReplaysKeepWorldsApart(t *testing.T) {
	h, d := withReplays(t)
	d.list = []stream.Replay{aReplay(replayID+5, stream.Live), aReplay(replayID+4, ""), aReplay(replayID+3, stream.Sandbox), aReplay(replayID, stream.Live)}
	for _, x := range [][2]string{{"POST", "/v1/replays"}, {"GET", "/v1/replays"}, {"GET", "/v1/replays/1772442000000"}, {"POST", "/v1/replays/1772442000000/cancel"}} {
		w := h.do(request(x[0], x[1], "user11", map[string]string{"POST/v1/replays": "{}"}[x[0]+x[1]]))
		require.Equal(t, 403, w.Code, x)
	}

	require.Equal(t, 202, h.do(request("POST", "/v1/replays", "sandbox", `{"user":"21"}`)).Code)
	require.Equal(t, stream.Sandbox, d.order.Filter.World)
	for _, body := range []string{
		`{"user":"11"}`, `{"user":"777"}`,
		`{"account":"` + h.uuid(bankfeed.KindAccount, 2, 101) + `"}`,
		`{"user":"` + h.uuid(bankfeed.KindUser, 2, 11) + `"}`,
	} {
		require.Equal(t, 404, h.do(request("POST", "/v1/replays", "sandbox", body)).Code, body)
	}

	ids := func(token string) (ids []string) {
		target := "/v1/replays?limit=1"
		for {
			w := h.do(request("GET", target, token, ""))
			require.Equal(t, 200, w.Code)
			var page ReplayList
			require.NoError(t, json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&page))
			for _, r := range page.Items {
				ids = append(ids, r.ID)
			}
			if page.Next == "" {
				return ids
			}
			target = "/v1/replays?limit=1&after=" + page.Next
		}
	}
	require.Equal(t, []string{"1772442000005", "1772442000004", "1772442000000"}, ids("live"))
	require.Equal(t, []string{"1772442000003"}, ids("sandbox"))
	require.Empty(t, ids("foreign"))

	for target, token := range map[string]string{
		"/v1/replays/1772442000005": "sandbox", "/v1/replays/1772442000004": "sandbox", "/v1/replays/1772442000003": "live",
		"/v1/replays/1772442000000": "foreign", "/v1/replays/7": "live", "/v1/replays/x": "live",
	} {
		require.Equal(t, 404, h.do(request("GET", target, token, "")).Code, target)
		require.Equal(t, 404, h.do(request("POST", target+"/cancel", token, "")).Code, target)
	}
	require.Empty(t, d.cancels)
}

// One request passes over a bounded part of what the caller may not see.
func TestAPageOfReplaysIsFoundInBoundedSteps(t *testing.T) {
	h, d := withReplays(t)
	d.list = nil
	for n := range int64(3000) {
		d.list = append(d.list, aReplay(replayID+3000-n, stream.Live))
	}
	d.list = append(d.list, aReplay(replayID, stream.Sandbox))
	requests, ids := 0, []string{}
	for target := "/v1/replays?limit=1"; ; {
		d.lists = 0
		requests++
		w := h.do(request("GET", target, "sandbox", ""))
		require.Equal(t, 200, w.Code)
		require.LessOrEqual(t, d.lists, 10)
		var page ReplayList
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		for _, r := range page.Items {
			ids = append(ids, r.ID)
		}
		if page.Next == "" {
			break
		}
		target = "/v1/replays?limit=1&after=" + page.Next
	}
	require.Equal(t, []string{"1772442000000"}, ids)
	require.LessOrEqual(t, requests, 5)
}

func TestWithoutAStreamThereAreNoReplays(t *testing.T) {
	h := newHarness(t)
	require.Nil(t, h.api.Replays)
	require.Equal(t, 404, h.do(request("POST", "/v1/replays", "live", "{}")).Code)
	require.Equal(t, 404, h.do(request("GET", "/v1/replays/1", "live", "")).Code)
	require.Equal(t, 200, h.do(request("GET", "/v1/replays", "live", "")).Code)
}

func TestAnUncountedReplayHasNoTotal(t *testing.T) {
	r := aReplay(replayID, stream.Live)
	r.Total = stream.TotalUnknown
	require.Nil(t, replay(r).Total)
}
