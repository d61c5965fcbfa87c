package finapi

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// fault is an error that this dialect names more precisely than its kind.
type fault struct {
	status int
	code   finapi.ErrorCode
	field  string
	text   string
}

func (f *fault) Error() string {
	if f.field != "" {
		return f.field + ": " + f.text
	}
	return f.text
}

// table is the dialect's one table from kind of error to answer.
var table = map[bankfeed.ErrorKind]struct {
	status int
	code   finapi.ErrorCode
}{
	bankfeed.Internal:     {http.StatusInternalServerError, finapi.CodeUnexpectedError},
	bankfeed.Invalid:      {http.StatusBadRequest, finapi.CodeIllegalFieldValue},
	bankfeed.Unauthorized: {http.StatusUnauthorized, ""}, // a body of its own
	bankfeed.Forbidden:    {http.StatusForbidden, finapi.CodeForbidden},
	bankfeed.NotFound:     {http.StatusNotFound, finapi.CodeUnknownEntity},
	bankfeed.Conflict:     {http.StatusUnprocessableEntity, finapi.CodeIllegalEntityState},
	bankfeed.TooLarge:     {http.StatusRequestEntityTooLarge, finapi.CodeBadRequest},
	bankfeed.RateLimited:  {http.StatusTooManyRequests, finapi.CodeTooManyRequests},
	bankfeed.Unavailable:  {http.StatusServiceUnavailable, finapi.CodeBankServerRejection},
	bankfeed.Gone:         {http.StatusUnprocessableEntity, finapi.CodeIllegalEntityState},
	bankfeed.StaleEpoch:   {http.StatusUnprocessableEntity, finapi.CodeIllegalEntityState},
}

// faultOf is the answer to an error. What has no kind tells nothing.
func faultOf(err error) *fault {
	var f *fault
	var missing *dialect.MissingError
	var malformed *dialect.MalformedError
	var e *bankfeed.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, dialect.ErrMethod):
		return &fault{http.StatusMethodNotAllowed, finapi.CodeMethodNotAllowed, "", dialect.ErrMethod.Text}
	case errors.Is(err, dialect.ErrMediaType):
		return &fault{http.StatusUnsupportedMediaType, finapi.CodeUnsupportedMediaType, "", dialect.ErrMediaType.Text}
	case errors.As(err, &missing):
		return &fault{http.StatusBadRequest, finapi.CodeMissingField, missing.Field, "is missing"}
	case errors.As(err, &malformed):
		return &fault{http.StatusBadRequest, finapi.CodeBadRequest, "", malformed.Text}
	case errors.Is(err, bankfeed.ErrBusy), errors.Is(err, bankfeed.ErrConflict):
		return &fault{http.StatusLocked, finapi.CodeLocked, "", "it is being worked on, try again later"}
	case !errors.As(err, &e):
		e = &bankfeed.Error{Kind: bankfeed.Internal}
	}
	row := table[e.Kind]
	f = &fault{row.status, row.code, e.Field, e.Text}
	switch e.Kind {
	case bankfeed.Internal:
		f.field, f.text = "", "an error on our side; X-Request-Id names it"
	case bankfeed.NotFound:
		// One answer to unknown, expired and foreign, whoever found out and how.
		f.field, f.text = "", bankfeed.ErrNotFound.Text
	}
	return f
}

// answerTo writes an error in the shape of the API that was called.
func (a *API) answerTo(w http.ResponseWriter, r *http.Request, err error) (status int, body any) {
	f := faultOf(err)
	now, endpoint := a.Now(), r.Method+" "+route(r)
	switch {
	case f.status == http.StatusUnauthorized && !isForm(r.URL.Path):
		return f.status, finapi.Unauthorized{Code: finapi.InvalidToken, Description: f.text}
	case !isForm(r.URL.Path):
		var several bankfeed.Faults
		if errors.As(err, &several) && len(several) > 0 {
			return f.status, finapi.Errors{Errors: each(several), Date: finapi.TimeOf(now, a.Zone), RequestID: requestID(w, r), Endpoint: endpoint}
		}
		e := finapi.Error{Message: f.Error(), Code: f.code, Type: finapi.Business}
		if f.status >= http.StatusInternalServerError {
			e.Type = finapi.Technical
		}
		return f.status, finapi.Errors{Errors: []finapi.Error{e}, Date: finapi.TimeOf(now, a.Zone), RequestID: requestID(w, r), Endpoint: endpoint}
	case f.status == http.StatusBadRequest:
		return f.status, finapi.FormErrors{Errors: []finapi.FieldError{{Field: cmp.Or(f.field, "request"), Message: f.text}}, Timestamp: finapi.FormTimeOf(now, a.Zone), Endpoint: endpoint}
	}
	return f.status, finapi.FormError{Code: formCode(f.code), Description: f.text, Timestamp: finapi.FormTimeOf(now, a.Zone), Endpoint: endpoint}
}

// each tells all that is wrong with a body.
func each(several bankfeed.Faults) []finapi.Error {
	list := make([]finapi.Error, len(several))
	for i, e := range several {
		f := faultOf(e)
		list[i] = finapi.Error{Message: f.Error(), Code: f.code, Type: finapi.Business}
		switch {
		case strings.HasPrefix(e.Text, bankfeed.TextMissing):
			list[i].Code = finapi.CodeMissingField
		case strings.HasPrefix(e.Text, bankfeed.TextNotJSON):
			list[i].Code = finapi.CodeBadRequest
		}
	}
	return list
}

// isForm reports whether a path is one of Web Form 2.0, which has error bodies
// of its own.
func isForm(path string) bool {
	return path == webForms || path == tasks || strings.HasPrefix(path, webForms+"/") || strings.HasPrefix(path, tasks+"/")
}

// route is the path as the document has it, since the request's own may hold
// what must not be repeated.
func route(r *http.Request) string {
	switch r.Pattern {
	case "", "/":
		return "unknown"
	case additions:
		return additionsShown
	}
	return r.Pattern
}

// requestID is the one under which the hub's log has the request: the caller's
// own, if it sent one.
func requestID(w http.ResponseWriter, r *http.Request) string {
	const name = "X-Request-Id"
	id := w.Header().Get(name) // of the hub's front
	if id == "" {
		id = r.Header.Get(name)
	}
	return id
}
