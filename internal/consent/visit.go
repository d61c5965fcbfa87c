package consent

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// Bounds of one link.
const (
	// maxOpens is how often the bank is asked for a consent through one link.
	maxOpens = 10
	// maxWaits is how often a bank that has not made up its mind is asked
	// again before the client gets its user back.
	maxWaits = 10
)

// visit is one request of a PSU's browser to a link.
type visit struct {
	s      *Service
	tenant bankfeed.TenantID
	link   bankfeed.Link
	token  string // as it is in the URL; empty on the way back from the bank
	st     bankfeed.ConnectionState
	psu    *bankfeed.PSU
	posted bool
}

func (v *visit) load(ctx context.Context) (err error) {
	v.st, err = v.s.Store.SessionState(ctx, v.tenant, v.link.Session)
	return err
}

func (v *visit) attempt() *attempt {
	a := v.s.attempt(v.tenant, v.link.Session, v.link.Mode, v.psu)
	a.token, a.patient = v.link.Token, true
	return a
}

// enter finds what a token opens.
func (s *Service) enter(ctx context.Context, token string, psu *bankfeed.PSU) (*visit, error) {
	v := &visit{s: s, token: token, psu: psu}
	var err error
	if v.tenant, v.link, err = s.Store.LinkByToken(ctx, hashOf(token)); err != nil {
		return nil, err
	}
	if err = v.load(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// open answers the start page: it goes on where the link stands. For a REDIRECT
// channel that is a new consent with a new state parameter each time, because
// the bank's page of before may be used up; the one of before ends. Visits to
// one link take turns, so that of two the later one counts.
func (s *Service) open(ctx context.Context, token string, psu *bankfeed.PSU) (page, error) {
	defer s.opening.lock(token)()
	v, err := s.enter(ctx, token, psu)
	if err != nil {
		return page{}, err
	}
	run, ch, err := waiting(&v.st, v.link.Mode, s.now())
	switch {
	case err != nil:
		return v.over(), nil
	case ch.Challenge != nil && ch.Challenge.Kind == bankfeed.ChallengeApp:
		return v.respond(ctx, fits("", "", "", ""), connector.Input{})
	case ch.Challenge != nil:
		return v.ask(ch.Challenge, ""), nil
	case v.link.Mode == bankfeed.Redirect:
		return v.toBank(ctx, v.st.Consent(run.Consent))
	case run.Consent != 0:
		return v.working(), nil
	}
	give, err := decodeStash(v.link.Credentials)
	if err != nil {
		return page{}, err
	}
	if give.Login == "" {
		return v.askCredentials(""), nil
	}
	return v.login(ctx, give)
}

// answers are the fields of the start page's forms.
type answers struct {
	action, step    string
	login, password bankfeed.Secret
	method          string
	code            bankfeed.Secret
}

// submit answers a form of the start page.
func (s *Service) submit(ctx context.Context, token string, in answers, psu *bankfeed.PSU) (page, error) {
	defer s.opening.lock(token)()
	v, err := s.enter(ctx, token, psu)
	if err != nil {
		return page{}, err
	}
	v.posted = true
	run, ch, err := waiting(&v.st, v.link.Mode, s.now())
	switch {
	case err != nil:
		return v.over(), nil
	case in.action == "cancel":
		return v.cancel(ctx)
	case in.step != v.step(): // a form sent twice, or of an earlier page
		return page{location: v.self()}, nil
	case ch.Challenge != nil:
		return v.respond(ctx, fits(in.login, in.password, in.method, in.code),
			connector.Input{PSUID: in.login, Password: in.password, MethodID: in.method, Code: in.code})
	case v.link.Mode != bankfeed.Embedded || run.Consent != 0:
		return v.working(), nil
	case in.login == "" || in.password == "": // some browsers do not mind
		return v.askCredentials("Please fill in both fields."), nil
	}
	give, err := decodeStash(v.link.Credentials)
	if err != nil {
		return page{}, err
	}
	give.Login, give.Password = in.login, in.password
	return v.login(ctx, give)
}

// step names the question that a form answers: it changes with each answer.
func (v *visit) step() string {
	run := v.st.Session.Run(v.link.Mode)
	if k := v.st.Consent(run.Consent); k != nil {
		return strconv.FormatInt(int64(k.ID), 10) + "." + strconv.FormatInt(k.Version, 10)
	}
	return "0"
}

func (v *visit) self() string { return v.s.PublicURL + "/link/" + v.token }

// toBank sends the browser to the bank's page. Somebody who was there before
// may have answered already and lost the way back, so the bank is asked first.
func (v *visit) toBank(ctx context.Context, before *bankfeed.Consent) (page, error) {
	a := v.attempt()
	var calls []bankfeed.BankCall
	if before != nil && before.Status == bankfeed.ConsentReceived {
		out := a.check(ctx, v.st, *before)
		if out.info != nil && out.info.State == connector.ConsentValid {
			return v.conclude(ctx, a, *before, out, nil)
		}
		calls = out.calls
	}
	opens := 0
	for _, k := range v.st.Consents {
		if k.Session == v.link.Session && k.Mode == v.link.Mode {
			opens++
		}
	}
	if opens >= maxOpens {
		return v.message(http.StatusTooManyRequests, "Opened too often", "This link has been opened too often. Please start again where you came from."), nil
	}
	kept, err := decodeStash(v.link.Credentials)
	if err != nil {
		return page{}, err
	}
	id, err := v.s.Store.NextIDs(ctx, v.tenant, bankfeed.KindConsent, 1)
	if err != nil {
		return page{}, err
	}
	state := newSecret()
	a.nextState = hashOf(state)
	var r connector.ConsentRequest
	out := a.ask(ctx, v.st, bankfeed.Grant{}, func(d *dialogue) {
		r = a.request(d.access.Profile, v.s.now())
		r.RedirectURI = v.s.returnURL(state, false, 0)
		r.NokRedirectURI = v.s.returnURL(state, true, 0)
		d.create(r, "")
	})
	out.calls = append(calls, out.calls...)
	return v.conclude(ctx, a, newConsent(&v.st, bankfeed.ConsentID(id), v.link.Mode, kept.ConsentExternalID, r, v.s.now()), out, nil)
}

func (s *Service) returnURL(state string, refused bool, waits int) string {
	u := s.PublicURL + "/link/return?state=" + state
	if refused {
		u += "&refused=1"
	}
	if waits > 0 {
		u += "&waits=" + strconv.Itoa(waits)
	}
	return u
}

// login asks the bank of an EMBEDDED channel for a consent with the PSU's
// credentials. The number of the consent is taken first: one login at a time.
func (v *visit) login(ctx context.Context, give stash) (page, error) {
	a := v.attempt()
	n, err := v.s.Store.NextIDs(ctx, v.tenant, bankfeed.KindConsent, 1)
	if err != nil {
		return page{}, err
	}
	id := bankfeed.ConsentID(n)
	v.st, err = v.s.commit(ctx, v.tenant, v.link.Session, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		now := v.s.now()
		run, _, err := waiting(st, v.link.Mode, now)
		if err == nil && run.Consent != 0 {
			err = errInProgress
		}
		if err != nil {
			return err
		}
		run.Consent, run.Deadline = id, now.Add(v.s.ChallengeTimeout)
		st.Session.PSU = v.psu
		c.Connection, c.Session = &st.Connection, st.Session
		c.Ready = append(c.Ready, sessionWork(v.tenant, st, run.Deadline))
		c.Events = append(c.Events, a.scribe.Draft(bankfeed.EventAuthStarted, now, st, func(s *bankfeed.Snapshot) { s.Channel = v.link.Mode }))
		return nil
	})
	if err != nil {
		return v.excuse(err)
	}
	did, st, err := a.begin(ctx, v.st, id, give)
	return v.follow(ctx, did, st, err)
}

// respond passes the answer to a challenge on.
func (v *visit) respond(ctx context.Context, fits func(*bankfeed.Challenge) error, in connector.Input) (page, error) {
	did, err := v.attempt().respond(ctx, fits, in)
	var wrong *bankfeed.Error
	if errors.As(err, &wrong) && wrong.Kind == bankfeed.Invalid {
		return v.ask(v.st.Connection.Channel(v.link.Mode).Challenge, "Please answer the bank's question."), nil
	}
	if err != nil {
		return v.excuse(err)
	}
	return v.follow(ctx, did, v.st, nil)
}

func (v *visit) conclude(ctx context.Context, a *attempt, k bankfeed.Consent, out said, asked *bankfeed.Challenge) (page, error) {
	did, st, err := a.conclude(ctx, k, out, asked)
	return v.follow(ctx, did, st, err)
}

// cancel ends the wait because the PSU wants to.
func (v *visit) cancel(ctx context.Context) (page, error) {
	a := v.attempt()
	f := &bankfeed.Failure{Reason: bankfeed.FailRefused, Text: "the user gave up"}
	var did verdict
	st, err := v.s.commit(ctx, v.tenant, v.link.Session, func(st *bankfeed.ConnectionState, c *bankfeed.Change) (err error) {
		s := &settling{attempt: a, st: st, c: c, now: v.s.now()}
		if s.run, s.ch, err = waiting(st, v.link.Mode, s.now); err != nil {
			return err
		}
		_, l, err := v.s.Store.LinkByToken(ctx, v.link.Token)
		if err != nil {
			return err
		}
		did = s.fail(f)
		s.store()
		return s.keepLink(&l, did)
	})
	return v.follow(ctx, did, st, err)
}

// back answers the way back from the bank. state works once; while the bank has
// not made up its mind the browser asks again, each time with a new one.
func (s *Service) back(ctx context.Context, state string, refused bool, waits int, psu *bankfeed.PSU) (page, error) {
	v := &visit{s: s, psu: psu}
	var err error
	if v.tenant, v.link, err = s.Store.LinkByState(ctx, hashOf(state)); err != nil {
		return page{}, err
	}
	if err := v.load(ctx); err != nil {
		return page{}, err
	}
	k := v.st.Consent(v.link.Consent)
	_, _, late := waiting(&v.st, v.link.Mode, s.now())
	a := v.attempt()
	a.useState = hashOf(state)
	switch {
	case late != nil && k != nil && (k.Status == bankfeed.ConsentReceived || k.Status == bankfeed.ConsentRejected):
		// It may have been granted all the same, and nobody will use it.
		return v.conclude(ctx, a, *k, a.check(ctx, v.st, *k), nil)
	case late != nil:
		return v.over(), nil //nolint:nilerr // being late is not an error but a page
	case k == nil:
		return page{}, bankfeed.ErrNotFound
	}
	next := newSecret()
	if waits < maxWaits {
		a.nextState = hashOf(next)
	}
	out := a.check(ctx, v.st, *k)
	if refused && (out.info == nil || out.info.State == connector.ConsentPending) {
		// The bank sends its user back this way after a refusal only.
		out.info, out.err = &connector.ConsentInfo{State: connector.ConsentRejected, Raw: rawOf(out.info)}, nil
	}
	did, st, err := a.conclude(ctx, *k, out, nil)
	if err == nil && (did.pending || did.again) {
		v.st = st
		if waits >= maxWaits {
			return v.result(pending), nil
		}
		p := v.message(http.StatusOK, "One moment", "Your bank has not confirmed the access yet. This page asks again by itself.")
		p.refresh, p.seconds = s.returnURL(next, false, waits+1), 2+waits
		return p, nil
	}
	return v.follow(ctx, did, st, err)
}

func rawOf(info *connector.ConsentInfo) string {
	if info == nil {
		return ""
	}
	return info.Raw
}

// follow turns what a step came to into a page.
func (v *visit) follow(ctx context.Context, did verdict, st bankfeed.ConnectionState, err error) (page, error) {
	if err != nil {
		return v.excuse(err)
	}
	v.st = st
	if !did.done && did.redirect == "" {
		if err := v.load(ctx); err != nil { // forms name the step they belong to
			return page{}, err
		}
	}
	switch {
	case did.done:
		return v.result(resultOf(did.failure)), nil
	case did.redirect != "":
		return v.external(did.redirect), nil
	case v.posted && !did.again:
		return page{location: v.self()}, nil // to be reloaded without sending the form again
	case did.again && did.challenge != nil:
		return v.ask(did.challenge, sorry(did.failure)), nil
	case did.again && v.link.Mode == bankfeed.Embedded:
		return v.askCredentials(sorry(did.failure)), nil
	case did.again:
		p := v.message(http.StatusServiceUnavailable, "Your bank does not answer", "Please try again in a moment.")
		p.retry, p.cancel = true, true
		return p, nil
	case did.challenge != nil:
		return v.ask(did.challenge, ""), nil
	}
	return v.working(), nil // the bank has not made up its mind
}

func sorry(f *bankfeed.Failure) string {
	switch {
	case f == nil:
		return ""
	case busy(f.Reason):
		return "Your bank does not answer at the moment. Please try again."
	}
	return "Your bank did not accept that. Please try again."
}

// excuse turns a lost race into a page; other errors stay errors.
func (v *visit) excuse(err error) (page, error) {
	switch {
	case errors.Is(err, errInProgress):
		return v.working(), nil
	case errors.Is(err, errNobodyWaits), errors.Is(err, errTooLate):
		return v.over(), nil
	}
	return page{}, err
}

// result sends the browser back to the client, or tells its user.
func (v *visit) result(r result) page {
	if v.link.RedirectURL != "" {
		return v.external(resultURL(v.link.RedirectURL, v.st.Connection.ID, r))
	}
	title, text := resultText(r)
	return v.message(http.StatusOK, title, text)
}

func resultText(r result) (title, text string) {
	switch r {
	case success:
		return "Access granted", "Your bank has confirmed the access. You can close this page."
	case refused:
		return "Access not granted", "The access was refused. Nothing is read from your accounts. You can close this page."
	case pending:
		return "Not confirmed yet", "Your bank has not confirmed the access yet. You can close this page."
	}
	return "That did not work", "Your bank did not grant the access. Please start again where you came from."
}

// resultURL adds how it ended to a client's URL. The client's own parameters
// stay as they were written, but for those of these names.
func resultURL(to string, id bankfeed.ConnectionID, r result) string {
	u, err := url.Parse(to)
	if err != nil {
		return to // checked when the link was made
	}
	var q []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); pair == "" || err == nil && (name == "connection_id" || name == "result") {
			continue
		}
		q = append(q, pair)
	}
	q = append(q, "connection_id="+strconv.FormatInt(int64(id), 10), "result="+string(r))
	u.RawQuery = strings.Join(q, "&")
	return u.String()
}

// over says that the link has ended, and how.
func (v *visit) over() page {
	r, text := success, "This link was used already. Your bank has confirmed the access."
	ch, n := v.st.Connection.Channel(v.link.Mode), v.st.Session
	run := n.Run(v.link.Mode)
	switch {
	case ch != nil && ch.Failure != nil && (run == nil || run.Phase == bankfeed.PhaseDone):
		r, text = resultOf(ch.Failure), "This link has ended without access to your accounts."
	case run == nil || run.Phase == bankfeed.PhaseAuth || n.Status == bankfeed.SessionFailed:
		r, text = failed, "The time for this link is over. Please start again where you came from."
	}
	p := v.message(http.StatusGone, "This link has ended", text)
	if v.link.RedirectURL != "" {
		p.back = resultURL(v.link.RedirectURL, v.st.Connection.ID, r)
	}
	return p
}

// working asks for patience: another request is with the bank.
func (v *visit) working() page {
	p := v.message(http.StatusOK, "One moment", "Your bank is being asked. This page goes on by itself.")
	p.refresh, p.seconds = v.self(), 3
	return p
}

// ask shows a challenge.
func (v *visit) ask(q *bankfeed.Challenge, fault string) page {
	p := v.message(http.StatusOK, "Confirm the access", "")
	p.form, p.challenge, p.fault, p.step, p.cancel = q.Kind, q, fault, v.step(), true
	if fault != "" {
		p.status = http.StatusUnprocessableEntity
	}
	if q.Kind == bankfeed.ChallengeApp {
		p.refresh, p.seconds = v.self(), 5
	}
	if q.Kind == bankfeed.ChallengeCredentials {
		p.fields = v.fields()
		if v.link.Mode == bankfeed.Redirect {
			p.fields[1] = "" // the password is for the bank's own page
		}
	}
	return p
}

// askCredentials shows the login form.
func (v *visit) askCredentials(fault string) page {
	p := v.ask(&bankfeed.Challenge{Kind: bankfeed.ChallengeCredentials}, fault)
	p.title = "Log in to your bank"
	return p
}

// fields labels the login form as the bank's users know it.
func (v *visit) fields() (labels [2]string) {
	labels = [2]string{"Login", "Password"}
	p, err := v.s.Banks.Provider(v.st.Connection.ProviderID, v.st.Connection.Sandbox)
	if err != nil {
		return labels
	}
	d, _ := p.Channel(v.link.Mode)
	for _, f := range d.Credentials {
		if f.Secret {
			labels[1] = f.Label
		} else {
			labels[0] = f.Label
		}
	}
	return labels
}

func (v *visit) message(status int, title, text string) page {
	return page{status: status, title: title, text: text, bank: v.st.Connection.ProviderName, formTargets: v.formTargets()}
}

// formTargets is where the answer to a form may lead the browser: browsers hold
// redirects against the page's form-action too. The bank's own page is known to
// the bank alone.
func (v *visit) formTargets() string {
	if v.link.Mode == bankfeed.Redirect {
		return "https: http:"
	}
	u, err := url.Parse(v.link.RedirectURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme) + "://" + u.Host
}

func (v *visit) external(to string) page { return page{location: to} }
