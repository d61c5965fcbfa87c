package callback

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/bankfeed/bankfeed"
)

// Headers of a callback beside those of Standard Webhooks.
const (
	HeaderEvent      = "Bankfeed-Event"       // type of the event
	HeaderSequence   = "Bankfeed-Sequence"    // rises with the events of a connection
	HeaderAttempt    = "Bankfeed-Attempt"     // 1 for the first
	HeaderOriginalID = "Bankfeed-Original-Id" // of a replay: the event's own id
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32 // Standard Webhooks asks for 24 to 64
)

// NewSecret makes a secret that signs callbacks.
func NewSecret() bankfeed.Secret {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	return bankfeed.Secret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

var errSecret = errors.New("no usable secret to sign with")

// sign makes the signature of each secret, separated by spaces: a receiver
// accepts the message if any of them is by a secret that it knows.
func sign(secrets []bankfeed.Secret, id string, at time.Time, body []byte) (string, error) {
	var all []string
	for _, secret := range secrets {
		w, err := webhooks.NewWebhook(string(secret))
		if err != nil {
			return "", errSecret // its own text would show part of the secret
		}
		signature, err := w.Sign(id, at, body)
		if err != nil {
			return "", err
		}
		all = append(all, signature)
	}
	if len(all) == 0 {
		return "", errSecret
	}
	return strings.Join(all, " "), nil
}

// header makes the header of an attempt. What a client asked to be sent comes
// first: it cannot replace what the hub says.
func header(m Message, userAgent string, now time.Time) (http.Header, error) {
	id := m.ID.String()
	signature, err := sign(m.Secrets, id, now, m.Body)
	if err != nil {
		return nil, err
	}
	h := make(http.Header, 12+len(m.Headers.Static))
	for name, value := range m.Headers.Static {
		h.Set(name, string(value))
	}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", userAgent)
	h.Set(HeaderEvent, string(m.Type))
	h.Set(HeaderSequence, strconv.FormatInt(int64(m.Sequence), 10))
	h.Set(HeaderAttempt, strconv.Itoa(m.Attempt))
	if m.Original != (bankfeed.UUID{}) {
		h.Set(HeaderOriginalID, m.Original.String())
	}
	h.Set(or(m.Headers.ID, webhooks.HeaderWebhookID), id)
	h.Set(or(m.Headers.Timestamp, webhooks.HeaderWebhookTimestamp), strconv.FormatInt(now.Unix(), 10))
	h.Set(or(m.Headers.Signature, webhooks.HeaderWebhookSignature), signature)
	// An empty list is not sent. It tells the transport that the message may go
	// out once more when a kept connection turns out to be closed: the receiver
	// knows it by its id.
	h["Idempotency-Key"] = []string{}
	return h, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Bounds of what a client may have sent along.
const (
	maxStatic      = 20
	maxHeaderName  = 100
	maxHeaderValue = 4096
)

// reserved headers are the hub's, or the connection's.
var reserved = map[string]bool{
	"Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Date": true, "Expect": true, "Host": true,
	"Idempotency-Key": true, "Keep-Alive": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "User-Agent": true,
}

// CheckHeaders checks what a client says about headers; field is where it said it.
func CheckHeaders(field string, h Headers) error {
	taken := map[string]bool{}
	for _, n := range []struct{ field, name, usual string }{
		{"id", h.ID, webhooks.HeaderWebhookID}, {"timestamp", h.Timestamp, webhooks.HeaderWebhookTimestamp}, {"signature", h.Signature, webhooks.HeaderWebhookSignature},
	} {
		name := http.CanonicalHeaderKey(or(n.name, n.usual))
		if err := checkHeaderName(field+"."+n.field, name); err != nil {
			return err
		}
		if taken[name] {
			return bankfeed.InvalidField(field+"."+n.field, "names a header that another member names")
		}
		taken[name] = true
	}
	if len(h.Static) > maxStatic {
		return bankfeed.InvalidField(field+".static", "%d headers at most", maxStatic)
	}
	for name, value := range h.Static {
		key := http.CanonicalHeaderKey(name)
		if err := checkHeaderName(field+".static", key); err != nil {
			return err
		}
		if taken[key] {
			return bankfeed.InvalidField(field+".static", "a header is there twice, or carries the id, timestamp or signature")
		}
		taken[key] = true
		if len(value) > maxHeaderValue || strings.ContainsFunc(string(value), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return bankfeed.InvalidField(field+".static", "a value has control characters, or more than %d bytes", maxHeaderValue)
		}
	}
	return nil
}

// renamed reports whether one of the headers of Standard Webhooks is to have a name.
func (h *Headers) renamed(to string) bool {
	return strings.EqualFold(h.ID, to) || strings.EqualFold(h.Timestamp, to) || strings.EqualFold(h.Signature, to)
}

func checkHeaderName(field, name string) error {
	switch {
	case name == "" || len(name) > maxHeaderName || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }):
		return bankfeed.InvalidField(field, "must be the name of an HTTP header, %d characters at most", maxHeaderName)
	case reserved[name] || strings.HasPrefix(name, "Bankfeed-"):
		return bankfeed.InvalidField(field, "names a header that the hub or the connection needs")
	}
	return nil
}

// isTokenRune is tchar of RFC 9110.
func isTokenRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
