package banqup

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// Accepted is the answer to a request that is being carried out.
type Accepted struct {
	Success bool `json:"success"`
	Data    *int `json:"data" doc:"Always null."`
}

// Error is the vendor's shape of an error.
type Error struct {
	Code    int    `json:"errorCode" example:"404" doc:"The HTTP status."`
	Message string `json:"errorMessage" example:"unknown resource"`
}

// statuses is the dialect's one table from kind of error to answer.
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

// refuse answers with an error, and logs it if the answer hides it.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	var e *bankfeed.Error
	if !errors.As(err, &e) {
		e = &bankfeed.Error{Kind: bankfeed.Internal}
	}
	body := Error{statuses[e.Kind], e.Text}
	switch {
	case e.Kind == bankfeed.Internal:
		body.Message = "internal error"
		a.Log.ErrorContext(r.Context(), "request failed", "api", "banqup", "route", r.Pattern, "error", err)
	case e.Kind == bankfeed.NotFound:
		body.Message = bankfeed.ErrNotFound.Text // one answer to unknown, foreign and nothing there
	case e.Kind == bankfeed.Unauthorized:
		challenge := `Bearer realm="bankfeed"`
		if !errors.Is(err, errNoToken) {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case e.Field != "":
		body.Message = e.Field + ": " + e.Text
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", access.RetryAfter(e.RetryAfter))
	}
	write(w, body.Code, body)
}

func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // it is made of two members
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
