package native

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

func withCallbacks(t *testing.T) (*harness, *targets) {
	h, f := newHarness(t), newTargets()
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no server") }}
	h.api.Callbacks = &callback.Service{
		Store: f, URLs: callback.NewSender(callback.SenderConfig{Resolver: nowhere}), Now: func() time.Time { return t0 },
		Changed: func(k callback.Key) { f.told = append(f.told, k) },
	}
	h.api.CallbackSecrets = f
	for range 3 {
		h.append(1, 11, bankfeed.EventSyncStarted, nil)
	}
	return h, f
}

const subscribeBody = `{"name":"ledger","url":"https://receiver.example/in","types":["account.*","sync.failed"],"user":"11","connection":"101","account":"101",` +
	`"ordered":true,"concurrent":4,"per_second":50,"max_retries":3,"headers":{"id":"X-Id","static":{"Authorization":"Bearer ` + secretText + `"}}}`

func TestCallbackEndpoints(t *testing.T) {
	c := newContract(t, newHarness(t))
	for _, x := range []struct {
		name, method, target, body string
		status                     int
		asked                      string
	}{
		{"callback_create", "POST", "/v1/callbacks", subscribeBody, 201, ""},
		{"callbacks", "GET", "/v1/callbacks?limit=2", "", 200, ""},
		{"callback", "GET", "/v1/callbacks/4", "", 200, ""},
		{"callback_request", "GET", "/v1/callbacks/5", "", 200, ""},
		{"callback_change", "PATCH", "/v1/callbacks/4", `{"name":"","url":"https://other.example/","types":[],"user":"","ordered":false,"headers":{"static":{"Authorization":"***"}}}`, 200, ""},
		{"", "DELETE", "/v1/callbacks/4", "", 204, ""},
		{"callback_pause", "POST", "/v1/callbacks/4/pause", "", 200, ""},
		{"callback_disable", "POST", "/v1/callbacks/4/disable", "", 200, ""},
		{"callback_enable", "POST", "/v1/callbacks/5/enable", "", 200, ""},
		{"", "POST", "/v1/callbacks/4/resume", "", 200, ""}, // it is active already
		{"callback_deliveries", "GET", "/v1/callbacks/4/deliveries?states=given_up,skipped&limit=1", "", 200, ""},
		{"callback_all_deliveries", "GET", "/v1/callbacks/deliveries", "", 200, ""},
		{"callback_delivery", "GET", "/v1/callbacks/4/deliveries/40", "", 200, "attempts 40 after=0 limit=100"},
		{"", "POST", "/v1/callbacks/4/deliveries/40/redrive", "", 202, "attempts 40 after=0 limit=100, redrive dry=false"},
		{"callback_redrive", "POST", "/v1/callbacks/4/redrive", `{"causes":["dns"]}`, 202, "redrive dry=false"},
		{"", "POST", "/v1/callbacks/4/redrive", "", 202, "redrive dry=false"},
		{"callback_redrive_dry", "POST", "/v1/callbacks/4/redrive", `{"dry_run":true}`, 200, "redrive dry=true"},
		{"callback_replay", "POST", "/v1/callbacks/4/replay", `{"types":["sync.*"]}`, 202, "replay dry=false"},
		{"callback_replay_dry", "POST", "/v1/callbacks/4/replay", `{"dry_run":true}`, 200, "replay dry=true"},
		{"callback_secrets", "GET", "/v1/callbacks/secrets", "", 200, ""},
		{"callback_secret_create", "POST", "/v1/callbacks/secrets", "", 201, ""},
		{"", "DELETE", "/v1/callbacks/secrets/2", "", 204, "retire 2"},
	} {
		t.Run(x.method+x.target, func(t *testing.T) {
			h, f := withCallbacks(t)
			r := request(x.method, x.target, "live", x.body)
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			c.check(t, r, x.body, w)
			if x.name != "" {
				golden(t, x.name, w.Body.Bytes())
			}
			require.NotContains(t, w.Body.String(), "hunter2")
			require.Equal(t, x.asked, strings.Join(f.asked, ", "))
			require.Empty(t, h.log.String())

			before := f.asked
			w = h.do(request(x.method, x.target, "user11", x.body))
			require.Equal(t, http.StatusForbidden, w.Code, "a user's token")
			c.check(t, r, x.body, w)
			require.Equal(t, before, f.asked)
			if !strings.ContainsAny(x.target, "456") {
				return
			}
			// Another's, another world's and unknown ones are the same.
			h, f = withCallbacks(t)
			unknown := h.do(request(x.method, strings.NewReplacer("/4", "/999", "/5", "/999").Replace(x.target), "live", x.body))
			require.Equal(t, http.StatusNotFound, unknown.Code)
			for _, token := range []string{"foreign", "sandbox"} {
				w := h.do(request(x.method, x.target, token, x.body))
				require.Equal(t, http.StatusNotFound, w.Code, token)
				require.Equal(t, unknown.Body.String(), w.Body.String())
			}
			require.Empty(t, f.told)
		})
	}
}

func TestCallbackIsCreatedAsAsked(t *testing.T) {
	h, f := withCallbacks(t)
	w := h.do(request("POST", "/v1/callbacks", "live", subscribeBody))
	require.Equal(t, "/v1/callbacks/7", w.Header().Get("Location"))
	require.Contains(t, w.Body.String(), `"secret":"whsec_first"`)
	got := f.list[len(f.list)-1]
	retries := 3
	require.Equal(t, callback.Target{
		Key: callback.Key{Tenant: 1, ID: 7}, Client: "live", URL: "https://receiver.example/in", Origin: "https://receiver.example:443",
		Status: callback.Active, CreatedAt: t0, Cursors: []callback.Cursor{{Epoch: installation.Epoch, Position: 3}},
		Subscription: &callback.Settings{
			Name: "ledger", Types: []bankfeed.EventType{bankfeed.EventAccountCreated, bankfeed.EventAccountRemoved, bankfeed.EventAccountUpdated, bankfeed.EventSyncFailed},
			User: 11, Connection: 101, Account: 101, Ordered: true, Concurrent: 4, PerSecond: 50, Retries: &retries,
			Headers: callback.Headers{ID: "X-Id", Static: map[string]bankfeed.Secret{"Authorization": "Bearer " + secretText}},
		},
	}, got)
	require.Equal(t, []callback.Key{{Tenant: 1, ID: 7}}, f.told)

	w = h.do(request("POST", "/v1/callbacks", "sandbox", `{"url":"http://receiver.example:9000","after":"oldest"}`))
	require.Equal(t, 201, w.Code, w.Body.String())
	require.NotContains(t, w.Body.String(), "whsec", "shown once")
	got = f.list[len(f.list)-1]
	require.True(t, got.Sandbox)
	require.Empty(t, got.Subscription.Types)
	require.Equal(t, []callback.Cursor{{Epoch: installation.Epoch}}, got.Cursors)

	// From where a reader of the log has come to.
	var page EventList
	require.NoError(t, json.Unmarshal(h.do(request("GET", "/v1/events?limit=2", "live", "")).Body.Bytes(), &page))
	w = h.do(request("POST", "/v1/callbacks", "live", `{"url":"https://receiver.example","after":"`+page.Next+`"}`))
	require.Equal(t, 201, w.Code, w.Body.String())
	require.Equal(t, bankfeed.Position(2), f.list[len(f.list)-1].Cursors[0].Position)
}

func TestCallbackIsChangedAsAsked(t *testing.T) {
	h, f := withCallbacks(t)
	before := f.list[0]
	settings := *before.Subscription
	w := h.do(request("PATCH", "/v1/callbacks/"+h.uuid(bankfeed.KindTarget, 1, 4), "live", `{"concurrent":0,"headers":{"id":"X-Id","static":{"Authorization":"***","X-New":"1"}}}`))
	require.Equal(t, 200, w.Code, w.Body.String())
	settings.Concurrent = 0
	settings.Headers = callback.Headers{ID: "X-Id", Static: map[string]bankfeed.Secret{"Authorization": "Bearer " + secretText, "X-New": "1"}}
	require.Equal(t, &settings, f.list[0].Subscription, "what is not named stays")
	require.Equal(t, before.URL, f.list[0].URL)
	require.Equal(t, []callback.Key{{Tenant: 1, ID: 4}}, f.told)

	// What was shown may be sent back, with its stars and in any spelling.
	var shown Callback
	require.NoError(t, json.Unmarshal(h.do(request("GET", "/v1/callbacks/4", "live", "")).Body.Bytes(), &shown))
	require.Contains(t, shown.URL, hidden)
	w = h.do(request("PATCH", "/v1/callbacks/4", "live", `{"url":"`+shown.URL+`","headers":{"id":"X-Id","static":{"authorization":"***","X-New":"2"}}}`))
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Equal(t, before.URL, f.list[0].URL)
	require.Equal(t, map[string]bankfeed.Secret{"authorization": "Bearer " + secretText, "X-New": "2"}, f.list[0].Subscription.Headers.Static)

	w = h.do(request("PATCH", "/v1/callbacks/4", "live", `{"url":"https://Other.example/x","types":[],"user":"","connection":"","account":"","max_retries":0}`))
	require.Equal(t, 200, w.Code, w.Body.String())
	got := f.list[0]
	require.Equal(t, "https://other.example:443", got.Origin)
	require.Zero(t, got.Subscription.User)
	require.Zero(t, got.Subscription.Connection)
	require.Zero(t, got.Subscription.Account)
	require.Empty(t, got.Subscription.Types)
	require.Zero(t, *got.Subscription.Retries)
}

func TestCallbackStatuses(t *testing.T) {
	h, f := withCallbacks(t)
	post := func(verb string) int { return h.do(request("POST", "/v1/callbacks/4/"+verb, "live", "")).Code }
	for _, x := range []struct {
		verb   string
		status int
		is     callback.Status
	}{
		{"enable", 200, callback.Active}, {"pause", 200, callback.Paused}, {"pause", 200, callback.Paused}, {"enable", 409, callback.Paused},
		{"resume", 200, callback.Active}, {"disable", 200, callback.Disabled}, {"resume", 409, callback.Disabled}, {"pause", 409, callback.Disabled},
		{"enable", 200, callback.Active}, {"pause", 200, callback.Paused}, {"disable", 200, callback.Disabled},
	} {
		require.Equal(t, x.status, post(x.verb), x.verb)
		require.Equal(t, x.is, f.list[0].Status)
		require.Equal(t, x.is != callback.Active, f.list[0].Reason != "")
	}
	require.Equal(t, 204, h.do(request("DELETE", "/v1/callbacks/4", "live", "")).Code)
	require.Equal(t, 404, post("enable"))
	require.Equal(t, 404, h.do(request("GET", "/v1/callbacks/4", "live", "")).Code)
}

func TestDeliveryFilterIsRead(t *testing.T) {
	h, f := withCallbacks(t)
	event := bankfeed.EventID(installation.Epoch, 1, 0, 2)
	target := "/v1/callbacks/4/deliveries?states=waiting,given_up&causes=dns,timeout&types=sync.*&user=" + h.uuid(bankfeed.KindUser, 1, 11) +
		"&connection=101&from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z&limit=9&event=" + event.String() + "&after=" + numberCursor(callback.DeliveryID(77))
	w := h.do(request("GET", target, "live", ""))
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Equal(t, callback.DeliveryQuery{
		Tenant: 1, Target: 4, States: []callback.State{callback.Waiting, callback.GivenUp}, Causes: []callback.Cause{callback.CauseDNS, callback.CauseTimeout},
		Types: []bankfeed.EventType{bankfeed.EventSyncFailed, bankfeed.EventSyncStarted, bankfeed.EventSyncSucceeded}, User: 11, Connection: 101, Position: 2,
		From: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Before: 77, Limit: 9,
	}, f.query)
	require.Contains(t, w.Body.String(), `"id":"40"`)

	// The same position of another epoch, or replay, is another event.
	for id, want := range map[bankfeed.UUID]string{
		bankfeed.EventID(installation.Epoch+1, 1, 0, 2): "",
		bankfeed.EventID(1_772_000_000_000, 1, 0, 2):    `"id":"50"`,
		bankfeed.EventID(installation.Epoch, 2, 0, 2):   "",
		installation.UUID(bankfeed.KindDelivery, 1, 50): "",
		bankfeed.EventID(installation.Epoch, 1, 0, 2):   `"id":"40"`,
		(bankfeed.UUID{}): "",
		bankfeed.EventID(installation.Epoch-500, 1, 0, 1<<30): "",
	} {
		w := h.do(request("GET", "/v1/callbacks/deliveries?event="+id.String(), "live", ""))
		require.Equal(t, 200, w.Code)
		if want == "" {
			require.JSONEq(t, `{"items":[]}`, w.Body.String(), id)
		} else {
			require.Contains(t, w.Body.String(), want)
		}
	}
	// What was given out to somebody else names nothing.
	w = h.do(request("GET", "/v1/callbacks/deliveries?user="+h.uuid(bankfeed.KindUser, 2, 11), "live", ""))
	require.JSONEq(t, `{"items":[]}`, w.Body.String())
	w = h.do(request("POST", "/v1/callbacks/4/redrive", "live", `{"user":"`+h.uuid(bankfeed.KindUser, 2, 11)+`"}`))
	require.JSONEq(t, `{"count":0}`, w.Body.String())
	require.Empty(t, f.asked)
	// A delivery is found below its own callback only.
	require.Equal(t, 404, h.do(request("GET", "/v1/callbacks/5/deliveries/40", "live", "")).Code)

	w = h.do(request("POST", "/v1/callbacks/4/redrive", "live", `{"states":["skipped"],"causes":["gone"],"types":["sync.failed"],"user":"11","connection":"101","from":"2026-03-01T01:00:00+01:00"}`))
	require.Equal(t, 202, w.Code, w.Body.String())
	require.Equal(t, callback.DeliveryQuery{
		Tenant: 1, Target: 4, States: []callback.State{callback.Skipped}, Causes: []callback.Cause{callback.CauseGone}, Types: []bankfeed.EventType{bankfeed.EventSyncFailed},
		User: 11, Connection: 101, From: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Limit: f.query.Limit,
	}, f.query)
	require.Equal(t, []callback.Key{{Tenant: 1, ID: 4}}, f.told)

	h.do(request("POST", "/v1/callbacks/4/deliveries/40/redrive", "live", ""))
	require.Equal(t, callback.DeliveryQuery{Tenant: 1, Target: 4, After: 39, Before: 41, Limit: f.query.Limit}, f.query)

	w = h.do(request("POST", "/v1/callbacks/4/replay", "live", `{"types":["account.*"],"user":"11","connection":"101","account":"101","from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","first":2,"last":9}`))
	require.Equal(t, 202, w.Code, w.Body.String())
	require.Equal(t, callback.ReplayQuery{
		Key: callback.Key{Tenant: 1, ID: 4}, Types: []bankfeed.EventType{bankfeed.EventAccountCreated, bankfeed.EventAccountRemoved, bankfeed.EventAccountUpdated},
		User: 11, Connection: 101, Account: 101, From: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
		First: 2, Last: 9, Limit: callback.MaxReplay,
	}, f.replay)

	h.do(request("POST", "/v1/callbacks/secrets", "live", `{"retire_others_at":"2026-03-02T00:00:00Z"}`))
	require.Equal(t, time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), f.until.UTC())
}

func TestCallbackProblems(t *testing.T) {
	c := newContract(t, newHarness(t))
	for _, x := range []struct {
		name, method, target, body string
		found                      int
		fail                       error
		status                     int
	}{
		{"callback_url", "POST", "/v1/callbacks", `{"url":"` + secretText + `"}`, 0, nil, 422},
		{"callback_http", "POST", "/v1/callbacks", `{"url":"http://` + secretText + `.example"}`, 0, nil, 422},
		{"callback_inside", "POST", "/v1/callbacks", `{"url":"https://169.254.169.254/` + secretText + `"}`, 0, nil, 422},
		{"callback_no_url", "POST", "/v1/callbacks", `{"name":"x"}`, 0, nil, 422},
		{"callback_types", "POST", "/v1/callbacks", `{"url":"https://a.example","types":["` + secretText + `"]}`, 0, nil, 422},
		{"callback_seen", "POST", "/v1/callbacks", `{"url":"https://a.example","types":["account.seen"]}`, 0, nil, 422},
		{"callback_user", "POST", "/v1/callbacks", `{"url":"https://a.example","user":"21"}`, 0, nil, 404},
		{"callback_connection", "POST", "/v1/callbacks", `{"url":"https://a.example","connection":"` + secretText + `"}`, 0, nil, 422},
		{"callback_after", "POST", "/v1/callbacks", `{"url":"https://a.example","after":"` + secretText + `"}`, 0, nil, 422},
		{"callback_headers", "POST", "/v1/callbacks", `{"url":"https://a.example","headers":{"static":{"Content-Type":"` + secretText + `"}}}`, 0, nil, 422},
		{"callback_header_name", "PATCH", "/v1/callbacks/4", `{"headers":{"signature":"bankfeed-event"}}`, 0, nil, 422},
		{"callback_limits", "PATCH", "/v1/callbacks/4", `{"concurrent":257,"per_second":-1,"max_retries":51}`, 0, nil, 422},
		{"callback_origin_change", "PATCH", "/v1/callbacks/5", `{"name":"x"}`, 0, nil, 409},
		{"callback_origin_delete", "DELETE", "/v1/callbacks/5", "", 0, nil, 409},
		{"callback_resume", "POST", "/v1/callbacks/5/resume", "", 0, nil, 409},
		{"callback_not_redriven", "POST", "/v1/callbacks/4/deliveries/40/redrive", "", 0, nil, 409},
		{"callback_replay_much", "POST", "/v1/callbacks/4/replay", "", callback.MaxReplay + 1, nil, 413},
		{"callback_replay_origin", "POST", "/v1/callbacks/5/replay", "", 1, nil, 409},
		{"callback_states", "GET", "/v1/callbacks/deliveries?states=" + secretText, "", 0, nil, 422},
		{"callback_event", "GET", "/v1/callbacks/deliveries?event=" + secretText[:20], "", 0, nil, 422},
		{"callback_cursor", "GET", "/v1/callbacks?after=" + secretText, "", 0, nil, 422},
		{"callback_secret", "DELETE", "/v1/callbacks/secrets/" + secretText, "", 0, nil, 404},
		{"callback_secret_conflict", "POST", "/v1/callbacks/secrets", "", 0, bankfeed.Errorf(bankfeed.Conflict, "there are 2 live secrets: retire one first"), 409},
	} {
		t.Run(x.name, func(t *testing.T) {
			h, f := withCallbacks(t)
			f.fail, f.found = x.fail, x.found
			r := request(x.method, x.target, "live", x.body)
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			require.Equal(t, problemType, w.Header().Get("Content-Type"))
			golden(t, "problem_"+x.name, w.Body.Bytes())
			require.NotContains(t, w.Body.String()+h.log.String(), "hunter2")
			c.check(t, r, x.body, w)
			require.Empty(t, f.told)
			require.Len(t, f.list, 3)
		})
	}
	h, f := withCallbacks(t)
	f.found = callback.MaxReplay + 1
	require.JSONEq(t, `{"count":100000,"more":true}`, h.do(request("POST", "/v1/callbacks/4/replay", "live", `{"dry_run":true}`)).Body.String())
	f.list[0].Status = callback.Disabled
	require.Equal(t, 409, h.do(request("POST", "/v1/callbacks/4/replay", "live", `{}`)).Code)
}

// A sandbox client has callbacks of its own, and sees no others.
func TestCallbacksKeepTheWorldsApart(t *testing.T) {
	h, _ := withCallbacks(t)
	ids := func(token string) (ids []string) {
		var list CallbackList
		require.NoError(t, json.Unmarshal(h.do(request("GET", "/v1/callbacks", token, "")).Body.Bytes(), &list))
		for _, x := range list.Items {
			ids = append(ids, x.ID)
		}
		return ids
	}
	require.Equal(t, []string{"4", "5"}, ids("live"))
	require.Equal(t, []string{"6"}, ids("sandbox"))
	require.Empty(t, ids("foreign"))
	require.Equal(t, 404, h.do(request("GET", "/v1/callbacks/6", "live", "")).Code)
	require.Equal(t, 200, h.do(request("GET", "/v1/callbacks/6", "sandbox", "")).Code)
	require.Contains(t, h.do(request("GET", "/v1/callbacks/deliveries", "sandbox", "")).Body.String(), `"id":"60"`)
	require.Equal(t, 404, h.do(request("POST", "/v1/callbacks", "sandbox", `{"url":"http://a.example","user":"11"}`)).Code)
	require.Contains(t, h.do(request("GET", "/v1/callbacks?kind=request", "live", "")).Body.String(), `"id":"5"`)
	require.NotContains(t, h.do(request("GET", "/v1/callbacks?kind=request", "live", "")).Body.String(), `"id":"4"`)
}

func TestShownURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://a.example/x":                        "https://a.example/x",
		"https://me@a.example":                       "https://me@a.example",
		"https://me:hunter2@a.example/p?q=hunter2&r": "https://me:***@a.example/p?q=***&r=***",
		"http://%": "***",
	} {
		require.Equal(t, want, shownURL(bankfeed.Secret(raw)))
	}
}
