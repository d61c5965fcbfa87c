package callback

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// A URL that is accepted can be called, and its origin leads to the same place.
func FuzzURL(f *testing.F) {
	for _, s := range []string{
		"https://receiver.example/x?y", "http://me:pw@[::1]:8080/", "https://a.example:443#", "http://[fe80::1%25eth0]/", "HTTPS://A.example", "https://ä.example/%zz", "https://a\\b/",
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, raw string, live bool) {
		u, err := parseURL("url", raw, live)
		if err != nil {
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
			return
		}
		require.True(t, u.Scheme == "https" || !live && u.Scheme == "http")
		req, err := http.NewRequest(http.MethodPost, raw, http.NoBody)
		require.NoError(t, err)
		origin, err := url.Parse(Origin(bankfeed.Secret(raw)))
		require.NoError(t, err)
		require.Equal(t, strings.ToLower(req.URL.Hostname()), origin.Hostname())
		require.NotEmpty(t, origin.Port())
		require.Nil(t, origin.User)
		require.Empty(t, origin.RequestURI()[1:])
	})
}

// Whatever a receiver asks for is a time that a schedule can live with.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"", "0", "120", "-1", "1e9", "99999999999", now.Format(http.TimeFormat), "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := retryAfter(text, now)
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, maxRetryAfter)
	})
}
