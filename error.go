package bankfeed

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrorKind classifies an error for whoever must answer for it. Each dialect
// has one table from kind to its own status and shape.
type ErrorKind uint8

// Kinds of error.
const (
	Internal     ErrorKind = iota // a fault of the hub; the text stays in the log
	Invalid                       // the request is wrong; Field names the place
	Unauthorized                  // no or no longer valid credentials
	Forbidden                     // valid credentials that do not reach this far
	NotFound                      // unknown, expired and foreign alike
	Conflict                      // not possible in the present state
	TooLarge                      // a body or value beyond its bound
	RateLimited                   // too many requests; RetryAfter says when
	Unavailable                   // a bank or service does not answer
	Gone                          // a position below the retention floor
	StaleEpoch                    // a cursor from before a restore
)

var errorKindNames = [...]string{"internal", "invalid", "unauthorized", "forbidden", "not_found", "conflict",
	"too_large", "rate_limited", "unavailable", "gone", "stale_epoch"}

func (k ErrorKind) String() string { return errorKindNames[k] }

// Error is an error with a kind. Text is for the caller and never repeats the
// value that was refused; Err is for the log.
type Error struct {
	Kind       ErrorKind
	Field      string // the parameter, header or JSON path at fault, if one is
	Text       string
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	s := e.Text
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind.
func Errorf(kind ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// InvalidField makes an Invalid error that names the field.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Text: fmt.Sprintf(format, args...)}
}

// TextMissing is the text of a fault of a field that must be there.
const TextMissing = "is missing"

// TextNotJSON begins the text of a fault of a document that cannot be read on
// from there.
const TextNotJSON = "is not valid JSON"

// Faults are what is wrong with one request, told all at once. They are in the
// order in which they were found and bounded by whoever looks for them.
type Faults []*Error

func (f Faults) Error() string {
	texts := make([]string, len(f))
	for i, e := range f {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes the first of them the kind of all.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, e := range f {
		errs[i] = e
	}
	return errs
}

// ErrNotFound is the one answer to unknown, expired and foreign ids.
var ErrNotFound = &Error{Kind: NotFound, Text: "unknown resource"}

// ErrorKindOf finds the kind of err; what carries none is Internal.
func ErrorKindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
