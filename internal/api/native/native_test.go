package native

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata/name.json.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, bytes.TrimSpace(body), "", "  "), string(body))
	b.WriteByte('\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// contract checks exchanges against the document that the API serves.
type contract struct{ router routers.Router }

func newContract(t testing.TB, h *harness) contract {
	t.Helper()
	w := h.do(request("GET", "/openapi/native.json", "", ""))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/openapi+json", w.Header().Get("Content-Type"))
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return contract{router}
}

// check validates an answer, and the request too if it was accepted.
func (c contract) check(t *testing.T, r *http.Request, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	again := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(body))
	again.Header = r.Header
	route, params, err := c.router.FindRoute(again)
	require.NoError(t, err)
	in := &openapi3filter.RequestValidationInput{
		Request: again, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if w.Code < 300 {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), in))
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: w.Code, Header: w.Header()}
	if w.Body.Len() > 0 {
		out.SetBodyBytes(w.Body.Bytes())
		require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out), w.Body.String())
	}
}

const (
	linkBody  = `{"user":"11","provider_id":"200","channels":[{"mode":"REDIRECT"},{"mode":"EMBEDDED","credentials":{"login":"me","password":"` + secretText + `"}}],"redirect_url":"https://client.example/back","session_external_id":"s-1","consent_external_id":"c-1"}`
	renewBody = `{"channels":[{"mode":"REDIRECT"}]}`
)

func TestEndpoints(t *testing.T) {
	h := newHarness(t)
	c := newContract(t, h)
	account101 := h.uuid(bankfeed.KindAccount, 1, 101)
	for _, x := range []struct {
		name, method, target, token, body string
		headers                           []string
		status                            int
		location                          string
	}{
		{"user_create", "POST", "/v1/users", "live", `{"external_id":"customer-13","email":"a@b.example","password":"` + secretText + `"}`, nil, 201, "/v1/users/13"},
		{"users", "GET", "/v1/users?limit=1", "live", "", nil, 200, ""},
		{"users_own", "GET", "/v1/users", "user11", "", nil, 200, ""},
		{"user", "GET", "/v1/users/11", "live", "", nil, 200, ""},
		{"", "DELETE", "/v1/users/11", "live", "", nil, 202, ""},
		{"providers", "GET", "/v1/providers", "live", "", nil, 200, ""},
		{"provider", "GET", "/v1/providers/200", "sandbox", "", nil, 200, ""},
		{"connection_create", "POST", "/v1/connections", "live", linkBody, []string{"PSU-IP-Address: 192.0.2.7", "PSU-User-Agent: Firefox"}, 201, "/v1/connections/101"},
		{"connection_renew", "POST", "/v1/connections/101/renew?user=11", "live", renewBody, nil, 202, "/v1/sessions/101"},
		{"answer", "POST", "/v1/connections/101/answers", "user11", `{"mode":"EMBEDDED","code":"123456"}`, nil, 200, ""},
		{"connections", "GET", "/v1/connections?user=11", "live", "", nil, 200, ""},
		{"connection", "GET", "/v1/connections/101", "user11", "", nil, 200, ""},
		{"", "DELETE", "/v1/connections/101", "user11", "", nil, 202, ""},
		{"session_start", "POST", "/v1/connections/101/sessions", "user11", `{"type":"LIST_ACCOUNTS","external_id":"mine"}`, []string{"PSU-IP-Address: 2001:db8::1"}, 202, "/v1/sessions/101"},
		{"session_join", "POST", "/v1/connections/101/sessions", "user11", `{"external_id":"second"}`, nil, 202, "/v1/sessions/101"},
		{"sessions", "GET", "/v1/sessions?connection=101&limit=1", "user11", "", nil, 200, ""},
		{"session", "GET", "/v1/sessions/101", "user11", "", nil, 200, ""},
		{"consents", "GET", "/v1/consents?connection=101", "user11", "", nil, 200, ""},
		{"consent", "GET", "/v1/consents/101", "user11", "", nil, 200, ""},
		{"", "DELETE", "/v1/consents/101", "user11", "", nil, 202, ""},
		{"", "DELETE", "/v1/accounts/101", "user11", "", nil, 202, ""},
		{"accounts", "GET", "/v1/accounts?connection=101&removed=true", "user11", "", nil, 200, ""},
		{"account", "GET", "/v1/accounts/" + account101, "user11", "", nil, 200, ""},
		{"transactions", "GET", "/v1/transactions?limit=1&status=booked,pending&from=2026-01-01&to=2026-12-31&min_amount=-20&max_amount=20.5&created_since=2026-01-01T00:00:00Z", "user11", "", nil, 200, ""},
		{"transaction", "GET", "/v1/transactions/101", "user11", "", nil, 200, ""},
		{"", "GET", "/v1/events", "live", "", nil, 200, ""},
	} {
		t.Run(x.method+x.target, func(t *testing.T) {
			r := request(x.method, x.target, x.token, x.body, x.headers...)
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			require.Equal(t, x.location, w.Header().Get("Location"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			c.check(t, r, x.body, w)
			if x.name != "" {
				golden(t, x.name, w.Body.Bytes())
			}
			require.NotContains(t, w.Body.String(), "hunter2")
		})
	}
	require.Equal(t, []owner{{1, 11}}, h.erased)
	require.Equal(t, []string{"connection 101", "consent 101", "account 101"}, h.deleted)
	require.Equal(t, secretText, string(h.created.Password))
	require.Empty(t, h.log.String())
}

func TestLinkingPassesEverythingOn(t *testing.T) {
	h := newHarness(t)
	h.do(request("POST", "/v1/connections", "live", linkBody, "PSU-IP-Address: ::ffff:192.0.2.7", "PSU-User-Agent: Firefox"))
	require.Equal(t, bankfeed.Linking{
		Tenant: 1, User: 11, Provider: "200", RedirectURL: "https://client.example/back", PSU: &bankfeed.PSU{IP: "192.0.2.7", UserAgent: "Firefox"},
		SessionExternalID: "s-1", ConsentExternalID: "c-1",
		Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}, {Mode: bankfeed.Embedded, Login: "me", Password: secretText}},
	}, h.linking)

	h.do(request("POST", "/v1/connections/201/renew", "user21", renewBody))
	require.Equal(t, bankfeed.Linking{
		Tenant: 1, User: 21, Sandbox: true, Renew: 201, Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}},
	}, h.linking)

	h.do(request("POST", "/v1/connections/101/answers?user=11", "live", `{"user":"`+h.uuid(bankfeed.KindUser, 1, 11)+`","login":"me","password":"x","method_id":"9"}`, "PSU-IP-Address: 192.0.2.7"))
	require.Equal(t, bankfeed.Answer{Tenant: 1, User: 11, Connection: 101, PSU: &bankfeed.PSU{IP: "192.0.2.7"}, Login: "me", Password: "x", MethodID: "9"}, h.answer)
}

func TestSessionIsAttendedByItsHeaderOnly(t *testing.T) {
	h := newHarness(t)
	h.do(request("POST", "/v1/connections/101/sessions", "user11", ""))
	require.Equal(t, bankfeed.SyncOrder{Tenant: 1, User: 11, Connection: 101, Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser}, h.order)
	h.do(request("POST", "/v1/connections/101/sessions", "user11", "{}", "PSU-IP-Address: 192.0.2.7"))
	require.Equal(t, &bankfeed.PSU{IP: "192.0.2.7"}, h.order.PSU)
	require.Equal(t, bankfeed.SessionAll, h.order.Type)
}

// Promise 9: a tenant, a user and the other world never learn of each other.
func TestForeignUnknownAndExpiredAreTheSame(t *testing.T) {
	h := newHarness(t)
	var want string
	for _, kind := range []struct {
		path string
		kind bankfeed.Kind
	}{
		{"/v1/connections/", bankfeed.KindConnection},
		{"/v1/sessions/", bankfeed.KindSession},
		{"/v1/consents/", bankfeed.KindConsent},
		{"/v1/accounts/", bankfeed.KindAccount},
		{"/v1/transactions/", bankfeed.KindTransaction},
		{"/v1/accounts?connection=", bankfeed.KindConnection},
		{"/v1/consents?connection=", bankfeed.KindConnection},
		{"/v1/sessions?connection=", bankfeed.KindConnection},
		{"/v1/transactions?connection=", bankfeed.KindConnection},
		{"/v1/transactions?account=", bankfeed.KindAccount},
	} {
		for name, id := range map[string]string{
			"never given out": "777", "of another user": "102", "of the other world": "201", "zero": "0", "garbage": "abc", "long": strings.Repeat("9", 600),
			"UUID of another user":         h.uuid(kind.kind, 1, 102),
			"UUID of another tenant":       h.uuid(kind.kind, 2, 901),
			"UUID of another kind":         h.uuid(bankfeed.KindTenant, 1, 101),
			"UUID of another installation": "00000000-0000-8003-8000-000000000065",
		} {
			w := h.do(request("GET", kind.path+id, "user11", ""))
			require.Equal(t, 404, w.Code, "%s %s", kind.path, name)
			if want == "" {
				want = w.Body.String()
				golden(t, "problem_not_found", w.Body.Bytes())
			}
			require.Equal(t, want, w.Body.String(), "%s %s", kind.path, name)
		}
	}
	for name, x := range map[string]struct{ method, target, token, body string }{
		"a user's token names another user":    {"GET", "/v1/connections?user=12", "user11", ""},
		"a client names a user of elsewhere":   {"GET", "/v1/connections?user=" + h.uuid(bankfeed.KindUser, 2, 11), "live", ""},
		"a live client names a sandbox user":   {"GET", "/v1/connections?user=21", "live", ""},
		"a sandbox client names a live user":   {"GET", "/v1/connections?user=11", "sandbox", ""},
		"a sandbox client reads a live user":   {"GET", "/v1/users/11", "sandbox", ""},
		"a live client reads a sandbox bank":   {"GET", "/v1/providers/200", "live", ""},
		"a user reads another":                 {"GET", "/v1/users/12", "user11", ""},
		"a user erases another":                {"DELETE", "/v1/users/12", "user11", ""},
		"a connection deleted by another":      {"DELETE", "/v1/connections/102", "user11", ""},
		"a consent deleted by another":         {"DELETE", "/v1/consents/102", "user11", ""},
		"an account deleted by another":        {"DELETE", "/v1/accounts/102", "user11", ""},
		"a session started by another":         {"POST", "/v1/connections/102/sessions", "user11", "{}"},
		"a renewal by another":                 {"POST", "/v1/connections/102/renew", "user11", renewBody},
		"an answer by another":                 {"POST", "/v1/connections/102/answers", "user11", `{"code":"1"}`},
		"a link for another":                   {"POST", "/v1/connections", "user11", strings.Replace(linkBody, `"11"`, `"12"`, 1)},
		"events of another":                    {"GET", "/v1/events?user=12", "user11", ""},
		"events of a sandbox user for live":    {"GET", "/v1/events?user=21", "live", ""},
		"a stream of another":                  {"GET", "/v1/events/stream?user=12", "user11", ""},
		"a tenant's number in another's hands": {"GET", "/v1/connections/101?user=11", "foreign", ""},
	} {
		w := h.do(request(x.method, x.target, x.token, x.body))
		require.Equal(t, 404, w.Code, name)
		require.Equal(t, want, w.Body.String(), name)
	}
	require.Empty(t, h.erased)
	require.Empty(t, h.deleted)
	require.Zero(t, h.order)
	require.Zero(t, h.linking)
	require.Zero(t, h.answer)
}

func TestClientsSeeTheirOwnWorld(t *testing.T) {
	h := newHarness(t)
	require.NotContains(t, h.do(request("GET", "/v1/users", "live", "")).Body.String(), `"21"`)
	require.NotContains(t, h.do(request("GET", "/v1/users?external_id=customer-21", "live", "")).Body.String(), "customer-21")
	require.Contains(t, h.do(request("GET", "/v1/users?external_id=customer-21", "sandbox", "")).Body.String(), "customer-21")
	require.NotContains(t, h.do(request("GET", "/v1/providers", "live", "")).Body.String(), "WBX")
	require.NotContains(t, h.do(request("GET", "/v1/providers", "sandbox", "")).Body.String(), "Real Bank")
	require.Equal(t, 200, h.do(request("GET", "/v1/connections?user=21", "sandbox", "")).Code)
}

func TestProblems(t *testing.T) {
	h := newHarness(t)
	c := newContract(t, h)
	long := `{"external_id":"` + strings.Repeat("x", 70_000) + `"}`
	for _, x := range []struct {
		name, method, target, token, body string
		headers                           []string
		fail                              error
		status                            int
	}{
		{name: "no_token", method: "GET", target: "/v1/users", status: 401},
		{name: "bad_token", method: "GET", target: "/v1/users", token: secretText, status: 401},
		{name: "basic", method: "GET", target: "/v1/users", headers: []string{"Authorization: Basic bGl2ZQ=="}, status: 401},
		{name: "no_path", method: "GET", target: "/v1/nothing", token: "live", status: 404},
		{name: "no_method", method: "PUT", target: "/v1/users", token: "live", status: 405},
		{name: "no_user", method: "GET", target: "/v1/accounts", token: "live", status: 422},
		{name: "two_users", method: "POST", target: "/v1/connections?user=12", token: "live", body: linkBody, status: 422},
		{name: "forbidden", method: "POST", target: "/v1/users", token: "user11", body: "{}", status: 403},
		{name: "json", method: "POST", target: "/v1/users", token: "live", body: `{"password":"` + secretText + `"`, status: 400},
		{name: "json_number", method: "POST", target: "/v1/users", token: "live", body: `{"password":1e4000}`, status: 400},
		{name: "no_body", method: "POST", target: "/v1/users", token: "live", status: 400},
		{name: "null_body", method: "POST", target: "/v1/users", token: "live", body: "null", status: 422},
		{name: "types", method: "POST", target: "/v1/connections", token: "user11", body: `{"provider_id":200,"channels":[{"mode":"` + secretText + `","credentials":{"login":["` + secretText + `"]}}]}`, status: 422},
		{name: "unknown_member", method: "POST", target: "/v1/users", token: "live", body: `{"passwort":"` + secretText + `"}`, status: 422},
		{name: "missing", method: "POST", target: "/v1/connections", token: "user11", body: `{"channels":[]}`, status: 422},
		{name: "content_type", method: "POST", target: "/v1/users", token: "live", body: "{}", headers: []string{"Content-Type: text/" + secretText}, status: 415},
		{name: "too_large", method: "POST", target: "/v1/users", token: "live", body: long, status: 413},
		{name: "no_answer", method: "POST", target: "/v1/connections/101/answers", token: "user11", body: "{}", status: 422},
		{name: "address", method: "POST", target: "/v1/connections/101/sessions", token: "user11", body: "{}", headers: []string{"PSU-IP-Address: " + secretText}, status: 422},
		{name: "any_address", method: "POST", target: "/v1/connections/101/sessions", token: "user11", body: "{}", headers: []string{"PSU-IP-Address: ::"}, status: 422},
		{name: "multicast_address", method: "POST", target: "/v1/connections/101/sessions", token: "user11", body: "{}", headers: []string{"PSU-IP-Address: 224.0.0.1"}, status: 422},
		{name: "query", method: "GET", target: "/v1/transactions?limit=" + secretText + "&from=2026-02-30&status=" + secretText + "&created_since=x", token: "user11", status: 422},
		{name: "query_twice", method: "GET", target: "/v1/transactions?account=1&limit=1&account=2", token: "user11", status: 422},
		{name: "query_malformed", method: "GET", target: "/v1/transactions?account=%zz", token: "user11", status: 422},
		{name: "query_unknown", method: "GET", target: "/v1/transactions?acount=1", token: "user11", status: 422},
		{name: "amount", method: "GET", target: "/v1/transactions?min_amount=1,5", token: "user11", status: 422},
		{name: "list_cursor", method: "GET", target: "/v1/transactions?after=" + secretText, token: "user11", status: 422},
		{name: "number_cursor", method: "GET", target: "/v1/sessions?after=MA", token: "user11", status: 422},
		{name: "external_id", method: "GET", target: "/v1/sessions?external_id=a%00b", token: "user11", status: 422},
		{name: "external_id_bytes", method: "GET", target: "/v1/sessions?external_id=%ff", token: "user11", status: 422},
		{name: "external_id_body", method: "POST", target: "/v1/connections/101/sessions", token: "user11", body: `{"external_id":"a\u0000b"}`, status: 422},
		{name: "event_type", method: "GET", target: "/v1/events?types=account.created," + secretText, token: "live", status: 422},
		{name: "event_group", method: "GET", target: "/v1/events?types=tr*", token: "live", status: 422},
		{name: "event_id", method: "GET", target: "/v1/events?connection=" + secretText, token: "live", status: 422},
		{name: "event_cursor", method: "GET", target: "/v1/events?after=" + secretText, token: "live", status: 422},
		{name: "event_limits", method: "GET", target: "/v1/events?limit=1001&wait=31", token: "live", status: 422},
		{name: "invalid", method: "POST", target: "/v1/users", token: "live", body: "{}", fail: bankfeed.InvalidField("email", "is not an email address"), status: 422},
		{name: "conflict", method: "POST", target: "/v1/connections/101/sessions", token: "user11", fail: bankfeed.ErrBusy, status: 409},
		{name: "rate_limited", method: "GET", target: "/v1/accounts/101", token: "user11", fail: &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "slow down", RetryAfter: 1500e6}, status: 429},
		{name: "unavailable", method: "GET", target: "/v1/accounts/101", token: "user11", fail: &bankfeed.Error{Kind: bankfeed.Unavailable, Text: "the bank does not answer", Err: errBroken}, status: 503},
		{name: "internal", method: "GET", target: "/v1/accounts/101", token: "user11", fail: errBroken, status: 500},
	} {
		t.Run(x.name, func(t *testing.T) {
			h.log.Reset()
			h.fail = x.fail
			r := request(x.method, x.target, x.token, x.body, x.headers...)
			w := h.do(r)
			h.fail = nil
			require.Equal(t, x.status, w.Code, w.Body.String())
			require.Equal(t, problemType, w.Header().Get("Content-Type"))
			golden(t, "problem_"+x.name, w.Body.Bytes())
			require.NotContains(t, w.Body.String()+h.log.String(), "hunter2")
			if w.Code != 405 && x.name != "no_path" {
				c.check(t, r, x.body, w)
			}
			require.Equal(t, x.status == 500, strings.Contains(h.log.String(), "request failed"), h.log.String())
			switch x.status {
			case 401:
				require.Equal(t, map[string]string{
					"no_token": "Bearer", "basic": "Bearer", "bad_token": `Bearer error="invalid_token"`,
				}[x.name], w.Header().Get("WWW-Authenticate"))
			case 405:
				require.Equal(t, "GET, POST", w.Header().Get("Allow"))
			case 429:
				require.Equal(t, "2", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestKindsOfErrorHaveStatuses(t *testing.T) {
	for k := bankfeed.Internal; k <= bankfeed.StaleEpoch; k++ {
		require.NotZero(t, statuses[k], k)
		require.NotEmpty(t, http.StatusText(statuses[k]))
	}
}

func TestPagesHoldStill(t *testing.T) {
	h := newHarness(t)
	page := func(target string) (ids []string, next string) {
		w := h.do(request("GET", target, "user11", ""))
		require.Equal(t, 200, w.Code, w.Body.String())
		var list struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
			Next string `json:"next"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
		for _, i := range list.Items {
			ids = append(ids, i.ID)
		}
		return ids, list.Next
	}
	ids, next := page("/v1/transactions?limit=1")
	require.Equal(t, []string{"1101"}, ids)
	o := owner{1, 11}
	h.transactions[o] = append([]bankfeed.Transaction{transaction(11, 101, 1200, "2026-02-28")}, h.transactions[o]...)
	ids, next = page("/v1/transactions?limit=1&after=" + next)
	require.Equal(t, []string{"101"}, ids)
	ids, next = page("/v1/transactions?limit=1&after=" + next)
	require.Empty(t, ids)
	require.Empty(t, next)

	ids, next = page("/v1/sessions?limit=1")
	require.Equal(t, []string{"101"}, ids)
	ids, _ = page("/v1/sessions?limit=1&after=" + next)
	require.Empty(t, ids)
	ids, _ = page("/v1/sessions?external_id=run-101")
	require.Equal(t, []string{"101"}, ids)
	ids, _ = page("/v1/sessions?external_id=run-102")
	require.Empty(t, ids)
}

func TestTransactionFilters(t *testing.T) {
	h := newHarness(t)
	h.accounts[owner{1, 11}] = append(h.accounts[owner{1, 11}], account(11, 103))
	for target, want := range map[string][]bankfeed.AccountID{
		"":                                  nil,
		"?connection=101":                   {101},
		"?account=101,103":                  {101, 103},
		"?connection=101&account=101":       {101},
		"?account=" + h.uuid(4, 1, 103):     {103},
		"?connection=" + h.uuid(3, 1, 101):  {101},
		"?account=103&min_amount=-1.00":     {103},
		"?account=103&status=hold,rejected": {103},
	} {
		w := h.do(request("GET", "/v1/transactions"+target, "user11", ""))
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Equal(t, want, h.filter.Accounts, target)
	}
	h.do(request("GET", "/v1/transactions?min_amount=-1.50&max_amount=2&status=hold,rejected&from=2026-01-01&to=2026-01-31&created_since=2026-01-01T01:00:00%2B01:00&limit=7", "user11", ""))
	require.Equal(t, "-1.50", h.filter.Min.String())
	require.Equal(t, "2", h.filter.Max.String())
	require.Equal(t, []bankfeed.TransactionStatus{bankfeed.TransactionHold, bankfeed.TransactionRejected}, h.filter.Statuses)
	require.Equal(t, bankfeed.Date("2026-01-01"), h.filter.From)
	require.Equal(t, bankfeed.Date("2026-01-31"), h.filter.To)
	require.True(t, h.filter.CreatedAt.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	require.Equal(t, 7, h.filter.Limit)

	// A connection without accounts has no transactions, rather than all of them.
	h.accounts[owner{1, 11}] = nil
	h.filter = bankfeed.TransactionFilter{}
	w := h.do(request("GET", "/v1/transactions?connection=101", "user11", ""))
	require.JSONEq(t, `{"items":[]}`, w.Body.String())
	require.Zero(t, h.filter.Limit)
}

// Account and other ids of a connection that is not the account's own.
func TestAccountOutsideOfItsConnectionIsUnknown(t *testing.T) {
	h := newHarness(t)
	other := account(11, 103)
	h.accounts[owner{1, 11}] = append(h.accounts[owner{1, 11}], other)
	require.Equal(t, 404, h.do(request("GET", "/v1/transactions?connection=101&account=103", "user11", "")).Code)
}

func TestDocumentIsComplete(t *testing.T) {
	h := newHarness(t)
	doc, err := openapi3.NewLoader().LoadFromData(h.api.Spec())
	require.NoError(t, err)
	n := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			n++
			require.NotEmpty(t, op.Summary, "%s %s", method, path)
			require.NotEmpty(t, op.OperationID, "%s %s", method, path)
			require.Len(t, op.Tags, 1, "%s %s", method, path)
			require.NotNil(t, doc.Tags.Get(op.Tags[0]), op.Tags[0])
			require.NotNil(t, op.Responses.Default(), "%s %s", method, path)
		}
	}
	require.Equal(t, 55, n)
	// No URL of a host, no framework shapes, no trace of the Go names.
	require.NotRegexp(t, `ErrorModel|\$schema|bankfeed\.[A-Z]|Struct"`, string(h.api.Spec()))
}
