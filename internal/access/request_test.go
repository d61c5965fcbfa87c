package access_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc":   "abc",
		"bearer  abc ": "abc",
		"Bearer":       "",
		"Bearer ":      "",
		"Basic abc":    "",
		"abc":          "",
		"":             "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		token, ok := access.Bearer(r)
		require.Equal(t, want, string(token), header)
		require.Equal(t, want != "", ok, header)
	}
}

func TestPSU(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.7":        "203.0.113.7",
		"::ffff:203.0.113.7": "203.0.113.7",
		"2001:db8::1":        "2001:db8::1",
		"127.0.0.1":          "127.0.0.1",
	} {
		psu, ok := access.PSU(address, "Fire\xfffox")
		require.True(t, ok, address)
		require.Equal(t, &bankfeed.PSU{IP: want, UserAgent: "Firefox"}, psu)
	}
	for _, address := range []string{"0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "::ffff:239.1.2.3", "fe80::1%eth0", "1.2.3.4:80", "1.2.3", "x", " "} {
		psu, ok := access.PSU(address, "")
		require.False(t, ok, address)
		require.Nil(t, psu)
	}
	psu, ok := access.PSU("", "Firefox")
	require.True(t, ok)
	require.Nil(t, psu, "an agent alone says nothing")
}

func TestUntrustedProxies(t *testing.T) {
	p := access.Proxies{netip.MustParsePrefix("10.1.0.0/16")}
	for _, x := range []struct {
		peer, forwarded string
		want            bool
	}{
		{"10.2.0.1:80", "203.0.113.7", true},
		{"127.0.0.1:80", "203.0.113.7", true},
		{"[fd00::1]:80", "203.0.113.7", true},
		{"10.1.0.1:80", "203.0.113.7", false}, // trusted
		{"10.2.0.1:80", "", false},
		{"198.51.100.1:80", "203.0.113.7", false}, // anybody can send the header
		{"@", "203.0.113.7", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = x.peer
		if x.forwarded != "" {
			r.Header.Set("X-Forwarded-For", x.forwarded)
		}
		_, got := p.Untrusted(r)
		require.Equal(t, x.want, got, "%+v", x)
	}
}

func TestAFailingStoreSaysNothingOfTheToken(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		g, err := f.ClientToken(f.ctx, f.client("", false), "")
		require.NoError(t, err)
		ended, end := context.WithCancel(t.Context())
		end() // no database answers any more
		_, err = f.Authenticate(ended, g.AccessToken)
		require.Error(t, err)
		require.Equal(t, bankfeed.Internal, bankfeed.ErrorKindOf(err))
	})
}

func TestClientIP(t *testing.T) {
	proxies := access.Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		why     string
		proxies access.Proxies
		peer    string
		header  []string
		ip, net string
	}{
		{"the peer", nil, "192.0.2.1:4711", nil, "192.0.2.1", "192.0.2.1/32"},
		{"no proxy is trusted", nil, "10.0.0.1:4711", []string{"198.51.100.7"}, "10.0.0.1", "10.0.0.1/32"},
		{"a stranger's header", proxies, "192.0.2.1:4711", []string{"198.51.100.7"}, "192.0.2.1", "192.0.2.1/32"},
		{"one proxy", proxies, "10.0.0.1:4711", []string{"198.51.100.7"}, "198.51.100.7", "198.51.100.7/32"},
		{"the client made up the first", proxies, "10.0.0.1:4711", []string{"1.2.3.4, 198.51.100.7"}, "198.51.100.7", "198.51.100.7/32"},
		{"two proxies", proxies, "10.0.0.1:4711", []string{"1.2.3.4, 198.51.100.7 , 10.0.0.2"}, "198.51.100.7", "198.51.100.7/32"},
		{"several lines", proxies, "10.0.0.1:4711", []string{"1.2.3.4", "198.51.100.7", "10.0.0.2"}, "198.51.100.7", "198.51.100.7/32"},
		{"a client inside", proxies, "10.0.0.1:4711", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", "10.0.0.3/32"},
		{"the proxy itself", proxies, "10.0.0.1:4711", nil, "10.0.0.1", "10.0.0.1/32"},
		{"unreadable", proxies, "10.0.0.1:4711", []string{"198.51.100.7, unknown"}, "", "10.0.0.1/32"},
		{"a gap", proxies, "10.0.0.1:4711", []string{"198.51.100.7,"}, "", "10.0.0.1/32"},
		{"with ports", proxies, "10.0.0.1:4711", []string{"198.51.100.7:80"}, "198.51.100.7", "198.51.100.7/32"},
		{"IPv6", proxies, "[fd00::1]:4711", []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"IPv6 with brackets", proxies, "[fd00::1]:4711", []string{"[2001:db8::1]"}, "2001:db8::1", "2001:db8::/64"},
		{"IPv6 with a port", proxies, "[fd00::1]:4711", []string{"[2001:db8::1]:80"}, "2001:db8::1", "2001:db8::/64"},
		{"IPv4 in IPv6", proxies, "[::ffff:10.0.0.1]:4711", []string{"::ffff:198.51.100.7"}, "198.51.100.7", "198.51.100.7/32"},
		{"a zone", nil, "[fe80::1%eth0]:4711", nil, "fe80::1", "fe80::/64"},
		{"no address", nil, "@", nil, "", "invalid Prefix"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.header
		require.Equal(t, c.ip, c.proxies.ClientIP(r), c.why)
		require.Equal(t, c.net, c.proxies.ClientNet(r).String(), c.why)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := access.NewLimiter[string](2, 3, 2, func() time.Time { return now })
	for range 3 {
		require.Zero(t, l.Allow("a"))
	}
	require.Equal(t, 500*time.Millisecond, l.Allow("a"))
	require.Equal(t, 500*time.Millisecond, l.Allow("a"), "a refused request does not count")
	require.Zero(t, l.Allow("b"))
	now = now.Add(500 * time.Millisecond)
	require.Zero(t, l.Allow("a"))
	require.NotZero(t, l.Allow("a"))
	require.Zero(t, l.Allow("c"), "b is forgotten")
	require.NotZero(t, l.Allow("a"), "a is not")

	off := access.NewLimiter[string](0, 0, 0, nil)
	for range 1000 {
		require.Zero(t, off.Allow("a"))
	}
}

func TestLimiterMiddleware(t *testing.T) {
	now := time.Unix(0, 0)
	l := access.NewLimiter[string](1, 1, 10, func() time.Time { return now })
	key := func(r *http.Request) (string, bool) { k := r.URL.Query().Get("tenant"); return k, k != "" }
	h := l.Middleware(key, func(w http.ResponseWriter, _ *http.Request, wait time.Duration) {
		w.Header().Set("Retry-After", access.RetryAfter(wait))
		w.WriteHeader(http.StatusTooManyRequests)
	})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	send := func(tenant string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?tenant="+tenant, nil))
		return w
	}
	require.Equal(t, 200, send("1").Code)
	w := send("1")
	require.Equal(t, 429, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, 200, send("2").Code, "tenants do not share")
	require.Equal(t, 200, send("").Code, "nobody to count for")
	require.Equal(t, 200, send("").Code)
	now = now.Add(time.Second)
	require.Equal(t, 200, send("1").Code)
}

func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "1", time.Nanosecond: "1", time.Second: "1", time.Second + 1: "2", 15 * time.Minute: "900"} {
		require.Equal(t, want, access.RetryAfter(wait))
	}
}
