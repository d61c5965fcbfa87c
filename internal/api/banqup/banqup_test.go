package banqup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/banqup"
)

var installation = bankfeed.Installation{Born: time.UnixMilli(1_700_000_000_000), Epoch: 1_700_000_000_000}

var callers = map[bankfeed.Secret]bankfeed.Caller{
	"client":  {Client: bankfeed.Client{Tenant: 1, ID: "c"}},
	"sandbox": {Client: bankfeed.Client{Tenant: 1, ID: "s", Sandbox: true}},
	"foreign": {Client: bankfeed.Client{Tenant: 2, ID: "f"}},
	"user":    {Client: bankfeed.Client{Tenant: 1, ID: "c"}, User: 7},
	"may":     {Client: bankfeed.Client{Tenant: 1, ID: "c"}, User: 7, Scopes: []string{"accounts_read", "connections_manage"}},
	"narrow":  {Client: bankfeed.Client{Tenant: 1, ID: "c"}, User: 7, Scopes: []string{"accounts_read"}},
}

// hub has tenant 1 with the live users 7 ("22"), 8 (without an id of the
// client's) and 22 ("other"), and the sandbox user 9 ("playing").
type hub struct {
	deleted []bankfeed.ConnectionID
	err     error
	log     bytes.Buffer
}

type stored struct {
	bankfeed.User
	sandbox bool
}

var users = []stored{{bankfeed.User{ID: 7, ExternalID: "22"}, false}, {bankfeed.User{ID: 8}, false}, {bankfeed.User{ID: 22, ExternalID: "other"}, false},
	{bankfeed.User{ID: 9, ExternalID: "playing"}, true}}

var connections = map[bankfeed.UserID][]bankfeed.Connection{
	7: {{ID: 71, ProviderID: "Bank-300", BIC: "BREXPLPWXXX"}, {ID: 72, ProviderID: "301", BIC: "BREXPLPW"}, {ID: 73, ProviderID: "302", BIC: "BREXPLPWMBK"}, {ID: 74, ProviderID: "303"}},
	8: {{ID: 81, ProviderID: "301", BIC: "BREXPLPW"}}, 22: {{ID: 221, ProviderID: "301", BIC: "BREXPLPW"}}, 9: {{ID: 91, ProviderID: "200", BIC: "WBXTDEFF"}},
}

func (*hub) Authenticate(_ context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error) {
	c, ok := callers[bearer]
	if !ok {
		return c, access.ErrToken
	}
	return c, nil
}

func find(c bankfeed.Caller, is func(bankfeed.User) bool) (bankfeed.User, error) {
	for _, u := range users {
		if is(u.User) && c.Client.Tenant == 1 && c.Client.Sandbox == u.sandbox && (c.User == 0 || c.User == u.ID) {
			return u.User, nil
		}
	}
	return bankfeed.User{}, bankfeed.ErrNotFound
}

func (*hub) User(_ context.Context, c bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error) {
	return find(c, func(u bankfeed.User) bool { return u.ID == id })
}

func (*hub) UserByExternalID(_ context.Context, c bankfeed.Caller, name string) (bankfeed.User, error) {
	return find(c, func(u bankfeed.User) bool { return u.ExternalID == name })
}

func (h *hub) Connections(_ context.Context, _ bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error) {
	return connections[user], h.err
}

func (h *hub) DeleteConnection(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, id bankfeed.ConnectionID) error {
	h.deleted = append(h.deleted, id)
	if id == 71 {
		return bankfeed.ErrNotFound // removed by another request meanwhile
	}
	return nil
}

func (h *hub) serve(t testing.TB, limit *access.Limiter[bankfeed.TenantID]) (*banqup.API, *http.ServeMux) {
	api, err := banqup.New(banqup.Config{Version: "20260302.1", Installation: installation, Log: slog.New(slog.NewTextHandler(&h.log, nil)), Access: h, Reader: h, Remover: h, Limit: limit})
	require.NoError(t, err)
	mux := http.NewServeMux()
	api.Mount(mux)
	return api, mux
}

func request(method, target, token, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func TestDeletion(t *testing.T) {
	uuid := func(id int64) string { return installation.UUID(bankfeed.KindUser, 1, id).String() }
	for name, c := range map[string]struct {
		token, target, body string
		status              int
		deleted             []bankfeed.ConnectionID
	}{
		"by the client's id":            {"client", "/api/v2/bank/swift/BREXPLPW/bankAccount?userId=22", "", 202, []bankfeed.ConnectionID{71, 72}},
		"in any case, of a whole bank":  {"client", "/api/v2/bank/SwiftBicCode/brexplpwxxx/bankAccount?userId=22", "", 202, []bankfeed.ConnectionID{71, 72}},
		"of a branch":                   {"client", "/api/v2/bank/bic/BREXPLPWMBK/bankAccount?userId=22", "", 202, []bankfeed.ConnectionID{73}},
		"by the hub's id of the bank":   {"client", "/api/v2/bank/301/bankAccount?userId=22", "", 202, []bankfeed.ConnectionID{72}},
		"by that, in any case":          {"client", "/api/v2/bank/ID/bank-300/bankAccount?userId=22", "", 202, []bankfeed.ConnectionID{71}},
		"the user in the body":          {"client", "/api/v2/bank/303/bankAccount", `{"userId":"22","months":2}`, 202, []bankfeed.ConnectionID{74}},
		"as a number":                   {"client", "/api/v2/bank/303/bankAccount", `{"userId":22}`, 202, []bankfeed.ConnectionID{74}},
		"by UUID":                       {"client", "/api/v2/bank/303/bankAccount?userId=" + uuid(7), "", 202, []bankfeed.ConnectionID{74}},
		"by number, without another id": {"client", "/api/v2/bank/301/bankAccount?userId=8", "", 202, []bankfeed.ConnectionID{81}},
		"a user's own token":            {"user", "/api/v2/bank/303/bankAccount", "", 202, []bankfeed.ConnectionID{74}},
		"a scope that covers it":        {"may", "/api/v2/bank/303/bankAccount", "", 202, []bankfeed.ConnectionID{74}},
		"in the sandbox":                {"sandbox", "/api/v2/bank/swift/WBXTDEFF/bankAccount?userId=playing", "", 202, []bankfeed.ConnectionID{91}},

		"a number that is somebody's":      {"client", "/api/v2/bank/303/bankAccount?userId=7", "", 404, nil},
		"a sandbox user":                   {"client", "/api/v2/bank/swift/WBXTDEFF/bankAccount?userId=playing", "", 404, nil},
		"a live user in the sandbox":       {"sandbox", "/api/v2/bank/303/bankAccount?userId=22", "", 404, nil},
		"another tenant's":                 {"foreign", "/api/v2/bank/303/bankAccount?userId=22", "", 404, nil},
		"another tenant's, by UUID":        {"foreign", "/api/v2/bank/303/bankAccount?userId=" + uuid(7), "", 404, nil},
		"another user":                     {"user", "/api/v2/bank/301/bankAccount?userId=other", "", 404, nil},
		"nobody":                           {"client", "/api/v2/bank/303/bankAccount?userId=nobody", "", 404, nil},
		"nothing at that bank":             {"client", "/api/v2/bank/swift/INGBPLPW/bankAccount?userId=22", "", 404, nil},
		"no bank is the one without a BIC": {"client", "/api/v2/bank/swift/%20/bankAccount?userId=22", "", 404, nil},
		"no user":                          {"client", "/api/v2/bank/303/bankAccount", "", 400, nil},
		"no such type":                     {"client", "/api/v2/bank/iban/PL27/bankAccount?userId=22", "", 400, nil},
		"no JSON":                          {"client", "/api/v2/bank/303/bankAccount", "userId=22", 400, nil},
		"no user in it":                    {"client", "/api/v2/bank/303/bankAccount", `{"userId":["22"]}`, 400, nil},
		"a body without end":               {"client", "/api/v2/bank/303/bankAccount", strings.Repeat(" ", 20_000), 413, nil},
		"no token":                         {"", "/api/v2/bank/303/bankAccount", "", 401, nil},
		"a bad token":                      {"nobody", "/api/v2/bank/303/bankAccount", "", 401, nil},
		"a scope that does not":            {"narrow", "/api/v2/bank/303/bankAccount", "", 403, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hub{}
			api, mux := h.serve(t, nil)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, request(http.MethodDelete, c.target, c.token, c.body))
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.Equal(t, c.deleted, h.deleted)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			conforms(t, api, request(http.MethodDelete, c.target, c.token, c.body), w)
			switch c.status {
			case 202:
				require.JSONEq(t, `{"success":true,"data":null}`, w.Body.String())
			case 404:
				require.JSONEq(t, `{"errorCode":404,"errorMessage":"unknown resource"}`, w.Body.String())
			case 401:
				require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer")
			}
			require.NotContains(t, w.Body.String(), "PL27", "values are not repeated")
		})
	}
}

// conforms holds an answer against the document.
func conforms(t *testing.T, api *banqup.API, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec())
	require.NoError(t, err)
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	route, params, err := router.FindRoute(r)
	require.NoError(t, err)
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: w.Code, Header: w.Header()}
	out.SetBodyBytes(w.Body.Bytes())
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out))
}

func TestFaultsAndLimits(t *testing.T) {
	h := &hub{err: context.DeadlineExceeded}
	_, mux := h.serve(t, nil)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, request(http.MethodDelete, "/api/v2/bank/303/bankAccount", "user", ""))
	require.Equal(t, 500, w.Code)
	require.JSONEq(t, `{"errorCode":500,"errorMessage":"internal error"}`, w.Body.String())
	require.Contains(t, h.log.String(), "deadline exceeded")

	w = httptest.NewRecorder()
	mux.ServeHTTP(w, request(http.MethodGet, "/api/v2/bank/303/bankAccount", "user", ""))
	require.Equal(t, 405, w.Code)
	require.Equal(t, "DELETE", w.Header().Get("Allow"))

	now := time.Unix(0, 0)
	_, mux = (&hub{}).serve(t, access.NewLimiter[bankfeed.TenantID](1, 1, 10, func() time.Time { return now }))
	for _, status := range []int{202, 429} {
		w = httptest.NewRecorder()
		mux.ServeHTTP(w, request(http.MethodDelete, "/api/v2/bank/303/bankAccount", "user", ""))
		require.Equal(t, status, w.Code)
	}
	require.Equal(t, "1", w.Header().Get("Retry-After"))
}

func TestTheDocumentIsServed(t *testing.T) {
	api, mux := (&hub{}).serve(t, nil)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, request(http.MethodGet, "/openapi/banqup.json", "", ""))
	require.Equal(t, 200, w.Code)
	require.Equal(t, api.Spec(), w.Body.Bytes())
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec())
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	require.Equal(t, 2, doc.Paths.Len())
}

// Whatever a stranger sends is refused in the dialect's shape.
func FuzzDeletion(f *testing.F) {
	for _, s := range [][3]string{{"swift", "BREXPLPW", `{"userId":"22"}`}, {"id", "303", `{"userId":22}`}, {"BIC", "%00", `null`}, {"x", "", `{"userId":{}}`}, {"id", "303", `{"userId":1e99}`}} {
		f.Add(s[0], s[1], s[2])
	}
	_, mux := (&hub{}).serve(f, nil)
	f.Fuzz(func(t *testing.T, kind, value, body string) {
		r := request(http.MethodDelete, "/api/v2/bank/a/b/bankAccount", "client", body)
		r.URL.Path = "/api/v2/bank/" + kind + "/" + value + "/bankAccount"
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && w.Code != 202 {
			var e banqup.Error
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			require.Equal(t, w.Code, e.Code)
			require.Less(t, w.Code, 500)
		}
	})
}
