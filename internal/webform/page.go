package webform

import (
	"embed"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

//go:embed pages
var pageFiles embed.FS

var pageSet = pages.New(pageFiles, "pages/form.html", script())

func script() string {
	b, err := pageFiles.ReadFile("pages/form.js")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(b)
}

// page is what a browser is shown, or where it is sent.
type page struct {
	status   int
	location string // 303, and nothing is shown

	bank, title, text, fault string
	wait                     bool // looks again by itself
	view                     view
}

// view is what the template sees.
type view struct {
	Banks      []bank
	Query      string
	Searchable bool
	More       bool // there are more than are listed

	Bank   string
	Ways   []way
	Choice bool // there is more than one

	Go             string // a link to go on
	Again          bool   // offers another try
	Other          string // a link to another bank
	Cancel         bool
	Back, BackText string
	Support        string
	Retry          bool // offers to open the page again
	CSRF, Step     string
	State          string // set where a script waits for another one
}

type bank struct{ ID, Name, BIC string }

type way struct {
	Mode       bankfeed.Mode
	Name, Hint string
	First      bool
}

func (v *visit) message(status int, title, text string) page {
	p := page{status: status, title: title, text: text}
	p.bank = v.at.st.Connection.ProviderName
	p.view.Support = v.d.Return.Support
	return p
}

// ended tells how the form ended, or sends the user back to the client.
func (v *visit) ended() page {
	var p page
	switch v.r.Status {
	case Completed:
		if v.d.Return.Success != "" {
			return page{location: v.d.Return.Success}
		}
		p = v.message(http.StatusOK, "Your accounts are connected", "You can close this page.")
		if v.d.Type == Update {
			p.title = "Your accounts can be read again"
		}
	case Aborted:
		if v.d.Return.Abort != "" {
			return page{location: v.d.Return.Abort}
		}
		p = v.message(http.StatusOK, "Cancelled", "Nothing is read from your accounts. You can close this page.")
	case Expired:
		p = v.expired()
	default:
		p = v.message(http.StatusOK, "That did not work", "Your accounts could not be connected. You can close this page.")
		if v.d.Code == CodeEntityExists {
			p.title, p.text = "These accounts are connected already", "There is nothing left to do. You can close this page."
		}
	}
	if v.r.Status != Completed {
		p.view.Back, p.view.BackText = v.d.Return.Error, "Back"
	}
	return p
}

func (v *visit) expired() page {
	p := v.message(http.StatusGone, "The time is over", "This page has expired. Please start again where you came from.")
	p.view.Back, p.view.BackText = v.d.Return.Error, "Back"
	return p
}

func (v *visit) reading() page {
	p := v.message(http.StatusOK, "Your accounts are being read", "Your bank has confirmed the access. This takes a moment; the page goes on by itself.")
	p.wait, p.view.State = true, v.state()
	return p
}

// unfinished is for a user who is back from the bank too early.
func (v *visit) unfinished() page {
	p := v.message(http.StatusOK, "Not finished yet", "You have not confirmed the access at your bank yet.")
	p.view.Go = v.d.Try.Page
	p.view.Cancel, p.view.State = true, v.state()
	if v.d.Bank == "" {
		p.view.Other = "?choose=1"
	}
	return p
}

// problem says why an attempt came to nothing, and what can be done.
func (v *visit) problem() page {
	p := v.message(http.StatusOK, "That did not work", "")
	p.fault = reason(v.at.failure)
	p.view.Again, p.view.Cancel, p.view.Step = true, true, strconv.Itoa(v.d.Tries)
	if v.d.Bank == "" {
		p.view.Other = "?choose=1"
	}
	return p
}

// reason says in the user's words what went wrong.
func reason(f *bankfeed.Failure) string {
	if f == nil {
		return "Your accounts could not be read."
	}
	switch f.Reason {
	case bankfeed.FailCredentials:
		return "Your bank did not accept the login."
	case bankfeed.FailChallengeWrong:
		return "Your bank did not accept the code."
	case bankfeed.FailRefused:
		return "The access was not granted."
	case bankfeed.FailAborted, bankfeed.FailChallenge:
		return "Nobody answered your bank in time."
	case bankfeed.FailPassword:
		return "Your bank wants you to change your password on its own pages first."
	case bankfeed.FailUserAction:
		return "Your bank wants you to do something on its own pages first."
	case bankfeed.FailUnavailable, bankfeed.FailRateLimited, bankfeed.FailQuota:
		return "Your bank does not answer at the moment. Please try again."
	}
	return "Your accounts could not be read."
}

// Mount adds the pages to the routes of the hub. Whoever logs requests must not
// log these paths: the token is a secret.
func (s *Service) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /widget/{token}", s.serve(func(r *http.Request, token string) (page, error) {
		return s.open(r.Context(), token, r.URL.Query(), pages.PSU(r, s.Address))
	}))
	mux.HandleFunc("POST /widget/{token}", s.serve(func(r *http.Request, token string) (page, error) {
		f, err := s.forms().Read(r, token)
		if err != nil {
			return page{}, err
		}
		return s.submit(r.Context(), token, answers{action: f.Get("action"), step: f.Get("step"), bank: f.Get("bank"), mode: bankfeed.Mode(f.Get("mode"))}, pages.PSU(r, s.Address))
	}))
	mux.HandleFunc("GET /widget/{token}/state", s.serveState)
}

// forms has a cookie of its own: start pages lie elsewhere.
func (s *Service) forms() pages.Forms {
	return pages.Forms{Cookie: "bankfeed_form", Path: "/widget/", PublicURL: s.PublicURL}
}

func (s *Service) serve(f func(r *http.Request, token string) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pages.Headers(w.Header())
		if pages.LookAhead(r) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		token := r.PathValue("token")
		p, err := page{}, error(bankfeed.ErrNotFound)
		if pages.LooksLikeSecret(token) {
			p, err = f(r, token)
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

// serveState answers the script of a page that waits.
func (s *Service) serveState(w http.ResponseWriter, r *http.Request) {
	pages.Headers(w.Header())
	v, err := (*visit)(nil), error(bankfeed.ErrNotFound)
	if token := r.PathValue("token"); pages.LooksLikeSecret(token) {
		v, err = s.enter(r.Context(), token, nil)
	}
	if err != nil {
		p := s.errorPage(r, err)
		w.WriteHeader(p.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"state":"`+v.state()+`"}`) //nolint:gosec // JSON of our own words; if nobody is there to read it, nobody is told
}

// errorPage never says more than its reader may know, and logs the rest.
func (s *Service) errorPage(r *http.Request, err error) page {
	switch {
	case errors.Is(err, pages.ErrNoAddress), errors.Is(err, pages.ErrNoForm):
		return page{status: http.StatusBadRequest, title: "That did not work", text: "The request cannot be read. Please open the link again."}
	case errors.Is(err, pages.ErrForm):
		return page{status: http.StatusForbidden, title: "Please try again", view: view{Retry: true},
			text: "This form is out of date, or your browser does not keep cookies for this page. Please open the page again."}
	case bankfeed.ErrorKindOf(err) == bankfeed.NotFound:
		return page{status: http.StatusNotFound, title: "Unknown link", text: "This link is unknown or was used already. Please start again where you came from."}
	}
	if r.Context().Err() == nil {
		s.Logger.ErrorContext(r.Context(), "a web form's page failed", "method", r.Method, "error", err)
	}
	return page{status: http.StatusInternalServerError, title: "That did not work", text: "Something went wrong here. Please try again in a moment.", view: view{Retry: r.Method == http.MethodGet}}
}

func (s *Service) render(w http.ResponseWriter, r *http.Request, p page) {
	v, frame := p.view, pages.Page{Status: p.status, Bank: p.bank, Title: p.title, Text: p.text, Fault: p.fault}
	if p.wait {
		frame.Refresh, frame.Seconds = s.pageURL(r.PathValue("token")), int(pollAfter.Seconds())
	}
	if len(v.Ways) > 0 || v.Again || v.Cancel {
		v.CSRF = s.forms().Proof(w, r, r.PathValue("token"))
		// The answer leads to a bank's page, which the bank alone knows, or to the
		// client's.
		frame.FormTargets = "https: http:"
	}
	frame.View = v
	if err := pageSet.Render(w, r, frame); err != nil {
		s.Logger.ErrorContext(r.Context(), "drawing a web form's page failed", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
