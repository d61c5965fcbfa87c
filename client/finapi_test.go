package client_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// answers serves one answer and keeps the request.
type answers struct {
	*httptest.Server
	status int
	body   string
	header map[string]string

	request *http.Request
	sent    string
}

func answering(t *testing.T, status int, body string) *answers {
	t.Helper()
	a := &answers{status: status, body: body, header: map[string]string{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		a.request, a.sent = r, string(text)
		for k, v := range a.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *answers) di() *client.DataIntelligence {
	return &client.DataIntelligence{BaseURL: a.URL + "/api/v1/"}
}

// drawn is the answer that the vendor's page draws.
const drawn = `{"bankConnections":[{"dataSourceId":"4e760145-2e65-4242-ac33-488943528c93","creationDate":"2020-01-01 00:00:00.000",
"lastUpdate":"2020-01-01 00:00:00.000","externalId":123456,"bic":"COBADEFFXXX","bankName":"Commerzbank","bankStatus":"IN_PROGRESS","updateRequired":false,
"accounts":[{"accountId":"5f660145-2e65-4242-ac33-488943528c93","creationDate":"2020-01-01 00:00:00.000","lastUpdate":"2020-01-01 00:00:00.000",
"externalId":123456,"iban":"DE13700800000061110500","accountType":"CHECKING","status":"UPDATED"}]}]}`

func TestSynchronize(t *testing.T) {
	a := answering(t, 200, drawn)
	got, err := a.di().Synchronize(t.Context(), "the-token", client.SyncRequest{CallbackURL: "https://domain.tld", CallbackHandle: "38793e87-499d-4860-b947-2c2c8ab10322"})
	require.NoError(t, err)
	require.Equal(t, "POST /api/v1/dataSources/bankConnections/synchronization", a.request.Method+" "+a.request.URL.Path)
	require.Equal(t, "Bearer the-token", a.request.Header.Get("Authorization"))
	require.Equal(t, "application/json", a.request.Header.Get("Content-Type"))
	require.JSONEq(t, `{"callbackUrl":"https://domain.tld","callbackHandle":"38793e87-499d-4860-b947-2c2c8ab10322"}`, a.sent)
	require.Equal(t, []client.DataSource{{
		DataSourceID: "4e760145-2e65-4242-ac33-488943528c93", CreationDate: "2020-01-01 00:00:00.000", LastUpdate: "2020-01-01 00:00:00.000",
		ExternalID: "123456", BIC: "COBADEFFXXX", BankName: "Commerzbank", BankStatus: client.SourceInProgress,
		Accounts: []client.DataSourceAccount{{AccountID: "5f660145-2e65-4242-ac33-488943528c93", CreationDate: "2020-01-01 00:00:00.000",
			LastUpdate: "2020-01-01 00:00:00.000", ExternalID: "123456", IBAN: "DE13700800000061110500", AccountType: finapi.Checking, Status: finapi.Updated}},
	}}, got.BankConnections)

	_, err = a.di().Synchronize(t.Context(), "the-token", client.SyncRequest{})
	require.NoError(t, err)
	require.Equal(t, "{}", a.sent, "empty covers everything")

	a.status, a.body = 202, `{"bankConnections":[{"dataSourceId":"not-a-uuid","bic":null,"bankStatus":"SLEEPING","accounts":[{"iban":null,"accountType":"PIGGY_BANK","rate":1.5}],"x":{"y":[]}}],"next":null}`
	got, err = a.di().Synchronize(t.Context(), "t", client.SyncRequest{})
	require.NoError(t, err, "what is unknown is no error")
	require.False(t, got.BankConnections[0].BankStatus.Failed() || got.BankConnections[0].BankStatus.Successful())
	for _, body := range []string{`{"bankConnections":null}`, `{}`, `null`} {
		a.body = body
		got, err = a.di().Synchronize(t.Context(), "t", client.SyncRequest{})
		require.NoError(t, err)
		require.Empty(t, got.BankConnections)
	}
}

func TestStatusAndLists(t *testing.T) {
	a := answering(t, 200, `{"status":"IN_PROGRESS","code":"SYNC_IN_PROGRESS"}`)
	got, err := a.di().Status(t.Context(), "t", "4e760145/../x")
	require.NoError(t, err)
	require.Equal(t, client.StatusResult{Status: "IN_PROGRESS", Code: "SYNC_IN_PROGRESS"}, got)
	require.Equal(t, "/api/v1/dataSources/4e760145%2F..%2Fx/status", a.request.URL.EscapedPath())
	require.True(t, client.SourceStatus("FAILED").Failed())
	require.True(t, client.SourceStatus("ERROR").Failed())

	for _, body := range []string{drawn, `{"dataSources":[{"dataSourceId":"1"}],"paging":{"page":1}}`, `[{"dataSourceId":"1"}]`} {
		a.body = body
		list, err := a.di().DataSources(t.Context(), "t")
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.NotEmpty(t, list[0].DataSourceID)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want client.Error
	}{
		"access":   {`{"errors":[{"message":"Not now.","code":"ILLEGAL_ENTITY_STATE","type":"BUSINESS"}],"requestId":"r-7"}`, client.Error{Code: "ILLEGAL_ENTITY_STATE", Message: "Not now.", RequestID: "r-7"}},
		"oauth":    {`{"error":"invalid_token","error_description":"It has expired."}`, client.Error{Code: "invalid_token", Message: "It has expired."}},
		"web form": {`{"code":"BANK_NOT_SUPPORTED","description":"No.","timestamp":"x"}`, client.Error{Code: "BANK_NOT_SUPPORTED", Message: "No."}},
		"field":    {`{"errors":[{"field":"bank.id","message":"is wrong"}]}`, client.Error{Field: "bank.id", Message: "is wrong"}},
		"gateway":  {`<html>Bad Gateway`, client.Error{}},
		"other":    {`{"errors":[{"code":7,"message":{}}],"error":[1]}`, client.Error{}},
		"empty":    {``, client.Error{}},
	} {
		a := answering(t, 422, c.body)
		a.header["Retry-After"] = "7"
		_, err := a.di().Status(t.Context(), "secret-token", "1")
		var got *client.Error
		require.ErrorAs(t, err, &got, name)
		c.want.Call, c.want.Status, c.want.RetryAfter = "GET /dataSources/1/status", 422, 7*time.Second
		require.Equal(t, c.want, *got, name)
		require.Equal(t, c.want.Code, client.ErrorCode(fmt.Errorf("wrapped: %w", err)))
		require.NotContains(t, err.Error(), "secret-token")
	}
	a := answering(t, 302, "")
	a.header["Location"] = a.URL + "/elsewhere"
	_, err := a.di().Status(t.Context(), "t", "1")
	var got *client.Error
	require.ErrorAs(t, err, &got)
	require.Equal(t, 302, got.Status, "a redirect is not followed")

	for text, want := range map[string]time.Duration{"99999999999999999999": time.Hour, "-9": 0, "soon": 0, "Wed, 01 Jan 2200 00:00:00 GMT": time.Hour, "Wed, 01 Jan 2020 00:00:00 GMT": 0} {
		a.status, a.header = 429, map[string]string{"Retry-After": text}
		_, err = a.di().Status(t.Context(), "t", "1")
		require.ErrorAs(t, err, &got)
		require.Equal(t, want, got.RetryAfter, text)
	}

	a.status, a.header = 200, map[string]string{}
	a.body = `{"status":`
	_, err = a.di().Status(t.Context(), "t", "1")
	require.Error(t, err)
	require.NotErrorAs(t, err, &got, "half an answer is none")
	a.Close()
	_, err = a.di().Status(t.Context(), "t", "1")
	require.Error(t, err)
	require.NotErrorAs(t, err, &got)
	_, err = (&client.DataIntelligence{BaseURL: "hub.example"}).Status(t.Context(), "t", "1")
	require.ErrorContains(t, err, "BaseURL")
}

func TestAmountsStayExact(t *testing.T) {
	a := answering(t, 200, `{"result":"COVERED","payable":true,"amount":250.00,"currency":"EUR","accounts":[{"balance":1234567890123456.70,"available":null}]}`)
	amount, err := bankfeed.ParseAmount("250.00")
	require.NoError(t, err)
	got, err := a.di().BalancesCheck(t.Context(), "t", finapi.BalancesCheckRequest{DataSourceIDs: []string{"1"}, Amount: finapi.Decimal{Amount: amount}})
	require.NoError(t, err)
	require.JSONEq(t, `{"dataSourceIds":["1"],"amount":250.00}`, a.sent)
	require.Contains(t, a.sent, "250.00")
	require.Equal(t, "1234567890123456.70", got.Accounts[0].Balance.String())
	raw, err := a.di().Check(t.Context(), "t", "balancesCheck", nil)
	require.NoError(t, err)
	require.Equal(t, a.body, string(raw), "as the server wrote it")
}

func TestCaseAndReports(t *testing.T) {
	a := answering(t, 201, `{"id":"c1"}`)
	c, err := a.di().CreateCase(t.Context(), "t", finapi.CaseRequest{DataSourceIDs: []string{"1"}}, "key-1")
	require.NoError(t, err)
	require.Equal(t, "c1", c.ID)
	require.Equal(t, "key-1", a.request.Header.Get("Idempotency-Key"))
	a.body = `{"id":"r1","status":"PENDING"}`
	_, err = a.di().CreateReport(t.Context(), "t", c.ID, finapi.ReportBalances, finapi.ReportRequest{})
	require.NoError(t, err)
	require.Equal(t, "/api/v1/cases/c1/reports/cashFlow/balances", a.request.URL.Path)
	a.body = `{}`
	_, err = a.di().CreateCase(t.Context(), "t", finapi.CaseRequest{}, "")
	require.ErrorContains(t, err, "no id")
}

func TestTokensAndProcesses(t *testing.T) {
	a := answering(t, 200, `{"access_token":"access-1","token_type":"bearer","refresh_token":"refresh-1","expires_in":3599,"scope":"all"}`)
	access := &client.Access{BaseURL: a.URL, ClientID: "id", ClientSecret: "top-secret"}
	token, err := access.UserToken(t.Context(), "anna", "pass&word")
	require.NoError(t, err)
	require.Equal(t, client.Token{AccessToken: "access-1", RefreshToken: "refresh-1", ExpiresIn: 3599 * time.Second}, token)
	require.Equal(t, "client_id=id&client_secret=top-secret&grant_type=password&password=pass%26word&username=anna", a.sent)
	require.NotContains(t, fmt.Sprintf("%v %+v", token, *access), "-1}")
	logged := &strings.Builder{}
	slog.New(slog.NewJSONHandler(logged, nil)).Info("got one", "token", token)
	require.NotContains(t, logged.String(), "access-1")

	pc := &client.ProcessController{BaseURL: a.URL + "/api/v1"}
	_, err = pc.Exchange(t.Context(), "t", "process-secret", true)
	require.NoError(t, err)
	require.Equal(t, "/api/v1/processes/process-secret?invalidate=true", a.request.URL.RequestURI())
	a.status, a.body = 404, ""
	_, err = pc.Exchange(t.Context(), "t", "process-secret", true)
	require.EqualError(t, err, "GET /processes/***: 404")
	a.Close()
	_, err = pc.Exchange(t.Context(), "t", "process-secret", true)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "process-secret")
	_, err = access.ClientToken(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), "top-secret")
}

func TestUsersAndWebForms(t *testing.T) {
	a := answering(t, 201, `{"id":"anna","password":"made-up","email":null}`)
	access := &client.Access{BaseURL: a.URL}
	u, err := access.CreateUser(t.Context(), "t", client.NewUser{Password: "pass-word"})
	require.NoError(t, err)
	require.JSONEq(t, `{"password":"pass-word","isAutoUpdateEnabled":false}`, a.sent)
	require.Equal(t, "made-up", u.Password)

	forms := &client.WebForms{BaseURL: a.URL}
	a.body = `{"id":"f1","url":"https://hub/widget/x","status":"NOT_YET_OPENED","payload":{"bankConnectionId":null,"errorCode":null}}`
	f, err := forms.ConnectBank(t.Context(), "t", client.FormRequest{Bank: &client.FormBank{Search: "WBX"}, RedirectURL: "https://app/back"})
	require.NoError(t, err)
	require.JSONEq(t, `{"bank":{"search":"WBX"},"redirectUrl":"https://app/back"}`, a.sent)
	require.False(t, f.Ended())
	require.Empty(t, f.Payload.BankConnectionID)
	a.body = `{"id":"f1","status":"COMPLETED","payload":{"bankConnectionId":17}}`
	f, err = forms.WebForm(t.Context(), "t", "f1")
	require.NoError(t, err)
	require.True(t, f.Ended())
	a.body = `{"id":"k1","status":"WEB_FORM_REQUIRED","payload":{"webForm":{"id":"f2","url":"https://hub/widget/y","status":"NOT_YET_OPENED"}}}`
	task, err := forms.Update(t.Context(), "t", client.UpdateRequest{BankConnectionID: f.Payload.BankConnectionID})
	require.NoError(t, err)
	require.JSONEq(t, `{"bankConnectionId":17}`, a.sent)
	require.False(t, task.Ended(), "its user is needed")
	require.Equal(t, "https://hub/widget/y", task.Payload.WebForm.URL)
	a.body = `{"id":"k1","status":"COMPLETED_WITH_ERROR","payload":{"errorCode":"BANK_SERVER_REJECTION"}}`
	task, err = forms.Task(t.Context(), "t", task.ID)
	require.NoError(t, err)
	require.True(t, task.Ended())
	require.Equal(t, "BANK_SERVER_REJECTION", task.Payload.ErrorCode)
}

func TestSlowAnswerEndsWithItsContext(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := (&client.DataIntelligence{BaseURL: slow.URL}).Status(ctx, "t", "1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), slow.URL)
}
