package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

const (
	callTimeout   = 15 * time.Second // of a client that nobody set
	longestAnswer = 64 << 20         // a list of reports is the longest
	maxMessage    = 500              // of an error's text
)

// defaultHTTP is used where no client is given.
var defaultHTTP = &http.Client{Timeout: callTimeout}

// Error is an answer that is not 2xx. An error of another type means that the
// server's answer did not arrive, or could not be read.
type Error struct {
	Call    string // method and path
	Status  int
	Code    string // the server's word, for example ILLEGAL_ENTITY_STATE
	Message string
	// Field is what the server did not like, if it says so.
	Field     string
	RequestID string
	// RetryAfter is how long the server asks to wait; 0 if it does not.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %d", e.Call, e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Field != "" {
		s += " " + e.Field
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

// ErrorCode is the server's word for why it refused, or "".
func ErrorCode(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Expired reports whether the server no longer takes the token.
func Expired(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusUnauthorized
}

// caller is one server.
type caller struct {
	base string
	http *http.Client
}

// call is what is asked.
type call struct {
	method, path string
	shown        string // in place of a path that holds a secret
	token        bankfeed.Secret
	query        url.Values
	form         url.Values // as application/x-www-form-urlencoded
	body         any        // as JSON; nil is no body
	header       http.Header
}

// do asks and reads a 2xx answer into out, or into nothing if out is nil.
func (c caller) do(ctx context.Context, k call, out any) error {
	r, err := k.request(ctx, c.base)
	if err != nil {
		return err
	}
	h := defaultHTTP
	if c.http != nil {
		h = c.http
	}
	h = withoutRedirects(h)
	resp, err := h.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its text has the whole URL
		}
		return fmt.Errorf("%s: %w", k, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer+1))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return k.refused(resp, text)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: the answer broke off: %w", k, err)
	case len(text) > longestAnswer:
		return fmt.Errorf("%s: the answer has more than %d bytes", k, longestAnswer)
	case out == nil:
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = text
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: the answer is not what was expected: %w", k, err)
	}
	return nil
}

func (k call) String() string {
	if k.shown != "" {
		return k.method + " " + k.shown
	}
	return k.method + " " + k.path
}

func (k call) request(ctx context.Context, base string) (*http.Request, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, bankfeed.InvalidField("BaseURL", "is not an http(s) URL")
	}
	address := strings.TrimRight(base, "/") + k.path
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	var body io.Reader
	contentType := ""
	switch {
	case k.form != nil:
		body, contentType = strings.NewReader(k.form.Encode()), "application/x-www-form-urlencoded"
	case k.body != nil:
		text, err := json.Marshal(k.body)
		if err != nil {
			return nil, err
		}
		body, contentType = bytes.NewReader(text), "application/json"
	}
	r, err := http.NewRequestWithContext(ctx, k.method, address, body)
	if err != nil {
		return nil, err
	}
	for name, values := range k.header {
		r.Header[name] = values
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("Accept", "application/json")
	if k.token != "" {
		r.Header.Set("Authorization", "Bearer "+string(k.token))
	}
	return r, nil
}

// withoutRedirects makes a redirect an answer like any other: followed, a POST
// would become a GET without its body.
func withoutRedirects(h *http.Client) *http.Client {
	c := *h
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// refused reads what the server said. Access and Data Intelligence, OAuth and
// the web forms have a shape each; a gateway in between has none.
func (k call) refused(resp *http.Response, text []byte) error {
	e := &Error{Call: k.String(), Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id"), RetryAfter: retryAfter(resp.Header, time.Now())}
	var body struct {
		Errors []struct {
			Code    looseText `json:"code"`
			Message looseText `json:"message"`
			Field   looseText `json:"field"`
		} `json:"errors"`
		RequestID        looseText `json:"requestId"`
		Error            looseText `json:"error"`
		ErrorDescription looseText `json:"error_description"`
		Code             looseText `json:"code"`
		Description      looseText `json:"description"`
	}
	if json.Unmarshal(text, &body) == nil {
		e.Code, e.Message = first(body.Code, body.Error), first(body.Description, body.ErrorDescription)
		if len(body.Errors) > 0 {
			d := body.Errors[0]
			e.Code, e.Message, e.Field = first(d.Code, looseText(e.Code)), first(d.Message, looseText(e.Message)), string(d.Field)
		}
		e.RequestID = first(looseText(e.RequestID), body.RequestID)
	}
	e.Message = strings.ToValidUTF8(e.Message[:min(len(e.Message), maxMessage)], "")
	return e
}

// looseText is a string; any other JSON value is none, and no error.
type looseText string

func (t *looseText) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = looseText(s)
	}
	return nil
}

func first(a, b looseText) string {
	if a != "" {
		return string(a)
	}
	return string(b)
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Hour

func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	d := time.Duration(0)
	if n, err := strconv.ParseInt(v, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) {
		d = time.Duration(n) * time.Second // n is the largest if there are more digits
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}
