package client_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
)

const (
	oldSecret = "whsec_b2xkIHNlY3JldCBvZiBhdCBsZWFzdCAyNCBieXRlcw=="
	newSecret = "whsec_bmV3IHNlY3JldCBvZiBhdCBsZWFzdCAyNCBieXRlcw=="
)

// signed is the header of a callback, by the library and not by the hub.
func signed(t *testing.T, body string, at time.Time, secrets ...string) http.Header {
	t.Helper()
	var all []string
	for _, secret := range secrets {
		w, err := webhooks.NewWebhook(secret)
		require.NoError(t, err)
		s, err := w.Sign("msg-1", at, []byte(body))
		require.NoError(t, err)
		all = append(all, s)
	}
	h := http.Header{}
	h.Set("webhook-id", "msg-1")
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", strings.Join(all, " "))
	return h
}

func TestWebhookVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const body = `{"callbackHandle":"x"}`
		now := time.Now()
		only := func(secrets ...bankfeed.Secret) client.Webhook { return client.Webhook{Secrets: secrets} }
		without := func(name string) http.Header {
			h := signed(t, body, now, oldSecret)
			h.Del(name)
			return h
		}
		for _, c := range []struct {
			name   string
			hook   client.Webhook
			header http.Header
			body   string
			want   error
		}{
			{"signed", only(oldSecret), signed(t, body, now, oldSecret), body, nil},
			{"rotation at the hub", only(oldSecret), signed(t, body, now, newSecret, oldSecret), body, nil},
			{"rotation here", only(newSecret, oldSecret), signed(t, body, now, oldSecret), body, nil},
			{"another secret", only(newSecret), signed(t, body, now, oldSecret), body, client.ErrSignature},
			{"another body", only(oldSecret), signed(t, body, now, oldSecret), body + " ", client.ErrSignature},
			{"as old as it may be", only(oldSecret), signed(t, body, now.Add(-5*time.Minute), oldSecret), body, nil},
			{"too old", only(newSecret, oldSecret), signed(t, body, now.Add(-5*time.Minute-time.Second), oldSecret), body, client.ErrTimestamp},
			{"too new", only(oldSecret), signed(t, body, now.Add(6*time.Minute), oldSecret), body, client.ErrTimestamp},
			{"no id", only(oldSecret), without("webhook-id"), body, client.ErrUnsigned},
			{"no time", only(oldSecret), without("webhook-timestamp"), body, client.ErrUnsigned},
			{"no signature", only(oldSecret), without("webhook-signature"), body, client.ErrUnsigned},
			{"nothing", only(oldSecret), http.Header{}, body, client.ErrUnsigned},
			{"zero value", client.Webhook{}, signed(t, body, now, oldSecret), body, client.ErrSecret},
			{"zero value, unsigned", client.Webhook{}, http.Header{}, body, client.ErrUnsigned},
			{"empty secret", only(""), signed(t, body, now, oldSecret), body, client.ErrSecret},
			{"no secret at all", only("whsec_hunter2!"), signed(t, body, now, oldSecret), body, client.ErrSecret},
			{"told to trust", client.Webhook{AllowUnsigned: true}, http.Header{}, body, nil},
			{"told to trust, but signed", client.Webhook{AllowUnsigned: true, Secrets: []bankfeed.Secret{newSecret}}, signed(t, body, now, oldSecret), body, client.ErrSignature},
			{"told to trust, half a signature", client.Webhook{AllowUnsigned: true}, without("webhook-signature"), body, client.ErrUnsigned},
		} {
			err := c.hook.Verify(c.header, []byte(c.body))
			if c.want == nil {
				require.NoError(t, err, c.name)
				continue
			}
			require.ErrorIs(t, err, c.want, c.name)
			require.NotContains(t, err.Error(), "hunter2")
		}

		h := signed(t, body, now, oldSecret)
		h.Set("webhook-timestamp", "yesterday")
		require.ErrorIs(t, only(oldSecret).Verify(h, []byte(body)), client.ErrTimestamp)
	})
}

func TestWebhookWithOtherNames(t *testing.T) {
	h := signed(t, "{}", time.Now(), oldSecret)
	renamed := http.Header{"X-Id": h["Webhook-Id"], "X-Time": h["Webhook-Timestamp"], "X-Signature": h["Webhook-Signature"]}
	w := client.Webhook{Secrets: []bankfeed.Secret{oldSecret}, IDHeader: "x-id", TimestampHeader: "x-time", SignatureHeader: "x-signature"}
	require.NoError(t, w.Verify(renamed, []byte("{}")))
	require.Equal(t, "msg-1", w.ID(renamed))
	require.ErrorIs(t, w.Verify(h, []byte("{}")), client.ErrUnsigned)
}
