package finapi_test

import (
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/ingest"
	wire "github.com/bankfeed/bankfeed/wire/finapi"
)

const synchronization = "/api/v1/dataSources/bankConnections/synchronization"

// The page's first command, with its body byte for byte, and the page's answer
// with the hub's own ids.
func TestSynchronizeAsThePageDoes(t *testing.T) {
	c := newClient(t)
	a := c.do("user", "POST", synchronization, `{
"callbackUrl": "https://domain.tld",
"callbackHandle": "38793e87-499d-4860-b947-2c2c8ab10322"
}`, "Content-Type", "application/json")
	require.Equal(t, 200, a.Code, a.Body)
	sameText(t, `{"bankConnections":[{"dataSourceId":"`+sourceID(123456)+`","creationDate":"2020-01-01 00:00:00.000","lastUpdate":"2020-01-01 00:00:00.000",`+
		`"externalId":123456,"bic":"COBADEFFXXX","bankName":"Commerzbank","bankStatus":"IN_PROGRESS","updateRequired":false,`+
		`"accounts":[{"accountId":"`+accountID(123456)+`","creationDate":"2020-01-01 00:00:00.000","lastUpdate":"2020-01-01 00:00:00.000",`+
		`"externalId":123456,"iban":"DE13700800000061110500","accountType":"CHECKING","status":"UPDATED"}]}]}`, a.Body)
	require.Equal(t, []ingest.RequestOrder{{Tenant: 1, User: 7, Client: "c", Sandbox: true, Handle: "38793e87-499d-4860-b947-2c2c8ab10322",
		Callback: &bankfeed.RequestCallback{Moment: bankfeed.MomentFinished, URL: "https://domain.tld"}}}, c.hub.orders)
	require.Equal(t, []bankfeed.RequestID{91}, c.hub.answered, "the moment for the caller to store the answer begins now")
	require.Equal(t, []string{"https://domain.tld false"}, c.hub.checked)
}

// The page's second command: while a request is under way the data source is in
// progress, whatever its channels say.
func TestPollAsThePageDoes(t *testing.T) {
	c := newClient(t)
	path := "/api/v1/dataSources/" + sourceID(123456) + "/status"
	c.hub.open[123456] = true
	sameText(t, `{"status":"IN_PROGRESS","code":"SYNC_IN_PROGRESS"}`, c.do("user", "GET", path, "").Body)
	c.hub.open[123456] = false
	sameText(t, `{"status":"SUCCESSFUL","code":"SYNC_SUCCESSFUL"}`, c.do("user", "GET", path, "").Body)
	sameText(t, `{"status":"SUCCESSFUL","code":"SYNC_SUCCESSFUL"}`, c.do("user", "GET", "/api/v1/dataSources/123456/status", "").Body, "by its number")
}

func TestSynchronizeBodies(t *testing.T) {
	for name, body := range map[string]string{
		"none": "", "blank": " \n", "empty": "{}", "null": " null ", "nulls": `{"callbackUrl":null,"callbackHandle":null,"dataSourceIds":null}`, "unknown members": `{"profile":{"x":[1]},"force":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			a := c.do("user", "POST", synchronization, body)
			require.Equal(t, 200, a.Code, a.Body)
			require.Equal(t, []ingest.RequestOrder{{Tenant: 1, User: 7, Client: "c", Sandbox: true}}, c.hub.orders)
			require.Contains(t, a.Body, `"bankStatus":"IN_PROGRESS"`)
		})
	}
	for name, body := range map[string]string{
		"by UUID":   `{"dataSourceIds":["` + sourceID(123456) + `"]}`,
		"by number": `{"bankConnectionIds":[123456]}`,
		"twice":     `{"dataSourceIds":["` + sourceID(123456) + `","123456"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			require.Equal(t, 200, c.do("user", "POST", synchronization, body).Code)
			require.Equal(t, []bankfeed.ConnectionID{123456}, c.hub.orders[0].Connections)
		})
	}
	for body, field := range map[string]string{
		`{"callbackUrl":7}`:           "callbackUrl",
		`{"callbackHandle":[]}`:       "callbackHandle",
		`{"dataSourceIds":"x"}`:       "dataSourceIds",
		`{"dataSourceIds":[1]}`:       "dataSourceIds[0]",
		`{"bankConnectionIds":[1.5]}`: "bankConnectionIds[0]",
		`{"bankConnectionIds":["1"]}`: "bankConnectionIds[0]",
		`{"dataSourceIds":[]}`:        "dataSourceIds",
		`[]`:                          "body",
		`{"callbackHandle":"` + strings.Repeat("x", 513) + `"}`:                       "callbackHandle",
		`{"callbackUrl":"https://a.example/` + strings.Repeat("x", 2048) + `"}`:       "callbackUrl",
		`{"callbackUrl":"http://127.0.0.1/x"}`:                                        "callbackUrl",
		`{"bankConnectionIds":[123456],"dataSourceIds":["` + sourceID(123456) + `"]}`: "bankConnectionIds",
	} {
		c := newClient(t)
		a := c.do("user", "POST", synchronization, body)
		c.refused(a, 400, "ILLEGAL_FIELD_VALUE")
		require.Contains(t, a.Body, `"message":"`+field+": ", body)
		require.Empty(t, c.hub.orders, "nothing starts")
	}
	c := newClient(t)
	for _, body := range []string{`{`, "\xff", `{} {}`, `nul`} {
		c.refused(c.do("user", "POST", synchronization, body), 400, "BAD_REQUEST")
	}
	c.refused(c.do("user", "POST", synchronization, `{"callbackHandle":"`+strings.Repeat("x", 70_000)+`"}`), 413, "BAD_REQUEST")
	require.Equal(t, 200, c.do("user", "POST", synchronization, `{"callbackHandle":"`+strings.Repeat("ö", 512)+`"}`).Code, "512 characters, however many bytes")
	require.Equal(t, strings.Repeat("ö", 512), c.hub.orders[0].Handle)
}

// One id that is not the user's, and nothing starts.
func TestSynchronizeUnknown(t *testing.T) {
	foreign := installation.UUID(bankfeed.KindConnection, 2, 123456).String()
	for _, body := range []string{
		`{"dataSourceIds":["` + sourceID(123456) + `","` + sourceID(999) + `"]}`, `{"bankConnectionIds":[123456,999]}`,
		`{"dataSourceIds":["` + foreign + `"]}`, `{"dataSourceIds":["nonsense"]}`, `{"bankConnectionIds":[-1]}`,
	} {
		c := newClient(t)
		c.refused(c.do("user", "POST", synchronization, body), 404, "UNKNOWN_ENTITY")
		require.Empty(t, c.hub.answered)
	}
}

func TestSynchronizeWithoutDataSources(t *testing.T) {
	c := newClient(t)
	c.hub.connections = nil
	sameText(t, `{"bankConnections":[]}`, c.do("user", "POST", synchronization, "{}").Body)
	require.Len(t, c.hub.answered, 1)
}

// The person in front of the screen is told to the bank, and only then.
func TestSynchronizeAttended(t *testing.T) {
	c := newClient(t)
	require.Equal(t, 200, c.do("user", "POST", synchronization, "", "PSU-IP-Address", "192.0.2.7", "PSU-User-Agent", "Browser").Code)
	require.Equal(t, &bankfeed.PSU{IP: "192.0.2.7", UserAgent: "Browser"}, c.hub.orders[0].PSU)
	c.refused(c.do("user", "POST", synchronization, "", "PSU-IP-Address", "me"), 400, "ILLEGAL_FIELD_VALUE")
}

func TestLiveClientsNeedHTTPS(t *testing.T) {
	c := newClient(t)
	c.do("live", "POST", synchronization, `{"callbackUrl":"https://domain.tld:8443/x?y=z"}`)
	require.Equal(t, []string{"https://domain.tld:8443/x?y=z true"}, c.hub.checked)
}

// What the vendor does: one attempt, whatever comes of it.
func TestFireAndForget(t *testing.T) {
	c := newClient(t)
	once := callers["user"]
	once.Client.CallbacksOnce = true
	callers["once"] = once
	t.Cleanup(func() { delete(callers, "once") })
	c.do("once", "POST", synchronization, `{"callbackUrl":"https://domain.tld"}`)
	c.do("user", "POST", synchronization, `{"callbackUrl":"https://domain.tld"}`)
	require.True(t, c.hub.orders[0].Callback.Once)
	require.False(t, c.hub.orders[1].Callback.Once)
}

func TestDataSources(t *testing.T) {
	c := newClient(t)
	list := c.do("user", "GET", "/api/v1/dataSources", "")
	require.Equal(t, 200, list.Code)
	require.Contains(t, list.Body, `"bankStatus":"SUCCESSFUL"`)
	require.NotContains(t, list.Body, "never came back", "what its bank never confirmed is no data source")
	one := c.do("user", "GET", "/api/v1/dataSources/"+sourceID(123456), "").Body
	sameText(t, list.Body, `{"bankConnections":[`+one+`]}`)
	sameText(t, one, c.do("user", "GET", "/api/v1/dataSources/123456", "").Body)

	require.Equal(t, 204, c.do("user", "DELETE", "/api/v1/dataSources/"+sourceID(123456), "").Code)
	require.Equal(t, []bankfeed.ConnectionID{123456}, c.hub.deleted)
	require.Equal(t, 204, c.do("user", "POST", "/api/v1/dataSources/123456", "", "X-HTTP-Method-Override", "DELETE").Code, "for proxies that let no DELETE through")
}

// Five polls a second and ten at once, per data source; the guide's client ends
// its process on any answer that is not 2xx, so never less.
func TestPollingLimit(t *testing.T) {
	c := newClient(t)
	path := "/api/v1/dataSources/123456/status"
	for range 10 {
		require.Equal(t, 200, c.do("user", "GET", path, "").Code)
	}
	a := c.do("user", "GET", path, "")
	c.refused(a, 429, "TOO_MANY_REQUESTS")
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	now := c.hub.now
	for range 20 {
		now = now.Add(200 * time.Millisecond)
		c.hub.now = now
		require.Equal(t, 200, c.do("user", "GET", path, "").Code, "with the guide's pause there is no limit")
	}
}

func TestUnknown(t *testing.T) {
	c := newClient(t)
	var first string
	for _, path := range []string{
		sourceID(999), "999", "13", sourceID(13), "nonsense", "0123456", installation.UUID(bankfeed.KindConnection, 2, 123456).String(),
		installation.UUID(bankfeed.KindAccount, 1, 123456).String(),
	} {
		a := c.do("user", "GET", "/api/v1/dataSources/"+path, "")
		c.refused(a, 404, "UNKNOWN_ENTITY")
		if first == "" {
			first = a.Body
		}
		sameText(t, first, a.Body, path)
		c.refused(c.do("user", "GET", "/api/v1/dataSources/"+path+"/status", ""), 404, "UNKNOWN_ENTITY")
		c.refused(c.do("user", "DELETE", "/api/v1/dataSources/"+path, ""), 404, "UNKNOWN_ENTITY")
	}
	for _, caller := range []string{"user8", "foreign"} {
		sameText(t, first, c.do(caller, "GET", "/api/v1/dataSources/123456", "").Body, caller)
	}
	for target, code := range map[string]string{"/api/v1/nothing": "UNKNOWN_ENTITY", "/api/v1/": "UNKNOWN_ENTITY", "/api/webForms/": "NOT_FOUND", "/api/tasks/x/y": "NOT_FOUND"} {
		a := c.do("user", "GET", target, "")
		require.Equal(t, 404, a.Code)
		require.Contains(t, a.Body, `"`+code+`"`, target)
	}
	require.Empty(t, c.hub.deleted)
	require.Empty(t, c.log.String())
}

func TestTokens(t *testing.T) {
	c := newClient(t)
	a := c.do("", "GET", "/api/v1/dataSources", "")
	c.refused(a, 401, "invalid_token")
	require.Equal(t, `Bearer realm="bankfeed"`, a.Header.Get("WWW-Authenticate"))
	c.refused(c.do("expired", "POST", synchronization, ""), 401, "invalid_token")
	c.refused(c.do("client", "POST", synchronization, ""), 403, "FORBIDDEN")
	c.refused(c.do("user", "POST", "/api/v1/users", "{}"), 403, "FORBIDDEN")
	c.refused(c.do("user", "POST", "/api/v1/processes", ""), 403, "FORBIDDEN")
	c.refused(c.do("client", "DELETE", "/api/v1/user", ""), 403, "FORBIDDEN")
}

func TestMethodsAndMediaTypes(t *testing.T) {
	c := newClient(t)
	a := c.do("user", "GET", synchronization, "")
	c.refused(a, 405, "METHOD_NOT_ALLOWED")
	require.Equal(t, "POST", a.Header.Get("Allow"))
	for _, kind := range []string{"multipart/form-data; boundary=x", "application/xml", "nonsense;;"} {
		c.refused(c.do("user", "POST", synchronization, "{}", "Content-Type", kind), 415, "UNSUPPORTED_MEDIA_TYPE")
	}
	for _, kind := range []string{"", "application/json; charset=UTF-8", "application/x-www-form-urlencoded", "application/vnd.api+json"} {
		require.Equal(t, 200, c.do("user", "POST", synchronization, "{}", "Content-Type", kind).Code, "what curl -d calls it, too")
	}
}

// Each kind of error that a part of the hub can return.
func TestErrorTable(t *testing.T) {
	for _, x := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{bankfeed.InvalidField("callbackUrl", "is wrong"), 400, "ILLEGAL_FIELD_VALUE", ""},
		{bankfeed.Errorf(bankfeed.Forbidden, "no"), 403, "FORBIDDEN", ""},
		{bankfeed.ErrNotFound, 404, "UNKNOWN_ENTITY", ""},
		{bankfeed.Errorf(bankfeed.Conflict, "not now"), 422, "ILLEGAL_ENTITY_STATE", ""},
		{bankfeed.ErrBusy, 423, "LOCKED", ""},
		{bankfeed.ErrConflict, 423, "LOCKED", ""},
		{&bankfeed.Error{Kind: bankfeed.RateLimited, Text: "later", RetryAfter: 1500 * time.Millisecond}, 429, "TOO_MANY_REQUESTS", "2"},
		{&bankfeed.Error{Kind: bankfeed.Unavailable, Text: "the bank does not answer", RetryAfter: time.Minute}, 503, "BANK_SERVER_REJECTION", "60"},
		{errors.New("database /secret/path is gone"), 500, "UNEXPECTED_ERROR", ""},
		{&bankfeed.Error{Kind: bankfeed.Internal, Text: "secret text", Err: errors.New("cause")}, 500, "UNEXPECTED_ERROR", ""},
	} {
		c := newClient(t)
		c.hub.err = x.err
		a := c.do("user", "DELETE", "/api/v1/users", "", "X-Request-Id", "mine")
		require.Equal(t, x.status, a.Code)
		require.Contains(t, a.Body, `"code":"`+x.code+`"`)
		require.Contains(t, a.Body, `"requestId":"mine","endpoint":"DELETE /api/v1/users"`)
		require.Equal(t, x.status >= 500, strings.Contains(a.Body, `"type":"TECHNICAL"`))
		require.Equal(t, x.retry, a.Header.Get("Retry-After"))
		require.NotContains(t, a.Body, "secret")
		require.Equal(t, x.status == 500, strings.Contains(c.log.String(), "request failed"), "only what the answer hides is logged")
	}
}

// Web Form 2.0 has error bodies of its own.
func TestFormErrors(t *testing.T) {
	c := newClient(t)
	sameText(t, `{"code":"NOT_FOUND","description":"unknown resource","timestamp":"2020-01-02T00:00:00.000+0100","endpoint":"GET unknown"}`,
		c.do("user", "GET", "/api/webForms/x/y/z", "").Body)
}

func TestRateLimit(t *testing.T) {
	now := born
	c := newClient(t, func(config *finapi.Config) {
		config.Limit = access.NewLimiter[bankfeed.TenantID](1, 2, 10, func() time.Time { return now })
	})
	for range 2 {
		require.Equal(t, 200, c.do("user", "GET", "/api/v1/dataSources", "").Code)
	}
	a := c.do("user", "GET", "/api/v1/dataSources", "")
	c.refused(a, 429, "TOO_MANY_REQUESTS")
	require.Equal(t, "1", a.Header.Get("Retry-After"))
}

func TestUsers(t *testing.T) {
	c := newClient(t)
	a := c.do("client", "POST", "/api/v1/users", `{"id":"Customer-1@x+y_z.","password":"secret1","email":"a@example.org","phone":"+49 1","isAutoUpdateEnabled":true}`)
	require.Equal(t, 201, a.Code, a.Body)
	sameText(t, `{"id":"Customer-1@x+y_z.","password":"secret1","email":"a@example.org","phone":"+49 1","isAutoUpdateEnabled":true}`, a.Body)
	require.Equal(t, access.NewUser{ExternalID: "Customer-1@x+y_z.", AnyCase: true, Password: "secret1", Contact: bankfeed.Contact{Email: "a@example.org", Phone: "+49 1"}}, c.hub.created)

	a = c.do("client", "POST", "/api/v1/users", "")
	require.Equal(t, 201, a.Code, a.Body)
	require.Regexp(t, `^\{"id":"[A-Z0-9]{26}","password":"[A-Z0-9]{26}","email":null,"phone":null,"isAutoUpdateEnabled":false\}$`, a.Body)
	require.True(t, c.hub.created.NoAutoSync, "off unless it is asked for")

	sameText(t, `{"id":"customer-1","password":"XXXXX","email":null,"phone":null,"isAutoUpdateEnabled":false}`, c.do("user", "GET", "/api/v1/users", "").Body)
	c.hub.user.ExternalID, c.hub.user.Email = "", "login@example.org"
	sameText(t, `{"id":"`+installation.UUID(bankfeed.KindUser, 1, 7).String()+`","password":"XXXXX","email":"login@example.org","phone":null,"isAutoUpdateEnabled":false}`,
		c.do("user", "GET", "/api/v1/users", "").Body, "a user that another dialect made")

	c.hub.user.ExternalID = "customer-1"
	sameText(t, c.do("user", "GET", "/api/v1/users", "").Body, c.do("user", "GET", "/api/v2/users", "").Body, "as clients of today's Access call it")
	for _, body := range []string{`{"id":"a b"}`, `{"id":"` + strings.Repeat("x", 37) + `"}`, `{"id":"ä"}`, `{"password":"12345"}`, `{"password":"` + strings.Repeat("x", 129) + `"}`,
		`{"phone":"` + strings.Repeat("1", 51) + `"}`, `{"isAutoUpdateEnabled":"yes"}`} {
		c.refused(c.do("client", "POST", "/api/v1/users", body), 400, "ILLEGAL_FIELD_VALUE")
	}
	c.hub.err = &bankfeed.Error{Kind: bankfeed.Conflict, Field: "external_id", Text: "belongs to another user"}
	c.refused(c.do("client", "POST", "/api/v1/users", `{"id":"taken"}`), 422, "ENTITY_EXISTS")
	c.hub.err = nil

	a = c.do("user", "DELETE", "/api/v1/users", "")
	require.Equal(t, 200, a.Code)
	require.Empty(t, a.Body)
	require.Equal(t, []bankfeed.UserID{7}, c.hub.erased)
}

func TestDeletionOfData(t *testing.T) {
	c := newClient(t)
	id := installation.UUID(bankfeed.KindDeletion, 1, 55).String()
	sameText(t, `{"deletionId":"`+id+`"}`, c.do("user", "DELETE", "/api/v1/user", "").Body)
	require.Empty(t, c.hub.erased, "the user stays")
	c.hub.deletion = consent.DataDeletion{ID: 55, CreatedAt: born, Parts: []consent.DeletionPart{{Name: "DATA_SOURCES", Done: true}, {Name: "TRANSACTIONS"}}}
	sameText(t, `{"deletionId":"`+id+`","status":"IN_PROGRESS","creationDate":"2020-01-01 00:00:00.000","modules":[{"module":"DATA_SOURCES","status":"SUCCESSFUL"},{"module":"TRANSACTIONS","status":"IN_PROGRESS"}]}`,
		c.do("user", "GET", "/api/v1/user/status/delete/"+id, "").Body)
	c.hub.deletion.Done, c.hub.deletion.Parts = true, nil
	sameText(t, `{"deletionId":"`+id+`","status":"SUCCESSFUL","creationDate":"2020-01-01 00:00:00.000","modules":[]}`, c.do("user", "GET", "/api/v1/user/status/delete/"+id, "").Body)
	for _, x := range []string{"1", "nonsense", sourceID(55)} {
		c.refused(c.do("user", "GET", "/api/v1/user/status/delete/"+x, ""), 404, "UNKNOWN_ENTITY")
	}
	c.refused(c.do("user8", "GET", "/api/v1/user/status/delete/"+id, ""), 404, "UNKNOWN_ENTITY")
}

func TestProcesses(t *testing.T) {
	c := newClient(t)
	a := c.do("client", "POST", "/api/v1/processes", "")
	require.Equal(t, http.StatusCreated, a.Code)
	sameText(t, `{"processToken":"bfp_token","creationDate":"2020-01-02 00:00:00.000","expirationDate":"2020-01-16 00:00:00.000","exchangesLeft":10}`, a.Body)
	require.Equal(t, http.StatusCreated, c.do("client", "POST", "/api/v1/processes", `{"anything":1}`, "Content-Type", "application/json").Code)

	sameText(t, `{"access_token":"bfa_user","token_type":"bearer","expires_in":3600,"scope":"all","expirationDate":"2020-01-16 00:00:00.000","exchangesLeft":9}`,
		c.do("client", "GET", "/api/v1/processes/bfp_token", "").Body)
	sameText(t, `{"access_token":"bfa_user","token_type":"bearer","expires_in":3600,"scope":"all","expirationDate":"2020-01-16 00:00:00.000","exchangesLeft":0}`,
		c.do("client", "GET", "/api/v1/processes/bfp_token?invalidate=true", "").Body)
	a = c.do("client", "GET", "/api/v1/processes/bfp_token?invalidate=false", "")
	c.refused(a, 404, "UNKNOWN_ENTITY")
	require.NotContains(t, a.Body, "bfp_token", "no answer repeats the token")
	c.refused(c.do("client", "GET", "/api/v1/processes/bfp_token?invalidate=maybe", ""), 400, "ILLEGAL_FIELD_VALUE")
}

// The reference for people names every path, word and status, and what the
// hub's settings change.
func TestReference(t *testing.T) {
	c := newClient(t)
	raw, err := os.ReadFile("../../../docs/finapi.md")
	require.NoError(t, err)
	text := string(raw)
	calls := text[strings.Index(text, "## Calls"):strings.Index(text, "## Users")]
	for path, item := range c.doc.Paths.Map() {
		if strings.HasPrefix(path, "/api/v2/") {
			continue // aliases
		}
		for method := range item.Operations() {
			require.Regexp(t, "`"+method+"[^|]*"+regexp.QuoteMeta(path)+"[?`]", calls, method)
		}
	}
	var words []string
	for _, list := range [][]any{
		dialect.Enum(wire.ErrorCodes), dialect.Enum(wire.FormErrorCodes), dialect.Enum(wire.Statuses), dialect.Enum(wire.Codes), dialect.Enum(wire.AccountTypes),
		dialect.Enum(wire.AccountStatuses), dialect.Enum(wire.WebFormStatuses), dialect.Enum(wire.TaskStatuses), dialect.Enum(wire.Interfaces), dialect.Enum(wire.DeletionStatuses),
	} {
		for _, word := range list {
			words = append(words, word.(string))
		}
	}
	for _, typ := range wire.ReportTypes {
		words = append(words, typ.String())
	}
	for _, word := range words {
		require.Contains(t, text, "`"+word+"`")
	}
}
