package oxlin

import (
	"errors"
	"net/http"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// fault is an answer that is not a success.
type fault struct {
	status int
	body   oxlin.Error
}

func faultf(status int, code oxlin.ErrorCode, text string) *fault {
	return &fault{status, oxlin.Error{Code: code, Description: text}}
}

// table is the dialect's one table from kind of error to answer.
var table = map[bankfeed.ErrorKind]struct {
	status int
	code   oxlin.ErrorCode
}{
	bankfeed.Internal:     {http.StatusInternalServerError, oxlin.CodeInternalError},
	bankfeed.Invalid:      {http.StatusBadRequest, oxlin.CodeBadParameter},
	bankfeed.Unauthorized: {http.StatusUnauthorized, oxlin.CodeInvalidToken},
	bankfeed.Forbidden:    {http.StatusForbidden, oxlin.CodeForbidden},
	bankfeed.NotFound:     {http.StatusNotFound, oxlin.CodeResourceUnknown},
	bankfeed.Conflict:     {http.StatusConflict, oxlin.CodeConflict},
	bankfeed.TooLarge:     {http.StatusRequestEntityTooLarge, oxlin.CodeTooLarge},
	bankfeed.RateLimited:  {http.StatusTooManyRequests, oxlin.CodeRateLimited},
	bankfeed.Unavailable:  {http.StatusServiceUnavailable, oxlin.CodeBankError},
	bankfeed.Gone:         {http.StatusGone, oxlin.CodeGone},
	bankfeed.StaleEpoch:   {http.StatusConflict, oxlin.CodeConflict},
}

// faultOf is the answer to an error. What has no kind tells nothing.
func faultOf(err error) *fault {
	var e *bankfeed.Error
	var missing *dialect.MissingError
	var malformed *dialect.MalformedError
	switch {
	case errors.Is(err, dialect.ErrMethod):
		return faultf(http.StatusMethodNotAllowed, oxlin.CodeMethodNotAllowed, dialect.ErrMethod.Text)
	case errors.As(err, &missing):
		return faultf(http.StatusBadRequest, oxlin.CodeParameterMissing, missing.Error())
	case errors.As(err, &malformed):
		return faultf(http.StatusBadRequest, oxlin.CodeFormatError, malformed.Error())
	case !errors.As(err, &e):
		e = &bankfeed.Error{Kind: bankfeed.Internal}
	}
	row := table[e.Kind]
	f := faultf(row.status, row.code, e.Text)
	switch {
	case e.Kind == bankfeed.Internal:
		f.body.Description = "internal error"
	case e.Kind == bankfeed.NotFound:
		// One answer to unknown, expired and foreign, whoever found out and how.
		f.body.Description = bankfeed.ErrNotFound.Text
	case e.Field != "":
		f.body.Description = e.Field + ": " + e.Text
	}
	return f
}

// answerTo is faultOf as the mechanism asks for it.
func answerTo(_ http.ResponseWriter, _ *http.Request, err error) (status int, body any) {
	f := faultOf(err)
	return f.status, f.body
}
