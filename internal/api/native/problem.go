package native

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

// Problem is the body of every error (RFC 9457, application/problem+json). It
// names fields and never repeats a value that was refused.
type Problem struct {
	Title  string       `json:"title" doc:"The status in words." example:"Unprocessable Entity"`
	Status int          `json:"status" doc:"The HTTP status." example:"422"`
	Code   string       `json:"code" doc:"The kind of error, stable, for programs: invalid, unauthorized, forbidden, not_found, method_not_allowed, conflict, too_large, rate_limited, unavailable, gone, stale_epoch, internal." example:"invalid"`
	Detail string       `json:"detail" doc:"What is wrong, for people." example:"validation failed"`
	Errors []FieldError `json:"errors,omitempty" doc:"The fields at fault." nullable:"false"`
	Next   string       `json:"next,omitempty" doc:"With 409 stale_epoch and 410 gone of the event log: the cursor from which reading can go on."`

	headers http.Header
}

// FieldError is one field at fault.
type FieldError struct {
	Field   string `json:"field" doc:"Where: query.limit, header.PSU-IP-Address, body.channels[0].mode." example:"query.limit"`
	Message string `json:"message" doc:"What is expected there." example:"expected number <= 1000"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType implements huma.ContentTypeFilter.
func (*Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// statuses is the dialect's one table from kind of error to HTTP status.
var statuses = map[bankfeed.ErrorKind]int{
	bankfeed.Internal:     http.StatusInternalServerError,
	bankfeed.Invalid:      http.StatusUnprocessableEntity,
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

// codes names the statuses that the framework answers with itself.
var codes = map[int]string{
	http.StatusBadRequest:            bankfeed.Invalid.String(),
	http.StatusRequestTimeout:        bankfeed.Invalid.String(),
	http.StatusRequestEntityTooLarge: bankfeed.TooLarge.String(),
	http.StatusUnsupportedMediaType:  bankfeed.Invalid.String(),
	http.StatusUnprocessableEntity:   bankfeed.Invalid.String(),
}

var typeOfProblem = reflect.TypeFor[Problem]()

func newProblem(status int, code, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf is the answer to an error. What has no kind tells nothing.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var e *bankfeed.Error
	if !errors.As(err, &e) || e.Kind == bankfeed.Internal {
		return newProblem(http.StatusInternalServerError, bankfeed.Internal.String(), "internal error")
	}
	p = newProblem(statuses[e.Kind], e.Kind.String(), e.Text)
	if start, ok := eventlog.OldestOf(err); ok {
		p.Next = start.String()
	}
	switch {
	case e.Kind == bankfeed.NotFound:
		// One answer to unknown, expired and foreign, whoever found out and how.
		p.Detail = bankfeed.ErrNotFound.Text
	case e.Field != "":
		p.Errors = []FieldError{{Field: located(e.Field), Message: e.Text}}
		if e.Kind == bankfeed.Invalid {
			p.Detail = "validation failed"
		}
	}
	switch e.Kind {
	case bankfeed.Unauthorized:
		challenge := "Bearer"
		if errors.Is(err, access.ErrToken) { // RFC 6750, section 3: nothing more to who sent no token
			challenge = `Bearer error="invalid_token"`
		}
		p.headers = http.Header{"Www-Authenticate": {challenge}}
	case bankfeed.RateLimited, bankfeed.Unavailable:
		if e.RetryAfter > 0 {
			p.headers = http.Header{"Retry-After": {access.RetryAfter(e.RetryAfter)}}
		}
	}
	return p
}

// write answers with the problem outside of the framework.
func (p *Problem) write(w http.ResponseWriter) {
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	body, err := json.Marshal(p)
	if err != nil { // it is made of strings and an int
		http.Error(w, p.Title, p.Status)
		return
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // if nobody is there to read it, nobody is told
}

// asProblem turns the framework's own errors into problems. It is a transformer
// of this API alone: huma's error constructors are package variables, which
// other dialects share.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code, ok := codes[m.Status]
	if !ok {
		return newProblem(m.Status, bankfeed.Internal.String(), "internal error"), nil
	}
	p := newProblem(m.Status, code, m.Detail)
	for _, d := range m.Errors {
		if d != nil {
			p.Errors = append(p.Errors, FieldError{Field: cut(d.Location), Message: safeMessage(m.Status, d.Message)})
		}
	}
	return p, nil
}

// located adds where a field is. The capabilities name members of what they
// were given, which came in the body.
func located(field string) string {
	switch place, _, _ := strings.Cut(field, "."); place {
	case "path", "query", "header", "body":
		return field
	}
	return "body." + field
}

// cut bounds the name of a field: that of an unknown one is the caller's text.
func cut(field string) string {
	const limit = 100
	if len(field) > limit {
		return strings.ToValidUTF8(field[:limit], "") + "…"
	}
	return field
}

// safeMessage keeps those texts of the framework that come from the schema, and
// rewrites or cuts those that contain what was sent.
func safeMessage(status int, message string) string {
	switch {
	case status == http.StatusUnsupportedMediaType:
		return "send application/json"
	case status == http.StatusBadRequest:
		return "not valid JSON"
	case strings.HasPrefix(message, "invalid date/time"):
		return "expected an RFC 3339 date-time such as 2026-03-01T12:00:00Z"
	case strings.HasPrefix(message, "expected string to match pattern"): // there is one: of external ids
		return "expected text without control characters"
	case strings.HasPrefix(message, "expected string to be "):
		message, _, _ = strings.Cut(message, ":")
		return message
	}
	for _, known := range [...]string{"expected ", "unexpected property", "unknown query parameter", "required ", "invalid integer", "invalid boolean"} {
		if strings.HasPrefix(message, known) {
			return message
		}
	}
	return "does not have the expected form"
}
