package access

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// Bearer returns the token of the Authorization header (RFC 6750, 2.1).
func Bearer(r *http.Request) (token bankfeed.Secret, ok bool) {
	scheme, value, found := strings.Cut(r.Header.Get("Authorization"), " ")
	value = strings.TrimSpace(value)
	if !found || !strings.EqualFold(scheme, "Bearer") || value == "" {
		return "", false
	}
	return bankfeed.Secret(value), true
}

// PSU reads what a client's headers PSU-IP-Address and PSU-User-Agent tell
// about the person in front of the screen: nil if there is no address, false if
// the address is none that a device can have.
func PSU(address, userAgent string) (psu *bankfeed.PSU, ok bool) {
	if address == "" {
		return nil, true
	}
	ip, err := netip.ParseAddr(address)
	ip = ip.Unmap()
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return nil, false
	}
	return &bankfeed.PSU{IP: ip.String(), UserAgent: strings.ToValidUTF8(userAgent, "")}, true
}

// Proxies are the addresses whose X-Forwarded-For is believed. Anybody can
// send that header, so without proxies it is ignored.
type Proxies []netip.Prefix

// ClientIP returns the address that a request comes from: the peer's, or, if
// that is a trusted proxy, the last one in X-Forwarded-For that is not. It is
// empty if a trusted proxy sent something unreadable: the address may be told
// to a bank as the PSU's, so it is never guessed.
func (p Proxies) ClientIP(r *http.Request) string {
	a := p.client(r)
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// ClientNet is what a limiter counts requests by: the address or, for IPv6, the
// /64 that one household or host has to itself. A request whose address is
// unreadable counts for the proxy it came through.
func (p Proxies) ClientNet(r *http.Request) netip.Prefix {
	a := p.client(r)
	if !a.IsValid() {
		a, _ = parseAddr(r.RemoteAddr)
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	n, _ := a.Prefix(bits) // of no address: the zero prefix
	return n
}

// Untrusted reports whether the request seems to have come through a proxy that
// is not in p: it was forwarded by a neighbour.
func (p Proxies) Untrusted(r *http.Request) (peer netip.Addr, ok bool) {
	peer, known := parseAddr(r.RemoteAddr)
	return peer, known && (peer.IsPrivate() || peer.IsLoopback()) && !p.trusts(peer) && r.Header.Get("X-Forwarded-For") != ""
}

func (p Proxies) client(r *http.Request) netip.Addr {
	a, ok := parseAddr(r.RemoteAddr)
	if !ok || !p.trusts(a) {
		return a
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		hop = strings.TrimSpace(hop)
		if hop == "" && len(hops) == 1 {
			return a // the proxy speaks for itself
		}
		if a, ok = parseAddr(hop); !ok || !p.trusts(a) {
			return a
		}
	}
	return a
}

func (p Proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// parseAddr reads an address with or without a port. An IPv4 address in IPv6
// clothes becomes one of IPv4; a zone is dropped.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}
