package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	redirect = "redirect"
	embedded = "embedded"
)

const maxBody = 64 << 10

const (
	textPasswordExpired = "The password has expired and must be changed at the bank."
	textActionRequired  = "The user must accept new terms and conditions at the bank."
	textHUB046          = "[HUB046] Allowed number of accesses exceeded for consent"
)

// api is one of the APIs that the bank serves.
type api struct {
	path    string
	channel string
	segment string
	mask    string
}

// How much of the IBANs an API hides.
const (
	maskNone = ""
	maskList = "list" // all but the details of an account
	maskAll  = "all"
)

// call is one XS2A request.
type call struct {
	api
	r         *http.Request
	base      string // absolute URL of this API, without /v1
	pages     string // absolute URL of the bank
	requested string // X-Request-ID
	attended  bool   // a PSU-IP-Address came with it
}

func (c *call) value(name string) string { return c.r.PathValue(name) }

// masked hides the middle of an IBAN where the API does.
func (c *call) masked(iban string) string {
	if c.mask == maskNone || len(iban) < 8 {
		return iban
	}
	return iban[:2] + "xxxx" + iban[len(iban)-4:]
}

// reference is an account's own, as the API shows it.
func (c *call) reference(a account) accountReference {
	r := a.reference()
	r.IBAN = c.masked(r.IBAN)
	return r
}

// opened reports whether a consent belongs to the API.
func (c *call) opened(con *consent) bool {
	return con != nil && con.Channel == c.channel && con.Segment == c.segment && con.Mask == c.mask
}

// operation answers one XS2A call. It takes the bank's lock itself, calls
// changed for what must survive, and returns a fault for every refusal.
type operation func(*call) (reply, error)

type reply struct {
	status int
	header map[string]string
	body   any    // marshalled as JSON; nil for none
	raw    []byte // sent instead of body, as HTML
}

// fault is an answer in one of the two error shapes of the standard.
type fault struct {
	status int
	code   string
	text   string
	path   string        // element at fault, optional
	retry  time.Duration // Retry-After, optional
	abort  bool          // close the connection without an answer
}

func (f *fault) Error() string { return fmt.Sprintf("%d %s: %s", f.status, f.code, f.text) }

func formatError(path, text string) *fault {
	return &fault{status: 400, code: "FORMAT_ERROR", path: path, text: text}
}

var errUnknownResource = &fault{status: 404, code: "RESOURCE_UNKNOWN", text: "There is no such resource."}

// xs2a wraps operations with what all calls share: headers, outages, errors,
// and the promise that a change is on disk before it is answered for.
func (b *Bank) xs2a(base api, methods map[string]operation) http.HandlerFunc {
	var allow []string
	for m := range methods {
		allow = append(allow, m)
	}
	sort.Strings(allow)
	return func(w http.ResponseWriter, r *http.Request) {
		pages := b.publicURL(r)
		c := &call{api: base, r: r, base: pages + base.path, pages: pages, requested: r.Header.Get("X-Request-ID")}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Request-ID", c.requested)
		if c.requested == "" {
			w.Header().Set("X-Request-ID", uuid.NewString())
		}
		op := methods[r.Method]
		var rep reply
		err := b.admit(c)
		switch {
		case err != nil:
		case methods == nil:
			err = errUnknownResource
		case op == nil:
			w.Header().Set("Allow", strings.Join(allow, ", "))
			err = &fault{status: 405, code: "SERVICE_INVALID", text: "The method is not supported here."}
		default:
			rep, err = op(c)
		}
		if ferr := b.flushUrgent(); ferr != nil {
			b.log.Error("sandbox: state not written", "err", ferr)
			err = &fault{status: 500, code: "INTERNAL_SERVER_ERROR", text: "The bank could not keep its state."}
		}
		if err != nil {
			b.refuse(w, r, err)
			return
		}
		for k, v := range rep.header {
			w.Header().Set(k, v)
		}
		switch {
		case rep.raw != nil:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(rep.status)
			_, _ = w.Write(rep.raw)
		case rep.body != nil:
			writeJSON(w, rep.status, "application/json", rep.body)
		default:
			w.WriteHeader(rep.status)
		}
	}
}

// admit checks what holds for every call of the bank.
func (b *Bank) admit(c *call) error {
	b.mu.Lock()
	down, delay := b.state.Down, b.state.DelayMS
	b.mu.Unlock()
	if err := wait(c, delay); err != nil {
		return err
	}
	if err := outage(down); err != nil {
		return err
	}
	if _, err := uuid.Parse(c.requested); err != nil || len(c.requested) != 36 {
		return formatError("X-Request-ID", "The header X-Request-ID must be a UUID.")
	}
	if ip := c.r.Header.Get("PSU-IP-Address"); ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return formatError("PSU-IP-Address", "The header PSU-IP-Address must be an IP address.")
		}
		c.attended = true
	}
	return nil
}

// wait holds a call back as long as the client stays.
func wait(c *call, ms int64) error {
	if ms <= 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.r.Context().Done():
		return &fault{abort: true}
	}
}

// Kinds of outage an event can name.
const (
	down503   = "503"
	downClose = "close"
)

func outage(kind string) error {
	switch kind {
	case down503:
		return &fault{status: 503, code: "SERVICE_UNAVAILABLE", text: "The bank is not available at the moment.", retry: time.Minute}
	case downClose:
		return &fault{abort: true}
	}
	return nil
}

func (b *Bank) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var f *fault
	if !errors.As(err, &f) {
		b.log.Error("sandbox: call failed", "path", r.URL.Path, "err", err)
		f = &fault{status: 500, code: "INTERNAL_SERVER_ERROR", text: "Internal error."}
	}
	if f.abort {
		panic(http.ErrAbortHandler)
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.retry+time.Second-1)/time.Second)))
	}
	if first, _, _ := strings.Cut(r.Header.Get("Accept"), ","); strings.HasPrefix(strings.TrimSpace(first), "application/problem+json") {
		writeJSON(w, f.status, "application/problem+json", map[string]any{
			"type":  "https://www.berlin-group.org/nextgenpsd2-downloads",
			"title": http.StatusText(f.status), "code": f.code, "detail": f.text,
		})
		return
	}
	message := map[string]any{"category": "ERROR", "code": f.code, "text": f.text}
	if f.path != "" {
		message["path"] = f.path
	}
	writeJSON(w, f.status, "application/json", map[string]any{"tppMessages": []any{message}})
}

func writeJSON(w http.ResponseWriter, status int, kind string, body any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

// decode reads a JSON body; an empty one leaves out as it is.
func (c *call) decode(out any) error {
	data, err := io.ReadAll(c.r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return formatError("", fmt.Sprintf("The body is larger than %d bytes.", maxBody))
	}
	if err != nil {
		return &fault{abort: true}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if kind := c.r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return &fault{status: 415, code: "FORMAT_ERROR", text: "The body must be application/json."}
		}
	}
	if err := json.Unmarshal(data, out); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return formatError(wrong.Field, "The element has the wrong type.")
		}
		return formatError("", "The body is not valid JSON.")
	}
	return nil
}
