package consent

import (
	"net"
	"net/http"
)

// peerAddress is the address of whoever opened the connection.
func peerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
