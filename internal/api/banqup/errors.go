package banqup

import (
	"errors"
	"net/http"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
)

// Error is the vendor's shape of an error.
type Error struct {
	Code    int    `json:"errorCode" example:"404" doc:"The HTTP status."`
	Message string `json:"errorMessage" example:"unknown resource"`
}

// statuses is the dialect's one table from kind of error to HTTP status.
var statuses = map[bankfeed.ErrorKind]int{
	bankfeed.Internal:     http.StatusInternalServerError,
	bankfeed.Invalid:      http.StatusBadRequest,
	bankfeed.Unauthorized: http.StatusUnauthorized,
	bankfeed.Forbidden:    http.StatusForbidden,
	bankfeed.NotFound:     http.StatusNotFound,
	bankfeed.Conflict:     http.StatusConflict,
	bankfeed.TooLarge:     http.StatusRequestEntityTooLarge,
	bankfeed.RateLimited:  http.StatusTooManyRequests,
	bankfeed.Unavailable:  http.StatusServiceUnavailable,
	bankfeed.Gone:         http.StatusGone,
	bankfeed.StaleEpoch:   http.StatusConflict,
}

// errorOf is the body of the answer to an error. What has no kind tells nothing.
func errorOf(err error) Error {
	var e *bankfeed.Error
	var malformed *dialect.MalformedError
	switch {
	case errors.Is(err, dialect.ErrMethod):
		return Error{http.StatusMethodNotAllowed, dialect.ErrMethod.Text}
	case errors.As(err, &malformed):
		return Error{http.StatusBadRequest, malformed.Text}
	case !errors.As(err, &e) || e.Kind == bankfeed.Internal:
		return Error{http.StatusInternalServerError, "internal error"}
	case e.Kind == bankfeed.NotFound:
		return Error{http.StatusNotFound, bankfeed.ErrNotFound.Text} // one answer to unknown, foreign and nothing there
	case e.Field != "":
		return Error{statuses[e.Kind], e.Field + ": " + e.Text}
	}
	return Error{statuses[e.Kind], e.Text}
}

// answerTo is errorOf as the mechanism asks for it.
func answerTo(_ http.ResponseWriter, _ *http.Request, err error) (status int, body any) {
	e := errorOf(err)
	return e.Code, e
}
