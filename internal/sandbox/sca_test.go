package sandbox

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEmbeddedHappyPath(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.create(EmbeddedBase, consentBody())
	require.Equal(t, "EMBEDDED", con.header.Get("ASPSP-SCA-Approach"))
	require.Equal(t, con.href("self"), con.header.Get("Location"))

	auth := c.start(con, "fine", Password)
	require.Equal(t, 201, auth.status)
	require.Equal(t, "scaMethodSelected", auth.str("scaStatus"))
	require.Equal(t, "sms", auth.str("chosenScaMethod", "authenticationMethodId"))
	require.Equal(t, "integer", auth.str("challengeData", "otpFormat"))

	ids := c.do("GET", con.href("self")+"/authorisations", nil, nil)
	require.Equal(t, auth.str("authorisationId"), ids.str("authorisationIds", 0))
	require.Equal(t, "finalised", c.code(auth, Code).str("scaStatus"))
	require.Equal(t, "finalised", c.do("GET", auth.href("scaStatus"), nil, nil).str("scaStatus"))
	require.Equal(t, "valid", c.do("GET", con.href("status"), nil, nil).str("consentStatus"))

	full := c.do("GET", con.href("self"), nil, nil)
	require.Equal(t, "2027-05-20", full.str("validUntil"), "the bank cuts to 180 days")
	require.Contains(t, string(full.raw), `"frequencyPerDay":4`)
}

func TestMethodMustBeSelected(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.create(EmbeddedBase, consentBody())
	auth := c.start(con, "methods", Password)
	require.Equal(t, "psuAuthenticated", auth.str("scaStatus"))
	require.Len(t, auth.get("scaMethods"), 3)
	link := auth.href("selectAuthenticationMethod")

	c.do("PUT", link, psu, map[string]string{"authenticationMethodId": "fax"}).requireError(400, "SCA_METHOD_UNKNOWN")
	c.do("PUT", link, psu, map[string]string{"scaAuthenticationData": Code}).requireError(409, "STATUS_INVALID")
	chosen := c.do("PUT", link, psu, map[string]string{"authenticationMethodId": "photo"})
	require.Equal(t, "scaMethodSelected", chosen.str("scaStatus"))
	require.Equal(t, "PHOTO_OTP", chosen.str("chosenScaMethod", "authenticationType"))
	require.NotEmpty(t, chosen.str("challengeData", "image"))
	require.Equal(t, "finalised", c.code(chosen, Code).str("scaStatus"))
}

func TestPasswordAfterAuthorisationWasStarted(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.create(EmbeddedBase, consentBody())
	auth := c.do("POST", con.href("startAuthorisationWithPsuAuthentication"), psu, nil)
	require.Equal(t, "received", auth.str("scaStatus"))
	in := c.do("PUT", auth.href("updatePsuAuthentication"), with(psu, "PSU-ID", "fine"), map[string]any{"psuData": map[string]string{"password": Password}})
	require.Equal(t, "finalised", c.code(in, Code).str("scaStatus"))
}

func TestPasswords(t *testing.T) {
	_, c := newBank(t, Config{})
	t.Run("a wrong one may be corrected", func(t *testing.T) {
		c := c.in(t)
		con := c.create(EmbeddedBase, consentBody())
		c.start(con, "fine", "nope").requireError(401, "PSU_CREDENTIALS_INVALID")
		c.start(con, "nobody", Password).requireError(401, "PSU_CREDENTIALS_INVALID")
		require.Equal(t, 201, c.start(con, "fine", Password).status)
	})
	t.Run("three wrong ones end it", func(t *testing.T) {
		c := c.in(t)
		con := c.create(EmbeddedBase, consentBody())
		for range 3 {
			c.start(con, "wrong-password", Password).requireError(401, "PSU_CREDENTIALS_INVALID")
		}
		require.Equal(t, "rejected", c.do("GET", con.href("status"), nil, nil).str("consentStatus"))
		c.start(con, "wrong-password", Password).requireError(409, "STATUS_INVALID")
		c.fire("wrong-password", "clear", nil)
		c.embedded("wrong-password")
	})
	for _, tc := range []struct {
		user, code, text string
		status           int
	}{
		{"password-change", "PSU_CREDENTIALS_INVALID", textPasswordExpired, 401},
		{"user-action", "SERVICE_BLOCKED", textActionRequired, 403},
	} {
		t.Run(tc.user, func(t *testing.T) {
			c := c.in(t)
			con := c.create(EmbeddedBase, consentBody())
			a := c.start(con, tc.user, Password)
			a.requireError(tc.status, tc.code)
			require.Equal(t, tc.text, a.str("tppMessages", 0, "text"))

			page := c.create(RedirectBase, consentBody()).href("scaRedirect")
			in := c.logIn(page, tc.user, Password)
			require.Equal(t, tc.status, in.status)
			require.Contains(t, string(in.raw), tc.text)

			c.fire(tc.user, "clear", nil)
			c.embedded(tc.user)
			c.fire(tc.user, "reset", nil)
			c.start(c.create(EmbeddedBase, consentBody()), tc.user, Password).requireError(tc.status, tc.code)
		})
	}
}

func TestCodes(t *testing.T) {
	_, c := newBank(t, Config{})
	status := func(con answer) string { return c.do("GET", con.href("status"), nil, nil).str("consentStatus") }
	t.Run("wrong, then right", func(t *testing.T) {
		c := c.in(t)
		con := c.create(EmbeddedBase, consentBody())
		auth := c.start(con, "fine", Password)
		c.code(auth, "000000").requireError(400, "SCA_INVALID")
		require.Equal(t, "received", status(con))
		require.Equal(t, "finalised", c.code(auth, Code).str("scaStatus"))
	})
	t.Run("wrong three times", func(t *testing.T) {
		c := c.in(t)
		con := c.create(EmbeddedBase, consentBody())
		auth := c.start(con, "wrong-code", Password)
		for range 3 {
			c.code(auth, Code).requireError(400, "SCA_INVALID")
		}
		require.Equal(t, "failed", c.do("GET", auth.href("scaStatus"), nil, nil).str("scaStatus"))
		require.Equal(t, "rejected", status(con))
		c.code(auth, Code).requireError(409, "STATUS_INVALID")
	})
	t.Run("late by the clock", func(t *testing.T) {
		c := c.in(t)
		con := c.create(EmbeddedBase, consentBody())
		auth := c.start(con, "fine", Password)
		c.advance("5m1s")
		c.code(auth, Code).requireError(400, "SCA_INVALID")
		require.Equal(t, "failed", c.do("GET", auth.href("scaStatus"), nil, nil).str("scaStatus"))
	})
	t.Run("always late", func(t *testing.T) {
		c := c.in(t)
		auth := c.start(c.create(EmbeddedBase, consentBody()), "late-code", Password)
		late := c.code(auth, Code)
		late.requireError(400, "SCA_INVALID")
		require.Contains(t, late.str("tppMessages", 0, "text"), "too late")
	})
	t.Run("an old link", func(t *testing.T) {
		c := c.in(t)
		con := c.create(RedirectBase, consentBody())
		c.advance("31m")
		page := c.do("GET", con.href("scaRedirect"), nil, nil)
		require.Contains(t, string(page.raw), "too old")
		require.Equal(t, "rejected", status(con))
	})
}

func TestRedirectPages(t *testing.T) {
	_, c := newBank(t, Config{})
	t.Run("confirm", func(t *testing.T) {
		c := c.in(t)
		con := c.create(RedirectBase, consentBody())
		require.Equal(t, "REDIRECT", con.header.Get("ASPSP-SCA-Approach"))
		page := con.href("scaRedirect")
		require.Contains(t, page, "/sca/personal/")
		require.Equal(t, "received", c.do("GET", con.href("scaStatus"), nil, nil).str("scaStatus"))
		second := c.logIn(page, "fine", Password)
		html := string(second.raw)
		require.Contains(t, html, "tpp.example")
		require.Contains(t, html, "2027-05-20")
		require.Contains(t, html, "545454xxxxxx")
		require.NotContains(t, html, "Tagesgeld", "a savings account is no payment account")
		wrong := c.form(page, second, url.Values{"action": {"confirm"}, "code": {"1"}})
		require.Equal(t, 422, wrong.status)
		done := c.form(page, wrong, url.Values{"action": {"confirm"}, "code": {" " + Code + " "}})
		require.Equal(t, 302, done.status)
		require.Equal(t, psu["TPP-Redirect-URI"], done.header.Get("Location"))
		require.Equal(t, "finalised", c.do("GET", con.href("scaStatus"), nil, nil).str("scaStatus"))
		require.Contains(t, string(c.do("GET", page, nil, nil).raw), "answered this request already")
	})
	for name, steps := range map[string]bool{"refuse at once": false, "refuse after login": true} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			con := c.create(RedirectBase, consentBody())
			page := con.href("scaRedirect")
			at := c.do("GET", page, nil, nil)
			if steps {
				at = c.logIn(page, "fine", Password)
			}
			done := c.form(page, at, url.Values{"action": {"refuse"}})
			require.Equal(t, 302, done.status)
			require.Equal(t, psu["TPP-Nok-Redirect-URI"], done.header.Get("Location"))
			require.Equal(t, "rejected", c.do("GET", con.href("status"), nil, nil).str("consentStatus"))
			require.Equal(t, "failed", c.do("GET", con.href("scaStatus"), nil, nil).str("scaStatus"))
		})
	}
	t.Run("refuse without Nok address", func(t *testing.T) {
		c := c.in(t)
		con := c.do("POST", RedirectBase+"/v1/consents", with(psu, "TPP-Nok-Redirect-URI", ""), consentBody())
		page := con.href("scaRedirect")
		done := c.form(page, c.do("GET", page, nil, nil), url.Values{"action": {"refuse"}})
		require.Equal(t, psu["TPP-Redirect-URI"], done.header.Get("Location"))
	})
	t.Run("no way around the login", func(t *testing.T) {
		c := c.in(t)
		page := c.create(RedirectBase, consentBody()).href("scaRedirect")
		c.logIn(page, "fine", Password)
		anew := c.do("GET", page, nil, nil)
		require.Equal(t, 403, c.form(page, anew, url.Values{"action": {"confirm"}, "code": {Code}}).status)
		forged := c.do("POST", page, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "action=confirm&code="+Code+"&token=x")
		require.Equal(t, 403, forged.status)
		other := c.do("POST", page, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"}, "action=refuse")
		require.Equal(t, 403, other.status)
	})
	t.Run("three wrong passwords", func(t *testing.T) {
		c := c.in(t)
		page := c.create(RedirectBase, consentBody()).href("scaRedirect")
		at := c.do("GET", page, nil, nil)
		for range 3 {
			at = c.form(page, at, url.Values{"action": {"login"}, "username": {"fine"}, "password": {"x"}})
			require.Equal(t, 401, at.status)
			if strings.Contains(string(at.raw), "https://tpp.example/nok") {
				return
			}
		}
		t.Fatal("the page never led back")
	})
	t.Run("explicit start", func(t *testing.T) {
		c := c.in(t)
		con := c.do("POST", RedirectBase+"/v1/consents", with(psu, "TPP-Explicit-Authorisation-Preferred", "true"), consentBody())
		auth := c.do("POST", con.href("startAuthorisation"), psu, nil)
		require.Equal(t, 201, auth.status)
		second := c.logIn(auth.href("scaRedirect"), "fine", Password)
		require.Equal(t, 302, c.form(auth.href("scaRedirect"), second, url.Values{"action": {"confirm"}, "code": {Code}}).status)
	})
	t.Run("the PSU chooses accounts", func(t *testing.T) {
		c := c.in(t)
		body := consentBody()
		body["access"] = map[string]any{"accounts": []any{}, "balances": []any{}, "transactions": []any{}}
		con := c.create(RedirectBase, body)
		page := con.href("scaRedirect")
		second := c.logIn(page, "fine", Password)
		require.Contains(t, string(second.raw), `name="account" value="card" checked`)
		none := c.form(page, second, url.Values{"action": {"confirm"}, "code": {Code}, "choose": {"1"}})
		require.Equal(t, 422, none.status)
		c.form(page, none, url.Values{"action": {"confirm"}, "code": {Code}, "choose": {"1"}, "account": {"card"}})
		got := c.accounts(RedirectBase, con.str("consentId"))
		require.Len(t, got, 1)
		require.Contains(t, got, "Kreditkarte EUR")
		full := c.do("GET", con.href("self"), nil, nil)
		require.Len(t, full.get("access", "accounts"), 1)
		require.Contains(t, full.str("access", "accounts", 0, "maskedPan"), "545454")
	})
}

func TestBusinessUsersHaveTheirOwnPage(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.create(RedirectBusiness, consentBody())
	page := con.href("scaRedirect")
	require.Contains(t, page, "/sca/business/")
	require.Contains(t, string(c.do("GET", page, nil, nil).raw), "Business banking")
	require.Equal(t, 404, c.do("GET", strings.Replace(page, "business", "personal", 1), nil, nil).status)
	require.Equal(t, 401, c.logIn(page, "fine", Password).status)

	private := c.create(RedirectBase, consentBody()).href("scaRedirect")
	require.Equal(t, 401, c.logIn(private, "business", Password).status)

	id := c.redirected(RedirectBusiness, "business", consentBody())
	a := c.read(RedirectBusiness+"/v1/accounts", id, attended)
	require.Equal(t, "ORGA", a.str("accounts", 0, "usage"))
	c.read(RedirectBase+"/v1/accounts", id, attended).requireError(403, "CONSENT_UNKNOWN")

	econ := c.create(EmbeddedBusiness, consentBody())
	require.Equal(t, "finalised", c.code(c.start(econ, "business-12", Password), Code).str("scaStatus"))
}

func TestConsentRequestsAreChecked(t *testing.T) {
	_, c := newBank(t, Config{})
	change := func(key string, value any) map[string]any {
		b := consentBody()
		if b[key] = value; value == nil {
			delete(b, key)
		}
		return b
	}
	for name, tc := range map[string]struct {
		header map[string]string
		body   any
		status int
		code   string
	}{
		"no request id":         {with(psu, "X-Request-ID", ""), consentBody(), 400, "FORMAT_ERROR"},
		"request id no uuid":    {with(psu, "X-Request-ID", "1"), consentBody(), 400, "FORMAT_ERROR"},
		"no PSU address":        {with(psu, "PSU-IP-Address", ""), consentBody(), 400, "FORMAT_ERROR"},
		"bad PSU address":       {with(psu, "PSU-IP-Address", "home"), consentBody(), 400, "FORMAT_ERROR"},
		"no redirect URI":       {with(psu, "TPP-Redirect-URI", ""), consentBody(), 400, "FORMAT_ERROR"},
		"relative redirect URI": {with(psu, "TPP-Redirect-URI", "/back"), consentBody(), 400, "FORMAT_ERROR"},
		"script redirect URI":   {with(psu, "TPP-Redirect-URI", "javascript:alert(1)"), consentBody(), 400, "FORMAT_ERROR"},
		"not JSON":              {psu, "{", 400, "FORMAT_ERROR"},
		"empty":                 {psu, nil, 400, "FORMAT_ERROR"},
		"too large":             {psu, `{"x":"` + strings.Repeat("a", maxBody) + `"}`, 400, "FORMAT_ERROR"},
		"wrong type":            {psu, change("recurringIndicator", "yes"), 400, "FORMAT_ERROR"},
		"no access":             {psu, change("access", nil), 400, "FORMAT_ERROR"},
		"no recurringIndicator": {psu, change("recurringIndicator", nil), 400, "FORMAT_ERROR"},
		"no validUntil":         {psu, change("validUntil", nil), 400, "FORMAT_ERROR"},
		"no frequency":          {psu, change("frequencyPerDay", nil), 400, "FORMAT_ERROR"},
		"no combined":           {psu, change("combinedServiceIndicator", nil), 400, "FORMAT_ERROR"},
		"combined":              {psu, change("combinedServiceIndicator", true), 400, "SESSIONS_NOT_SUPPORTED"},
		"frequency 0":           {psu, change("frequencyPerDay", 0), 400, "FORMAT_ERROR"},
		"not a date":            {psu, change("validUntil", "soon"), 400, "FORMAT_ERROR"},
		"a past date":           {psu, change("validUntil", "2026-11-20"), 400, "PERIOD_INVALID"},
		"nothing asked":         {psu, change("access", map[string]any{}), 400, "FORMAT_ERROR"},
		"two kinds":             {psu, change("access", map[string]any{"allPsd2": "allAccounts", "balances": []any{}}), 400, "FORMAT_ERROR"},
		"unknown kind":          {psu, change("access", map[string]any{"allPsd2": "some"}), 400, "FORMAT_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			a := c.do("POST", RedirectBase+"/v1/consents", tc.header, tc.body)
			a.requireError(tc.status, tc.code)
		})
	}
	require.Equal(t, 415, c.do("POST", RedirectBase+"/v1/consents", with(psu, "Content-Type", "text/plain"), "{}").status)
}

func TestErrorShapes(t *testing.T) {
	_, c := newBank(t, Config{})
	a := c.do("GET", RedirectBase+"/v1/accounts", map[string]string{"Consent-ID": "x", "Accept": "application/problem+json, application/json"}, nil)
	require.Equal(t, 403, a.status)
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
	require.Equal(t, "CONSENT_UNKNOWN", a.str("code"))
	a = c.do("GET", RedirectBase+"/v1/accounts", map[string]string{"Consent-ID": "x", "Accept": "application/json, application/problem+json"}, nil)
	a.requireError(403, "CONSENT_UNKNOWN")
	c.read(RedirectBase+"/v1/accounts", "", attended).requireError(400, "FORMAT_ERROR")

	bare := &tester{t: t, url: c.url, client: c.client} // not in the official file
	bare.do("PATCH", RedirectBase+"/v1/consents", nil, nil).requireError(405, "SERVICE_INVALID")
	bare.do("GET", RedirectBase+"/v1/payments", nil, nil).requireError(404, "RESOURCE_UNKNOWN")
}
