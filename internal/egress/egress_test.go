package egress

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGuard(t *testing.T) {
	g := New([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")})
	for addr, allowed := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "10.1.2.3": true, "fd00::7": true,
		"10.2.0.1": false, "127.0.0.1": false, "::1": false, "0.0.0.0": false, "169.254.169.254": false, "100.64.0.1": false, "192.168.0.1": false,
		"fe80::1": false, "fc00::1": false, "64:ff9b::7f00:1": false, "::ffff:127.0.0.1": false, "::ffff:10.1.2.3": true, "224.0.0.1": false,
		"255.255.255.255": false, "192.0.0.8": false, "198.18.0.1": false, "::": false, "fec0::1": false, "ff02::1": false, "2001:db8::1": false,
		// IPv4 inside of IPv6, by gateways: 127.0.0.1 and 169.254.169.254.
		"::7f00:1": false, "2002:7f00:1::1": false, "2002:a9fe:a9fe::1": false, "2001:0:7f00:1::": false, "64:ff9b:1::a9fe:a9fe": false,
	} {
		require.Equal(t, allowed, g.Allows(netip.MustParseAddr(addr)), addr)
	}
}

func TestGuardAtTheDoor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	d := net.Dialer{Control: New(nil).Control}
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "localhost"} {
		_, err := d.Dial("tcp", net.JoinHostPort(host, port))
		require.True(t, Refused(err), "%s: %v", host, err)
	}
	d.Control = New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}).Control
	c, err := d.Dial("tcp", net.JoinHostPort("localhost", port))
	require.NoError(t, err, "the addresses that are refused do not keep it from those that are not")
	require.NoError(t, c.Close())
}
