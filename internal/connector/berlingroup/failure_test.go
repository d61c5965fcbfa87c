package berlingroup

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

func TestRefusalShapes(t *testing.T) {
	for body, want := range map[string]refusal{
		`{"tppMessages":[{"category":"ERROR","code":"CONSENT_EXPIRED","path":"x","text":"gone"},{"code":"B"}]}`: {messages: []message{{"CONSENT_EXPIRED", "gone"}, {"B", ""}}},
		`{"tppMessages":{"code":"A"}}`:                                                                            {messages: []message{{"A", ""}}},
		`[{"category":"ERROR","code":"ACCESS_EXCEEDED","text":"t"}]`:                                              {messages: []message{{"ACCESS_EXCEEDED", "t"}}},
		`{"type":"https://x","title":"T","code":"A","detail":"D","additionalErrors":[{"code":"B","detail":"E"}]}`: {messages: []message{{"A", "D"}, {"B", "E"}}},
		`{"additionalErrors":[{"code":"B"}],"title":"T","code":"A"}`:                                              {messages: []message{{"A", "T"}, {"B", ""}}},
		`{"error":"invalid_token","error_description":"expired"}`:                                                 {messages: []message{{"invalid_token", "expired"}}},
		`{"code":401,"message":"no"}`:                                                                             {messages: []message{{"401", "no"}}},
		`{"fault":{"faultstring":"quota","detail":{"errorcode":"x"}}}`:                                            {messages: []message{{"", "quota"}}},
		`{"scaStatus":"failed","tppMessages":[{"code":"SCA_INVALID"}]}`:                                           {messages: []message{{"SCA_INVALID", ""}}, scaStatus: "failed"},
		`<html>down</html>`: {}, ``: {}, `{"tppMessages":[{"code":"A"}`: {}, `null`: {}, `[1,2]`: {},
	} {
		require.Equal(t, want, decodeRefusal([]byte(body)), body)
	}
}

func TestJudge(t *testing.T) {
	const (
		credentials = bankfeed.FailCredentials
		challenge   = bankfeed.FailChallengeWrong
		expired     = bankfeed.FailConsentExpired
		invalid     = bankfeed.FailConsentInvalid
		token       = bankfeed.FailTokenExpired
		account     = bankfeed.FailAccount
		limited     = bankfeed.FailRateLimited
		operator    = bankfeed.FailOperator
		down        = bankfeed.FailUnavailable
		protocol    = bankfeed.FailProtocol
		internal    = bankfeed.FailInternal
		format      = bankfeed.FailFormat
		action      = bankfeed.FailUserAction
	)
	for _, c := range []struct {
		status int
		code   string
		text   string
		ph     phase
		want   bankfeed.FailureReason
		daily  bool
	}{
		{401, "PSU_CREDENTIALS_INVALID", "", phaseLogin, credentials, false},
		{401, "PSU_CREDENTIALS_INVALID", "", phaseAccount, credentials, false},
		{401, "PSU_CREDENTIALS_INVALID", "", phaseCode, challenge, false},
		{400, "SCA_INVALID", "", phaseCode, challenge, false},
		{400, "SCA_METHOD_UNKNOWN", "", phaseMethod, challenge, false},
		{409, "STATUS_INVALID", "", phaseCode, challenge, false},
		{409, "STATUS_INVALID", "", phaseAccount, invalid, false},
		{401, "CONSENT_EXPIRED", "", phaseList, expired, false},
		{401, "CONSENT_INVALID", "", phaseAccount, invalid, false},
		{400, "CONSENT_UNKNOWN", "", phaseList, invalid, false},
		{403, "CONSENT_UNKNOWN", "", phaseConsent, invalid, false},
		{401, "TOKEN_EXPIRED", "", phaseList, token, false},
		{401, "TOKEN_INVALID", "", phaseList, token, false},
		{401, "TOKEN_UNKNOWN", "", phaseList, token, false},
		{401, "invalid_token", "", phaseList, token, false},
		{403, "RESOURCE_BLOCKED", "", phaseAccount, account, false},
		{403, "SERVICE_BLOCKED", "", phaseAccount, account, false},
		{403, "SERVICE_BLOCKED", "", phaseLogin, action, false},
		{403, "RESOURCE_UNKNOWN", "", phaseAccount, account, false},
		{403, "RESOURCE_UNKNOWN", "", phaseConsent, invalid, false},
		{403, "RESOURCE_EXPIRED", "", phaseConsent, expired, false},
		{405, "SERVICE_INVALID", "", phaseAccount, account, false},
		{404, "", "", phaseAccount, account, false},
		{403, "", "", phaseAccount, account, false},
		{404, "", "", phaseConsent, invalid, false},
		{404, "", "", phaseList, protocol, false},
		{401, "", "", phaseList, invalid, false},
		{401, "", "", phaseLogin, credentials, false},
		{401, "", "", phaseCode, challenge, false},
		{401, "", "", phaseCreate, operator, false},
		{429, "ACCESS_EXCEEDED", "", phaseAccount, limited, true},
		{429, "", "", phaseAccount, limited, false},
		{429, "CONSENT_INVALID", "", phaseAccount, limited, false},
		{429, "X", "[HUB046] Allowed number of accesses exceeded for consent", phaseAccount, limited, true},
		{403, "CONSENT_INVALID", "[HUB046] Allowed number of accesses exceeded for consent", phaseAccount, limited, true},
		{400, "FORMAT_ERROR", "Daily PSU not present consultation limit has been exceeded", phaseAccount, limited, true},
		{401, "CERTIFICATE_EXPIRED", "", phaseCreate, operator, false},
		{401, "CERTIFICATE_MISSING", "", phaseList, operator, false},
		{401, "ROLE_INVALID", "", phaseList, operator, false},
		{401, "SIGNATURE_MISSING", "", phaseList, operator, false},
		{401, "CORPORATE_ID_INVALID", "", phaseList, operator, false},
		{408, "", "", phaseList, down, false},
		{500, "CONSENT_INVALID", "", phaseList, down, false},
		{502, "", "too many requests", phaseList, down, false},
		{503, "", "", phaseList, down, false},
		{504, "", "", phaseList, down, false},
		{406, "REQUESTED_FORMATS_INVALID", "", phaseAccount, format, false},
		{406, "", "", phaseAccount, format, false},
		{400, "FORMAT_ERROR", "", phaseAccount, internal, false},
		{400, "PARAMETER_NOT_SUPPORTED", "", phaseAccount, internal, false},
		{400, "PERIOD_INVALID", "", phaseAccount, internal, false},
		{400, "SOMETHING_NEW", "", phaseAccount, protocol, false},
		{418, "", "", phaseList, protocol, false},
	} {
		f := refusal{}
		if c.code+c.text != "" {
			f.messages = []message{{c.code, c.text}}
		}
		e := judge(nil, c.status, f, c.ph)
		require.Equal(t, c.want, e.Reason, "%+v", c)
		require.Equal(t, c.daily, e.Daily, "%+v", c)
		require.Equal(t, c.code, e.Code)
		require.Equal(t, c.status, e.Status)
	}
	e := judge(nil, 400, refusal{messages: []message{{"BANK_17", "one"}, {"CONSENT_EXPIRED", "two"}}}, phaseList)
	require.Equal(t, expired, e.Reason, "the first code with a meaning")
	require.Equal(t, "CONSENT_EXPIRED", e.Code)
	require.Equal(t, "one; two", e.Text)
}

func TestRulesComeFirst(t *testing.T) {
	rules := []connector.ErrorRule{
		{Code: "psu_credentials_invalid", Contains: "PASSWORD has expired", Reason: bankfeed.FailPassword},
		{Status: 418, Reason: bankfeed.FailUnavailable},
		{Status: 400, Contains: "too often", Reason: bankfeed.FailRateLimited},
	}
	reason := func(status int, code, text string) bankfeed.FailureReason {
		return judge(rules, status, refusal{messages: []message{{code, text}}}, phaseLogin).Reason
	}
	require.Equal(t, bankfeed.FailPassword, reason(401, "PSU_CREDENTIALS_INVALID", "The password has expired."))
	require.Equal(t, bankfeed.FailCredentials, reason(401, "PSU_CREDENTIALS_INVALID", "Wrong."))
	require.Equal(t, bankfeed.FailOperator, reason(401, "ROLE_INVALID", "The password has expired."))
	require.Equal(t, bankfeed.FailUnavailable, reason(418, "", ""))
	e := judge(rules, 400, refusal{messages: []message{{"X", "Daily: too often"}}}, phaseAccount)
	require.Equal(t, bankfeed.FailRateLimited, e.Reason)
	require.True(t, e.Daily)
}

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "90": 90 * time.Second, " 90 ": 90 * time.Second, "-5": 0, "1e3": 0, "soon": 0, "99999999999999999999": 0, "31536000": 0,
		"Sat, 21 Nov 2026 13:00:00 GMT": time.Hour, "Sat, 21 Nov 2026 11:00:00 GMT": 0, "Sun, 21 Nov 2027 13:00:00 GMT": 0,
	} {
		require.Equal(t, want, retryAfter(value, at), value)
	}
}

func TestClean(t *testing.T) {
	got := clean("user jan\u00e4 pw a\\\"b/c code 12, id x%2Fyz, PL61109010140000071219812874\x00 and 4111-1111-1111-1111",
		[]bankfeed.Secret{`a"b/c`, "12", "x/yz", "", "jan\u00e4"})
	require.Equal(t, "user *** pw *** code 12, id ***, PL****2874 and ****1111", got)
	require.Len(t, connector.Bound(strings.Repeat("\u00e4", 10), 5), 4)
}
