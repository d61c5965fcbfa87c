package consent

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/pages"
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
	if v.tenant, v.link, err = s.Store.LinkByToken(ctx, pages.HashOf(token)); err != nil {
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
		a.keepCalls(ctx, calls)
		return v.message(http.StatusTooManyRequests, "Opened too often", "This link has been opened too often. Please start again where you came from."), nil
	}
	kept, err := decodeStash(v.link.Credentials)
	if err != nil {
		a.keepCalls(ctx, calls)
		return page{}, err
	}
	id, err := v.s.Store.NextIDs(ctx, v.tenant, bankfeed.KindConsent, 1)
	if err != nil {
		a.keepCalls(ctx, calls)
		return page{}, err
	}
	state := pages.NewSecret()
	a.nextState = pages.HashOf(state)
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
	if v.tenant, v.link, err = s.Store.LinkByState(ctx, pages.HashOf(state)); err != nil {
		return page{}, err
	}
	if err := v.load(ctx); err != nil {
		return page{}, err
	}
	k := v.st.Consent(v.link.Consent)
	_, _, late := waiting(&v.st, v.link.Mode, s.now())
	a := v.attempt()
	a.useState = pages.HashOf(state)
	switch {
	case late != nil && k != nil && (k.Status == bankfeed.ConsentReceived || k.Status == bankfeed.ConsentRejected):
		// It may have been granted all the same, and nobody will use it.
		return v.conclude(ctx, a, *k, a.check(ctx, v.st, *k), nil)
	case late != nil:
		return v.over(), nil //nolint:nilerr // being late is not an error but a page
	case k == nil:
		return page{}, bankfeed.ErrNotFound
	}
	next := pages.NewSecret()
	if waits < maxWaits {
		a.nextState = pages.HashOf(next)
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
