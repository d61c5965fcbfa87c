package app

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/egress"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// Bounds of an exchange with a bank beside the profile's own timeout.
const (
	dialTimeout     = 10 * time.Second
	maxConnsPerBank = 64 // one busy or hanging bank must not use up the node's ports
	idleConnTimeout = 90 * time.Second
	maxBankHeader   = 64 << 10
	idlePerBank     = 8
)

// inside is where a bank of the sandbox may be: this machine and the networks
// around it. Link-local addresses, where clouds keep their secrets, are not
// among them.
var inside = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7"),
}

// bankTransport calls banks. What an address may be depends on whom it is
// called for: a name that points inside reaches nothing, unless its bank is
// one of the sandbox or the operator allowed the network.
type bankTransport struct {
	public, sandbox *http.Transport
	sandboxHosts    map[string]bool
	metrics         *telemetry.Metrics
}

// newBankTransport takes the profiles for their hosts.
func newBankTransport(profiles []connector.Profile, allow []netip.Prefix, m *telemetry.Metrics) *bankTransport {
	t := &bankTransport{public: guardedTransport(allow), sandbox: guardedTransport(append(slices.Clone(allow), inside...)),
		sandboxHosts: map[string]bool{}, metrics: m}
	for _, p := range profiles {
		for _, e := range p.Endpoints {
			if host := hostOf(e.BaseURL); p.Provider.Sandbox && host != "" {
				t.sandboxHosts[host] = true
			}
		}
	}
	return t
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// RoundTrip implements http.RoundTripper.
func (t *bankTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	to := t.public
	if t.sandboxHosts[r.URL.Host] {
		to = t.sandbox
	}
	began := time.Now()
	resp, err := to.RoundTrip(r)
	status := 0
	if err == nil {
		status = resp.StatusCode
	}
	t.metrics.BankAnswered(status, time.Since(began))
	return resp, err
}

// CloseIdleConnections is what http.Client calls.
func (t *bankTransport) CloseIdleConnections() {
	t.public.CloseIdleConnections()
	t.sandbox.CloseIdleConnections()
}

// guardedTransport calls public addresses and those of the networks.
func guardedTransport(allow []netip.Prefix) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, Control: egress.New(allow).Control}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: idlePerBank, MaxConnsPerHost: maxConnsPerBank, IdleConnTimeout: idleConnTimeout,
		MaxResponseHeaderBytes: maxBankHeader,
	}
}
