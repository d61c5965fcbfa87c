package oxlin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
	wire "github.com/bankfeed/bankfeed/wire/oxlin"
)

const unknown = `{"error":"RESOURCE_UNKNOWN","error_description":"unknown resource"}`

func TestUsers(t *testing.T) {
	c := newClient(t)
	a := c.do("client", "POST", "/v2.1/users", `{"email":"a@example.org","password":"secret1","external_id":"mine","business_context":"business","first_name":"ignored"}`)
	require.Equal(t, 201, a.Code, a.Body)
	require.Equal(t, "/users/7", a.Header.Get("Location"))
	require.Empty(t, a.Body)
	require.Equal(t, access.NewUser{ExternalID: "mine", Email: "a@example.org", Password: "secret1", BusinessContext: "business"}, c.hub.created)

	const body = `{"id":"7","email":"a@example.org","creation_date":1639524236,"business_context":"individual"}`
	for _, path := range []string{"/v2.1/users/me", "/v2.1/users/7", "/users/7", "/users/me"} {
		sameText(t, body, c.do("user", "GET", path, "").Body, path)
	}
	sameText(t, body, c.do("client", "GET", "/v2.1/users/7", "").Body)
	sameText(t, body, c.do("client", "GET", "/v2.1/users/me?user_id=7", "").Body)

	require.Equal(t, 204, c.do("user", "DELETE", "/v2.1/users/me", "").Code)
	require.Equal(t, 204, c.do("client", "DELETE", "/users/7", "").Code)
	require.Equal(t, []bankfeed.UserID{7, 7}, c.hub.erased)

	c.refused(c.do("user", "POST", "/v2.1/users", `{"email":"a@example.org","password":"secret1"}`), 403, "FORBIDDEN")
	c.refused(c.do("client", "GET", "/v2.1/users/me", ""), 400, "PARAMETER_MISSING")
}

func TestProviders(t *testing.T) {
	c := newClient(t)
	const body = `{"id":"200","name":"WBX Test Bank","country":"FR","channel_definitions":[` +
		`{"id":"20001","mode":"REDIRECT","account_types":["CHECKINGS","CREDIT_CARD"],"credentials":[]},` +
		`{"id":"20000","mode":"EMBEDDED","account_types":["CHECKINGS","SAVINGS"],"credentials":[{"key":"login","label":"Login","secret":false},{"key":"password","label":"Password","secret":true}]}]}`
	sameText(t, "["+body+"]", c.do("client", "GET", "/v2.1/providers", "").Body)
	sameText(t, body, c.do("user", "GET", "/v2.1/providers/200", "").Body)
	sameText(t, "[]", c.do("foreign", "GET", "/v2.1/providers", "").Body, "a live client sees no sandbox bank")
	sameText(t, unknown, c.do("foreign", "GET", "/v2.1/providers/200", "").Body)
}

const connectionBody = `{"id":"12","provider_id":"200","name":"WBX Test Bank","status":"SUCCESS","creation_date":1639524236,"auto_sync":true,` +
	`"consent_per_account":false,"user_id":"7","owner":{"name":"CAMILLE MARTIN"},"channels":[` +
	`{"channel_definition_id":"20001","status":"SUCCESS","mode":"REDIRECT","credentials":[],"account_types":["CHECKINGS","CREDIT_CARD"],"channel_definition_unavailable":false},` +
	`{"channel_definition_id":"20000","status":"EMPTY","mode":"EMBEDDED","credentials":[],"account_types":["CHECKINGS","SAVINGS"],"eligible_accounts":false,"channel_definition_unavailable":false}]}`

func TestLink(t *testing.T) {
	c := newClient(t)
	c.hub.steps = []bankfeed.LinkStep{
		{Mode: bankfeed.Redirect, RedirectURL: "https://hub.example/widget/start/x"},
		{Mode: bankfeed.Embedded, Challenge: &bankfeed.Challenge{
			Kind: bankfeed.ChallengeMethodChoice, Deadline: born, Methods: []bankfeed.ChallengeMethod{{ID: "m1", Type: "SMS_OTP", Name: "to ***12"}},
		}},
	}
	a := c.do("user", "POST", "/v2.1/connections", `{"provider_id":"200","channels":[{"channel_definition_id":"20001"},
		{"channel_definition_id":"20000","credentials":{"login":"jo","password":"pw"}}],"redirect_url":"https://app.example/back?x=1",
		"session_external_id":"s-1","consent_external_id":"c-1"}`, "PSU-IP-Address", "::ffff:203.0.113.7", "PSU-User-Agent", "Firefox")
	require.Equal(t, 201, a.Code, a.Body)
	require.Equal(t, "/v2.1/connections/12", a.Header.Get("Location"))
	require.Contains(t, a.Body, `"channel_definition_unavailable":false,"redirect_url":"https://hub.example/widget/start/x"}`)
	require.Contains(t, a.Body, `"challenge":{"kind":"METHOD","methods":[{"id":"m1","type":"SMS_OTP","name":"to ***12"}],"deadline":1639524236}`)
	require.Equal(t, bankfeed.Linking{
		Tenant: 1, User: 7, Sandbox: true, Provider: "200", Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}, {Mode: bankfeed.Embedded, Login: "jo", Password: "pw"}},
		RedirectURL: "https://app.example/back?x=1", PSU: &bankfeed.PSU{IP: "203.0.113.7", UserAgent: "Firefox"}, SessionExternalID: "s-1", ConsentExternalID: "c-1",
	}, c.hub.linking)

	a = c.do("client", "PUT", "/v2.1/connections/12/credentials?user_id=7", `{"channels":[{"channel_definition_id":"20001"}]}`)
	require.Equal(t, 200, a.Code, a.Body)
	require.Contains(t, a.Body, `"owner":{"name":"CAMILLE MARTIN"}`)
	require.Equal(t, bankfeed.Linking{Tenant: 1, User: 7, Sandbox: true, Renew: 12, Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}}}, c.hub.linking)
}

func TestLinkRefuses(t *testing.T) {
	c := newClient(t)
	for name, body := range map[string]string{
		"another provider's channel": `{"provider_id":"200","channels":[{"channel_definition_id":"30001"}]}`,
		"no channel at all":          `{"provider_id":"200","channels":[]}`,
		"not a channel":              `{"provider_id":"200","channels":[{"channel_definition_id":"200"}]}`,
		"twice":                      `{"provider_id":"200","channels":[{"channel_definition_id":"20001"},{"channel_definition_id":"20001"}]}`,
		"three":                      `{"provider_id":"200","channels":[{"channel_definition_id":"20001"},{"channel_definition_id":"20000"},{"channel_definition_id":"20001"}]}`,
		"credentials for a redirect": `{"provider_id":"200","channels":[{"channel_definition_id":"20001","credentials":{"login":"x"}}]}`,
		"script":                     `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}],"redirect_url":"javascript:alert(1)"}`,
		"relative":                   `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}],"redirect_url":"/back"}`,
		"credentials in a URL":       `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}],"redirect_url":"https://a:b@app.example"}`,
		"a number for an id":         `{"provider_id":200,"channels":[{"channel_definition_id":"20001"}]}`,
		"an object for a list":       `{"provider_id":"200","channels":{"channel_definition_id":"20001"}}`,
		"a list for a body":          `[]`,
		"NUL":                        `{"provider_id":"2\u000000","channels":[{"channel_definition_id":"20001"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c.refused(c.do("user", "POST", "/v2.1/connections", body), 400, "BAD_PARAMETER")
		})
	}
	for _, body := range []string{`{}`, `{"provider_id":"200"}`, `{"provider_id":"200","channels":[{}]}`, `{"provider_id":null,"channels":[{"channel_definition_id":"20001"}]}`,
		`{"PROVIDER_ID":"200","channels":[{"channel_definition_id":"20001"}]}`} {
		c.refused(c.do("user", "POST", "/v2.1/connections", body), 400, "PARAMETER_MISSING")
	}
	for _, body := range []string{``, ` `, `{`, `{"provider_id":"200"`, `{} {}`, `provider_id=200`, "{\"provider_id\":\"\xff\"}", strings.Repeat("[", 20000)} {
		c.refused(c.do("user", "POST", "/v2.1/connections", body), 400, "FORMAT_ERROR")
	}
	c.refused(c.do("user", "POST", "/v2.1/connections", `{"provider_id":"`+strings.Repeat("2", 64<<10)+`"}`), 413, "TOO_LARGE")
	for _, ip := range []string{"nobody", "0.0.0.0", "::", "fe80::1%eth0", "224.0.0.1", "203.0.113.7:80"} {
		c.refused(c.do("user", "POST", "/v2.1/connections", `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}]}`, "PSU-IP-Address", ip), 400, "BAD_PARAMETER")
	}
	require.Zero(t, c.hub.linking, "nothing of it reached the hub")
}

func TestConnections(t *testing.T) {
	c := newClient(t)
	sameText(t, connectionBody, c.do("user", "GET", "/v2.1/connections/12", "").Body)
	sameText(t, "["+connectionBody+"]", c.do("client", "GET", "/v2.1/connections?user_id=7", "").Body)
	require.Equal(t, 204, c.do("user", "DELETE", "/v2.1/connections/12", "").Code)
	require.Equal(t, []bankfeed.ConnectionID{12}, c.hub.deleted)
}

func TestAnswerChallenge(t *testing.T) {
	c := newClient(t)
	c.hub.steps = []bankfeed.LinkStep{{Mode: bankfeed.Embedded}}
	a := c.do("user", "POST", "/v2.1/connections/12/user_inputs", `{"channel_definition_id":"20000","code":"123456"}`, "PSU-IP-Address", "2001:db8::1")
	sameText(t, `{"channel_definition_id":"20000"}`, a.Body)
	require.Equal(t, bankfeed.Answer{Tenant: 1, User: 7, Connection: 12, Mode: bankfeed.Embedded, Code: "123456", PSU: &bankfeed.PSU{IP: "2001:db8::1"}}, c.hub.answer)

	c.hub.steps[0].Challenge = &bankfeed.Challenge{Kind: bankfeed.ChallengeCode, Text: "wrong code, again", Deadline: born}
	a = c.do("user", "POST", "/v2.1/connections/12/user_inputs", `{"method_id":"m1","credentials":{"login":"jo","password":"pw"}}`)
	sameText(t, `{"channel_definition_id":"20000","challenge":{"kind":"CODE","text":"wrong code, again","deadline":1639524236}}`, a.Body)
	require.Equal(t, bankfeed.Answer{Tenant: 1, User: 7, Connection: 12, MethodID: "m1", Login: "jo", Password: "pw"}, c.hub.answer)

	c.refused(c.do("user", "POST", "/v2.1/connections/12/user_inputs", `{"channel_definition_id":"30000"}`), 400, "BAD_PARAMETER")
}

func TestSynchronize(t *testing.T) {
	c := newClient(t)
	require.Equal(t, 204, c.do("user", "POST", "/v2.1/connections/12/synchronize", "").Code)
	require.Equal(t, 204, c.do("client", "POST", "/v2.1/connections/12/synchronize?type=LIST_ACCOUNTS&user_id=7", `{"session_external_id":"s"}`, "PSU-IP-Address", "203.0.113.7").Code)
	a := c.do("user", "POST", "/v2.1/connections/synchronize?type=ALL", `{}`)
	require.Equal(t, 200, a.Code)
	sameText(t, `[{"rel":"connection","href":"/v2.1/connections/12"},{"rel":"connection","href":"/v2.1/connections/13"}]`, a.Body)
	require.Equal(t, []bankfeed.SyncOrder{
		{Tenant: 1, User: 7, Connection: 12, Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser},
		{Tenant: 1, User: 7, Connection: 12, Type: bankfeed.SessionListAccounts, Initiator: bankfeed.ByUser, ExternalID: "s", PSU: &bankfeed.PSU{IP: "203.0.113.7"}},
		{Tenant: 1, User: 7, Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser},
	}, c.hub.orders)
	c.refused(c.do("user", "POST", "/v2.1/connections/12/synchronize?type=SOME", ""), 400, "BAD_PARAMETER")
	c.refused(c.do("user", "POST", "/v2.1/connections/12/synchronize", `{"session_external_id":1}`), 400, "BAD_PARAMETER")
	require.Len(t, c.hub.orders, 3)
}

func ids(t *testing.T, body string) (list []string) {
	var entries []struct {
		ID string `json:"id"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &entries), body)
	list = []string{}
	for _, e := range entries {
		list = append(list, e.ID)
	}
	return list
}

func TestAccounts(t *testing.T) {
	c := newClient(t)
	sameText(t, `{"id":"501","connection_id":"12","name":"Main","account_number":"FR7630006000011234567890189","iban":"FR7630006000011234567890189",`+
		`"balance":12345678901234567.80,"currency":"EUR","balance_date":1639524236,"type":"CHECKINGS","status":"ACTIVE","creation_date":1639524236,`+
		`"owner":{"name":"CAMILLE MARTIN"},"usage":"PERSONAL","last_channel_definition_id":"20001"}`, c.do("user", "GET", "/v2.1/accounts/501", "").Body)
	for query, want := range map[string][]string{
		"":                      {"501", "502"},
		"type=SAVINGS":          {"502"},
		"status=NOT_FOUND":      {"502"},
		"status=SUSPENDED":      {},
		"usage=PERSONAL":        {"501"},
		"connection_id=12":      {"501", "502"},
		"q=MAIN":                {"501"},
		"q=fr7630":              {"501"},
		"q=%25":                 {},
		"sort=name":             {"502", "501"},
		"sort=-creation_date":   {"502", "501"},
		"sort=type":             {"501", "502"},
		"sort=-id":              {"502", "501"},
		"limit=1":               {"501"},
		"limit=1&page=2":        {"502"},
		"limit=1&page=3":        {},
		"page=1000000":          {},
		"unheard_of=1":          {"501", "502"},
		"type=SAVINGS&q=main":   {},
		"limit=500&sort=-name":  {"501", "502"},
		"user_id=7":             {"501", "502"},
		"sort=creation_date":    {"501", "502"},
		"usage=PROFESSIONAL":    {},
		"q=aside&type=SAVINGS":  {"502"},
		"status=ACTIVE&limit=5": {"501"},
	} {
		a := c.do("user", "GET", "/v2.1/accounts?"+query, "")
		require.Equal(t, 200, a.Code, "%s %s", query, a.Body)
		require.Equal(t, want, ids(t, a.Body), query)
	}
	for _, query := range []string{"type=CAR", "status=x", "usage=x", "sort=iban", "limit=0", "limit=501", "limit=1e2", "page=0", "page=-1", "page=9999999", "q=" + strings.Repeat("x", 101)} {
		c.refused(c.do("user", "GET", "/v2.1/accounts?"+query, ""), 400, "BAD_PARAMETER")
	}
	c.refused(c.do("user", "GET", "/v2.1/accounts?q=%zz", ""), 400, "FORMAT_ERROR")
	sameText(t, unknown, c.do("user", "GET", "/v2.1/accounts?connection_id=13", "").Body)
}

func TestTransactions(t *testing.T) {
	c := newClient(t)
	const body = `{"id":"9001","account_id":"501","amount":-12.30,"currency":"EUR","type":"DEBIT","origin":"ORIGINAL","date":1639440000,"import_date":1639524236,` +
		`"booking_date":1639440000,"label":"BAKERY","source":{"label":"BAKERY"},"remittance_information":["BAKERY"],"status":"BOOKED"}`
	sameText(t, body, c.do("user", "GET", "/v2.1/transactions/9001", "").Body)
	sameText(t, "["+body+"]", c.do("client", "GET", "/v2.1/transactions?user_id=7", "").Body)

	amount := func(s string) *bankfeed.Amount {
		v := bankfeed.MustAmount(s)
		return &v
	}
	for query, want := range map[string]bankfeed.TransactionFilter{
		"":                                      {Limit: 100},
		"page=3&limit=500":                      {Offset: 1000, Limit: 500},
		"account_id=501":                        {Limit: 100, Accounts: []bankfeed.AccountID{501}},
		"account_type=SAVINGS":                  {Limit: 100, Accounts: []bankfeed.AccountID{502}},
		"account_id=501&account_type=CHECKINGS": {Limit: 100, Accounts: []bankfeed.AccountID{501}},
		"included_statuses=BOOKED,PENDING":      {Limit: 100, Statuses: []bankfeed.TransactionStatus{"booked", "done", "pending", "hold"}},
		"excluded_statuses=BOOKED,OTHER":        {Limit: 100, Statuses: []bankfeed.TransactionStatus{"pending", "hold", "rejected", "cancelled"}},
		"included_statuses=OTHER,REJECTED&excluded_statuses=REJECTED": {Limit: 100, Statuses: []bankfeed.TransactionStatus{"scheduled", "other"}},
		"origin=SCHEDULED":                          {Limit: 100, Statuses: []bankfeed.TransactionStatus{"scheduled"}},
		"min_amount=-10.50&max_amount=7":            {Limit: 100, Min: amount("-10.50"), Max: amount("7")},
		"amount=-12.3":                              {Limit: 100, Min: amount("-12.3"), Max: amount("-12.3")},
		"amount=1&min_amount=2&max_amount=9":        {Limit: 100, Min: amount("2"), Max: amount("1")},
		"start_date=1639440000&end_date=2021-12-31": {Limit: 100, From: "2021-12-14", To: "2021-12-31"},
		"start_date=1639524236":                     {Limit: 100, From: "2021-12-14"},
		"start_import_date=1639524236":              {Limit: 100, CreatedAt: born},
	} {
		c.hub.filters = nil
		a := c.do("user", "GET", "/v2.1/transactions?"+query, "")
		require.Equal(t, 200, a.Code, "%s %s", query, a.Body)
		require.Equal(t, []bankfeed.TransactionFilter{want}, c.hub.filters, query)
	}
	c.hub.filters = nil
	for _, query := range []string{
		"category_id=4", "origin=UPCOMING", "included_statuses=REFUNDED", "account_type=LOAN", "account_id=501&account_type=SAVINGS",
		"included_statuses=BOOKED&excluded_statuses=BOOKED", "origin=SCHEDULED&included_statuses=BOOKED",
	} {
		sameText(t, "[]", c.do("user", "GET", "/v2.1/transactions?"+query, "").Body, query)
	}
	for _, query := range []string{
		"limit=501", "limit=x", "start_date=yesterday", "end_date=-1", "start_import_date=99999999999999", "amount=ten", "amount=1e99999", "min_amount=NaN",
		"included_statuses=BOOKED,", "excluded_statuses=x", "origin=x", "account_type=x", "start_date=2021-02-30",
	} {
		c.refused(c.do("user", "GET", "/v2.1/transactions?"+query, ""), 400, "BAD_PARAMETER")
	}
	sameText(t, unknown, c.do("user", "GET", "/v2.1/transactions?account_id=503", "").Body)
	require.Empty(t, c.hub.filters, "nothing of it reached the store")
}

// Unknown, expired and foreign: one answer, byte for byte, everywhere.
func TestUnknown(t *testing.T) {
	c := newClient(t)
	c.hub.queues["q1"] = true
	link := `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}]}`
	for _, x := range []struct{ caller, method, target, body string }{
		{"user", "GET", "/v2.1/users/8", ""},
		{"user", "GET", "/v2.1/users/nobody", ""},
		{"user", "GET", "/v2.1/users/me?user_id=8", ""},
		{"user", "DELETE", "/users/8", ""},
		{"client", "GET", "/v2.1/users/9", ""},
		{"client", "DELETE", "/v2.1/users/9", ""},
		{"client", "GET", "/v2.1/connections?user_id=9", ""},
		{"client", "POST", "/v2.1/connections?user_id=0x7", link},
		{"client", "GET", "/v2.1/accounts?user_id=" + strings.Repeat("9", 30), ""},
		{"foreign", "GET", "/v2.1/connections?user_id=7", ""},
		{"user", "GET", "/v2.1/providers/201", ""},
		{"user", "GET", "/v2.1/connections/13", ""},
		{"user", "GET", "/v2.1/connections/012", ""},
		{"user", "GET", "/v2.1/connections/12x", ""},
		{"user", "GET", "/v2.1/connections/99999999999999999999", ""},
		{"user8", "GET", "/v2.1/connections/12", ""},
		{"user8", "DELETE", "/v2.1/connections/12", ""},
		{"user8", "PUT", "/v2.1/connections/12/credentials", link},
		{"user8", "POST", "/v2.1/connections/12/user_inputs", "{}"},
		{"user8", "POST", "/v2.1/connections/12/synchronize", ""},
		{"user", "GET", "/v2.1/accounts/1", ""},
		{"user8", "GET", "/v2.1/accounts/501", ""},
		{"user", "GET", "/v2.1/transactions/x", ""},
		{"user8", "GET", "/v2.1/transactions/9001", ""},
		{"user", "GET", "/v2.1/queues/q2", ""},
		{"user8", "GET", "/v2.1/queues/q1", ""},
		{"user8", "GET", "/queues/q1?after=3", ""},
		{"user8", "DELETE", "/v2.1/queues/q1", ""},
		{"foreign", "GET", "/v2.1/queues/q1?user_id=7", ""},
		{"", "GET", "/v2.1/nothing/here", ""},
		{"", "GET", "/v2.1/", ""},
		{"user", "GET", "/v2.1/connections/12/", ""},
	} {
		a := c.do(x.caller, x.method, x.target, x.body)
		require.Equal(t, 404, a.Code, "%+v %s", x, a.Body)
		sameText(t, unknown, a.Body, "%+v", x)
	}
	a := c.do("user8", "GET", "/queues/q1", "", "Accept", "text/event-stream")
	sameText(t, unknown, a.Body, "a stream that cannot begin is a plain 404")
	require.Empty(t, c.log.String())
}

func TestMethodNotAllowed(t *testing.T) {
	c := newClient(t)
	for target, allow := range map[string]string{
		"/v2.1/users": "POST", "/users/7": "DELETE, GET", "/v2.1/connections": "GET, POST", "/v2.1/connections/12": "DELETE, GET",
		"/v2.1/connections/12/synchronize": "POST", "/queues/q1": "DELETE, GET", "/v2.1/queues/subscribe": "POST",
	} {
		a := c.do("user", "PATCH", target, "")
		c.refused(a, 405, "METHOD_NOT_ALLOWED")
		require.Equal(t, allow, a.Header.Get("Allow"))
	}
	require.Equal(t, 405, c.do("user", "HEAD", "/queues/q1", "").Code, "a HEAD must not move a queue")
}

func TestToken(t *testing.T) {
	c := newClient(t)
	a := c.do("", "GET", "/v2.1/connections", "")
	c.refused(a, 401, "invalid_token")
	require.Equal(t, `Bearer realm="bankfeed"`, a.Header.Get("WWW-Authenticate"))
	a = c.do("expired", "GET", "/v2.1/connections", "")
	c.refused(a, 401, "invalid_token")
	require.Equal(t, `Bearer realm="bankfeed", error="invalid_token"`, a.Header.Get("WWW-Authenticate"))
	c.refused(c.do("user", "GET", "/v2.1/connections", "", "Authorization", "Basic dXNlcjo="), 401, "invalid_token")

	c.refused(c.do("client", "POST", "/v2.1/queues/subscribe", `{"topics":["connections"]}`), 400, "PARAMETER_MISSING")

	require.Equal(t, 200, c.do("narrow", "GET", "/v2.1/accounts", "").Code)
	require.Equal(t, 200, c.do("narrow", "GET", "/v2.1/connections", "").Code)
	for _, x := range [][2]string{{"GET", "/v2.1/transactions"}, {"POST", "/v2.1/connections"}, {"DELETE", "/v2.1/users/me"}, {"POST", "/v2.1/connections/12/synchronize"}} {
		c.refused(c.do("narrow", x[0], x[1], ""), 403, "FORBIDDEN")
	}
}

// A token of a foreign scope is refused by every operation but those that any
// token may call.
func TestScopes(t *testing.T) {
	c := newClient(t)
	c.hub.queues["101"] = true
	anyToken := []string{"getUser", "listProviders", "getProvider", "listConnections", "getConnection", "subscribe", "readQueue", "deleteQueue"}
	seen := map[string]bool{}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			id := strings.TrimSuffix(op.OperationID, "AtRoot")
			seen[id] = true
			target := strings.NewReplacer("{id}", "101", "{user_id}", "7", "{queue_id}", "101").Replace(path)
			a := c.do("alien", method, target, "")
			if slices.Contains(anyToken, id) {
				require.NotEqual(t, 403, a.Code, "%s %s", method, path)
			} else {
				c.refused(a, 403, "FORBIDDEN")
			}
		}
	}
	require.Len(t, seen, 20)
	require.Empty(t, c.hub.erased)
	require.Empty(t, c.hub.deleted)
}

// Each kind of error that a part of the hub can return.
func TestErrorTable(t *testing.T) {
	for _, x := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{bankfeed.InvalidField("provider_id", "is wrong"), 400, "BAD_PARAMETER", ""},
		{bankfeed.Errorf(bankfeed.Forbidden, "no"), 403, "FORBIDDEN", ""},
		{bankfeed.ErrBusy, 409, "CONFLICT", ""},
		{&bankfeed.Error{Kind: bankfeed.RateLimited, Text: "later", RetryAfter: 1500 * time.Millisecond}, 429, "RATE_LIMITED", "2"},
		{&bankfeed.Error{Kind: bankfeed.Unavailable, Text: "the bank does not answer", RetryAfter: time.Minute}, 503, "BANK_ERROR", "60"},
		{bankfeed.Errorf(bankfeed.Unavailable, "the bank does not answer"), 503, "BANK_ERROR", ""},
		{bankfeed.Errorf(bankfeed.StaleEpoch, "restored"), 409, "CONFLICT", ""},
		{errors.New("database /secret/path is gone"), 500, "INTERNAL_ERROR", ""},
		{&bankfeed.Error{Kind: bankfeed.Internal, Text: "secret text", Err: errors.New("cause")}, 500, "INTERNAL_ERROR", ""},
	} {
		c := newClient(t)
		c.hub.err = x.err
		a := c.do("user", "POST", "/v2.1/connections/12/synchronize", "")
		c.refused(a, x.status, x.code)
		require.Equal(t, x.retry, a.Header.Get("Retry-After"))
		require.NotContains(t, a.Body, "secret")
		require.Equal(t, x.status == 500, strings.Contains(c.log.String(), "request failed"), "only what the answer hides is logged")
	}
	c := newClient(t)
	c.hub.err = bankfeed.Errorf(bankfeed.Gone, "older than the log")
	c.hub.queues["q1"] = true
	c.refused(c.do("user", "GET", "/queues/q1?after=1", ""), 410, "GONE")
}

func TestRateLimit(t *testing.T) {
	now := born
	c := newClient(t, func(config *oxlin.Config) {
		config.Limit = access.NewLimiter[bankfeed.TenantID](1, 2, 10, func() time.Time { return now })
	})
	for range 2 {
		require.Equal(t, 200, c.do("user", "GET", "/v2.1/connections", "").Code)
	}
	a := c.do("user", "GET", "/v2.1/connections", "")
	c.refused(a, 429, "RATE_LIMITED")
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	require.Equal(t, 200, c.do("foreign", "GET", "/v2.1/providers", "").Code, "another tenant has its own")
}

// No answer repeats what was sent, wherever it was wrong.
func TestRefusalsDoNotEcho(t *testing.T) {
	c := newClient(t)
	const value = "FR7630006000011234567890189"
	for _, x := range []struct{ method, target, body string }{
		{"POST", "/v2.1/users?user_id=" + value, ""},
		{"GET", "/v2.1/accounts?type=" + value, ""},
		{"GET", "/v2.1/accounts?limit=" + value, ""},
		{"GET", "/v2.1/accounts?connection_id=" + value, ""},
		{"GET", "/v2.1/transactions?amount=" + value, ""},
		{"GET", "/v2.1/transactions?start_date=" + value, ""},
		{"GET", "/v2.1/transactions?included_statuses=" + value, ""},
		{"GET", "/v2.1/accounts/" + value, ""},
		{"GET", "/v2.1/queues/q1?after=" + value, ""},
		{"POST", "/v2.1/connections", `{"provider_id":"` + value + `","channels":[{"channel_definition_id":"` + value + `"}]}`},
		{"POST", "/v2.1/connections", `{"` + value + `":1`},
		{"POST", "/v2.1/connections", `{"provider_id":["` + value + `"]}`},
		{"POST", "/v2.1/connections", `{"provider_id":"200","channels":[{"channel_definition_id":"20000","credentials":"` + value + `"}]}`},
		{"POST", "/v2.1/connections", `{"provider_id":"200","channels":[{"channel_definition_id":"20001"}],"redirect_url":"` + value + `"}`},
	} {
		a := c.do("user", x.method, x.target, x.body, "PSU-IP-Address", value)
		require.GreaterOrEqual(t, a.Code, 400)
		require.NotContains(t, a.Body, value, "%+v", x)
	}
	require.NotContains(t, c.log.String(), value)
}

var _ oxlin.Access = (*access.Service)(nil)

// The reference for people names every path, error code and status.
func TestReference(t *testing.T) {
	c := newClient(t)
	raw, err := os.ReadFile("../../../docs/oxlin.md")
	require.NoError(t, err)
	var words []string
	for path, item := range c.doc.Paths.Map() {
		path = strings.NewReplacer("/v2.1", "", "{user_id}", "{id}", "{queue_id}", "{id}").Replace(path)
		for method, op := range item.Operations() {
			words = append(words, method+" "+path)
			for _, p := range op.Parameters {
				words = append(words, p.Value.Name)
			}
		}
	}
	for _, code := range wire.ErrorCodes {
		words = append(words, string(code))
	}
	for _, status := range wire.ChannelStatuses {
		words = append(words, string(status))
	}
	for _, word := range words {
		require.Contains(t, string(raw), word)
	}
}

func TestDocument(t *testing.T) {
	c := newClient(t)
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi/oxlin.json", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, string(c.spec), w.Body.String())
	require.Equal(t, "3.1.0", c.doc.OpenAPI)
	require.NotNil(t, c.doc.Paths.Find("/queues/{queue_id}"), "as the location header names it")
	require.Equal(t, "number", c.doc.Components.Schemas["Transaction"].Value.Properties["amount"].Value.Type.Slice()[0])
	require.NotNil(t, c.doc.Paths.Find("/v2.1/queues/{queue_id}").Get.Responses.Value("200").Value.Content["text/event-stream"])
	require.Contains(t, c.doc.Components.Schemas["Event"].Value.Properties["event_type"].Value.Enum, "SYNC_ALL_SUCCESS")
}
