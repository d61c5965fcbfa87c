package berlingroup_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
)

var account = connector.AccountRef{ResourceID: "r/1", Currency: "EUR"}

const transactions = "GET /v1/accounts/r%2F1/transactions"

func TestHeaders(t *testing.T) {
	b := newBank(t, map[string][]string{"GET /v1/accounts": {`200 {"accounts":[]}`}})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	a.Grant = bankfeed.Grant{ConsentID: "c-1", AccessToken: "tok-1"}

	_, err := c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	attended := b.last()
	require.Equal(t, "192.0.2.7", attended.header.Get("PSU-IP-Address"))
	require.Equal(t, "Firefox", attended.header.Get("PSU-User-Agent"))
	require.Equal(t, "c-1", attended.header.Get("Consent-ID"))
	require.Equal(t, "Bearer tok-1", attended.header.Get("Authorization"))
	require.Equal(t, "application/json", attended.header.Get("Accept"))
	require.Equal(t, "withBalance=true", attended.query)

	a.PSU, a.Grant.AccessToken = nil, ""
	_, err = c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	for name := range b.last().header {
		require.False(t, strings.HasPrefix(strings.ToUpper(name), "PSU-"), "%s without a PSU", name)
	}
	require.Empty(t, b.last().header.Values("Authorization"))
	require.NotEqual(t, attended.header.Get("X-Request-ID"), b.last().header.Get("X-Request-ID"))

	a.PSU = &bankfeed.PSU{IP: "2001:db8::7", UserAgent: "x\r\nPSU-ID: y"}
	_, err = c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	require.Equal(t, "2001:db8::7", b.last().header.Get("PSU-IP-Address"))
	require.Empty(t, b.last().header.Values("PSU-User-Agent"), "a user agent that cannot be a header is left out")
}

func TestCallsAreRecorded(t *testing.T) {
	b := newBank(t, map[string][]string{
		transactions:       {`401 {"tppMessages":[{"code":"CONSENT_INVALID","text":"consent c-1234 for PL61109010140000071219812874 is not valid"}]}`},
		"GET /v1/accounts": {`200 {"accounts":[]}`, `200 {"accounts":7}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a.Grant.ConsentID = "c-1234"
	_, err := c.Transactions(t.Context(), a, account, connector.TransactionQuery{From: "2026-01-01"})
	e := refused(t, err, bankfeed.FailConsentInvalid)
	require.Equal(t, "consent *** for PL****2874 is not valid", e.Text)
	a.PSU = nil
	_, err = c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	_, err = c.Accounts(t.Context(), a, "")
	require.EqualError(t, err, "bank_answer_unreadable (HTTP 200 ): $.accounts: not an array")

	require.Len(t, b.calls, 3)
	first, second, third := b.calls[0], b.calls[1], b.calls[2]
	id, err := uuid.Parse(first.ExecutionID.String())
	require.NoError(t, err)
	require.EqualValues(t, 7, id.Version())
	require.NotEqual(t, first.ExecutionID, second.ExecutionID)
	require.Equal(t, b.requests[0].header.Get("X-Request-ID"), first.RequestID)
	first.ExecutionID, first.RequestID = bankfeed.UUID{}, ""
	require.Equal(t, bankfeed.BankCall{
		Context: bankfeed.CallGetTransactions, Method: "GET", Status: 401, Attended: true, At: now,
		URL:       b.URL + prefix + "/v1/accounts/***/transactions?bookingStatus=both&dateFrom=2026-01-01",
		ErrorBody: `{"tppMessages":[{"code":"CONSENT_INVALID","text":"consent *** for PL****2874 is not valid"}]}`,
	}, first)
	require.Equal(t, bankfeed.CallGetAccounts, second.Context)
	require.Equal(t, 200, second.Status)
	require.False(t, second.Attended)
	require.Empty(t, second.Exception+second.ErrorBody)
	require.Equal(t, "bank_answer_unreadable (HTTP 200 ): $.accounts: not an array", third.Exception)

	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 3)
	for i, call := range b.calls {
		require.Contains(t, lines[i], "execution_id="+call.ExecutionID.String())
		require.Contains(t, lines[i], "bank_request_id="+call.RequestID)
	}
	require.Contains(t, lines[0], "status=401")
	require.Contains(t, lines[0], "reason="+string(bankfeed.FailConsentInvalid))
	require.NotContains(t, log.String(), "c-1234")
	require.NotContains(t, log.String(), "PL")
}

func TestOneAccountIsAskedFor(t *testing.T) {
	b := newBank(t, map[string][]string{
		"GET /v1/accounts":       {`200 {"accounts":[]}`},
		"GET /v1/accounts/r%2F1": {`200 {"account":{"iban":"PL61109010140000071219812874"}}`, `403 {"tppMessages":[{"code":"SERVICE_BLOCKED"}]}`, `200 {"account":7}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	a.Grant.ConsentID = "c-1234"
	a.Profile.MaskedIBAN = connector.Unmask
	_, err := c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	require.Equal(t, "withBalance=true", b.last().query, "the first that is told of an account is complete")

	found, err := c.Account(t.Context(), a, account)
	require.NoError(t, err)
	require.Equal(t, "PL61109010140000071219812874", found.IBAN())
	require.Equal(t, "EUR", found.Currency, "of the account that was asked for")
	_, err = c.Account(t.Context(), a, account)
	refused(t, err, bankfeed.FailAccount)
	_, err = c.Account(t.Context(), a, account)
	refused(t, err, bankfeed.FailProtocol)
	require.Equal(t, []bankfeed.CallContext{bankfeed.CallGetAccounts, bankfeed.CallGetAccount, bankfeed.CallGetAccount, bankfeed.CallGetAccount}, b.contexts())
	require.Equal(t, b.URL+prefix+"/v1/accounts/***", b.calls[1].URL)
}

func TestPaging(t *testing.T) {
	item := func(id string) string {
		return `{"transactionId":"` + id + `","transactionAmount":{"amount":"1.00","currency":"EUR"}}`
	}
	b := newBank(t, map[string][]string{
		transactions: {
			`200 {"transactions":{"booked":[` + item("1") + `],"_links":{"next":{"href":"/v1/accounts/r%2F1/transactions?bookingStatus=both&cursor=a%2Bb"}}}}`,
			`200 {"transactions":{"booked":[` + item("2") + `],"pending":[` + item("3") + `]},"_links":{"next":{"href":"{{url}}/v1/accounts/r%2F1/transactions?bookingStatus=both&cursor=3"}}}`,
			`200 {"transactions":{"booked":[` + item("4") + `]}}`,
		},
		"GET /v1/accounts": {`200 {"accounts":[{"resourceId":"1"}],"_links":{"next":{"href":"?page=2"}}}`, `200 {"accounts":[{"resourceId":"2"}]}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	var ids, queries []string
	q := connector.TransactionQuery{From: "2026-01-01"}
	for more := true; more; {
		page, err := c.Transactions(t.Context(), a, account, q)
		require.NoError(t, err)
		require.False(t, page.BookedOnly)
		for _, x := range page.Transactions {
			ids = append(ids, x.BankID)
		}
		queries = append(queries, b.last().query)
		q.Cursor, more = page.Next, page.More
	}
	require.Equal(t, []string{"1", "2", "3", "4"}, ids)
	require.Equal(t, []string{"bookingStatus=both&dateFrom=2026-01-01", "bookingStatus=both&cursor=a%2Bb", "bookingStatus=both&cursor=3"}, queries)

	page, err := c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	require.True(t, page.More)
	page, err = c.Accounts(t.Context(), a, page.Next)
	require.NoError(t, err)
	require.False(t, page.More)
	require.Equal(t, "2", page.Accounts[0].ResourceID)
}

func TestBookedOnly(t *testing.T) {
	empty := `200 {"transactions":{"booked":[]}}`
	b := newBank(t, map[string][]string{transactions: {`400 {"tppMessages":[{"code":"PARAMETER_NOT_SUPPORTED"}]}`, empty}})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	page, err := c.Transactions(t.Context(), a, account, connector.TransactionQuery{From: "2026-01-01"})
	require.NoError(t, err)
	require.True(t, page.BookedOnly, "the caller learns that pending items were not asked for")
	require.Equal(t, "bookingStatus=booked&dateFrom=2026-01-01", b.last().query)
	require.Len(t, b.calls, 2)

	a.Profile.BookedOnly, a.Profile.PageSize = true, 250
	page, err = c.Transactions(t.Context(), a, account, connector.TransactionQuery{From: "2026-01-01"})
	require.NoError(t, err)
	require.True(t, page.BookedOnly)
	require.Equal(t, "bookingStatus=booked&dateFrom=2026-01-01&itemsPerPage=250", b.last().query)
}

func TestForeignLinksGetNothing(t *testing.T) {
	stranger := newBank(t, nil)
	foreign := stranger.URL + "/v1/accounts/r/transactions?page=2"
	b := newBank(t, map[string][]string{
		transactions:                      {`200 {"transactions":{"booked":[],"_links":{"next":{"href":"` + foreign + `"}}}}`},
		"GET /v1/accounts":                {`200 {"accounts":[],"_links":{"next":{"href":"` + foreign + `"}}}`},
		"GET /v1/accounts/r%2F1/balances": {"302 Location: " + foreign + "|"},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	_, err := c.Transactions(t.Context(), a, account, connector.TransactionQuery{From: "2026-01-01"})
	refused(t, err, bankfeed.FailProtocol)
	_, err = c.Transactions(t.Context(), a, account, connector.TransactionQuery{Cursor: foreign})
	refused(t, err, bankfeed.FailProtocol)
	_, err = c.Accounts(t.Context(), a, "")
	refused(t, err, bankfeed.FailProtocol)
	_, err = c.Accounts(t.Context(), a, foreign)
	refused(t, err, bankfeed.FailProtocol)
	_, err = c.Balances(t.Context(), a, account)
	require.Equal(t, 302, refused(t, err, bankfeed.FailProtocol).Status)
	require.Empty(t, stranger.requests)
}

func TestFormats(t *testing.T) {
	for answer, reason := range map[string]bankfeed.FailureReason{
		"200 Content-Type: text/plain|:20:STARTUMS":                                 bankfeed.FailFormat,
		"200 Content-Type: text/plain|{1:F01BANKDEFF}{4:":                           bankfeed.FailFormat,
		"200 Content-Type: application/xml;charset=UTF-8|<Document/>":               bankfeed.FailFormat,
		"200 Content-Type: application/octet-stream|PK":                             bankfeed.FailFormat,
		`200 {"balances":[],"_links":{"download":{"href":"/v1/x"}}}`:                bankfeed.FailFormat,
		`200 {"transactions":null,"_links":{"download":{"href":"/v1/x"}}}`:          bankfeed.FailFormat,
		"200 Content-Type: text/html|<html>maintenance</html>":                      bankfeed.FailProtocol,
		"200 Content-Type: application/json|":                                       bankfeed.FailProtocol,
		"200 Content-Type: application/json|<html>":                                 bankfeed.FailProtocol,
		`200 {"transactions":{"booked":[{"transactionAmount":{"amount":"x"}}]}}`:    bankfeed.FailProtocol,
		`200 {"balances":[]}`:                                                       bankfeed.FailProtocol,
		`200 {"transactions":{"booked":[`:                                           bankfeed.FailProtocol,
		"200 Content-Type: text/plain|{\"transactions\":{\"booked\":[]}}":           "",
		"200 Content-Type: application/problem+json|{\"transactions\":{}}":          "",
		"200 Content-Type: application/json; charset=UTF-8|{\"transactions\":null}": "",
		"204 ": "",
	} {
		b := newBank(t, map[string][]string{transactions: {answer}})
		page, err := connect(t, prefix).Transactions(t.Context(), b.access(bankfeed.Redirect), account, connector.TransactionQuery{From: "2026-01-01"})
		if reason == "" {
			require.NoError(t, err, answer)
		} else {
			refused(t, err, reason)
		}
		require.Empty(t, page.Transactions)
	}
}

func TestRateLimit(t *testing.T) {
	b := newBank(t, map[string][]string{transactions: {`429 Retry-After: 120|{"tppMessages":[{"code":"ACCESS_EXCEEDED"}]}`}})
	_, err := connect(t, prefix).Transactions(t.Context(), b.access(bankfeed.Redirect), account, connector.TransactionQuery{From: "2026-01-01"})
	e := refused(t, err, bankfeed.FailRateLimited)
	require.Equal(t, 2*time.Minute, e.RetryAfter)
	require.True(t, e.Daily)
	require.True(t, e.Failure().Retry)
}

func TestBodiesAreBounded(t *testing.T) {
	big := strings.Repeat(" ", 3<<20)
	b := newBank(t, map[string][]string{
		"GET /v1/consents/c-1/status": {"200 " + `{"consentStatus":"valid"}` + big},
		transactions:                  {"500 Content-Type: text/plain|" + strings.Repeat("x", 1<<20)},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	a.Grant.ConsentID = "c-1"
	_, err := c.ConsentStatus(t.Context(), a)
	refused(t, err, bankfeed.FailProtocol)
	_, err = c.Transactions(t.Context(), a, account, connector.TransactionQuery{From: "2026-01-01"})
	refused(t, err, bankfeed.FailUnavailable)
	require.Len(t, b.calls[1].ErrorBody, 4<<10)
}

// transport is an http.RoundTripper made of a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSilence(t *testing.T) {
	hang := transport(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	var calls []bankfeed.BankCall
	access := func(timeout time.Duration) connector.Access {
		return connector.Access{Mode: bankfeed.Redirect, Record: func(c bankfeed.BankCall) { calls = append(calls, c) },
			Profile: &connector.Profile{Timeout: timeout, Endpoints: []connector.Endpoint{{Mode: bankfeed.Redirect, BaseURL: "https://bank.example/"}}}}
	}
	for timeout, want := range map[time.Duration]time.Duration{0: 30 * time.Second, 7 * time.Second: 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			calls = nil
			_, err := berlingroup.New(&http.Client{Transport: hang}).Balances(t.Context(), access(timeout), account)
			e := refused(t, err, bankfeed.FailUnavailable)
			require.Zero(t, e.Status)
			require.Len(t, calls, 1)
			require.Equal(t, want, calls[0].Duration)
			require.Zero(t, calls[0].Status)
			require.NotEmpty(t, calls[0].Exception)
			require.NotContains(t, calls[0].Exception, "r/1")
		})
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := berlingroup.New(&http.Client{Transport: hang}).Balances(ctx, access(0), account)
	refused(t, err, bankfeed.FailInternal)
	require.ErrorIs(t, err, context.Canceled, "the hub stopped, the bank did nothing")

	broken := transport(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
	_, err = berlingroup.New(&http.Client{Transport: broken}).Balances(t.Context(), access(0), account)
	refused(t, err, bankfeed.FailUnavailable)
	require.NotContains(t, err.Error(), "bank.example")
}

func TestNoEndpoint(t *testing.T) {
	c := berlingroup.New(&http.Client{})
	for _, base := range []string{"", "bank.example", "ftp://bank.example", "https://"} {
		a := connector.Access{Mode: bankfeed.Redirect, PSU: &bankfeed.PSU{IP: "192.0.2.7"},
			Profile: &connector.Profile{Endpoints: []connector.Endpoint{{Mode: bankfeed.Redirect, BaseURL: base}}}}
		_, err := c.Accounts(t.Context(), a, "")
		refused(t, err, bankfeed.FailInternal)
		_, err = c.CreateConsent(t.Context(), a, asked)
		refused(t, err, bankfeed.FailInternal)
		refused(t, c.DeleteConsent(t.Context(), a), bankfeed.FailInternal)
	}
}
