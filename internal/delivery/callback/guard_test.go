package callback

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestCheckURL(t *testing.T) {
	s := newSender(t, SenderConfig{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no server")
	}}})
	for _, c := range []struct {
		url  string
		live bool
		want string // part of the error; empty: accepted
	}{
		{"https://127.0.0.1", true, ""},
		{"https://receiver.example:8443/a?b=c", true, ""},
		{"http://receiver.example", false, ""},
		{"https://me:secret@receiver.example/", true, ""},
		{"http://localhost:8080/", false, ""},
		{"http://receiver.example", true, "must be https"},
		{"http://10.0.0.1/", false, "does not call"},
		{"http://[::1]:8080/", false, "does not call"},
		{"http://[::ffff:10.0.0.1]/", false, "does not call"},
		{"http://[fe80::1]/", false, "does not call"},
		{"http://[fe80::1%25eth0]/", false, "absolute URL"},
		{"http://a%2fb.example/", false, "absolute URL"},
		{"https://169.254.169.254/latest/meta-data", true, "does not call"},
		{"https://receiver.example/#part", true, "fragment"},
		{"https://receiver.example/#", true, "fragment"},
		{"", false, "absolute URL"},
		{"/path", false, "absolute URL"},
		{"//receiver.example", false, "absolute URL"},
		{"ftp://receiver.example", false, "absolute URL"},
		{"https:receiver.example", false, "absolute URL"},
		{"https://:443/", false, "absolute URL"},
		{"https://receiver.example:/", false, "absolute URL"},
		{"https://receiver.example:0/", false, "absolute URL"},
		{"https://receiver.example:65536/", false, "absolute URL"},
		{"https://receiver.example/\n", false, "absolute URL"},
		{"https://" + strings.Repeat("a", 254), false, "absolute URL"},
		{"https://receiver.example/" + strings.Repeat("a", 2023), false, ""},
		{"https://receiver.example/" + strings.Repeat("a", 2024), false, "2048 characters"},
	} {
		err := s.CheckURL(t.Context(), "callbackUrl", c.url, c.live)
		if c.want == "" {
			require.NoError(t, err, c.url)
			continue
		}
		var e *bankfeed.Error
		require.ErrorAs(t, err, &e, c.url)
		require.Equal(t, bankfeed.Invalid, e.Kind)
		require.Equal(t, "callbackUrl", e.Field)
		require.Contains(t, e.Text, c.want, c.url)
		require.NotContains(t, e.Error(), "receiver.example")
	}
	err := newSender(t, SenderConfig{Allow: []netip.Prefix{}}).CheckURL(t.Context(), "url", "http://localhost:8080/", false)
	require.ErrorContains(t, err, "does not call", "a name that leads inside")
}

func TestOrigin(t *testing.T) {
	for rawURL, want := range map[string]string{
		"https://me:secret@Receiver.example/x?y": "https://receiver.example:443", "http://receiver.example": "http://receiver.example:80",
		"http://[::1]:8080/": "http://[::1]:8080", "http://%": "",
	} {
		require.Equal(t, want, Origin(bankfeed.Secret(rawURL)))
	}
}
