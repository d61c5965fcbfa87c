package pages

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// MaxForm is far more than any form of the pages holds.
const MaxForm = 16 << 10

// Errors of a browser's request.
var (
	ErrNoAddress = bankfeed.Errorf(bankfeed.Invalid, "the address of the browser is not known")
	ErrNoForm    = bankfeed.Errorf(bankfeed.Invalid, "the form cannot be read")
	ErrForm      = bankfeed.Errorf(bankfeed.Forbidden, "the form is not this browser's")
)

// PSU is the person in front of the browser, nil if its address is not known.
// address finds the address of the browser behind a request.
func PSU(r *http.Request, address func(*http.Request) string) *bankfeed.PSU {
	ip, err := netip.ParseAddr(address(r))
	if err != nil || ip.IsUnspecified() {
		return nil
	}
	agent := r.UserAgent()
	if len(agent) > 512 {
		agent = agent[:512]
	}
	return &bankfeed.PSU{IP: ip.Unmap().WithZone("").String(), UserAgent: strings.ToValidUTF8(agent, "")}
}

// PeerAddress is the address of whoever opened the connection, which is the
// browser's where there is no proxy.
func PeerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// LookAhead reports a request that is not its user's doing. Opening a page acts
// in its user's name, so whatever is not its user opening it acts on nothing.
func LookAhead(r *http.Request) bool {
	return r.Method == http.MethodHead || strings.Contains(r.Header.Get("Sec-Purpose"), "prefetch") || strings.Contains(r.Header.Get("Purpose"), "prefetch")
}

// secretLen is the length of what NewSecret returns.
const secretLen = 43

// NewSecret is 32 random bytes in base64url: the token in a page's URL, or a
// state parameter.
func NewSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// HashOf is what is stored of a secret. There is no guessing 256 random bits,
// so a slow hash would add nothing.
func HashOf(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// LooksLikeSecret refuses early what can be no secret of ours.
func LooksLikeSecret(secret string) bool {
	b, err := base64.RawURLEncoding.DecodeString(secret)
	return err == nil && len(secret) == secretLen && len(b) == 32
}

// Forms ties forms to the browser that was shown them: a cookie holds a random
// value that other sites can neither read nor set, and each form a proof of it
// for one page.
type Forms struct {
	Cookie    string
	Path      string // below PublicURL, with slashes at both ends
	PublicURL string
}

// Read reads a form. It must come from the browser that was shown it on the page
// of that token.
func (f Forms) Read(r *http.Request, token string) (url.Values, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, MaxForm)
	if err := r.ParseForm(); err != nil {
		return nil, ErrNoForm
	}
	c, err := r.Cookie(f.Cookie)
	if err != nil || !hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(proof(c.Value, token))) {
		return nil, ErrForm
	}
	return r.PostForm, nil
}

// Proof is what the forms of a page carry, as csrf. A browser without the cookie
// is given one.
func (f Forms) Proof(w http.ResponseWriter, r *http.Request, token string) string {
	return proof(f.cookie(w, r), token)
}

func proof(cookie, token string) string {
	m := hmac.New(sha256.New, []byte(cookie))
	m.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (f Forms) cookie(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(f.Cookie); err == nil && len(c.Value) == secretLen {
		return c.Value
	}
	value := NewSecret()
	public, err := url.Parse(f.PublicURL)
	if err != nil {
		public = &url.URL{}
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where the hub is reached by https
		Name: f.Cookie, Value: value, Path: strings.TrimRight(public.Path, "/") + f.Path, HttpOnly: true,
		Secure: public.Scheme == "https", SameSite: http.SameSiteLaxMode})
	return value
}

// maxURL is what browsers and proxies carry without trouble.
const maxURL = 2048

// plainHost keeps what would have a meaning of its own out of the pages'
// Content-Security-Policy.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9._-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)

// CheckReturnURL checks where a client wants its user back. Only sandbox clients
// may take their users to http.
func CheckReturnURL(field, to string, sandbox bool) error {
	u, err := url.Parse(to)
	if err != nil || len(to) > maxURL || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || !plainHost.MatchString(u.Host) {
		return bankfeed.InvalidField(field, "must be an absolute http or https URL without credentials, of at most %d characters", maxURL)
	}
	if u.Scheme != "https" && !sandbox {
		return bankfeed.InvalidField(field, "must be https: only a sandbox client may take its users to http")
	}
	return nil
}
