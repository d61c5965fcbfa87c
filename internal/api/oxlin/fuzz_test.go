package oxlin_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/oxlin"
)

// fuzzed sends what a stranger made up and checks what must hold of every
// answer: no fault of the hub, an error in the dialect's shape.
func (c *client) fuzzed(t *testing.T, method, path, query, body string) int {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.URL.RawQuery = query
	r.Header.Set("Authorization", "Bearer user")
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, r)
	require.Less(t, w.Code, 500, w.Body.String())
	if w.Code >= 400 {
		var e wire.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.NotEmpty(t, e.Code)
		require.NotEmpty(t, e.Description)
	}
	return w.Code
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"topics":["connections"]}`, `{"provider_id":"200","channels":[{"channel_definition_id":"20000","credentials":{"login":"a","password":"b"}}],"redirect_url":"https://a.example"}`,
		`{"email":"a@example.org","password":"secret1","business_context":"business"}`, `{"code":"1","method_id":"m"}`, `{"session_external_id":null}`,
		``, `null`, `[]`, `{"topics":[null]}`, `{"channels":[[[]]]}`, "\xff", `{"email":{"email":{}}}`, `{"Topics":["x"],"topics":["connections"]}`,
	} {
		f.Add(s)
	}
	c := newClient(f)
	c.hub.steps = []bankfeed.LinkStep{{Mode: bankfeed.Redirect}}
	f.Fuzz(func(t *testing.T, body string) {
		c.hub.linking, c.hub.answer = bankfeed.Linking{}, bankfeed.Answer{}
		for _, x := range [][2]string{
			{"POST", "/v2.1/queues/subscribe"}, {"POST", "/v2.1/connections"}, {"PUT", "/v2.1/connections/12/credentials"},
			{"POST", "/v2.1/connections/12/user_inputs"}, {"POST", "/v2.1/connections/12/synchronize"},
		} {
			code := c.fuzzed(t, x[0], x[1], "", body)
			if code >= 400 {
				continue
			}
			// What was taken in is text that every database keeps.
			for _, s := range []string{c.hub.linking.RedirectURL, c.hub.linking.SessionExternalID, c.hub.linking.ConsentExternalID, c.hub.answer.MethodID, string(c.hub.answer.Code)} {
				require.Equal(t, strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), ""), s)
			}
			for _, ch := range c.hub.linking.Channels {
				require.Contains(t, []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded}, ch.Mode)
			}
		}
	})
}

func FuzzQueueQuery(f *testing.F) {
	for _, s := range []string{"", "after=0", "after=14&limit=500&wait=30", "after=-1", "limit=501", "wait=1e9", "after=1&after=x", "%", "a;b", "user_id=8", "after=%00"} {
		f.Add(s)
	}
	c := newClient(f)
	c.hub.queues["q1"] = true
	f.Fuzz(func(t *testing.T, query string) {
		c.hub.reads = nil
		code := c.fuzzed(t, "GET", "/v2.1/queues/q1", query, "")
		if code != 204 {
			require.Empty(t, c.hub.reads)
			return
		}
		require.Len(t, c.hub.reads, 1)
		got := c.hub.reads[0]
		require.GreaterOrEqual(t, got.after, bankfeed.Position(-1))
		require.True(t, got.limit >= 1 && got.limit <= 500)
		require.True(t, got.wait >= 0 && got.wait.Seconds() <= 30)
		values, err := url.ParseQuery(query)
		require.NoError(t, err, "a query that is not readable is refused")
		require.Equal(t, values.Get("after") == "", got.after == -1)
	})
}

func FuzzListQuery(f *testing.F) {
	for _, s := range []string{"", "page=2&limit=3", "type=LOAN&q=x&sort=-name", "start_date=0&end_date=99999999999", "amount=1e12&min_amount=-0", "included_statuses=BOOKED,,OTHER", "account_id=501"} {
		f.Add(s)
	}
	c := newClient(f)
	f.Fuzz(func(t *testing.T, query string) {
		c.hub.filters = nil
		c.fuzzed(t, "GET", "/v2.1/accounts", query, "")
		if c.fuzzed(t, "GET", "/v2.1/transactions", query, "") != 200 {
			require.Empty(t, c.hub.filters)
		}
		for _, filter := range c.hub.filters {
			require.True(t, filter.Limit >= 1 && filter.Limit <= 500 && filter.Offset >= 0)
		}
	})
}
