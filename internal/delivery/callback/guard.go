package callback

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Bounds of a URL that a client names.
const (
	maxURL        = 2048
	lookupTimeout = 2 * time.Second // of a check; a slow answer is no reason to refuse
)

// CheckURL checks a URL at the time of the request; field is where it was named.
// A name that does not resolve is accepted: it may later, and fails as dns until
// then. Whatever this finds, the guard judges each address again when it is
// dialled.
func (s *Sender) CheckURL(ctx context.Context, field, rawURL string, live bool) error {
	u, err := parseURL(field, rawURL, live)
	if err != nil {
		return err
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		addrs = append(addrs, a)
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if addrs, err = s.resolver().LookupNetIP(ctx, "ip", u.Hostname()); err != nil || len(addrs) == 0 {
			return nil
		}
	}
	if !slices.ContainsFunc(addrs, s.guard.Allows) {
		return bankfeed.InvalidField(field, "leads to an address that this hub does not call")
	}
	return nil
}

// parseURL reads an absolute URL. Userinfo becomes basic authentication; a
// fragment would never be sent, so whoever writes one is mistaken.
func parseURL(field, rawURL string, live bool) (*url.URL, error) {
	if len(rawURL) > maxURL {
		return nil, bankfeed.InvalidField(field, "%d characters at most", maxURL)
	}
	u, err := url.Parse(rawURL) // its error would repeat the URL
	switch {
	case err != nil || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) || !validPort(u):
		return nil, bankfeed.InvalidField(field, "must be an absolute URL of http or https")
	case u.Fragment != "" || strings.HasSuffix(rawURL, "#"):
		return nil, bankfeed.InvalidField(field, "must not have a fragment")
	case live && u.Scheme != "https":
		return nil, bankfeed.InvalidField(field, "must be https, except for clients of the sandbox")
	}
	return u, nil
}

// validHost accepts addresses and what a name may consist of, in any script. An
// address with a zone means something on one machine only.
func validHost(h string) bool {
	if a, err := netip.ParseAddr(h); err == nil {
		return a.Zone() == ""
	}
	return h != "" && len(h) <= 253 && !strings.ContainsFunc(h, func(r rune) bool {
		return r < 0x80 && r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func validPort(u *url.URL) bool {
	p := u.Port()
	if p == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return err == nil && n > 0
}

// Origin is the scheme, host and port of a URL that was checked: whom it reaches,
// without what may be secret in it.
func Origin(rawURL bankfeed.Secret) string {
	u, err := url.Parse(string(rawURL))
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
