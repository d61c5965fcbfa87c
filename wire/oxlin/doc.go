// Package oxlin holds the words of the Oxlin Accounts API v2.1 (later Linxo
// Connect): its types, its closed lists, and the pure rendering of the hub's
// events and entities into them. It neither serves nor calls anything.
//
// Source of names, types and shapes: the vendor's page "Using Queues and
// events" and, where the page is silent, recorded v2.1 bodies of its public
// client libraries. Ids are decimal strings, times are whole seconds since
// 1970, amounts are JSON numbers with the bank's own digits. Members that the
// vendor does not have are marked "extra"; clients of the vendor ignore them.
package oxlin

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Seconds is a time on this wire: whole seconds since 1970-01-01 UTC.
type Seconds int64

// SecondsOf cuts t to whole seconds.
func SecondsOf(t time.Time) Seconds { return Seconds(t.Unix()) }

// Time is the same moment in UTC.
func (s Seconds) Time() time.Time { return time.Unix(int64(s), 0).UTC() }

func secondsOrNil(t *time.Time) *Seconds {
	if t == nil || t.IsZero() {
		return nil
	}
	s := SecondsOf(*t)
	return &s
}

// dayOrNil is midnight UTC of a calendar day: a bare day never moves with a
// time zone.
func dayOrNil(d bankfeed.Date) *Seconds {
	if d == "" {
		return nil
	}
	s := SecondsOf(d.Time())
	return &s
}

// id prints a number as an id of this wire.
func id[N ~int64](n N) string { return strconv.FormatInt(int64(n), 10) }

// number keeps the digits and the scale of an amount: 10.00 stays 10.00.
func number(a bankfeed.Amount) json.Number { return json.Number(a.String()) }

// Error is the body of every answer that is not a success.
type Error struct {
	Code        ErrorCode `json:"error" doc:"What went wrong; a closed list."`
	Description string    `json:"error_description" doc:"For the developer. It never repeats a value that was sent."`
}

// ErrorCode is a closed list.
type ErrorCode string

// Error codes. The vendor's own, as far as its pages name them; those from
// CodeForbidden on are extra.
const (
	CodeFormatError      ErrorCode = "FORMAT_ERROR"      // the body is not readable JSON
	CodeParameterMissing ErrorCode = "PARAMETER_MISSING" // a required member or parameter is absent
	CodeBadParameter     ErrorCode = "BAD_PARAMETER"     // a member or parameter is wrong
	CodeInvalidToken     ErrorCode = "invalid_token"     // no token, or one that is not valid any more (RFC 6750)
	CodeResourceUnknown  ErrorCode = "RESOURCE_UNKNOWN"  // unknown, expired and foreign ids alike
	CodeBankError        ErrorCode = "BANK_ERROR"        // the bank does not answer
	CodeInternalError    ErrorCode = "INTERNAL_ERROR"
	CodeForbidden        ErrorCode = "FORBIDDEN"
	CodeConflict         ErrorCode = "CONFLICT" // not possible in the present state
	CodeTooLarge         ErrorCode = "TOO_LARGE"
	CodeRateLimited      ErrorCode = "RATE_LIMITED"
	CodeMethodNotAllowed ErrorCode = "METHOD_NOT_ALLOWED"
	CodeGone             ErrorCode = "GONE" // a position older than what the log still keeps
)

// ErrorCodes lists every code.
var ErrorCodes = []ErrorCode{
	CodeFormatError, CodeParameterMissing, CodeBadParameter, CodeInvalidToken, CodeResourceUnknown, CodeBankError, CodeInternalError,
	CodeForbidden, CodeConflict, CodeTooLarge, CodeRateLimited, CodeMethodNotAllowed, CodeGone,
}
