package berlingroup_test

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

var asked = connector.ConsentRequest{ValidUntil: "2027-05-20", FrequencyPerDay: 4, Recurring: true,
	RedirectURI: "https://hub.example/back?state=s1", NokRedirectURI: "https://hub.example/no?state=s1"}

const (
	created = `201 {"consentStatus":"received","consentId":"c-1","_links":{`
	auth    = "/v1/consents/c-1/authorisations"
)

func TestConsentByRedirect(t *testing.T) {
	b := newBank(t, map[string][]string{
		"POST /v1/consents": {created + `"scaRedirect":{"href":"https://login.bank.example/sca?x=1"},"scaStatus":{"href":"{{url}}/v1/consents/c-1/authorisations/a-1"},
			"self":{"href":"https://elsewhere.example/v1/consents/c-1"}}}`},
		"GET /v1/consents/c-1/status": {`200 {"consentStatus":"received"}`, `200 {"consentStatus":"valid"}`},
		"GET /v1/consents/c-1":        {`200 {"consentStatus":"valid","validUntil":"2027-02-01","frequencyPerDay":2,"lastActionDate":"2026-11-21"}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	step, err := c.CreateConsent(t.Context(), a, asked)
	require.NoError(t, err)
	require.Equal(t, "https://login.bank.example/sca?x=1", step.RedirectURL)
	require.False(t, step.Done)
	require.Nil(t, step.Challenge)
	require.Equal(t, "c-1", string(step.Grant.ConsentID))
	require.Equal(t, "a-1", string(step.Grant.AuthorisationID))

	sent := b.last()
	require.JSONEq(t, `{"access":{"accounts":[],"balances":[],"transactions":[]},"recurringIndicator":true,"validUntil":"2027-05-20","frequencyPerDay":4,"combinedServiceIndicator":false}`, sent.body)
	require.Equal(t, "192.0.2.7", sent.header.Get("PSU-IP-Address"))
	require.Equal(t, "Firefox", sent.header.Get("PSU-User-Agent"))
	require.Equal(t, asked.RedirectURI, sent.header.Get("TPP-Redirect-URI"))
	require.Equal(t, asked.NokRedirectURI, sent.header.Get("TPP-Nok-Redirect-URI"))
	require.Equal(t, "true", sent.header.Get("TPP-Redirect-Preferred"))
	require.Empty(t, sent.header.Values("PSU-ID"))
	require.Equal(t, []bankfeed.CallContext{bankfeed.CallRetrieveScaURL}, b.contexts(), "the call that brought the SCA link")

	a.Grant = step.Grant
	info, err := c.ConsentStatus(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, connector.ConsentInfo{State: connector.ConsentPending, Raw: "received"}, info)
	info, err = c.ConsentStatus(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, connector.ConsentInfo{State: connector.ConsentValid, Raw: "valid", ValidUntil: "2027-02-01", FrequencyPerDay: 2}, info)
}

func TestConsentWithExplicitStart(t *testing.T) {
	b := newBank(t, map[string][]string{
		"POST /v1/consents": {created + `"startAuthorisation":{"href":"/v1/consents/c-1/authorisations"}}}`},
		"POST " + auth:      {`201 {"scaStatus":"received","authorisationId":"a-9","_links":{"scaRedirect":{"href":"https://login.bank.example/9"}}}`},
	})
	step, err := connect(t, prefix).CreateConsent(t.Context(), b.access(bankfeed.Redirect), asked)
	require.NoError(t, err)
	require.Equal(t, "https://login.bank.example/9", step.RedirectURL)
	require.Equal(t, "a-9", string(step.Grant.AuthorisationID))
	require.Equal(t, asked.RedirectURI, b.last().header.Get("TPP-Redirect-URI"))
	require.Equal(t, []bankfeed.CallContext{bankfeed.CallCreateConsent, bankfeed.CallRetrieveScaURL}, b.contexts())
}

func TestRedirectWithConfirmationCode(t *testing.T) {
	b := newBank(t, map[string][]string{
		"POST /v1/consents":    {created + `"scaRedirect":{"href":"https://login.bank.example/9"},"confirmation":{"href":"v1/consents/c-1/authorisations/a-1"}}}`},
		"PUT " + auth + "/a-1": {`200 {"scaStatus":"finalised"}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Redirect)
	step, err := c.CreateConsent(t.Context(), a, asked)
	require.NoError(t, err)
	a.Grant = step.Grant
	step, err = c.Continue(t.Context(), a, connector.Input{Code: "conf-77"})
	require.NoError(t, err)
	require.True(t, step.Done)
	require.JSONEq(t, `{"confirmationCode":"conf-77"}`, b.last().body)
}

// methods offered by the fake bank.
const twoMethods = `"scaMethods":[{"authenticationType":"SMS_OTP","authenticationMethodId":"901","name":"SMS to +48 *** 28"},{"authenticationType":"PHOTO_OTP","authenticationMethodId":"907","name":"photoTAN"}]`

func TestEmbeddedConsent(t *testing.T) {
	self := `{"href":"` + auth + `/a-1"}`
	b := newBank(t, map[string][]string{
		"POST /v1/consents": {created + `"startAuthorisationWithPsuAuthentication":{"href":"/v1/consents/c-1/authorisations"}}}`},
		"POST " + auth:      {`201 {"scaStatus":"psuAuthenticated","authorisationId":"a-1",` + twoMethods + `,"psuMessage":"Choose","_links":{"selectAuthenticationMethod":` + self + `,"scaStatus":` + self + `}}`},
		"PUT " + auth + "/a-1": {
			`200 {"scaStatus":"scaMethodSelected","challengeData":{"otpMaxLength":"6","otpFormat":"Integer","additionalInformation":"Scan it","data":["Start 08"],"image":"` +
				base64.StdEncoding.EncodeToString([]byte("png")) + `"},"_links":{"authoriseTransaction":` + self + `}}`,
			`400 {"tppMessages":[{"category":"ERROR","code":"SCA_INVALID","text":"wrong code 123456 for DE38 7607 0024 0320 4657 00"}]}`,
			`200 {"scaStatus":"finalised"}`},
		"GET " + auth + "/a-1": {`200 {"scaStatus":"scaMethodSelected"}`},
	})
	c, a := connect(t, prefix), b.access(bankfeed.Embedded)
	want := asked
	want.PSUID = "max.musterman"
	step, err := c.CreateConsent(t.Context(), a, want)
	require.NoError(t, err)
	require.Equal(t, &bankfeed.Challenge{Kind: bankfeed.ChallengeCredentials}, step.Challenge)
	require.Equal(t, "false", b.last().header.Get("TPP-Redirect-Preferred"))

	a.Grant = step.Grant
	step, err = c.Continue(t.Context(), a, connector.Input{Password: "geheim/1\""})
	require.NoError(t, err)
	require.Equal(t, &bankfeed.Challenge{Kind: bankfeed.ChallengeMethodChoice, Text: "Choose", Methods: []bankfeed.ChallengeMethod{
		{ID: "901", Type: "SMS_OTP", Name: "SMS to +48 *** 28"}, {ID: "907", Type: "PHOTO_OTP", Name: "photoTAN"}}}, step.Challenge)
	require.Equal(t, "max.musterman", b.last().header.Get("PSU-ID"))
	require.Equal(t, "a-1", string(step.Grant.AuthorisationID))

	a.Grant = step.Grant
	step, err = c.Continue(t.Context(), a, connector.Input{MethodID: "907"})
	require.NoError(t, err)
	require.Equal(t, &bankfeed.Challenge{Kind: bankfeed.ChallengeCode, Method: "photoTAN", Text: "Scan it\nStart 08", Format: "integer", MaxLen: 6, Image: []byte("png")}, step.Challenge)

	a.Grant = step.Grant
	_, err = c.Continue(t.Context(), a, connector.Input{Code: "123456"})
	e := refused(t, err, bankfeed.FailChallengeWrong)
	require.True(t, e.TryAgain, "the authorisation is still open")
	require.Equal(t, "wrong code *** for DE****5700", e.Text)

	step, err = c.Continue(t.Context(), a, connector.Input{Code: "654321"})
	require.NoError(t, err)
	require.True(t, step.Done)
	require.Empty(t, string(step.Grant.State))
	require.Equal(t, "c-1", string(step.Grant.ConsentID))

	require.Equal(t, []string{
		`POST /v1/consents ` + b.requests[0].body,
		`POST ` + auth + ` {"psuData":{"password":"geheim/1\""}}`,
		`PUT ` + auth + `/a-1 {"authenticationMethodId":"907"}`,
		`PUT ` + auth + `/a-1 {"scaAuthenticationData":"123456"}`,
		`GET ` + auth + `/a-1`,
		`PUT ` + auth + `/a-1 {"scaAuthenticationData":"654321"}`,
	}, b.bodies())
	for _, call := range b.calls {
		call.ExecutionID, call.RequestID = bankfeed.UUID{}, "" // random, they might hold anything
		text := jsonText(t, call)
		for _, secret := range []string{"geheim", "123456", "654321", "c-1", "a-1", "musterman", "0320"} {
			require.NotContains(t, text, secret)
		}
	}
}

func TestEmbeddedVariants(t *testing.T) {
	self := `{"href":"{{url}}` + auth + `/a-1"}`
	put := "PUT " + auth + "/a-1"
	for name, c := range map[string]struct {
		answers map[string][]string
		inputs  []connector.Input
		kinds   []bankfeed.ChallengeKind // after each step, "" for done
		sent    []string
	}{
		"the bank picks the only method": {
			map[string][]string{"POST /v1/consents": {created + `"updatePsuAuthentication":` + self + `}}`},
				put: {`200 {"scaStatus":"scaMethodSelected","chosenScaMethod":{"authenticationType":"CHIP_OTP"},"_links":{"authoriseTransaction":` + self + `}}`, `200 {"scaStatus":"finalised"}`}},
			[]connector.Input{{Password: "pw"}, {Code: "1"}},
			[]bankfeed.ChallengeKind{bankfeed.ChallengeCredentials, bankfeed.ChallengeCode, ""},
			[]string{`{"psuData":{"password":"pw"}}`, `{"scaAuthenticationData":"1"}`},
		},
		"one method to choose from is no question": {
			map[string][]string{"POST /v1/consents": {created + `"updatePsuAuthentication":` + self + `}}`},
				put: {`200 {"scaMethods":[{"authenticationMethodId":"m"}],"_links":{"selectAuthenticationMethod":` + self + `}}`, `200 {"_links":{"authoriseTransaction":` + self + `}}`}},
			[]connector.Input{{Password: "pw"}},
			[]bankfeed.ChallengeKind{bankfeed.ChallengeCredentials, bankfeed.ChallengeCode},
			[]string{`{"psuData":{"password":"pw"}}`, `{"authenticationMethodId":"m"}`},
		},
		"login and password in two calls": {
			map[string][]string{"POST /v1/consents": {created + `"startAuthorisationWithPsuIdentification":{"href":"` + auth + `"}}}`},
				"POST " + auth: {`201 {"scaStatus":"psuIdentified","_links":{"updatePsuAuthentication":` + self + `}}`},
				put:            {`200 {"scaStatus":"finalised"}`}},
			[]connector.Input{{PSUID: "me", Password: "pw"}},
			[]bankfeed.ChallengeKind{bankfeed.ChallengeCredentials, ""},
			[]string{`{}`, `{"psuData":{"password":"pw"}}`},
		},
		"another method after the code was asked": {
			map[string][]string{"POST /v1/consents": {created + `"authoriseTransaction":` + self + `,"selectAuthenticationMethod":` + self + `},` + twoMethods + `}`},
				put: {`200 {"scaStatus":"scaMethodSelected","_links":{"authoriseTransaction":` + self + `}}`, `200 {"scaStatus":"exempted"}`}},
			[]connector.Input{{MethodID: "901"}, {Code: "1"}},
			[]bankfeed.ChallengeKind{bankfeed.ChallengeCode, bankfeed.ChallengeCode, ""},
			[]string{`{"authenticationMethodId":"901"}`, `{"scaAuthenticationData":"1"}`},
		},
		"confirmed in the bank's app": {
			map[string][]string{"POST /v1/consents": {created + `"updatePsuAuthentication":` + self + `}}`},
				put:                    {`200 {"scaStatus":"started","psuMessage":"Open the app","_links":{"scaStatus":` + self + `}}`},
				"GET " + auth + "/a-1": {`200 {"scaStatus":"started"}`, `200 {"scaStatus":"finalised"}`}},
			[]connector.Input{{Password: "pw"}, {}, {}},
			[]bankfeed.ChallengeKind{bankfeed.ChallengeCredentials, bankfeed.ChallengeApp, bankfeed.ChallengeApp, ""},
			[]string{`{"psuData":{"password":"pw"}}`, ``, ``},
		},
		"authorised without a question": {
			map[string][]string{"POST /v1/consents": {`201 {"consentStatus":"valid","consentId":"c-1"}`}},
			nil, []bankfeed.ChallengeKind{""}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t, c.answers)
			con, a := connect(t, prefix), b.access(bankfeed.Embedded)
			step, err := con.CreateConsent(t.Context(), a, asked)
			for i, kind := range c.kinds {
				if i > 0 {
					a.Grant = step.Grant
					step, err = con.Continue(t.Context(), a, c.inputs[i-1])
				}
				require.NoError(t, err)
				require.Equal(t, kind == "", step.Done)
				if kind != "" {
					require.NotNil(t, step.Challenge)
					require.Equal(t, kind, step.Challenge.Kind)
				}
			}
			var sent []string
			for _, r := range b.requests[1:] {
				sent = append(sent, r.body)
			}
			require.Equal(t, c.sent, sent)
		})
	}
}

func TestAuthorisationRefused(t *testing.T) {
	self := `{"href":"` + auth + `/a-1"}`
	put := "PUT " + auth + "/a-1"
	start := func(links string) map[string][]string {
		return map[string][]string{"POST /v1/consents": {created + links + `}}`}}
	}
	for name, c := range map[string]struct {
		mode    bankfeed.Mode
		answers map[string][]string
		more    map[string][]string
		in      *connector.Input
		reason  bankfeed.FailureReason
		again   bool
	}{
		"OAuth only":           {bankfeed.Redirect, start(`"scaOAuth":{"href":"https://x.example/.well-known"}`), nil, nil, bankfeed.FailFormat, false},
		"encrypted passwords":  {bankfeed.Embedded, start(`"startAuthorisationWithEncryptedPsuAuthentication":` + self), nil, nil, bankfeed.FailFormat, false},
		"password on redirect": {bankfeed.Redirect, start(`"updatePsuAuthentication":` + self), nil, nil, bankfeed.FailFormat, false},
		"no way":               {bankfeed.Redirect, start(`"self":` + self), nil, nil, bankfeed.FailProtocol, false},
		"link to another host": {bankfeed.Embedded, start(`"updatePsuAuthentication":{"href":"https://evil.example/v1/x"}`), nil, nil, bankfeed.FailProtocol, false},
		"SCA link that runs":   {bankfeed.Redirect, start(`"scaRedirect":{"href":"javascript:alert(1)"}`), nil, nil, bankfeed.FailProtocol, false},
		"no consent id":        {bankfeed.Redirect, map[string][]string{"POST /v1/consents": {`201 {"consentStatus":"received","_links":{"scaRedirect":"https://x.example"}}`}}, nil, nil, bankfeed.FailProtocol, false},
		"links in a circle":    {bankfeed.Embedded, start(`"startAuthorisation":{"href":"` + auth + `"}`), map[string][]string{"POST " + auth: {`201 {"_links":{"startAuthorisation":"` + auth + `"}}`}}, nil, bankfeed.FailProtocol, false},
		"wrong password": {bankfeed.Embedded, start(`"updatePsuAuthentication":` + self), map[string][]string{put: {`401 {"tppMessages":[{"code":"PSU_CREDENTIALS_INVALID"}]}`}},
			&connector.Input{Password: "pw"}, bankfeed.FailCredentials, false},
		"wrong password by status": {bankfeed.Embedded, start(`"updatePsuAuthentication":` + self), map[string][]string{put: {`200 {"scaStatus":"failed"}`}},
			&connector.Input{Password: "pw"}, bankfeed.FailCredentials, false},
		"unknown method": {bankfeed.Embedded, start(`"selectAuthenticationMethod":` + self), map[string][]string{put: {`400 {"tppMessages":[{"code":"SCA_METHOD_UNKNOWN"}]}`}},
			&connector.Input{MethodID: "x"}, bankfeed.FailChallengeWrong, true},
		"wrong code, said in the refusal": {bankfeed.Embedded, start(`"authoriseTransaction":` + self), map[string][]string{put: {`400 {"scaStatus":"scaMethodSelected","code":"SCA_INVALID"}`}},
			&connector.Input{Code: "1"}, bankfeed.FailChallengeWrong, true},
		"wrong code as wrong credentials": {bankfeed.Embedded, start(`"authoriseTransaction":` + self), map[string][]string{put: {`401 {"scaStatus":"started","tppMessages":[{"code":"PSU_CREDENTIALS_INVALID"}]}`}},
			&connector.Input{Code: "1"}, bankfeed.FailChallengeWrong, true},
		"last wrong code": {bankfeed.Embedded, start(`"authoriseTransaction":` + self + `,"scaStatus":` + self),
			map[string][]string{put: {`400 {"code":"SCA_INVALID","type":"x"}`}, "GET " + auth + "/a-1": {`200 {"scaStatus":"failed"}`}},
			&connector.Input{Code: "1"}, bankfeed.FailChallengeWrong, false},
		"wrong code, state unknown": {bankfeed.Embedded, start(`"authoriseTransaction":` + self + `,"scaStatus":` + self),
			map[string][]string{put: {`400 {"code":"SCA_INVALID"}`}, "GET " + auth + "/a-1": {`403 {"tppMessages":[{"code":"RESOURCE_UNKNOWN"}]}`}},
			&connector.Input{Code: "1"}, bankfeed.FailChallengeWrong, false},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.more {
				c.answers[k] = v
			}
			b := newBank(t, c.answers)
			con, a := connect(t, prefix), b.access(c.mode)
			step, err := con.CreateConsent(t.Context(), a, asked)
			if c.in != nil {
				require.NoError(t, err)
				a.Grant = step.Grant
				_, err = con.Continue(t.Context(), a, *c.in)
			} else if name != "no consent id" {
				require.Equal(t, "c-1", string(step.Grant.ConsentID), "the consent can still be deleted")
			}
			require.Equal(t, c.again, refused(t, err, c.reason).TryAgain)
		})
	}
}

func TestConsentIsAttended(t *testing.T) {
	b := newBank(t, nil)
	a := b.access(bankfeed.Redirect)
	for _, psu := range []*bankfeed.PSU{nil, {}} {
		a.PSU = psu
		_, err := connect(t, prefix).CreateConsent(t.Context(), a, asked)
		refused(t, err, bankfeed.FailInternal)
	}
	require.Empty(t, b.requests)
}

func TestLoginThatCannotBeSent(t *testing.T) {
	b := newBank(t, nil)
	r := asked
	r.PSUID = "a\r\nX: y"
	_, err := connect(t, prefix).CreateConsent(t.Context(), b.access(bankfeed.Embedded), r)
	refused(t, err, bankfeed.FailCredentials)
	require.Empty(t, b.requests)
}

func TestContinueChecksItsState(t *testing.T) {
	b := newBank(t, nil)
	a := b.access(bankfeed.Embedded)
	for _, state := range []bankfeed.Secret{"", "{", `{"links":{"updatePsuAuthentication":"https://evil.example/x"}}`} {
		a.Grant.State = state
		_, err := connect(t, prefix).Continue(t.Context(), a, connector.Input{Password: "pw"})
		require.Error(t, err)
	}
	require.Empty(t, b.requests)
}

func TestConsentStates(t *testing.T) {
	for answer, want := range map[string]connector.ConsentInfo{
		`200 {"consentStatus":"valid"}`:                    {State: connector.ConsentValid, Raw: "valid"}, // the bank tells no more
		`200 {"consentStatus":"received"}`:                 {State: connector.ConsentPending, Raw: "received"},
		`200 {"consentStatus":"partiallyAuthorised"}`:      {State: connector.ConsentPending, Raw: "partiallyAuthorised"},
		`200 {"consentStatus":"rejected"}`:                 {State: connector.ConsentRejected, Raw: "rejected"},
		`200 {"consentStatus":"expired"}`:                  {State: connector.ConsentExpired, Raw: "expired"},
		`200 {"consentStatus":"revokedByPsu"}`:             {State: connector.ConsentRevoked, Raw: "revokedByPsu"},
		`200 {"consentStatus":"terminatedByTpp"}`:          {State: connector.ConsentTerminated, Raw: "terminatedByTpp"},
		`200 {"consentStatus":"onHold"}`:                   {State: connector.ConsentPending, Raw: "onHold"},
		`401 {"tppMessages":[{"code":"CONSENT_EXPIRED"}]}`: {State: connector.ConsentExpired, Raw: "CONSENT_EXPIRED"},
	} {
		b := newBank(t, map[string][]string{"GET /v1/consents/c-1/status": {answer}})
		a := b.access(bankfeed.Redirect)
		a.Grant.ConsentID = "c-1"
		info, err := connect(t, prefix).ConsentStatus(t.Context(), a)
		require.NoError(t, err, answer)
		require.Equal(t, want, info, answer)
	}
	for answer, reason := range map[string]bankfeed.FailureReason{
		`403 {"tppMessages":[{"code":"CONSENT_UNKNOWN"}]}`: bankfeed.FailConsentInvalid,
		`404 `:   bankfeed.FailConsentInvalid,
		`503 `:   bankfeed.FailUnavailable,
		`200 {}`: bankfeed.FailProtocol,
	} {
		b := newBank(t, map[string][]string{"GET /v1/consents/c-1/status": {answer}})
		a := b.access(bankfeed.Redirect)
		a.Grant.ConsentID = "c-1"
		_, err := connect(t, prefix).ConsentStatus(t.Context(), a)
		refused(t, err, reason)
	}
}

func TestDeleteConsent(t *testing.T) {
	for answer, gone := range map[string]bool{
		`204 `: true, `202 {"x":1}`: true, `404 `: true, `410 `: true,
		`403 {"tppMessages":[{"code":"CONSENT_UNKNOWN"}]}`: true, `401 {"tppMessages":[{"code":"CONSENT_EXPIRED"}]}`: true,
		`409 {"tppMessages":[{"code":"STATUS_INVALID"}]}`: true, `401 {"tppMessages":[{"code":"TOKEN_EXPIRED"}]}`: false, `503 `: false,
		`500 {"tppMessages":[{"code":"CONSENT_UNKNOWN"}]}`: false,
	} {
		b := newBank(t, map[string][]string{"DELETE /v1/consents/c%2F1=": {answer}})
		a := b.access(bankfeed.Redirect)
		a.Grant.ConsentID, a.PSU = "c/1=", nil
		err := connect(t, prefix).DeleteConsent(t.Context(), a)
		require.Equal(t, gone, err == nil, "%s: %v", answer, err)
		require.Equal(t, http.MethodDelete, b.last().method)
	}
}
