package berlingroup

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// phase is what a call wants; the same refusal means different things.
type phase uint8

const (
	phaseCreate  phase = iota // a new consent or authorisation
	phaseLogin                // PSU-ID or password
	phaseMethod               // choice of an SCA method
	phaseCode                 // one-time code
	phaseConsent              // state or end of a consent
	phaseList                 // account list
	phaseAccount              // one account's data
)

const (
	maxText       = 512
	maxErrorBody  = 4 << 10
	maxRetryAfter = 31 * 24 * time.Hour
)

// refusal is what an error body says.
type refusal struct {
	messages  []message
	scaStatus string
}

type message struct{ code, text string }

// decodeRefusal reads both error shapes of the standard (tppMessages, RFC
// 7807) and what else banks and their gateways send. A body that is none of
// them says nothing.
func decodeRefusal(data []byte) refusal {
	var f refusal
	r := newReader(data)
	if r.peek() == '[' { // as in the official examples
		if r.array(func() error { return f.read(r) }) != nil {
			return refusal{}
		}
		return f
	}
	if r.peek() != '{' || f.read(r) != nil {
		return refusal{}
	}
	return f
}

// read adds the message of an object and those nested in it.
func (f *refusal) read(r *reader) error {
	var m, outer message
	at := len(f.messages)
	err := r.object(func(key []byte) (err error) {
		switch string(key) {
		case "code", "errorCode":
			m.code, err = r.text()
		case "error":
			outer.code, err = r.text() // OAuth
		case "text", "detail", "error_description", "errorMessage":
			m.text, err = r.text()
		case "title", "message", "faultstring":
			outer.text, err = r.text()
		case "scaStatus":
			f.scaStatus, err = r.text()
		case "tppMessages", "tppMessage", "additionalErrors", "errors", "fault":
			err = r.list(func() error {
				if r.peek() == '{' {
					return f.read(r)
				}
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
	if m.code == "" {
		m.code = outer.code
	}
	if m.text == "" {
		m.text = outer.text
	}
	if m != (message{}) { // before those nested in it
		f.messages = append(f.messages[:at:at], append([]message{m}, f.messages[at:]...)...)
	}
	return err
}

// codes gives the meaning of the codes of the standard that mean the same in
// every phase.
var codes = map[string]bankfeed.FailureReason{
	"PSU_CREDENTIALS_INVALID":   bankfeed.FailCredentials,
	"SCA_INVALID":               bankfeed.FailChallengeWrong,
	"SCA_METHOD_UNKNOWN":        bankfeed.FailChallengeWrong,
	"CONSENT_EXPIRED":           bankfeed.FailConsentExpired,
	"CONSENT_INVALID":           bankfeed.FailConsentInvalid,
	"CONSENT_UNKNOWN":           bankfeed.FailConsentInvalid,
	"TOKEN_EXPIRED":             bankfeed.FailTokenExpired,
	"TOKEN_INVALID":             bankfeed.FailTokenExpired,
	"TOKEN_UNKNOWN":             bankfeed.FailTokenExpired,
	"INVALID_TOKEN":             bankfeed.FailTokenExpired, // RFC 6750
	"ACCESS_EXCEEDED":           bankfeed.FailRateLimited,
	"ROLE_INVALID":              bankfeed.FailOperator,
	"CORPORATE_ID_INVALID":      bankfeed.FailOperator,
	"REQUESTED_FORMATS_INVALID": bankfeed.FailFormat,
	"FORMAT_ERROR":              bankfeed.FailInternal,
	"PERIOD_INVALID":            bankfeed.FailInternal,
	"TIMESTAMP_INVALID":         bankfeed.FailInternal,
	"SESSIONS_NOT_SUPPORTED":    bankfeed.FailInternal,
	"INTERNAL_SERVER_ERROR":     bankfeed.FailUnavailable,
	"SERVICE_UNAVAILABLE":       bankfeed.FailUnavailable,
}

func codeReason(code string, ph phase) bankfeed.FailureReason {
	code = strings.ToUpper(strings.TrimSpace(code))
	switch code {
	case "PSU_CREDENTIALS_INVALID":
		if ph == phaseCode {
			return bankfeed.FailChallengeWrong
		}
	case "RESOURCE_UNKNOWN", "RESOURCE_EXPIRED":
		switch {
		case ph == phaseAccount:
			return bankfeed.FailAccount
		case code == "RESOURCE_EXPIRED":
			return bankfeed.FailConsentExpired
		}
		return bankfeed.FailConsentInvalid
	case "RESOURCE_BLOCKED", "SERVICE_BLOCKED":
		// Blocked for the PSU as a whole, not for one account: the PSU must
		// see to it.
		if ph == phaseAccount {
			return bankfeed.FailAccount
		}
		return bankfeed.FailUserAction
	case "SERVICE_INVALID":
		if ph == phaseAccount {
			return bankfeed.FailAccount
		}
		return bankfeed.FailInternal
	case "STATUS_INVALID":
		if ph == phaseLogin || ph == phaseMethod || ph == phaseCode {
			return bankfeed.FailChallengeWrong // the authorisation is over
		}
		return bankfeed.FailConsentInvalid
	}
	if reason, ok := codes[code]; ok {
		return reason
	}
	switch {
	case strings.HasPrefix(code, "CERTIFICATE_"), strings.HasPrefix(code, "SIGNATURE_"):
		return bankfeed.FailOperator
	case strings.HasPrefix(code, "PARAMETER_"):
		return bankfeed.FailInternal
	}
	return ""
}

// statusReason is the meaning of a status whose body does not tell.
func statusReason(status int, ph phase) bankfeed.FailureReason {
	switch {
	case status == http.StatusRequestTimeout || status >= 500:
		return bankfeed.FailUnavailable
	case status == http.StatusTooManyRequests:
		return bankfeed.FailRateLimited
	case status == http.StatusNotAcceptable:
		return bankfeed.FailFormat
	case status == http.StatusUnauthorized && ph == phaseLogin:
		return bankfeed.FailCredentials
	case status == http.StatusUnauthorized && ph == phaseCode:
		return bankfeed.FailChallengeWrong
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && ph == phaseCreate:
		return bankfeed.FailOperator
	case (status == http.StatusForbidden || status == http.StatusNotFound) && ph == phaseAccount:
		return bankfeed.FailAccount
	case status == http.StatusUnauthorized || status == http.StatusForbidden,
		status == http.StatusNotFound && ph == phaseConsent:
		return bankfeed.FailConsentInvalid
	}
	return bankfeed.FailProtocol
}

// limitWords are how banks that do not know ACCESS_EXCEEDED put it.
var limitWords = []string{"[hub046]", "number of accesses exceeded", "consultation limit", "access exceeded", "rate limit", "too many requests"}

// dayWords tell a limit per day from a mere burst.
var dayWords = []string{"daily", "per day", "[hub046]", "number of accesses exceeded"}

func containsAny(text string, words []string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// judge says what a refusal means. The profile's rules come first, then the
// words for a used-up limit, then the first code with a meaning, then the
// status.
func judge(rules []connector.ErrorRule, status int, f refusal, ph phase) *connector.Error {
	e := &connector.Error{Status: status}
	var said []string
	for _, m := range f.messages {
		if e.Code == "" {
			e.Code = m.code
		}
		if m.text != "" {
			said = append(said, m.text)
		}
	}
	e.Text = strings.Join(said, "; ")
	for _, r := range rules {
		if reason, code, ok := apply(r, status, f, e.Text); ok {
			e.Reason = reason
			if code != "" {
				e.Code = code
			}
			e.Daily = reason == bankfeed.FailRateLimited && containsAny(e.Text, dayWords)
			return e
		}
	}
	for _, m := range f.messages {
		if reason := codeReason(m.code, ph); reason != "" {
			e.Reason, e.Code = reason, m.code
			break
		}
	}
	if status == http.StatusTooManyRequests || status < 500 && containsAny(e.Text, limitWords) {
		e.Reason = bankfeed.FailRateLimited
	}
	if e.Reason == "" || status >= 500 {
		e.Reason = statusReason(status, ph)
	}
	if e.Reason == bankfeed.FailRateLimited {
		e.Daily = strings.EqualFold(e.Code, "ACCESS_EXCEEDED") || containsAny(e.Text, dayWords)
	}
	return e
}

func apply(r connector.ErrorRule, status int, f refusal, text string) (reason bankfeed.FailureReason, code string, ok bool) {
	if r.Status != 0 && r.Status != status {
		return "", "", false
	}
	if r.Contains != "" && !strings.Contains(strings.ToLower(text), strings.ToLower(r.Contains)) {
		return "", "", false
	}
	if r.Code == "" {
		return r.Reason, "", true
	}
	for _, m := range f.messages {
		if strings.EqualFold(m.code, r.Code) {
			return r.Reason, m.code, true
		}
	}
	return "", "", false
}

// retryAfter reads both forms of the header (RFC 9110, 10.2.3); zero if there
// is none that makes sense.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	var wait time.Duration
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(value); err == nil {
		wait = t.Sub(now)
	}
	if wait < 0 || wait > maxRetryAfter {
		return 0
	}
	return wait
}
