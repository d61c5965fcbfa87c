package sandbox

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

//go:embed pages/*.html
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	// The users' descriptions are written in Markdown, for the manual.
	"plain": func(s string) string { return strings.ReplaceAll(s, "`", "") },
}).ParseFS(pageFiles, "pages/*.html"))

// scaView is what the SCA page shows. Step is login, confirm or done.
type scaView struct {
	Title    string
	Business bool
	Step     string
	Error    string
	Token    string
	Login    string
	Method   string
	Choose   bool // the PSU picks the accounts
	Accounts []scaAccount
	Until    string
	Daily    int
	Once     bool
	Back     string // where the PSU can go on to once this page is done with
	TPP      string // host the PSU goes back to
}

type scaAccount struct {
	Name, Label, Number, Currency string
}

func render(w http.ResponseWriter, status int, name string, data any) {
	var buf bytes.Buffer
	if err := pages.ExecuteTemplate(&buf, name, data); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	// No form-action: the answer to a form leads back to the TPP.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

func (b *Bank) indexPage(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	now := b.now()
	b.mu.Unlock()
	render(w, http.StatusOK, "index.html", map[string]any{
		"Title": ProviderName, "Users": allUsers(), "Now": now.Format("2006-01-02 15:04:05 MST"), "BIC": BIC, "Base": b.publicURL(r),
		"Password": Password, "Code": Code,
	})
}

// scaByPath finds the authorisation a page is for. The caller holds mu.
func (b *Bank) scaByPath(r *http.Request) (*consent, *authorisation, bool) {
	a := b.state.Authorisations[r.PathValue("authorisation")]
	if a == nil {
		return nil, nil, false
	}
	con := b.state.Consents[a.Consent]
	if con == nil || con.Channel != redirect || con.Segment != r.PathValue("segment") {
		return nil, nil, false
	}
	b.refresh(con)
	return con, a, true
}

func (con *consent) view() scaView {
	v := scaView{Title: "Account access", Business: con.Segment == business, Login: con.PSU,
		Until: dayText(con.ValidUntil), Daily: con.Frequency, Once: !con.Recurring}
	_, rest, _ := strings.Cut(con.RedirectURI, "://")
	v.TPP, _, _ = strings.Cut(rest, "/")
	v.TPP, _, _ = strings.Cut(v.TPP, "?")
	return v
}

// nok is where the PSU goes after a refusal.
func (con *consent) nok() string {
	if con.NokURI != "" {
		return con.NokURI
	}
	return con.RedirectURI
}

// outageOf is the outage of the bank as a whole, which its pages share.
func (b *Bank) outageOf(w http.ResponseWriter) bool {
	b.mu.Lock()
	down := b.state.Down
	b.mu.Unlock()
	switch down {
	case down503:
		render(w, http.StatusServiceUnavailable, "sca.html", scaView{Title: "Not available", Step: "done", Error: "The bank is not available at the moment."})
		return true
	case downClose:
		panic(http.ErrAbortHandler)
	}
	return false
}

func notFoundView() scaView {
	return scaView{Title: "Not found", Step: "done", Error: "This link is not known to the bank."}
}

// scaPage always begins with the login: what follows is shown only as the
// answer to a form, so that a link alone shows nobody anything.
func (b *Bank) scaPage(w http.ResponseWriter, r *http.Request) {
	if b.outageOf(w) {
		return
	}
	b.mu.Lock()
	con, a, ok := b.scaByPath(r)
	status, v := http.StatusOK, notFoundView()
	switch {
	case !ok:
		status = http.StatusNotFound
	case !a.open() || con.Status != statusReceived:
		v = con.over(a)
	default:
		if a.Status != scaReceived {
			a.Status, a.FormToken = scaReceived, rand.Text()
			b.changed()
		}
		v = con.view()
		v.Step, v.Token = "login", a.FormToken
	}
	b.mu.Unlock()
	b.answerPage(w, status, v)
}

// over draws the page of an authorisation that takes nothing more.
func (con *consent) over(a *authorisation) scaView {
	v := con.view()
	v.Step, v.Back = "done", con.nok()
	v.Error = "This request was refused, failed or is too old. Please start again where you came from."
	if a.Status == scaFinalised {
		v.Back, v.Error = con.RedirectURI, "You have answered this request already."
	}
	return v
}

func (b *Bank) answerPage(w http.ResponseWriter, status int, v scaView) {
	if err := b.flushUrgent(); err != nil {
		b.log.Error("sandbox: state not written", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	render(w, status, "sca.html", v)
}

// scaForm takes the forms of the SCA page: action login, confirm or refuse.
func (b *Bank) scaForm(w http.ResponseWriter, r *http.Request) {
	if b.outageOf(w) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	status, v, target := b.takeForm(r)
	if target == "" {
		b.answerPage(w, status, v)
		return
	}
	if err := b.flushUrgent(); err != nil {
		b.log.Error("sandbox: state not written", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	// As it was given: state parameters of the TPP must come back untouched.
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
}

// takeForm acts on a form and returns either a page or where to send the browser.
func (b *Bank) takeForm(r *http.Request) (status int, v scaView, target string) {
	f := r.PostForm
	b.mu.Lock()
	defer b.mu.Unlock()
	con, a, ok := b.scaByPath(r)
	if !ok {
		return http.StatusNotFound, notFoundView(), ""
	}
	if !a.open() || con.Status != statusReceived {
		return http.StatusConflict, con.over(a), ""
	}
	if subtle.ConstantTimeCompare([]byte(f.Get("token")), []byte(a.FormToken)) != 1 {
		v = con.view()
		v.Step, v.Back, v.Error = "done", r.URL.Path, "This form is out of date. Please log in again."
		return http.StatusForbidden, v, ""
	}
	switch f.Get("action") {
	case "refuse":
		b.fail(a)
		return 0, v, con.nok()
	case "login":
		u, err := b.logIn(con, a, strings.TrimSpace(f.Get("username")), f.Get("password"))
		if err != nil {
			return b.loginFailed(con, a, f.Get("username"), err)
		}
		if a.Status == scaAuthenticated {
			b.challenge(a, u.methods[0])
		}
		a.FormToken = rand.Text() // known only to who logged in
		return http.StatusOK, b.confirmView(con, a, u), ""
	case "confirm":
		u, found := lookupUser(a.PSU)
		if a.Status != scaMethodSelected || !found {
			v = con.view()
			v.Step, v.Token, v.Error = "login", a.FormToken, "Please log in first."
			return http.StatusForbidden, v, ""
		}
		v = b.confirmView(con, a, u)
		if v.Choose && f.Has("choose") {
			var chosen []string
			for _, acc := range v.Accounts {
				if slices.Contains(f["account"], acc.Name) {
					chosen = append(chosen, acc.Name)
				}
			}
			if len(chosen) == 0 {
				v.Error = "Please choose at least one account."
				return http.StatusUnprocessableEntity, v, ""
			}
			con.Chosen = chosen
		}
		if err := b.checkCode(con, a, u, strings.TrimSpace(f.Get("code"))); err != nil {
			v.Error = messageOf(err)
			if !a.open() {
				v.Step, v.Back = "done", con.nok()
			}
			return http.StatusUnprocessableEntity, v, ""
		}
		return 0, v, con.RedirectURI
	}
	v = con.view()
	v.Step, v.Token, v.Error = "login", a.FormToken, "The form is not complete."
	return http.StatusBadRequest, v, ""
}

func (b *Bank) loginFailed(con *consent, a *authorisation, login string, err error) (int, scaView, string) {
	v := con.view()
	v.Step, v.Token, v.Error, v.Login = "login", a.FormToken, messageOf(err), login
	if !a.open() {
		v.Step, v.Back = "done", con.nok()
	}
	status := http.StatusUnauthorized
	var f *fault
	if errors.As(err, &f) {
		status = f.status
	}
	return status, v, ""
}

// confirmView lists what the PSU is asked to open. The caller holds mu.
func (b *Bank) confirmView(con *consent, a *authorisation, u testUser) scaView {
	v := con.view()
	v.Step, v.Token = "confirm", a.FormToken
	v.Choose = con.Access.bankOffered()
	for _, m := range u.methods {
		if m.ID == a.Method {
			v.Method = m.Name
		}
	}
	unchosen := *con
	unchosen.Chosen = nil
	for _, acc := range visible(accountsOf(b.state.Seed, u, b.user(u.Login)), con.Channel) {
		if !unchosen.opens(&acc, kindDetails) {
			continue
		}
		number := acc.iban
		switch {
		case number != "":
		case acc.bban != "":
			number = acc.bban
		default:
			number = acc.maskedPan
		}
		v.Accounts = append(v.Accounts, scaAccount{acc.name, acc.label, number, acc.currency})
	}
	return v
}
