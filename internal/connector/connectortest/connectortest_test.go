package connectortest

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// record writes a recording; a path with .+ in it is a pattern.
func record(t *testing.T, dir, operation, method, path string, status int, body string) {
	var r Recording
	r.Operation, r.Request.Method, r.Response.Status, r.Response.Body = operation, method, status, body
	if strings.Contains(path, ".") {
		r.Request.URLPattern = path
	} else {
		r.Request.URL = path
	}
	r.Response.Headers = map[string]string{"Content-Type": "application/json"}
	data, err := json.Marshal(r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, operation+".json"), data, 0o600))
}

func TestReplay(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other.json"), []byte(`[1]`), 0o600))
	record(t, dir, "get-accounts", "GET", "/v1/accounts?withBalance=false", 200,
		`{"accounts":[{"resourceId":"r1","iban":"DE1","currency":"EUR","_links":{"x":{"href":"https://bank.example/p/v1/accounts/r1/balances"}}},{"resourceId":"r2","iban":"DE2","currency":"EUR"}]}`)
	record(t, dir, "get-balances", "GET", "/v1/accounts/.+/balances", 200, `{"account":{"iban":"DE2"},"which":"general"}`)
	record(t, dir, "get-balances-redirect", "GET", "/v1/accounts/.+/balances", 200, `{"account":{"iban":"DE2"},"which":"redirect"}`)
	record(t, dir, "get-transactions", "GET", `.*/v3/accounts/.+/transactions\?dateFrom=.+&bookingStatus=booked`, 200, `:20:MT940 of DE1`)
	record(t, dir, "update-psu-authentication", "PUT", "/v1/consents/.+/authorisations/.+", 200, "password")
	record(t, dir, "send-otp", "PUT", "/v1/consents/.+/authorisations/.+", 200, "code")
	record(t, dir, "get-consent-status", "GET", "/v1/consents/.+/status", 200, `{"_links":{"scaRedirect":{"href":"http://localhost:{{request.port}}/redirect"}}}`)

	for _, c := range []struct {
		mode               bankfeed.Mode
		method, path, body string
		status             int
		want               string
	}{
		{bankfeed.Embedded, "GET", "/v1/accounts?page=7", "", 200, `"href":"{{url}}/v1/accounts/r1/balances"`},
		{bankfeed.Embedded, "GET", "/v1/accounts/r2/balances", "", 200, `"which":"general"`},
		{bankfeed.Redirect, "GET", "/v1/accounts/r2/balances", "", 200, `"which":"redirect"`},
		{bankfeed.Redirect, "GET", "/v1/accounts/r1/balances", "", 404, `RESOURCE_UNKNOWN`},
		{bankfeed.Redirect, "GET", "/v1/accounts/r3/balances", "", 404, `RESOURCE_UNKNOWN`},
		{bankfeed.Redirect, "GET", "/base/v1/accounts/r1/transactions", "", 200, `MT940`},
		{bankfeed.Redirect, "GET", "/v1/accounts/r2/transactions", "", 404, `RESOURCE_UNKNOWN`},
		{bankfeed.Embedded, "PUT", "/v1/consents/c/authorisations/a", `{"psuData":{}}`, 200, "password"},
		{bankfeed.Embedded, "PUT", "/v1/consents/c/authorisations/a", `{"scaAuthenticationData":"1"}`, 200, "code"},
		{bankfeed.Embedded, "PUT", "/v1/consents/c/authorisations/a", `{}`, 404, "RESOURCE_UNKNOWN"},
		{bankfeed.Embedded, "POST", "/v1/accounts", "", 404, "RESOURCE_UNKNOWN"},
		{bankfeed.Embedded, "GET", "/v1/consents/c/d/status", "", 404, "RESOURCE_UNKNOWN"},
		{bankfeed.Embedded, "GET", "/v1/consents/c/status", "", 200, `"{{url}}/redirect"`},
	} {
		server := Replay(t, dir, c.mode)
		req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		res, err := server.Client().Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, c.status, res.StatusCode, "%+v", c)
		require.Contains(t, string(body), strings.ReplaceAll(c.want, "{{url}}", server.URL), "%+v", c)
	}
}

func TestValidator(t *testing.T) {
	v := NewValidator(t, BerlinGroup(t, backingtest.SpecDir(t)))
	const id = "6f0c7b0e-6f0e-4d0a-9a55-0d3b2f4c0001"
	check := func(method, path, body string, headers ...string) error {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://bank.example/base"+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("X-Request-ID", id)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		return v.Check(req, "/base")
	}
	consent := `{"access":{"accounts":[]},"recurringIndicator":true,"validUntil":"2027-01-01","frequencyPerDay":4,"combinedServiceIndicator":false}`
	const transactions, authorisation = "/v1/accounts/a%2Fb/transactions", "/v1/consents/c/authorisations/a"

	require.NoError(t, check("POST", "/v1/consents", consent, "PSU-IP-Address", "192.0.2.7"))
	require.NoError(t, check("GET", transactions+"?bookingStatus=both&dateFrom=2026-01-01", "", "Consent-ID", "c"))
	for _, body := range []string{`{}`, `{"psuData":{"password":"x"}}`, `{"authenticationMethodId":"x"}`, `{"scaAuthenticationData":"x"}`, `{"confirmationCode":"x"}`} {
		require.NoError(t, check("PUT", authorisation, body), body)
	}

	require.Error(t, check("POST", "/v1/consents", consent), "PSU-IP-Address is missing")
	require.Error(t, check("POST", "/v1/consents", strings.Replace(consent, `"frequencyPerDay":4,`, "", 1), "PSU-IP-Address", "192.0.2.7"))
	require.Error(t, check("GET", transactions+"?bookingStatus=both", ""), "Consent-ID is missing")
	require.Error(t, check("GET", transactions+"?bookingStatus=most", "", "Consent-ID", "c"))
	require.Error(t, check("GET", transactions, "", "Consent-ID", "c"), "bookingStatus is missing")
	require.Error(t, check("GET", transactions+"?bookingStatus=both", "", "Consent-ID", "c", "X-Request-ID", "7"), "not a UUID")
	require.Error(t, check("PUT", authorisation, `{"psuData":{}}`))
	require.Error(t, check("PUT", authorisation, `{"other":1}`))
	require.Error(t, check("PATCH", authorisation, `{}`))
	require.Error(t, check("GET", "/v1/nothing", ""))
}
