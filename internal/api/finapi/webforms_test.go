package finapi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/webform"
)

// forms plays web forms and tasks for user 7 of tenant 1, and keeps what it was
// told.
type forms struct {
	hub     *hub
	orders  []webform.Order
	updates []webform.UpdateOrder
	aborted []bankfeed.RequestID
	list    []webform.Form
	tasks   []webform.Task
}

func formID(n bankfeed.RequestID) string {
	return installation.UUID(bankfeed.KindRequest, 1, int64(n)).String()
}

func aForm(n bankfeed.RequestID) webform.Form {
	return webform.Form{ID: n, UUID: installation.UUID(bankfeed.KindRequest, 1, int64(n)), Type: webform.Import, Status: webform.NotYetOpened,
		URL: "https://hub.example/widget/secret", CreatedAt: born, ExpiresAt: born.Add(20 * time.Minute)}
}

func (f *forms) Import(_ context.Context, o webform.Order) (webform.Form, error) {
	f.orders = append(f.orders, o)
	if o.Bank == "999" {
		return webform.Form{}, &bankfeed.Error{Kind: bankfeed.NotFound, Field: "bank.id", Text: "unknown bank"}
	}
	if o.RedirectURL == "nowhere" {
		return webform.Form{}, bankfeed.InvalidField("redirectUrl", "must be absolute")
	}
	return aForm(5), f.hub.mine(o.Tenant, o.User)
}

func (f *forms) Form(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (webform.Form, error) {
	for _, x := range f.list {
		if x.ID == id {
			return x, f.hub.mine(tenant, user)
		}
	}
	return webform.Form{}, bankfeed.ErrNotFound
}

func (f *forms) Forms(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]webform.Form, error) {
	return append([]webform.Form(nil), f.list...), f.hub.mine(tenant, user)
}

func (f *forms) Abort(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) error {
	f.aborted = append(f.aborted, id)
	return f.hub.mine(tenant, user)
}

func (f *forms) Update(_ context.Context, o webform.UpdateOrder) (webform.Task, error) {
	f.updates = append(f.updates, o)
	if o.Connection != 123456 {
		return webform.Task{}, &bankfeed.Error{Kind: bankfeed.NotFound, Field: "bankConnectionId", Text: "unknown bank connection"}
	}
	return webform.Task{ID: 6, UUID: installation.UUID(bankfeed.KindRequest, 1, 6), Status: webform.NotYetStarted, CreatedAt: born, Connection: o.Connection}, f.hub.mine(o.Tenant, o.User)
}

func (f *forms) Task(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (webform.Task, error) {
	for _, x := range f.tasks {
		if x.ID == id {
			return x, f.hub.mine(tenant, user)
		}
	}
	return webform.Task{}, bankfeed.ErrNotFound
}

func (f *forms) Tasks(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]webform.Task, error) {
	return append([]webform.Task(nil), f.tasks...), f.hub.mine(tenant, user)
}

func newFormsClient(t *testing.T) (*client, *forms) {
	f := &forms{}
	c := newClient(t, func(config *finapi.Config) { config.Forms = f })
	f.hub = c.hub
	return c, f
}

const importPath, updatePath = "/api/webForms/bankConnectionImport", "/api/tasks/backgroundUpdate"

func TestImportForm(t *testing.T) {
	c, f := newFormsClient(t)
	a := c.do("user", "POST", importPath, `{"bank":{"id":200},"bankConnectionName":"x","accountTypes":["CHECKING"],"allowedInterfaces":["XS2A"],
		"callbacks":{"finalised":"https://domain.tld/cb?state=42"},"redirectUrl":"https://domain.tld/done","profileId":"a"}`)
	require.Equal(t, http.StatusCreated, a.Code, a.Body)
	sameText(t, `{"id":"`+formID(5)+`","url":"https://hub.example/widget/secret","createdAt":"2020-01-01T00:00:00.000+0100","expiresAt":"2020-01-01T00:20:00.000+0100",`+
		`"type":"BANK_CONNECTION_IMPORT","status":"NOT_YET_OPENED","payload":{"bankConnectionId":null,"errorCode":null,"errorMessage":null}}`, a.Body)
	require.Equal(t, []webform.Order{{Tenant: 1, User: 7, Client: "c", Sandbox: true, Bank: "200", Modes: []bankfeed.Mode{bankfeed.Redirect}, RedirectURL: "https://domain.tld/done",
		Callbacks: []bankfeed.RequestCallback{{Moment: bankfeed.MomentFinished, URL: "https://domain.tld/cb?state=42"}}}}, f.orders)

	for _, body := range []string{"", "{}", `{"bank":null,"callbacks":null}`, `{"bank":{"search":"sparkasse"}}`} {
		require.Equal(t, http.StatusCreated, c.do("user", "POST", importPath, body).Code, body)
	}
	require.Equal(t, "sparkasse", f.orders[len(f.orders)-1].Search)
}

// Errors have the shapes of Web Form 2.0.
func TestWebFormErrors(t *testing.T) {
	c, _ := newFormsClient(t)
	const when = `"timestamp":"2020-01-02T00:00:00.000+0100","endpoint":"POST /api/webForms/bankConnectionImport"}`
	for body, field := range map[string]string{
		`{"bank":7}`:                                      "bank",
		`{"bank":{"id":"x"}}`:                             "bank.id",
		`{"bank":{"id":1,"search":"x"}}`:                  "bank.search",
		`{"allowedInterfaces":["FAX"]}`:                   "allowedInterfaces[0]",
		`{"redirectUrl":"nowhere"}`:                       "redirectUrl",
		`{"callbacks":{"finalised":"https://127.0.0.1"}}`: "callbacks.finalised",
		`{"callbacks":{"finalised":5}}`:                   "callbacks.finalised",
		`[`:                                               "request",
	} {
		a := c.do("user", "POST", importPath, body)
		require.Equal(t, http.StatusBadRequest, a.Code, body)
		require.Regexp(t, `^\{"errors":\[\{"field":"`+regexpQuote(field)+`","message":"[^"]+"\}\],`, a.Body)
		require.Contains(t, a.Body, when)
	}
	for _, e := range []struct {
		caller, method, path, body string
		status                     int
		code                       string
	}{
		{"user", "POST", importPath, `{"bank":{"id":999}}`, 422, "BANK_NOT_SUPPORTED"},
		{"", "POST", importPath, "", 401, "UNAUTHORIZED"},
		{"stranger", "GET", "/api/webForms", "", 401, "UNAUTHORIZED"},
		{"client", "POST", importPath, "", 403, "FORBIDDEN"},
		{"user", "GET", "/api/webForms/" + formID(5), "", 404, "NOT_FOUND"},
		{"user", "GET", "/api/tasks/nonsense", "", 404, "NOT_FOUND"},
		{"user", "PUT", "/api/webForms", "", 405, "METHOD_NOT_ALLOWED"},
		{"user", "POST", updatePath, `{"bankConnectionId":7}`, 404, "NOT_FOUND"},
	} {
		a := c.do(e.caller, e.method, e.path, e.body)
		require.Equal(t, e.status, a.Code, "%s %s: %s", e.method, e.path, a.Body)
		require.Regexp(t, `^\{"code":"`+e.code+`","description":"[^"]+","timestamp":"2020-01-02T00:00:00.000\+0100","endpoint":"[A-Z]+ /api/[^"]+"\}$`, a.Body)
	}
	c.hub.err = context.DeadlineExceeded
	a := c.do("user", "GET", "/api/webForms", "")
	require.Equal(t, 500, a.Code)
	require.Contains(t, a.Body, `"code":"INTERNAL_SERVER_ERROR"`)
}

func regexpQuote(s string) string {
	out := ""
	for _, r := range s {
		if r == '[' || r == ']' || r == '.' {
			out += `\`
		}
		out += string(r)
	}
	return out
}

func TestFormsAreReadListedAndGivenUp(t *testing.T) {
	c, f := newFormsClient(t)
	done, broken := aForm(4), aForm(3)
	done.Status, done.Connection = webform.Completed, 123456
	broken.Status, broken.Code, broken.Message = webform.CompletedWithError, webform.CodeBankRejection, "the bank said no"
	f.list = []webform.Form{aForm(5), done, broken}
	require.Contains(t, c.do("user", "GET", "/api/webForms/"+formID(4), "").Body, `"status":"COMPLETED","payload":{"bankConnectionId":123456,"errorCode":null,"errorMessage":null}`)
	require.Contains(t, c.do("user", "GET", "/api/webForms/"+formID(3), "").Body,
		`"payload":{"bankConnectionId":null,"errorCode":"BANK_SERVER_REJECTION","errorMessage":"the bank said no"}`)
	for _, foreign := range []string{"user8", "foreign"} {
		require.Equal(t, 404, c.do(foreign, "GET", "/api/webForms/"+formID(4), "").Code)
	}

	ids := `(?s)` + formID(3) + `.*` + formID(4) + `.*` + formID(5)
	oldest := c.do("user", "GET", "/api/webForms", "")
	require.Regexp(t, ids, oldest.Body)
	require.Contains(t, oldest.Body, `"paging":{"page":1,"perPage":20,"pageCount":1,"totalCount":3}`)
	newest := c.do("user", "GET", "/api/webForms?order=createdAt,desc&perPage=2&page=1", "")
	require.Regexp(t, `(?s)`+formID(5)+`.*`+formID(4), newest.Body)
	require.Contains(t, newest.Body, `"paging":{"page":1,"perPage":2,"pageCount":2,"totalCount":3}`)
	require.Contains(t, c.do("user", "GET", "/api/webForms?page=9", "").Body, `"items":[]`)
	require.Equal(t, 400, c.do("user", "GET", "/api/webForms?page=0", "").Code)
	require.Equal(t, 400, c.do("user", "GET", "/api/webForms?order=name", "").Code)

	require.Equal(t, 204, c.do("user", "DELETE", "/api/webForms/"+formID(5), "").Code)
	require.Equal(t, []bankfeed.RequestID{5}, f.aborted)
}

func TestTasks(t *testing.T) {
	c, f := newFormsClient(t)
	a := c.do("user", "POST", updatePath, `{"bankConnectionId":123456,"importNewAccountsMode":"SKIP","callbacks":{"finalised":"https://domain.tld/f","webFormRequired":"https://domain.tld/w"}}`,
		"PSU-IP-Address", "203.0.113.7")
	require.Equal(t, http.StatusCreated, a.Code, a.Body)
	sameText(t, `{"id":"`+formID(6)+`","createdAt":"2020-01-01T00:00:00.000+0100","type":"BANK_CONNECTION_UPDATE","status":"NOT_YET_STARTED",`+
		`"payload":{"bankConnectionId":123456,"errorCode":null,"errorMessage":null}}`, a.Body)
	require.Equal(t, []webform.UpdateOrder{{Tenant: 1, User: 7, Client: "c", Sandbox: true, Connection: 123456, PSU: &bankfeed.PSU{IP: "203.0.113.7"},
		Callbacks: []bankfeed.RequestCallback{{Moment: bankfeed.MomentFinished, URL: "https://domain.tld/f"}, {Moment: bankfeed.MomentUserNeeded, URL: "https://domain.tld/w"}}}}, f.updates)
	require.Equal(t, 400, c.do("user", "POST", updatePath, `{}`).Code)
	require.Equal(t, 400, c.do("user", "POST", updatePath, `{"bankConnectionId":0}`).Code)
	require.Equal(t, 400, c.do("user", "POST", updatePath, `{"bankConnectionId":1}`, "PSU-IP-Address", "nobody").Code)

	form := aForm(7)
	form.Type = webform.Update
	f.tasks = []webform.Task{{ID: 6, UUID: installation.UUID(bankfeed.KindRequest, 1, 6), Status: webform.WebFormRequired, CreatedAt: born, Connection: 123456, Form: &form}}
	require.Contains(t, c.do("user", "GET", "/api/tasks/"+formID(6), "").Body,
		`"webForm":{"id":"`+formID(7)+`","url":"https://hub.example/widget/secret","status":"NOT_YET_OPENED"}`)
	require.Contains(t, c.do("user", "GET", "/api/tasks", "").Body, `"totalCount":1`)
	require.Equal(t, 404, c.do("user8", "GET", "/api/tasks/"+formID(6), "").Code)
}
