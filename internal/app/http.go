package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// Bounds of the HTTP server. There is no write timeout: streams and long polls
// are answered slowly on purpose; their handlers bound each write.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	// documentTimeout is for what clients hand in.
	documentTimeout = 15 * time.Minute
	idleTimeout     = 2 * time.Minute
	maxHeader       = 64 << 10
	maxBody         = 1 << 20 // each dialect has a lower bound of its own
)

// front is what every request passes through.
type front struct {
	next    http.Handler
	routes  *routes
	log     *slog.Logger
	metrics *telemetry.Metrics
	// ending ends when the node stops: waiting requests end then.
	ending context.Context
	https  bool // the outside reaches us by https
	// maxDocument bounds what clients hand in.
	maxDocument int64
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	id := requestID(r)
	h := w.Header()
	h.Set("X-Request-ID", id)
	// What is meant for programs shows nothing in a browser; pages set their
	// own policy.
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the paths of start pages are secret
	if f.https {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	ctx := telemetry.WithRequestID(r.Context(), id)
	waits := waiting(r)
	if waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(f.ending, cancel)()
	}
	r = r.WithContext(ctx)
	rec := &recorder{ResponseWriter: w}
	if r.Body != nil && r.Body != http.NoBody {
		if finapi.TakesDocuments(r.URL.Path) {
			r.Body = boundDocument(rec, r.Body, f.maxDocument)
		} else {
			r.Body = boundBody(rec, r.Body)
		}
	}
	route := f.routes.of(r)
	f.metrics.Started()
	defer func() {
		p := recover()
		err, _ := p.(error)
		if p != nil && !errors.Is(err, http.ErrAbortHandler) {
			f.log.ErrorContext(ctx, "request panicked", "route", route, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
			if rec.status == 0 {
				problem(rec, http.StatusInternalServerError, "internal", "an error on our side; X-Request-ID names it")
			}
		}
		f.done(ctx, r, rec, route, time.Since(began), waits)
		if p != nil && rec.broken() {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
	}()
	f.next.ServeHTTP(rec, r)
	if waits && rec.status == 0 && f.ending.Err() != nil {
		rec.WriteHeader(http.StatusNoContent) // nothing came until the node stopped: a poll goes on elsewhere
	}
}

// done counts the request and writes its line. Neither has the query, which may
// hold secrets of a redirect.
func (f *front) done(ctx context.Context, r *http.Request, rec *recorder, route string, took time.Duration, waited bool) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	f.metrics.Answered(route, method(r.Method), status, took, waited)
	if route == "/queues/{queue_id}" || route == "/v2.1/queues/{queue_id}" {
		f.poll(r, status)
	}
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelWarn
	case route == "/healthz" || route == "/readyz" || route == "/metrics":
		level = slog.LevelDebug
	}
	f.log.LogAttrs(ctx, level, "request", slog.String("method", method(r.Method)), slog.String("path", maskPath(r.URL.Path)),
		slog.Int("status", status), slog.Int64("bytes", rec.bytes), slog.Float64("ms", float64(took.Microseconds())/1000))
}

func (f *front) poll(r *http.Request, status int) {
	switch {
	case r.Method != http.MethodGet:
	case status == http.StatusOK:
		f.metrics.Polled("events")
	case status == http.StatusNoContent:
		f.metrics.Polled("empty")
	default:
		f.metrics.Polled("refused")
	}
}

// opaque is what a token looks like: 32 bytes in base64url, with or without a
// prefix.
var opaque = regexp.MustCompile(`[A-Za-z0-9_-]{43,}`)

// maskPath hides the tokens of a start page and of a process, whatever else looks like a token,
// and an IBAN that somebody put where an id belongs. The path is the caller's
// own spelling: it need not be one that reaches the page.
func maskPath(p string) string {
	p = path.Clean("/" + p)
	segments := strings.Split(p, "/")
	for i, s := range segments {
		if i > 0 && s != "return" && (strings.EqualFold(segments[i-1], "link") || strings.EqualFold(segments[i-1], "processes")) {
			segments[i] = "***"
		}
	}
	return secret.MaskText(opaque.ReplaceAllString(strings.Join(segments, "/"), "***"))
}

// method keeps strangers from making up label values.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// waiting reports whether the request may be answered long after it came.
func waiting(r *http.Request) bool {
	return r.Method == http.MethodGet &&
		(r.URL.Query().Get("wait") != "" || strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/event-stream") ||
			strings.HasSuffix(r.URL.Path, "/stream"))
}

// requestID takes the caller's own if it is harmless in a log.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-ID")
	if id == "" || len(id) > 255 || strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != '.'
	}) {
		return rand.Text()
	}
	return id
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	failed bool
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	r.failed = r.failed || err != nil
	return n, err
}

// Unwrap lets http.ResponseController reach deadlines and flushing.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// broken reports whether an answer has begun that is not an error of ours.
func (r *recorder) broken() bool { return r.status != 0 && r.status != http.StatusInternalServerError }

// body bounds size and time of a request's body. The deadline is taken back
// once the body was read: the server would otherwise take it for the client's
// going away and end the request while a bank is being asked.
type body struct {
	io.ReadCloser
	connection *http.ResponseController
}

// boundDocument is boundBody for a document that is read while it is checked: it
// may take long, as long as something comes.
func boundDocument(w http.ResponseWriter, b io.ReadCloser, most int64) io.ReadCloser {
	// One byte more, so that whoever reads it says that it is too large.
	return &document{body{http.MaxBytesReader(w, b, most+1), http.NewResponseController(w)}, time.Now().Add(documentTimeout)}
}

type document struct {
	body
	end time.Time
}

func (d *document) Read(p []byte) (int, error) {
	idle := time.Now().Add(bodyTimeout)
	if d.end.Before(idle) {
		idle = d.end
	}
	_ = d.connection.SetReadDeadline(idle) // not on a writer without a connection, in tests
	return d.body.Read(p)
}

func boundBody(w http.ResponseWriter, b io.ReadCloser) io.ReadCloser {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout)) // not on a writer without a connection, in tests
	return &body{http.MaxBytesReader(w, b, maxBody), c}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.connection.SetReadDeadline(time.Time{})
	}
	return n, err
}

// problem writes an error of no dialect (RFC 9457). The words are ours: plain
// ASCII, which %q writes as JSON does.
func problem(w http.ResponseWriter, status int, code, detail string) {
	b := fmt.Appendf(nil, "{\"status\":%d,\"title\":%q,\"code\":%q,\"detail\":%q}\n", status, http.StatusText(status), code, detail)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// routes knows every path as a pattern, for metrics without ids.
type routes struct {
	main *http.ServeMux // of the hub
	apis *http.ServeMux // of the dialects, which main knows by their prefix only
}

// apiMethods are those of operations in an OpenAPI document.
var apiMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// newRoutes takes the dialects' OpenAPI documents for their paths.
func newRoutes(main *http.ServeMux, specs ...[]byte) (*routes, error) {
	t := &routes{main: main, apis: http.NewServeMux()}
	for _, spec := range specs {
		var doc struct {
			Paths map[string]map[string]json.RawMessage `json:"paths"`
		}
		if err := json.Unmarshal(spec, &doc); err != nil {
			return nil, fmt.Errorf("reading an OpenAPI document: %w", err)
		}
		for path, item := range doc.Paths {
			// By method: two paths may meet that no method has in common.
			for member := range item {
				if method := strings.ToUpper(member); slices.Contains(apiMethods, method) {
					t.apis.Handle(method+" "+path, http.NotFoundHandler())
				}
			}
		}
	}
	return t, nil
}

// of names the route of a request.
func (t *routes) of(r *http.Request) string {
	_, pattern := t.main.Handler(r)
	if strings.HasSuffix(pattern, "/") && pattern != "/" {
		if _, p := t.apis.Handler(r); p != "" {
			pattern = p
		}
	}
	if _, path, ok := strings.Cut(pattern, " "); ok {
		pattern = path
	}
	if pattern == "" || pattern == "/" {
		return "other"
	}
	return pattern
}
