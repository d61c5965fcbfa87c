package berlingroup

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

const maxSteps = 6 // calls that one answer of the PSU may lead to

// The links that lead on, with one name per meaning in the order in which
// they are followed. Names that begin with start create the authorisation
// (POST), the others update it (PUT).
var (
	codeLinks     = []string{"authoriseTransaction", "startAuthorisationWithTransactionAuthorisation"}
	methodLinks   = []string{"selectAuthenticationMethod", "startAuthorisationWithAuthenticationMethodSelection"}
	passwordLinks = []string{"updatePsuAuthentication", "startAuthorisationWithPsuAuthentication"}
	psuIDLinks    = []string{"updatePsuIdentification", "startAuthorisationWithPsuIdentification"}
	startLinks    = []string{"startAuthorisation"}
	cipherLinks   = []string{"startAuthorisationWithEncryptedPsuAuthentication", "updateEncryptedPsuAuthentication"}
)

// state is what must survive between two steps of an authorisation. It is
// stored sealed: it holds the PSU's login and names the consent.
type state struct {
	Links   map[string]string `json:"links,omitempty"` // absolute
	Methods []method          `json:"methods,omitempty"`
	Method  string            `json:"method,omitempty"` // chosen one
	PSUID   string            `json:"psu_id,omitempty"`
	// RedirectURI and NokRedirectURI go with the start of an authorisation.
	RedirectURI    string `json:"redirect_uri,omitempty"`
	NokRedirectURI string `json:"nok_redirect_uri,omitempty"`
}

func (s *state) seal() bankfeed.Secret {
	b, _ := json.Marshal(s) //nolint:errchkjson // strings only
	return bankfeed.Secret(b)
}

// unseal reads a stored state.
func unseal(sealed bankfeed.Secret) (s state, err error) {
	if sealed == "" {
		return s, errors.New("no authorisation is running")
	}
	if json.Unmarshal([]byte(sealed), &s) != nil {
		return s, errors.New("the state of the authorisation cannot be read")
	}
	return s, nil
}

// link finds the first of several links that is offered.
func (s *state) link(names []string) (name, href string) {
	for _, name := range names {
		if href := s.Links[name]; href != "" {
			return name, href
		}
	}
	return "", ""
}

// flow is one run of steps through an authorisation.
type flow struct {
	c     *Connector
	a     connector.Access
	base  *url.URL
	state state
	in    connector.Input
	last  authorisation
	phase phase // of the last step
}

// run follows the bank's links until the PSU is needed, or nothing is left to
// do. What the PSU has given is used up on the way.
func (f *flow) run(ctx context.Context) (connector.ConsentStep, error) {
	for range maxSteps {
		switch f.last.scaStatus {
		case "finalised", "exempted":
			return f.done(), nil
		case "failed":
			reason := bankfeed.FailChallengeWrong
			if f.phase == phaseLogin {
				reason = bankfeed.FailCredentials
			}
			return f.step(), &connector.Error{Reason: reason, Status: http.StatusOK, Code: "failed",
				Text: connector.Bound(connector.Mask(f.last.psuMessage), maxText), Err: errors.New("the bank ended the authorisation")}
		}
		switch f.last.consentStatus {
		case "valid", "rejected", "expired", "revokedByPsu", "terminatedByTpp":
			return f.done(), nil
		}
		step, more, err := f.next(ctx)
		if err != nil || !more {
			return step, err
		}
	}
	return f.step(), unreadable(0, errors.New("the bank's links lead nowhere"))
}

// next takes the next step by itself (more), or says what the PSU must do.
func (f *flow) next(ctx context.Context) (step connector.ConsentStep, more bool, err error) {
	s := &f.state
	step = f.step()
	if href := s.Links["confirmation"]; href != "" && f.in.Code != "" {
		code := string(f.in.Code)
		f.in.Code = ""
		return step, true, f.send(ctx, phaseCode, "confirmation", href, map[string]string{"confirmationCode": code}, bankfeed.Secret(code))
	}
	if f.a.Mode == bankfeed.Redirect && s.Links["scaRedirect"] != "" {
		step.RedirectURL = s.Links["scaRedirect"]
		return step, false, nil
	}
	if name, href := s.link(methodLinks); name != "" {
		id := f.in.MethodID
		if _, waits := s.link(codeLinks); id == "" && len(s.Methods) == 1 && waits == "" {
			id = s.Methods[0].ID
		}
		if id != "" {
			f.in.MethodID = ""
			f.choose(id)
			return step, true, f.send(ctx, phaseMethod, name, href, map[string]string{"authenticationMethodId": id})
		}
	}
	if name, href := s.link(codeLinks); name != "" {
		if f.in.Code == "" {
			step.Challenge = f.last.ask(bankfeed.ChallengeCode, s)
			return step, false, nil
		}
		code := string(f.in.Code)
		f.in.Code = ""
		return step, true, f.send(ctx, phaseCode, name, href, map[string]string{"scaAuthenticationData": code}, bankfeed.Secret(code))
	}
	if name, _ := s.link(methodLinks); name != "" {
		step.Challenge = &bankfeed.Challenge{Kind: bankfeed.ChallengeMethodChoice, Text: f.last.words()}
		for _, m := range s.Methods {
			step.Challenge.Methods = append(step.Challenge.Methods, bankfeed.ChallengeMethod(m))
		}
		return step, false, nil
	}
	if name, href := s.link(passwordLinks); name != "" {
		switch {
		case f.a.Mode == bankfeed.Redirect:
			return step, false, &connector.Error{Reason: bankfeed.FailFormat,
				Err: errors.New("the bank wants a password, which a redirect channel does not take")}
		case f.in.Password == "":
			step.Challenge = f.last.ask(bankfeed.ChallengeCredentials, s)
			return step, false, nil
		}
		password := f.in.Password
		f.in.Password = ""
		return step, true, f.send(ctx, phaseLogin, name, href,
			map[string]any{"psuData": map[string]string{"password": string(password)}}, password)
	}
	if name, href := s.link(psuIDLinks); name != "" {
		if s.PSUID == "" {
			step.Challenge = f.last.ask(bankfeed.ChallengeCredentials, s)
			return step, false, nil
		}
		return step, true, f.send(ctx, phaseLogin, name, href, struct{}{})
	}
	if name, href := s.link(startLinks); name != "" {
		return step, true, f.send(ctx, phaseCreate, name, href, struct{}{})
	}
	return f.otherwise(step)
}

// otherwise handles what is left when the bank offers none of the usual ways.
func (f *flow) otherwise(step connector.ConsentStep) (connector.ConsentStep, bool, error) {
	s := &f.state
	refuse := func(text string) (connector.ConsentStep, bool, error) {
		return step, false, &connector.Error{Reason: bankfeed.FailFormat, Text: text, Err: errors.New(text)}
	}
	cipher, _ := s.link(cipherLinks)
	switch {
	case s.Links["scaRedirect"] != "": // the bank insists, on an embedded channel
		step.RedirectURL = s.Links["scaRedirect"]
		return step, false, nil
	case s.Links["scaOAuth"] != "":
		return refuse("the bank authorises by OAuth only, which is not supported yet")
	case cipher != "":
		return refuse("the bank takes encrypted passwords only, which is not supported yet")
	case s.Links["scaStatus"] != "" && (f.last.scaStatus != "" || f.a.Mode == bankfeed.Embedded):
		step.Challenge = f.last.ask(bankfeed.ChallengeApp, s) // decoupled SCA
		return step, false, nil
	}
	return step, false, unreadable(http.StatusOK, errors.New("the bank offers no way to authorise the consent"))
}

// poll asks how far an authorisation in the bank's app is.
func (f *flow) poll(ctx context.Context) error {
	href := f.state.Links["scaStatus"]
	q := &call{context: bankfeed.CallGetConsentStatus, phase: phaseConsent, method: http.MethodGet, url: href, limit: maxConsentBody}
	return f.c.exchange(ctx, f.a, f.base, q, func(ans answer) error {
		a, err := readAuthorisation(ans)
		if err != nil {
			return err
		}
		f.last = a
		return nil
	})
}

// send makes one step at the bank and takes over what it answers.
func (f *flow) send(ctx context.Context, ph phase, name, href string, body any, secrets ...bankfeed.Secret) error {
	f.phase = ph
	q := &call{context: bankfeed.CallUpdatePsuData, phase: ph, method: http.MethodPut, url: href, body: body, limit: maxConsentBody,
		header: http.Header{}, secrets: append(secrets, bankfeed.Secret(f.state.PSUID))}
	if f.state.PSUID != "" {
		q.header.Set("PSU-ID", f.state.PSUID)
	}
	if strings.HasPrefix(name, "start") {
		q.method = http.MethodPost
		f.redirects(q.header)
	}
	err := f.c.exchange(ctx, f.a, f.base, q, func(ans answer) error { return f.take(q, ans) })
	var e *connector.Error
	if ph == phaseCode && errors.As(err, &e) && e.Reason == bankfeed.FailChallengeWrong {
		e.TryAgain = f.stillOpen(ctx, q.scaStatus)
	}
	if ph == phaseMethod && errors.As(err, &e) && e.Code == "SCA_METHOD_UNKNOWN" {
		e.TryAgain = true
	}
	return err
}

// redirects sets the headers for the way back from the bank's pages.
func (f *flow) redirects(h http.Header) {
	h.Set("TPP-Redirect-Preferred", strconv.FormatBool(f.a.Mode == bankfeed.Redirect))
	if f.state.RedirectURI != "" {
		h.Set("TPP-Redirect-URI", f.state.RedirectURI)
	}
	if f.state.NokRedirectURI != "" {
		h.Set("TPP-Nok-Redirect-URI", f.state.NokRedirectURI)
	}
}

// take reads an answer into the flow. Links of an earlier step are no longer
// good, except the one to the authorisation's state.
func (f *flow) take(q *call, ans answer) error {
	a, err := readAuthorisation(ans)
	if err != nil {
		return err
	}
	if a.consentID != "" {
		if !header(a.consentID) {
			return unreadable(ans.status, errors.New("the consentId has control characters"))
		}
		f.a.Grant.ConsentID = bankfeed.Secret(a.consentID)
	}
	links := map[string]string{}
	if href := f.state.Links["scaStatus"]; href != "" {
		links["scaStatus"] = href
	}
	for name, href := range a.links {
		switch name {
		case "scaRedirect":
			if links[name], err = scaLink(f.base, href); err != nil {
				return unreadable(ans.status, err)
			}
		case "scaOAuth":
			links[name] = href // only ever reported
		default:
			abs, err := resolve(f.base, q.url, href)
			if err != nil && leadsOn(name) {
				return unreadable(ans.status, err)
			}
			if err == nil {
				links[name] = abs
			}
		}
	}
	if links["scaRedirect"] != "" {
		q.context = bankfeed.CallRetrieveScaURL
	}
	f.last, f.state.Links = a, links
	if len(a.methods) > 0 {
		f.state.Methods = a.methods
	}
	if a.chosen.ID != "" || a.chosen.Name != "" {
		f.state.Method = a.chosen.Name
		if a.chosen.Name == "" {
			f.state.Method = a.chosen.Type
		}
	}
	if a.authorisationID == "" {
		a.authorisationID = segmentAfter(links["scaStatus"], "authorisations")
	}
	if a.authorisationID != "" {
		f.a.Grant.AuthorisationID = bankfeed.Secret(a.authorisationID)
	}
	return nil
}

// leadsOn reports whether a link is one that run may follow.
func leadsOn(name string) bool {
	if name == "scaStatus" || name == "confirmation" {
		return true
	}
	for _, names := range [][]string{codeLinks, methodLinks, passwordLinks, psuIDLinks, startLinks, cipherLinks} {
		for _, n := range names {
			if n == name {
				return true
			}
		}
	}
	return false
}

// choose remembers the name of the chosen method; not every bank repeats it.
func (f *flow) choose(id string) {
	for _, m := range f.state.Methods {
		if m.ID == id {
			f.state.Method = m.Name
		}
	}
}

// stillOpen reports whether a wrong code may be followed by another. Banks
// that do not say so in the refusal are asked.
func (f *flow) stillOpen(ctx context.Context, scaStatus string) bool {
	if scaStatus == "" && f.state.Links["scaStatus"] != "" {
		before := f.last
		if f.poll(ctx) != nil {
			return false
		}
		scaStatus, f.last = f.last.scaStatus, before
	}
	return scaStatus != "" && scaStatus != "failed" && scaStatus != "finalised"
}

// step is the grant as it stands.
func (f *flow) step() connector.ConsentStep {
	g := f.a.Grant
	g.State = f.state.seal()
	return connector.ConsentStep{Grant: g}
}

func (f *flow) done() connector.ConsentStep {
	g := f.a.Grant
	g.State = ""
	return connector.ConsentStep{Grant: g, Done: true}
}
