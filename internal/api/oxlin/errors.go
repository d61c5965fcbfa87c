package oxlin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// fault is an error that this dialect names more precisely than its kind.
type fault struct {
	status int
	body   oxlin.Error
}

func (f *fault) Error() string { return f.body.Description }

func faultf(status int, code oxlin.ErrorCode, text string) *fault {
	return &fault{status, oxlin.Error{Code: code, Description: text}}
}

var (
	errMethod  = faultf(http.StatusMethodNotAllowed, oxlin.CodeMethodNotAllowed, "this path does not know the method; see the Allow header")
	errNoToken = faultf(http.StatusUnauthorized, oxlin.CodeInvalidToken, "an access token is needed")
)

func missing(field string) error {
	return faultf(http.StatusBadRequest, oxlin.CodeParameterMissing, field+" is missing")
}

func malformed(text string) error {
	return faultf(http.StatusBadRequest, oxlin.CodeFormatError, text)
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
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	var e *bankfeed.Error
	if !errors.As(err, &e) {
		e = &bankfeed.Error{Kind: bankfeed.Internal}
	}
	row := table[e.Kind]
	f = faultf(row.status, row.code, e.Text)
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

// refuse answers with an error, and logs it if the answer hides it.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := faultOf(err)
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	var e *bankfeed.Error
	switch f.status {
	case http.StatusInternalServerError:
		a.Log.ErrorContext(r.Context(), "request failed", "api", "oxlin", "method", r.Method, "route", r.Pattern, "error", err)
	case http.StatusUnauthorized:
		challenge := `Bearer realm="bankfeed"`
		if !errors.Is(err, errNoToken) {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if errors.As(err, &e) && e.RetryAfter > 0 {
			w.Header().Set("Retry-After", access.RetryAfter(e.RetryAfter))
		}
	}
	body, err := json.Marshal(f.body)
	if err != nil { // it is made of two strings
		http.Error(w, http.StatusText(f.status), f.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(f.status)
	w.Write(body)
}
