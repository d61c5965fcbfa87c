// Package egress says which addresses the hub calls when somebody else names
// them: a bank's profile, a client's callback. Public ones, and those in networks
// that the operator allows. An address is judged when it is dialled, after its
// name was looked up, so that no name can lead inside.
package egress

import (
	"errors"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// Guard judges addresses. It is safe for concurrent use.
type Guard struct{ guardian *ssrf.Guardian }

// New allows some networks beside the public addresses, on any port.
func New(allow []netip.Prefix) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &Guard{ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// Control belongs into a net.Dialer. A proxy would look names up itself: whoever
// uses it must not have one.
func (g *Guard) Control(network, address string, c syscall.RawConn) error {
	return g.guardian.Safe(network, address, c)
}

// Allows judges an address as Control does.
func (g *Guard) Allows(a netip.Addr) bool { return g.guardian.SafeAddr(a.Unmap()) == nil }

// Refused reports whether it was a Guard that kept a call from being made.
func Refused(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort)
}
