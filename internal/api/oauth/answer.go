package oauth

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/bankfeed/bankfeed/internal/access"
)

// fault is an answer that is no token (RFC 6749, section 5.2). text never
// repeats anything of the request.
type fault struct {
	status     int
	code       string
	text       string
	challenge  string // WWW-Authenticate, of a 401
	retryAfter time.Duration
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

func write(w http.ResponseWriter, f *fault) {
	if f.challenge != "" {
		w.Header().Set("WWW-Authenticate", f.challenge)
	}
	if f.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", access.RetryAfter(f.retryAfter))
	}
	writeJSON(w, f.status, faultBody{Error: f.code, Description: f.text})
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
