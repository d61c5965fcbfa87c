package callback

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed/internal/egress"
)

// SenderConfig says how attempts are made.
type SenderConfig struct {
	Allow   []netip.Prefix // networks beside the public ones
	Timeout time.Duration  // of a whole attempt; 0: DefaultTimeout
	Build   string         // of the hub, for User-Agent
	// Roots are the authorities that are trusted; nil: those of the system.
	Roots    *x509.CertPool
	Resolver *net.Resolver // nil: the system's
	Now      func() time.Time
}

// DefaultTimeout is how long an attempt may take.
const DefaultTimeout = 15 * time.Second

// Bounds of an attempt.
const (
	sendDialTimeout = 5 * time.Second // of each step: connection, TLS
	drainTimeout    = time.Second     // for the body of an answer whose status is known
	keptAnswer      = 4 << 10
	// readAnswer is read at most, so that the connection can be used again; a
	// longer answer costs the receiver its connection.
	readAnswer      = 64 << 10
	maxAnswerHeader = 64 << 10

	idleConns        = 4096 // of all receivers together
	idlePerReceiver  = 64
	idleReceiverTime = 90 * time.Second
	pingAfter        = 10 * time.Second // an HTTP/2 connection that is silent
	pingTimeout      = 5 * time.Second

	maxRetryAfter = 24 * time.Hour
)

// Sender makes attempts and judges their answers. When to try, and when again, is
// not its business.
type Sender struct {
	config    SenderConfig
	guard     *egress.Guard
	transport *http.Transport
	userAgent string
}

// NewSender makes a sender.
func NewSender(c SenderConfig) *Sender {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Sender{config: c, guard: egress.New(c.Allow), userAgent: strings.TrimSuffix("bankfeed/"+c.Build, "/")}
	dialer := &net.Dialer{Timeout: sendDialTimeout, Control: s.guard.Control, Resolver: c.Resolver}
	// A dialer of our own tells a fault of TLS from any other; the session cache
	// saves receivers half of each new handshake.
	tlsDialer := &tlsDialer{dialer, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: c.Roots, NextProtos: []string{"h2", "http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(idleConns),
	}}
	s.transport = &http.Transport{ // no Proxy: it would look names up, where the guard does not see it
		DialContext: dialer.DialContext, DialTLSContext: tlsDialer.dial, ForceAttemptHTTP2: true,
		MaxIdleConns: idleConns, MaxIdleConnsPerHost: idlePerReceiver, IdleConnTimeout: idleReceiverTime,
		MaxResponseHeaderBytes: maxAnswerHeader, DisableCompression: true, // a small answer could be a large text
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	return s
}

// Close gives up the connections that are not in use.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

func (s *Sender) resolver() *net.Resolver {
	if s.config.Resolver == nil {
		return net.DefaultResolver
	}
	return s.config.Resolver
}

var errAttemptTimeout = errors.New("no answer in time")

// Send makes one attempt. If ctx ends before it does, the result says nothing
// about the receiver.
func (s *Sender) Send(ctx context.Context, m Message) Result {
	began := time.Now()
	r := s.attempt(ctx, m)
	r.Duration = time.Since(began)
	return r
}

func (s *Sender) attempt(ctx context.Context, m Message) Result {
	now := s.config.Now()
	h, err := header(m, s.userAgent, now)
	if err != nil {
		return Result{Cause: CauseInvalid, Text: err.Error()}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(s.config.Timeout, func() { cancel(errAttemptTimeout) })
	defer timer.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(m.URL), bytes.NewReader(m.Body))
	if err != nil {
		return Result{Cause: CauseInvalid, Text: "the URL cannot be called"} // the error would repeat it
	}
	req.Header = h
	if u := req.URL.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	resp, err := s.transport.RoundTrip(req) //nolint:bodyclose // readText does; not a Client: it would follow redirects
	if err != nil {
		return failed(ctx, err)
	}
	timer.Reset(min(drainTimeout, s.config.Timeout)) // the status decides; what else the receiver says is not waited for
	text := readText(resp.Body)
	return judge(resp, text, now)
}

// readText reads the beginning of an answer, and the rest of it if that is short.
// What goes wrong meanwhile does not matter any more.
func readText(body io.ReadCloser) string {
	text, err := io.ReadAll(io.LimitReader(body, keptAnswer))
	if err == nil && len(text) == keptAnswer {
		_, _ = io.CopyN(io.Discard, body, readAnswer-keptAnswer)
	}
	_ = body.Close()
	return strings.ToValidUTF8(strings.ReplaceAll(string(text), "\x00", ""), "\uFFFD")
}

// judge says what an answer means.
func judge(resp *http.Response, text string, now time.Time) Result {
	r := Result{Status: resp.StatusCode, Text: text}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return r
	case code >= 300 && code < 400:
		r.Cause = CauseRedirect
	case code == http.StatusGone:
		r.Cause = CauseGone
	case code == http.StatusTooManyRequests:
		r.Cause = CauseLimited
	default:
		r.Cause = CauseStatus
	}
	r.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	return r
}

// retryAfter reads seconds or a date; 0 for neither.
func retryAfter(text string, now time.Time) time.Duration {
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		return min(time.Duration(n)*time.Second, maxRetryAfter) // n is the largest if there are more digits
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// failed says why there was no answer. Addresses are left out of the text: a
// client must not learn what names mean inside the hub's network.
func failed(ctx context.Context, err error) Result {
	var dns *net.DNSError
	var op *net.OpError
	var handshake *tlsError
	var timeout net.Error
	var invalid *net.AddrError
	switch {
	case egress.Refused(err):
		return Result{Cause: CauseForbidden, Text: "the address is one that this hub does not call"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return Result{Cause: CauseDNS, Text: "the name does not resolve"}
	case errors.As(err, &dns):
		return Result{Cause: CauseDNS, Text: "the name could not be looked up"}
	case errors.Is(context.Cause(ctx), errAttemptTimeout), errors.As(err, &timeout) && timeout.Timeout():
		return Result{Cause: CauseTimeout, Text: errAttemptTimeout.Error()}
	case errors.As(err, &handshake) && !broken(err):
		return Result{Cause: CauseTLS, Text: handshake.Error()}
	case errors.As(err, &invalid):
		return Result{Cause: CauseInvalid, Text: "the URL cannot be called"}
	case errors.As(err, &op) && op.Op == "dial":
		return Result{Cause: CauseRefused, Text: innermost(op).Error()}
	}
	return Result{Cause: CauseReset, Text: innermost(err).Error()}
}

// broken reports that the other side, or the network, ended the connection.
func broken(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && (op.Op == "read" || op.Op == "write")
}

// innermost unwraps to the error that names no address or URL.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// tlsError is a failed handshake.
type tlsError struct{ err error }

func (e *tlsError) Error() string { return e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

type tlsDialer struct {
	*net.Dialer
	config *tls.Config
}

// dial connects and shakes hands.
func (d *tlsDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := d.config.Clone()
	config.ServerName = host
	ctx, cancel := context.WithTimeout(ctx, sendDialTimeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &tlsError{err}
	}
	return secure, nil
}
