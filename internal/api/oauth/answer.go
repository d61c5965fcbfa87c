package oauth

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// fault is an answer that is no token (RFC 6749, section 5.2). text never
// repeats anything of the request.
type fault struct {
	status     int
	code       string
	text       string
	challenge  string // WWW-Authenticate, of a 401
	retryAfter time.Duration
	locked     bool // the login was tried too often; the face knows the status
}

func invalidRequest(text string) *fault {
	return &fault{status: http.StatusBadRequest, code: "invalid_request", text: text}
}

func missing(name string) *fault { return invalidRequest(name + " is missing") }

func invalidClient(text string) *fault {
	return &fault{status: http.StatusUnauthorized, code: "invalid_client", text: text, challenge: `Basic realm="bankfeed"`}
}

// faultBody is a fault on the wire.
type faultBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// finAPIFaultBody is one in the two shapes that finAPI's clients know: that of
// OAuth 2.0, and the one of all its other errors.
type finAPIFaultBody struct {
	faultBody
	finapi.Errors
}

func plainFault(_ *Handler, _ http.ResponseWriter, _ *http.Request, f *fault) any {
	return faultBody{Error: f.code, Description: f.text}
}

// finAPIFault has both but for a 401, which has the first only.
func finAPIFault(h *Handler, w http.ResponseWriter, r *http.Request, f *fault) any {
	plain := faultBody{Error: f.code, Description: f.text}
	e := finapi.Error{Message: f.text, Code: finapi.CodeBadRequest, Type: finapi.Business}
	switch f.status {
	case http.StatusUnauthorized:
		return plain
	case http.StatusForbidden:
		e.Code = finapi.CodeForbidden
	case http.StatusMethodNotAllowed:
		e.Code = finapi.CodeMethodNotAllowed
	case http.StatusLocked:
		e.Code = finapi.CodeLocked
	case http.StatusTooManyRequests:
		e.Code = finapi.CodeTooManyRequests
	case http.StatusInternalServerError:
		e.Code, e.Type = finapi.CodeUnexpectedError, finapi.Technical
	}
	id := w.Header().Get("X-Request-Id")
	return finAPIFaultBody{plain, finapi.Errors{Errors: []finapi.Error{e}, Date: finapi.TimeOf(h.now(), h.zone), RequestID: id, Endpoint: r.Method + " " + r.URL.Path}}
}

func write(w http.ResponseWriter, f *fault, body any) {
	if f.challenge != "" {
		w.Header().Set("WWW-Authenticate", f.challenge)
	}
	if f.status == http.StatusTooManyRequests || f.locked {
		w.Header().Set("Retry-After", access.RetryAfter(f.retryAfter))
	}
	writeJSON(w, f.status, body)
}

// noStore keeps caches away from tokens (RFC 6749, section 5.1).
func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	noStore(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return // the client is gone
	}
}
