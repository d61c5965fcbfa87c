package consent

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
)

//go:embed pages/link.html pages/link.css
var pageFiles embed.FS

var (
	pageStyle    = mustRead("pages/link.css")
	pageTemplate = template.Must(template.ParseFS(pageFiles, "pages/link.html"))
	// styleHash lets the browser take this style and no other.
	styleHash = func() string {
		h := sha256.Sum256([]byte(pageStyle))
		return "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"
	}()
)

func mustRead(name string) string {
	b, err := pageFiles.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(b)
}

// page is what a browser is shown, or where it is sent.
type page struct {
	status   int
	location string // 303, and nothing is shown

	bank        string
	title, text string
	fault       string
	form        bankfeed.ChallengeKind
	challenge   *bankfeed.Challenge
	fields      [2]string // labels of login and password
	step        string
	retry       bool // offers to open the page again
	cancel      bool // offers to give up
	refresh     string
	seconds     int
	back        string
	formTargets string
}

// maxForm is far more than any form of the pages holds.
const maxForm = 16 << 10

// Mount adds the start page and the way back to the routes of the hub. Whoever
// logs requests must not log these paths: tokens and states are secrets.
func (s *Service) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /link/{token}", s.serve(func(r *http.Request) (page, error) {
		return s.open(r.Context(), r.PathValue("token"), s.psu(r))
	}))
	mux.HandleFunc("POST /link/{token}", s.serve(s.servePost))
	mux.HandleFunc("GET /link/return", s.serve(func(r *http.Request) (page, error) {
		q := r.URL.Query()
		waits, _ := strconv.Atoi(q.Get("waits")) // nothing but the page's own patience
		return s.back(r.Context(), q.Get("state"), q.Get("refused") == "1", min(max(waits, 0), maxWaits), s.psu(r))
	}))
}

// psu is the person in front of the browser, nil if its address is not known.
func (s *Service) psu(r *http.Request) *bankfeed.PSU {
	ip, err := netip.ParseAddr(s.Address(r))
	if err != nil || ip.IsUnspecified() {
		return nil
	}
	agent := r.UserAgent()
	if len(agent) > 512 {
		agent = agent[:512]
	}
	return &bankfeed.PSU{IP: ip.Unmap().WithZone("").String(), UserAgent: strings.ToValidUTF8(agent, "")}
}

// peerAddress is the address of whoever opened the connection.
func peerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

var (
	errNoAddress = bankfeed.Errorf(bankfeed.Invalid, "the address of the browser is not known")
	errNoForm    = bankfeed.Errorf(bankfeed.Invalid, "the form cannot be read")
	errForm      = bankfeed.Errorf(bankfeed.Forbidden, "the form is not this browser's")
)

// serve answers with what f says. Opening a page acts in its user's name, so
// whatever is not its user opening it acts on nothing.
func (s *Service) serve(f func(*http.Request) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		headers(w.Header())
		if r.Method == http.MethodHead || prefetch(r) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var p page
		err := checkSecret(r)
		if err == nil && s.psu(r) == nil {
			err = errNoAddress
		}
		if err == nil {
			p, err = f(r)
		}
		if err != nil {
			p = s.errorPage(r, err)
		}
		if p.location != "" {
			w.Header().Set("Location", p.location)
			w.WriteHeader(http.StatusSeeOther)
			return
		}
		s.render(w, r, p)
	}
}

func prefetch(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Sec-Purpose"), "prefetch") || strings.Contains(r.Header.Get("Purpose"), "prefetch")
}

// checkSecret refuses early what can be no secret of ours.
func checkSecret(r *http.Request) error {
	secret := r.PathValue("token")
	if secret == "" {
		secret = r.URL.Query().Get("state")
	}
	if b, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(secret) != secretLen || len(b) != 32 {
		return bankfeed.Errorf(bankfeed.NotFound, "not a link of the hub")
	}
	return nil
}

func headers(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Content-Security-Policy", policy(""))
}

func policy(formTargets string) string {
	return strings.TrimSpace("default-src 'none'; img-src data:; style-src " + styleHash + "; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + formTargets)
}

// servePost reads a form. It must come from the browser that was shown it.
func (s *Service) servePost(r *http.Request) (page, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return page{}, errNoForm
	}
	token, f := r.PathValue("token"), r.PostForm
	cookie, err := r.Cookie(formCookie)
	if err != nil || !hmac.Equal([]byte(f.Get("csrf")), []byte(formProof(cookie.Value, token))) {
		return page{}, errForm
	}
	return s.submit(r.Context(), token, answers{action: f.Get("action"), step: f.Get("step"), login: bankfeed.Secret(strings.TrimSpace(f.Get("login"))),
		password: bankfeed.Secret(f.Get("password")), method: f.Get("method"), code: bankfeed.Secret(strings.TrimSpace(f.Get("code")))}, s.psu(r))
}

// formCookie holds a random value that other sites can neither read nor set.
const formCookie = "bankfeed_link"

// formProof ties a form to the browser's cookie and to one link.
func formProof(cookie, token string) string {
	m := hmac.New(sha256.New, []byte(cookie))
	m.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// cookie finds the browser's value, or gives it one.
func (s *Service) cookie(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(formCookie); err == nil && len(c.Value) == secretLen {
		return c.Value
	}
	value := newSecret()
	public, err := url.Parse(s.PublicURL)
	if err != nil {
		public = &url.URL{}
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where the hub is reached by https
		Name: formCookie, Value: value, Path: strings.TrimRight(public.Path, "/") + "/link/", HttpOnly: true,
		Secure: public.Scheme == "https", SameSite: http.SameSiteLaxMode})
	return value
}

// errorPage never says more than its reader may know, and logs the rest.
func (s *Service) errorPage(r *http.Request, err error) page {
	switch {
	case errors.Is(err, errNoAddress), errors.Is(err, errNoForm):
		return page{status: http.StatusBadRequest, title: "That did not work", text: "The request cannot be read. Please open the link again."}
	case errors.Is(err, errForm):
		return page{status: http.StatusForbidden, title: "Please try again", retry: true,
			text: "This form is out of date, or your browser does not keep cookies for this page. Please open the page again."}
	case bankfeed.ErrorKindOf(err) == bankfeed.NotFound:
		return page{status: http.StatusNotFound, title: "Unknown link", text: "This link is unknown or was used already. Please start again where you came from."}
	}
	if r.Context().Err() == nil {
		s.Logger.ErrorContext(r.Context(), "a link page failed", "method", r.Method, "error", err)
	}
	return page{status: http.StatusInternalServerError, title: "That did not work", text: "Something went wrong here. Please try again in a moment.", retry: r.Method == http.MethodGet}
}

// view is what the template sees.
type view struct {
	Style                    template.CSS
	Bank, Title, Text, Fault string
	Form                     bankfeed.ChallengeKind
	Challenge                *bankfeed.Challenge
	Image                    template.URL
	Fields                   [2]string
	CSRF, Step               string
	Retry, Cancel            bool
	Refresh                  string
	Back                     string
}

func (s *Service) render(w http.ResponseWriter, r *http.Request, p page) {
	v := view{Style: template.CSS(pageStyle), Bank: p.bank, Title: p.title, Text: p.text, Fault: p.fault, Form: p.form, Challenge: p.challenge, //nolint:gosec // our own file
		Fields: p.fields, Step: p.step, Retry: p.retry, Cancel: p.cancel, Back: p.back}
	if p.refresh != "" {
		v.Refresh = fmt.Sprintf("%d;url=%s", p.seconds, p.refresh)
	}
	if p.challenge != nil && len(p.challenge.Image) > 0 {
		v.Image = imageURL(p.challenge.Image)
	}
	if token := r.PathValue("token"); token != "" && (p.form != "" || p.cancel) {
		v.CSRF = formProof(s.cookie(w, r), token)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		s.Logger.ErrorContext(r.Context(), "drawing a link page failed", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Security-Policy", policy(p.formTargets))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(p.status)
	_, _ = w.Write(b.Bytes()) // if nobody is there to read it, nobody is told
}

// imageURL shows a bank's picture, if it is one that browsers draw without
// running anything.
func imageURL(b []byte) template.URL {
	switch t := http.DetectContentType(b); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp":
		return template.URL("data:" + t + ";base64," + base64.StdEncoding.EncodeToString(b)) //nolint:gosec // base64 of a picture
	}
	return ""
}
