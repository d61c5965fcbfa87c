package berlingroup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

const (
	defaultTimeout = 30 * time.Second
	maxDataBody    = 32 << 20
	maxConsentBody = 2 << 20 // a challenge may hold an image of 512 kB in base64
	maxRefusalBody = 64 << 10
	minSecret      = 4 // shorter ones are not looked for in what the bank says
)

var (
	errTooLarge    = errors.New("the answer is larger than allowed")
	errRedirected  = errors.New("the bank answered an API call with a redirect")
	errNoEndpoint  = errors.New("the provider has no endpoint for this channel")
	errBadEndpoint = errors.New("the provider's endpoint is no http or https URL")
)

// call is one HTTP exchange to make.
type call struct {
	context bankfeed.CallContext
	phase   phase
	method  string
	url     string // of the endpoint's origin
	header  http.Header
	body    any
	limit   int64 // of a good answer
	// secrets that the call carries and the bank might repeat.
	secrets []bankfeed.Secret
	// scaStatus of a refusal, if its body has one.
	scaStatus string
}

// answer is a good answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// endpoint is the base URL for a step.
func endpoint(a connector.Access) (*url.URL, error) {
	base, ok := a.Profile.Endpoint(a.Mode, a.BusinessContext)
	if !ok {
		return nil, &connector.Error{Reason: bankfeed.FailInternal, Err: errNoEndpoint}
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, &connector.Error{Reason: bankfeed.FailInternal, Err: errBadEndpoint}
	}
	return u, nil
}

// exchange makes a call and records it, whatever comes of it. read gets a good
// answer and may change q.context when the answer tells what the call was for.
func (c *Connector) exchange(ctx context.Context, a connector.Access, base *url.URL, q *call, read func(answer) error) (err error) {
	started := c.Now()
	record := bankfeed.BankCall{
		ExecutionID: bankfeed.UUID(uuid.Must(uuid.NewV7())),
		Method:      q.method,
		URL:         maskURL(base, q.url),
		Attended:    a.PSU != nil,
		RequestID:   uuid.NewString(),
		At:          started,
	}
	q.secrets = append(q.secrets, a.Grant.ConsentID, a.Grant.AuthorisationID, a.Grant.AccessToken)
	defer func() {
		if err != nil && record.ErrorBody == "" {
			record.Exception = connector.Bound(clean(err.Error(), q.secrets), maxText)
		}
		record.Context = q.context
		record.Duration = c.Now().Sub(started)
		c.log(ctx, a.Profile.Provider.ID, &record, err)
		if a.Record != nil {
			a.Record(record)
		}
	}()

	timeout := a.Profile.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := q.request(limited, a, record.RequestID)
	if err != nil {
		return &connector.Error{Reason: bankfeed.FailInternal, Err: err}
	}
	res, err := c.client.Do(req)
	if err != nil {
		return silence(ctx, err)
	}
	defer res.Body.Close()
	record.Status = res.StatusCode
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		body, err := readBody(res, q.limit)
		if errors.Is(err, errTooLarge) {
			return unreadable(res.StatusCode, err)
		}
		if err != nil {
			return silence(ctx, err)
		}
		return read(answer{status: res.StatusCode, header: res.Header, body: body})
	}
	if res.StatusCode < 400 {
		return unreadable(res.StatusCode, errRedirected)
	}
	// What can be had of the body explains the refusal; the status stands on
	// its own.
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusalBody))
	record.ErrorBody = connector.Bound(clean(string(body), q.secrets), maxErrorBody)
	f := decodeRefusal(body)
	e := judge(a.Profile.Rules, res.StatusCode, f, q.phase)
	e.Code = connector.Bound(clean(e.Code, q.secrets), 64)
	e.Text = connector.Bound(clean(e.Text, q.secrets), maxText)
	e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), c.Now())
	q.scaStatus = f.scaStatus
	return e
}

// log writes the line that a call's execution id leads to. The id under which the
// bank knows the call is there too.
func (c *Connector) log(ctx context.Context, bank string, r *bankfeed.BankCall, err error) {
	attrs := []slog.Attr{
		slog.String("execution_id", r.ExecutionID.String()), slog.String("bank", bank), slog.String("context", string(r.Context)), slog.String("method", r.Method),
		slog.String("url", r.URL), slog.Int("status", r.Status), slog.Float64("ms", float64(r.Duration.Microseconds())/1000), slog.Bool("attended", r.Attended),
		slog.String("bank_request_id", r.RequestID),
	}
	if err != nil {
		attrs = append(attrs, slog.String("reason", string(connector.AsError(err).Reason)))
	}
	if r.Exception != "" {
		attrs = append(attrs, slog.String("error", r.Exception))
	}
	c.Logger.LogAttrs(ctx, slog.LevelInfo, "bank called", attrs...)
}

// request builds the HTTP request.
func (q *call) request(ctx context.Context, a connector.Access, id string) (*http.Request, error) {
	var body io.Reader
	if q.body != nil {
		b, err := json.Marshal(q.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, body)
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	req.Header.Set("X-Request-ID", id)
	req.Header.Set("Accept", "application/json")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.Grant.AccessToken != "" {
		req.Header.Set("Authorization", "Bearer "+string(a.Grant.AccessToken))
	}
	// The address tells the bank that the PSU is present; without it the
	// access counts as unattended. It is passed on, never made up.
	if a.PSU != nil && a.PSU.IP != "" {
		req.Header.Set("PSU-IP-Address", a.PSU.IP)
		if printable(a.PSU.UserAgent) {
			req.Header.Set("PSU-User-Agent", a.PSU.UserAgent)
		}
	}
	return req, nil
}

// header reports whether a text can travel in a header field (RFC 9110, 5.5).
func header(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// printable reports whether a text that a browser sent may be a header.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= 512
}

func readBody(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength > limit {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errTooLarge
	}
	return body, err
}

// silence is the error for a call that got no whole answer. The URL, which
// names consent and account, stays out of it.
func silence(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &connector.Error{Reason: bankfeed.FailInternal, Err: context.Canceled} // the hub stopped, not the bank
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	reason := bankfeed.FailUnavailable
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") {
		reason = bankfeed.FailOperator // the bank's TLS refuses the hub's certificate
	}
	return &connector.Error{Reason: reason, Err: err}
}

// unreadable is the error for an answer that makes no sense.
func unreadable(status int, err error) *connector.Error {
	return &connector.Error{Reason: bankfeed.FailProtocol, Status: status, Text: err.Error(), Err: err}
}

// unescapeHTML undoes what encoding/json does to texts beyond JSON's needs.
var unescapeHTML = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

// clean takes out of a bank's words what must not be kept: the secrets that
// the hub sent, in each way of writing them, and account numbers.
func clean(s string, secrets []bankfeed.Secret) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "")
	for _, secret := range secrets {
		plain := string(secret)
		if len(plain) < minSecret {
			continue
		}
		b, _ := json.Marshal(plain) //nolint:errchkjson // a string
		quoted := string(b[1 : len(b)-1])
		for _, form := range []string{plain, quoted, unescapeHTML.Replace(quoted), url.QueryEscape(plain), url.PathEscape(plain)} {
			s = strings.ReplaceAll(s, form, "***")
		}
	}
	return connector.Mask(s)
}

// jsonOnly refuses an answer that is not JSON: another format is a matter of
// what the bank offers, a web page or a torso is nonsense.
func (ans answer) jsonOnly(otherFormats bool) error {
	kind := ans.header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(kind)
	if err != nil {
		media = ""
	}
	if strings.HasSuffix(media, "json") {
		return nil
	}
	body := bytes.TrimLeft(bytes.TrimPrefix(ans.body, []byte("\ufeff")), " \t\r\n")
	// A SWIFT message may begin with a brace too: {1:F01…
	if object := bytes.HasPrefix(body, []byte("{")) && !bytes.HasPrefix(body, []byte("{1:")); object && media != "text/html" {
		return nil
	}
	if otherFormats && media != "text/html" && len(body) > 0 {
		if media == "" {
			media = "an unknown format"
		}
		err := fmt.Errorf("the bank answered in %s", connector.Bound(media, 64))
		return &connector.Error{Reason: bankfeed.FailFormat, Status: ans.status, Text: err.Error(), Err: err}
	}
	return unreadable(ans.status, errors.New("the answer is not JSON"))
}
