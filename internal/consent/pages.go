package consent

import (
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

//go:embed pages/link.html
var pageFiles embed.FS

var pageSet = pages.New(pageFiles, "pages/link.html", "")

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
func (s *Service) psu(r *http.Request) *bankfeed.PSU { return pages.PSU(r, s.Address) }

// serve answers with what f says. Opening a page acts in its user's name, so
// whatever is not its user opening it acts on nothing.
func (s *Service) serve(f func(*http.Request) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pages.Headers(w.Header())
		if pages.LookAhead(r) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var p page
		err := checkSecret(r)
		if err == nil && s.psu(r) == nil {
			err = pages.ErrNoAddress
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

// checkSecret refuses early what can be no secret of ours.
func checkSecret(r *http.Request) error {
	secret := r.PathValue("token")
	if secret == "" {
		secret = r.URL.Query().Get("state")
	}
	if !pages.LooksLikeSecret(secret) {
		return bankfeed.Errorf(bankfeed.NotFound, "not a link of the hub")
	}
	return nil
}

// servePost reads a form.
func (s *Service) servePost(r *http.Request) (page, error) {
	token := r.PathValue("token")
	f, err := s.forms().Read(r, token)
	if err != nil {
		return page{}, err
	}
	return s.submit(r.Context(), token, answers{action: f.Get("action"), step: f.Get("step"), login: bankfeed.Secret(strings.TrimSpace(f.Get("login"))),
		password: bankfeed.Secret(f.Get("password")), method: f.Get("method"), code: bankfeed.Secret(strings.TrimSpace(f.Get("code")))}, s.psu(r))
}

func (s *Service) forms() pages.Forms {
	return pages.Forms{Cookie: "bankfeed_link", Path: "/link/", PublicURL: s.PublicURL}
}

// errorPage never says more than its reader may know, and logs the rest.
func (s *Service) errorPage(r *http.Request, err error) page {
	switch {
	case errors.Is(err, pages.ErrNoAddress), errors.Is(err, pages.ErrNoForm):
		return page{status: http.StatusBadRequest, title: "That did not work", text: "The request cannot be read. Please open the link again."}
	case errors.Is(err, pages.ErrForm):
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
	Form          bankfeed.ChallengeKind
	Challenge     *bankfeed.Challenge
	Image         template.URL
	Fields        [2]string
	CSRF, Step    string
	Retry, Cancel bool
	Back          string
}

func (s *Service) render(w http.ResponseWriter, r *http.Request, p page) {
	v := view{Form: p.form, Challenge: p.challenge, Fields: p.fields, Step: p.step, Retry: p.retry, Cancel: p.cancel, Back: p.back}
	if p.challenge != nil && len(p.challenge.Image) > 0 {
		v.Image = pages.ImageURL(p.challenge.Image)
	}
	if token := r.PathValue("token"); token != "" && (p.form != "" || p.cancel) {
		v.CSRF = s.forms().Proof(w, r, token)
	}
	err := pageSet.Render(w, r, pages.Page{Status: p.status, Bank: p.bank, Title: p.title, Text: p.text, Fault: p.fault,
		Refresh: p.refresh, Seconds: p.seconds, FormTargets: p.formTargets, View: v})
	if err == nil {
		return
	}
	s.Logger.ErrorContext(r.Context(), "drawing a link page failed", "error", err)
	http.Error(w, "internal error", http.StatusInternalServerError)
}
