package app

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/config"
)

// Who ends https for us must be known, or users have its address.
func TestDoctorMissesTrustedProxies(t *testing.T) {
	for _, x := range []struct {
		url     string
		proxies []netip.Prefix
		warns   bool
	}{
		{"https://hub.example", nil, true},
		{"https://hub.example", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, false},
		{"http://localhost:8440", nil, false},
		{"", nil, false},
	} {
		e := &examination{Config: config.Config{PublicURL: x.url, TrustedProxies: x.proxies}}
		e.publicURL()
		var warned bool
		for _, f := range e.findings {
			warned = warned || f.Level == Warn && f.Subject == "trusted proxies"
		}
		require.Equal(t, x.warns, warned, "%+v", x)
	}
}

func TestUnknownProxyIsToldOnce(t *testing.T) {
	var log lines
	a := &App{cfg: config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, log: logger(&log)}
	address := a.clientIP()
	ask := func(peer string) string {
		r := httptest.NewRequest(http.MethodGet, "/link/x", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "203.0.113.7")
		return address(r)
	}
	require.Equal(t, "203.0.113.7", ask("10.1.0.1:80"))
	require.Empty(t, log.String(), "trusted")
	require.Equal(t, "10.2.0.1", ask("10.2.0.1:80"), "never guessed")
	require.Equal(t, "127.0.0.1", ask("127.0.0.1:80"))
	require.Equal(t, 1, strings.Count(log.String(), "BANKFEED_TRUSTED_PROXIES"))
	require.Contains(t, log.String(), `"peer":"10.2.0.1"`)

	a = &App{log: logger(io.Discard)}
	require.Equal(t, "10.2.0.1", a.clientIP()(&http.Request{RemoteAddr: "10.2.0.1:80", Header: http.Header{}}))
}
