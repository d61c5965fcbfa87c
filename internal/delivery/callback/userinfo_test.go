package callback

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

type anyURL struct{}

func (anyURL) CheckURL(context.Context, string, string, bool) error { return nil }

// The user in a URL becomes the header Authorization: the message's id or
// signature would not arrive under that name.
func TestUserOfTheURLAndItsHeader(t *testing.T) {
	s := &Service{URLs: anyURL{}, Now: time.Now}
	for _, h := range []Headers{{ID: "authorization"}, {Timestamp: "Authorization"}, {Signature: "AUTHORIZATION"}} {
		require.NoError(t, s.Check(t.Context(), "body", Target{URL: "https://receiver.example", Subscription: &Settings{Headers: h}}))
		var e *bankfeed.Error
		require.ErrorAs(t, s.Check(t.Context(), "body", Target{URL: "https://me:secret@receiver.example", Subscription: &Settings{Headers: h}}), &e)
		require.Equal(t, "body.headers", e.Field)
	}
}
