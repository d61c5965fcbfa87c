package consent

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// attempt is one step of a PSU on a channel that waits for it. The bank is
// asked first; conclude decides on what it said.
type attempt struct {
	s       *Service
	scribe  bankfeed.Scribe
	tenant  bankfeed.TenantID
	session bankfeed.SessionID
	mode    bankfeed.Mode
	psu     *bankfeed.PSU

	// patient: a bank that is busy or down ends nothing, since its user is
	// there to try again.
	patient bool

	// token is set on the way through a start page. useState is the state
	// parameter that came back and is used up; nextState is the one that is
	// sent out with this step. All three are hashes.
	token, useState, nextState []byte
}

func (s *Service) attempt(tenant bankfeed.TenantID, session bankfeed.SessionID, m bankfeed.Mode, psu *bankfeed.PSU) *attempt {
	return &attempt{s: s, scribe: s.scribe(tenant), tenant: tenant, session: session, mode: m, psu: psu}
}

// Errors of an answer that nobody waits for.
var (
	errNobodyWaits = bankfeed.Errorf(bankfeed.Conflict, "the channel does not wait for its user")
	errTooLate     = bankfeed.Errorf(bankfeed.Conflict, "the time to answer is over")
	errInProgress  = bankfeed.Errorf(bankfeed.Conflict, "the bank is being asked already")
	errUsedState   = bankfeed.Errorf(bankfeed.NotFound, "this way back is unknown or was used already")
)

// waiting finds the run of a channel that waits for its user.
func waiting(st *bankfeed.ConnectionState, m bankfeed.Mode, now time.Time) (*bankfeed.ChannelRun, *bankfeed.Channel, error) {
	if st.Session == nil || !st.Session.Open() {
		return nil, nil, errNobodyWaits
	}
	run, ch := st.Session.Run(m), st.Connection.Channel(m)
	switch {
	case run == nil || ch == nil || run.Phase != bankfeed.PhaseAuth:
		return nil, nil, errNobodyWaits
	case !run.Deadline.After(now):
		return nil, nil, errTooLate
	}
	return run, ch, nil
}

// said is what a bank said in one step.
type said struct {
	step  connector.ConsentStep
	info  *connector.ConsentInfo // what it says of the consent, if it was asked
	err   *connector.Error
	calls []bankfeed.BankCall
}

// dialogue asks the bank of one connection.
type dialogue struct {
	*attempt
	ctx    context.Context
	bank   connector.Consenter
	access connector.Access
	said
}

// ask runs f against the bank of the state, out of reach of the request's own
// cancellation: a user who closes the browser does not tear a step apart.
func (a *attempt) ask(ctx context.Context, st bankfeed.ConnectionState, g bankfeed.Grant, f func(*dialogue)) said {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	d := &dialogue{attempt: a, ctx: ctx}
	profile, bank, err := a.s.Banks.Lookup(st.Connection.ProviderID)
	if err != nil {
		d.err = &connector.Error{Reason: bankfeed.FailOperator, Text: "the bank is not configured any more", Err: err}
		return d.said
	}
	d.bank = bank
	d.access = connector.Access{Profile: profile, Mode: a.mode, BusinessContext: st.User.BusinessContext, PSU: a.psu, Grant: g,
		Record: func(c bankfeed.BankCall) { d.calls = append(d.calls, c) }}
	f(d)
	if d.err != nil && d.err.Reason == bankfeed.FailInternal {
		a.s.Logger.ErrorContext(ctx, "a step at a bank failed", "session", a.session, "channel", a.mode, "error", d.err)
	}
	return d.said
}

// create asks for a consent and gives the credentials, if there are any.
func (d *dialogue) create(r connector.ConsentRequest, password bankfeed.Secret) {
	step, err := d.bank.CreateConsent(d.ctx, d.access, r)
	if d.take(step, err); d.err != nil {
		return
	}
	if password != "" && step.Challenge != nil && step.Challenge.Kind == bankfeed.ChallengeCredentials {
		d.proceed(connector.Input{PSUID: r.PSUID, Password: password})
		return
	}
	d.finish()
}

// proceed answers what the bank asked for.
func (d *dialogue) proceed(in connector.Input) {
	step, err := d.bank.Continue(d.ctx, d.access, in)
	if d.take(step, err); d.err == nil {
		d.finish()
	}
}

// take keeps the step. After a refusal the grant of before stays good.
func (d *dialogue) take(step connector.ConsentStep, err error) {
	if err != nil {
		d.err = connector.AsError(err)
		if d.access.Grant.ConsentID != "" {
			step = connector.ConsentStep{Grant: d.access.Grant}
		}
	}
	d.step, d.access.Grant = step, step.Grant
}

// finish asks for the result once nothing more is to be done.
func (d *dialogue) finish() {
	if d.step.Done {
		d.status()
	}
}

// status asks what the bank makes of the consent.
func (d *dialogue) status() {
	d.step.Grant = d.access.Grant
	info, err := d.bank.ConsentStatus(d.ctx, d.access)
	if err != nil {
		d.err = connector.AsError(err)
		return
	}
	d.info = &info
}

// request is what the hub asks for.
func (a *attempt) request(p *connector.Profile, now time.Time) connector.ConsentRequest {
	return connector.ConsentRequest{ValidUntil: bankfeed.DateOf(now).AddDays(p.ConsentDays), FrequencyPerDay: p.FrequencyPerDay, Recurring: true}
}

// begin asks the bank of an EMBEDDED channel for a consent. The run holds the
// number of the consent already, which keeps everybody else from doing the same.
func (a *attempt) begin(ctx context.Context, st bankfeed.ConnectionState, id bankfeed.ConsentID, give stash) (verdict, bankfeed.ConnectionState, error) {
	var r connector.ConsentRequest
	out := a.ask(ctx, st, bankfeed.Grant{}, func(d *dialogue) {
		r = a.request(d.access.Profile, a.s.now())
		r.PSUID = give.Login
		d.create(r, give.Password)
	})
	return a.conclude(ctx, newConsent(&st, id, a.mode, give.ConsentExternalID, r, a.s.now()), out, nil)
}

func newConsent(st *bankfeed.ConnectionState, id bankfeed.ConsentID, m bankfeed.Mode, externalID string, r connector.ConsentRequest, now time.Time) bankfeed.Consent {
	return bankfeed.Consent{ID: id, ExternalID: externalID, Mode: m, Status: bankfeed.ConsentReceived, ValidUntil: r.ValidUntil, FrequencyPerDay: r.FrequencyPerDay,
		CreatedAt: now, User: st.User.ID, Connection: st.Connection.ID, Session: st.Session.ID}
}

// check asks the bank what it makes of a consent.
func (a *attempt) check(ctx context.Context, st bankfeed.ConnectionState, k bankfeed.Consent) said {
	return a.ask(ctx, st, k.Grant, (*dialogue).status)
}

// respond answers the challenge of a channel. The challenge is taken away
// before the bank is called, so that of two answers one is passed on; it comes
// back when the bank lets its user try again. A crash in between leaves a wait
// without a challenge, which ends at its deadline.
func (a *attempt) respond(ctx context.Context, fits func(*bankfeed.Challenge) error, in connector.Input) (verdict, error) {
	ctx = context.WithoutCancel(ctx)
	var asked bankfeed.Challenge
	var k bankfeed.Consent
	st, err := a.s.commit(ctx, a.tenant, a.session, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		run, ch, err := waiting(st, a.mode, a.s.now())
		if err != nil {
			return err
		}
		consent := st.Consent(run.Consent)
		if ch.Challenge == nil || consent == nil {
			return errInProgress
		}
		if err := fits(ch.Challenge); err != nil {
			return err
		}
		asked, k = *ch.Challenge, *consent
		ch.Challenge = nil
		if least := a.s.now().Add(stepTimeout); run.Deadline.Before(least) {
			run.Deadline = least
		}
		st.Session.PSU = a.psu
		c.Connection, c.Session = &st.Connection, st.Session
		return nil
	})
	if err != nil {
		return verdict{}, err
	}
	out := a.ask(ctx, st, k.Grant, func(d *dialogue) {
		if asked.Kind == bankfeed.ChallengeApp && k.Grant.State == "" {
			d.status() // nothing is left to be done but to wait for the bank
			return
		}
		d.proceed(in)
		if d.err != nil && !d.err.TryAgain && busy(d.err.Reason) {
			// Whether the answer has arrived, the consent may tell.
			before := d.err
			d.err = nil
			d.status()
			if d.err != nil || d.info.State == connector.ConsentPending {
				d.err, d.info = before, nil
			}
		}
	})
	v, _, err := a.conclude(ctx, k, out, &asked)
	return v, err
}

// busy reports a failure that passes by itself.
func busy(r bankfeed.FailureReason) bool {
	return r == bankfeed.FailUnavailable || r == bankfeed.FailRateLimited
}

// conclude stores what the bank said. k is the consent it spoke of, as it was
// read before; with Version 0 it is a new one. asked is the challenge that was
// answered.
func (a *attempt) conclude(ctx context.Context, k bankfeed.Consent, out said, asked *bankfeed.Challenge) (v verdict, st bankfeed.ConnectionState, err error) {
	ctx = context.WithoutCancel(ctx)
	var late error
	var orphan bool
	st, err = a.s.commit(ctx, a.tenant, a.session, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		v, late, orphan = verdict{}, nil, false
		s := &settling{attempt: a, st: st, c: c, now: a.s.now(), asked: asked}
		if s.run, s.ch, late = waiting(st, a.mode, s.now); late != nil {
			s.calls(out.calls) // they were made, and that is all
			stored := st.Consent(k.ID)
			orphan = stored == nil || stored.Status == bankfeed.ConsentRejected ||
				stored.Status == bankfeed.ConsentReceived && errors.Is(late, errTooLate)
			if a.useState == nil || out.info == nil || out.info.State == connector.ConsentPending {
				return nil
			}
			// The bank has made up its mind, so the way back is used up.
			_, l, err := a.s.Store.LinkByToken(ctx, a.token)
			if err != nil {
				return err
			}
			if string(l.State) == string(a.useState) {
				l.State, l.EndedAt, l.Credentials = nil, &s.now, ""
				c.Links = append(c.Links, l)
			}
			return nil
		}
		var link *bankfeed.Link
		if a.token != nil {
			// Read after the session, whose version guards the link's state too.
			_, l, err := a.s.Store.LinkByToken(ctx, a.token)
			if err != nil {
				return err
			}
			if a.useState != nil && string(l.State) != string(a.useState) {
				return errUsedState
			}
			link = &l
		}
		if err := s.adopt(k, out); err != nil {
			return err
		}
		s.calls(out.calls)
		v = s.settle(out)
		s.store()
		if link != nil {
			if err := s.keepLink(link, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.keepCalls(ctx, out.calls) // somebody else was faster, but the bank was asked
	} else {
		err = late
	}
	if orphan && out.info != nil && out.info.State == connector.ConsentValid {
		a.disown(ctx, st, out)
	}
	return v, st, err
}

// disown ends a consent at the bank that came too late for the hub. It is tried
// once: where it fails, the consent ends by itself, used by nobody.
func (a *attempt) disown(ctx context.Context, st bankfeed.ConnectionState, late said) {
	out := a.ask(ctx, st, late.step.Grant, func(d *dialogue) {
		if err := d.bank.DeleteConsent(d.ctx, d.access); err != nil {
			d.err = connector.AsError(err)
		}
	})
	a.keepCalls(ctx, out.calls)
}

// keepCalls writes calls down of which nothing else came.
func (a *attempt) keepCalls(ctx context.Context, calls []bankfeed.BankCall) {
	if len(calls) == 0 {
		return
	}
	_, err := a.s.commit(context.WithoutCancel(ctx), a.tenant, a.session, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		c.Events = callDrafts(a.scribe, st, a.mode, calls)
		return nil
	})
	if err != nil {
		a.s.Logger.ErrorContext(ctx, "writing down calls to a bank failed", "session", a.session, "calls", len(calls), "error", err)
	}
}
