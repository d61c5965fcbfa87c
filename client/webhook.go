package client

import (
	"errors"
	"fmt"
	"net/http"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/bankfeed/bankfeed"
)

// Why a callback is not believed.
var (
	// ErrUnsigned: headers of a signature are missing.
	ErrUnsigned = errors.New("the callback is not signed")
	// ErrSignature: none of the signatures is by a known secret. The callback is
	// forged, its body was changed on the way, or a secret is missing here.
	ErrSignature = errors.New("no signature of the callback is by a known secret")
	// ErrTimestamp: it was signed more than 5 minutes ago, or will be. A repeat by
	// somebody who listens; or the clocks differ.
	ErrTimestamp = errors.New("the callback was signed at another time")
	// ErrSecret: there is no secret to verify with, or one is not of the form
	// whsec_ and base64.
	ErrSecret = errors.New("no usable secret to verify callbacks with")
)

// Webhook verifies that a callback comes from the hub, as Standard Webhooks has
// it: https://www.standardwebhooks.com. Its zero value believes nothing.
//
//	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
//	…
//	if err := hook.Verify(r.Header, body); err != nil {
//		http.Error(w, "unverified", http.StatusUnauthorized)
//		return
//	}
//
// The same callback may come twice, and late: remember ID, and let Bankfeed-Sequence
// decide which of two about a connection is newer.
type Webhook struct {
	// Secrets are those that the hub may sign with: during a rotation the old and
	// the new one.
	Secrets []bankfeed.Secret
	// AllowUnsigned believes callbacks without any signature: for servers that do
	// not sign. Then everybody who knows the URL can send some, so treat their
	// content as a hint and ask the server. What carries a signature is verified
	// all the same.
	AllowUnsigned bool
	// IDHeader, TimestampHeader and SignatureHeader are for subscriptions that
	// have other names for them; empty: webhook-id, webhook-timestamp and
	// webhook-signature.
	IDHeader, TimestampHeader, SignatureHeader string
}

// ID names the delivery: it stays the same over retries. Trust it only after
// Verify.
func (w Webhook) ID(header http.Header) string {
	return header.Get(headerName(w.IDHeader, webhooks.HeaderWebhookID))
}

// Verify returns nil if the hub sent the callback within the last 5 minutes, else
// why that is not known. body is what arrived, byte for byte.
func (w Webhook) Verify(header http.Header, body []byte) error {
	id := w.ID(header)
	timestamp := header.Get(headerName(w.TimestampHeader, webhooks.HeaderWebhookTimestamp))
	signature := header.Get(headerName(w.SignatureHeader, webhooks.HeaderWebhookSignature))
	if w.AllowUnsigned && timestamp == "" && signature == "" {
		return nil
	}
	if id == "" || timestamp == "" || signature == "" {
		return ErrUnsigned
	}
	usual := http.Header{}
	usual.Set(webhooks.HeaderWebhookID, id)
	usual.Set(webhooks.HeaderWebhookTimestamp, timestamp)
	usual.Set(webhooks.HeaderWebhookSignature, signature)
	if len(w.Secrets) == 0 {
		return ErrSecret
	}
	var failed error
	for i, secret := range w.Secrets {
		verifier, err := webhooks.NewWebhook(string(secret))
		if err != nil || secret == "" { // its error would show part of the secret
			return fmt.Errorf("secret %d: %w", i+1, ErrSecret)
		}
		if failed = verifier.Verify(body, usual); failed == nil {
			return nil
		}
	}
	if errors.Is(failed, webhooks.ErrNoMatchingSignature) {
		return ErrSignature
	}
	return ErrTimestamp // too old, too new, or no time at all
}

func headerName(name, usual string) string {
	if name == "" {
		return usual
	}
	return name
}
