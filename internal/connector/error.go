package connector

import (
	"errors"
	"fmt"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Error is what a bank's refusal, silence or nonsense means for the hub.
type Error struct {
	Reason bankfeed.FailureReason
	Status int    // HTTP status, 0 when no answer came
	Code   string // the bank's code
	Text   string // the bank's text, bounded and with account numbers masked
	// RetryAfter is when the bank said to come back; zero if it did not.
	RetryAfter time.Duration
	// Daily: the limit that was hit counts days, as far as the bank's words
	// tell.
	Daily bool
	// TryAgain: the same step may be answered once more (a mistyped code).
	TryAgain bool
	Err      error
}

func (e *Error) Error() string {
	s := string(e.Reason)
	if e.Status != 0 {
		s = fmt.Sprintf("%s (HTTP %d %s)", s, e.Status, e.Code)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Failure is the error as it is stored and shown.
func (e *Error) Failure() *bankfeed.Failure {
	return &bankfeed.Failure{Reason: e.Reason, Code: e.Code, Text: e.Text, Retry: transient(e.Reason)}
}

// AsError finds the *Error in err. An error of another type is a fault of the
// hub, not of the bank.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: bankfeed.FailInternal, Err: err}
}

// transient reports whether trying again without the user can help.
func transient(r bankfeed.FailureReason) bool {
	switch r {
	case bankfeed.FailRateLimited, bankfeed.FailQuota, bankfeed.FailUnavailable, bankfeed.FailUnstable,
		bankfeed.FailProtocol, bankfeed.FailInternal, bankfeed.FailOperator:
		return true
	}
	return false
}
