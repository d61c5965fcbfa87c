package berlingroup

import (
	"errors"
	"net/url"
	"strings"
)

var (
	errLinkForm   = errors.New("the bank sent a link that is no URL")
	errLinkOrigin = errors.New("the bank sent a link to another host, which must not get its credentials")
	errSCALink    = errors.New("the bank sent an SCA link that is no http or https URL")
)

// resolve makes a link of the bank absolute. The standard lets banks choose
// between full and relative links without saying relative to what: a path
// that does not begin with the endpoint's own is meant below the endpoint.
// Links are followed with the PSU's credentials and the consent, so one to
// another origin is refused.
func resolve(base *url.URL, request, href string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(href))
	if err != nil || u.Opaque != "" {
		return "", errLinkForm
	}
	switch {
	case u.Scheme != "" || u.Host != "":
		u = base.ResolveReference(u) // completes //host/path
	case u.Path == "":
		from, err := url.Parse(request)
		if err != nil {
			return "", errLinkForm
		}
		u = from.ResolveReference(u)
	default:
		prefix := strings.TrimRight(base.Path, "/")
		path := "/" + strings.TrimLeft(u.EscapedPath(), "/")
		if !strings.HasPrefix(path, prefix+"/") {
			path = prefix + path
		}
		full := url.URL{Scheme: base.Scheme, Host: base.Host}
		parsed, err := url.Parse(full.String() + path)
		if err != nil {
			return "", errLinkForm
		}
		parsed.RawQuery = u.RawQuery
		u = parsed
	}
	if u.User != nil || u.Scheme != base.Scheme || !strings.EqualFold(u.Hostname(), base.Hostname()) || port(u) != port(base) {
		return "", errLinkOrigin
	}
	u.Fragment = ""
	return u.String(), nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// scaLink checks the link that the PSU's browser gets: anything but a web
// address would be an attack on the PSU.
func scaLink(base *url.URL, href string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(href))
	if err != nil {
		return "", errSCALink
	}
	u = base.ResolveReference(u)
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return "", errSCALink
	}
	return u.String(), nil
}

// segmentAfter finds the path segment of a link that follows the segment
// called name.
func segmentAfter(href, name string) string {
	u, err := url.Parse(href)
	if err != nil {
		return ""
	}
	parts := strings.Split(u.EscapedPath(), "/")
	for i := 0; i+1 < len(parts); i++ {
		if parts[i] == name {
			s, _ := url.PathUnescape(parts[i+1])
			return s
		}
	}
	return ""
}

// plainSegments are the parts of a path that name no person's resource.
var plainSegments = map[string]bool{"": true, "v1": true, "v2": true, "v3": true, "consents": true, "authorisations": true, "status": true,
	"accounts": true, "card-accounts": true, "balances": true, "transactions": true, "details": true, "download": true}

// plainQuery are the parameters whose values may be shown.
var plainQuery = map[string]bool{"bookingStatus": true, "dateFrom": true, "dateTo": true, "withBalance": true, "deltaList": true, "itemsPerPage": true}

// maskURL takes out of a URL what names a consent, an account or a position
// in a listing.
func maskURL(base *url.URL, raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return base.String()
	}
	prefix := strings.TrimRight(base.EscapedPath(), "/")
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), prefix), "/")
	for i, p := range parts {
		if !plainSegments[p] {
			parts[i] = "***"
		}
	}
	out := u.Scheme + "://" + u.Host + prefix + strings.Join(parts, "/")
	if u.RawQuery == "" {
		return out
	}
	params := strings.Split(u.RawQuery, "&")
	for i, p := range params {
		name, _, _ := strings.Cut(p, "=")
		if plainQuery[name] {
			continue
		}
		if !plainName(name) {
			name = "***"
		}
		params[i] = name + "=***"
	}
	return out + "?" + strings.Join(params, "&")
}

// plainName reports whether a parameter's name is a word.
func plainName(s string) bool {
	for i := range len(s) {
		if !letter(s[i]) && s[i] != '_' && s[i] != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
