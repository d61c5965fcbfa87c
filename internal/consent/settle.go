package consent

import (
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// verdict is what a step came to, for whoever answers its user.
type verdict struct {
	redirect  string              // the bank's page, where the user goes now
	challenge *bankfeed.Challenge // what the user is asked now
	again     bool                // nothing was decided: the same may be tried again
	pending   bool                // the bank has not made up its mind
	done      bool                // the wait is over, with a failure or without
	failure   *bankfeed.Failure
}

// result is how a link ended, as its client is told in the redirect.
type result string

const (
	success result = "success"
	refused result = "refused"
	failed  result = "failed"
	pending result = "pending"
)

func resultOf(f *bankfeed.Failure) result {
	switch {
	case f == nil:
		return success
	case f.Reason == bankfeed.FailRefused:
		return refused
	}
	return failed
}

// settling decides on one step. It changes a state that nobody else holds and
// collects the change.
type settling struct {
	*attempt
	st    *bankfeed.ConnectionState
	c     *bankfeed.Change
	now   time.Time
	run   *bankfeed.ChannelRun
	ch    *bankfeed.Channel
	k     *bankfeed.Consent // nil: the bank has made none
	asked *bankfeed.Challenge
}

func (s *settling) event(t bankfeed.EventType, fill func(*bankfeed.Snapshot)) {
	s.c.Events = append(s.c.Events, s.scribe.Draft(t, s.now, s.st, func(snap *bankfeed.Snapshot) {
		snap.Channel = s.mode
		if fill != nil {
			fill(snap)
		}
	}))
}

func (s *settling) calls(calls []bankfeed.BankCall) {
	s.c.Events = append(s.c.Events, callDrafts(s.scribe, s.st, s.mode, calls)...)
}

func callDrafts(scribe bankfeed.Scribe, st *bankfeed.ConnectionState, m bankfeed.Mode, calls []bankfeed.BankCall) []bankfeed.Draft {
	var drafts []bankfeed.Draft
	for i := range calls {
		drafts = append(drafts, scribe.Draft(bankfeed.EventBankCalled, calls[i].At, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Call = m, &calls[i]
		}))
	}
	return drafts
}

// adopt brings the consent of the step into the state. A consent that somebody
// else has decided on since it was read is a Conflict.
func (s *settling) adopt(k bankfeed.Consent, out said) error {
	if k.Version != 0 {
		if s.k = s.st.Consent(k.ID); s.k == nil || s.k.Version != k.Version {
			return errInProgress
		}
		s.k.Grant = out.step.Grant
		return nil
	}
	before := s.run.Consent
	if s.mode == bankfeed.Embedded && before != k.ID {
		return errInProgress
	}
	if s.mode != bankfeed.Embedded && before == 0 {
		s.event(bankfeed.EventAuthStarted, nil)
	}
	if s.mode == bankfeed.Embedded {
		s.run.Consent = 0
	}
	if out.step.Grant.ConsentID == "" {
		return nil
	}
	if old := s.st.Consent(before); old != nil && old.Status == bankfeed.ConsentReceived {
		reject(old)
		s.c.Consents = append(s.c.Consents, *old)
	}
	k.Grant = out.step.Grant
	s.st.Consents = slices.Insert(s.st.Consents, 0, k)
	s.k = &s.st.Consents[0]
	s.run.Consent = k.ID
	return nil
}

// settle decides.
func (s *settling) settle(out said) verdict {
	if s.psu != nil {
		s.st.Session.PSU = s.psu
	}
	switch {
	case out.err != nil && (out.err.TryAgain || s.patient && busy(out.err.Reason)):
		if s.ch.Challenge = s.asked; s.asked != nil {
			s.waitUntil(s.asked.Deadline)
		}
		if s.k != nil && s.k.Version == 0 { // of a step that is begun anew
			reject(s.k)
			s.run.Consent = 0
		}
		return verdict{again: true, failure: out.err.Failure(), challenge: s.asked}
	case out.err != nil:
		return s.fail(out.err.Failure())
	case s.k == nil:
		return s.fail(&bankfeed.Failure{Reason: bankfeed.FailProtocol, Text: "the bank does not name the consent", Retry: true})
	case out.info != nil:
		switch out.info.State {
		case connector.ConsentValid:
			return s.confirm(*out.info)
		case connector.ConsentPending:
			if s.mode == bankfeed.Redirect {
				return verdict{pending: true}
			}
			return s.pose(bankfeed.Challenge{Kind: bankfeed.ChallengeApp, Text: "The bank has not confirmed the access yet."})
		case connector.ConsentExpired:
			return s.fail(&bankfeed.Failure{Reason: bankfeed.FailAborted, Code: out.info.Raw, Text: "the bank ended the authorisation"})
		default:
			return s.fail(&bankfeed.Failure{Reason: bankfeed.FailRefused, Code: out.info.Raw, Text: "the access was refused at the bank"})
		}
	case out.step.RedirectURL != "" && s.mode == bankfeed.Embedded:
		return s.fail(&bankfeed.Failure{Reason: bankfeed.FailFormat, Text: "the bank wants its user on its own pages: link the REDIRECT channel"})
	case out.step.RedirectURL != "":
		s.ch.Challenge = nil
		s.waitUntil(s.now.Add(s.s.LinkTimeout))
		return verdict{redirect: out.step.RedirectURL}
	case out.step.Challenge != nil:
		return s.pose(*out.step.Challenge)
	}
	return s.fail(&bankfeed.Failure{Reason: bankfeed.FailProtocol, Text: "the bank does not say how to go on", Retry: true})
}

// waitUntil sets when the session engine gives the wait up.
func (s *settling) waitUntil(t time.Time) {
	s.run.Deadline = t
	s.c.Ready = append(s.c.Ready, sessionWork(s.tenant, s.st, t))
}

// maxChallengeText is eight times what the standard lets a bank say (1.3.12,
// psuMessage).
const maxChallengeText = 4 << 10

// pose asks the user. Waiting on for the same app is no new question.
func (s *settling) pose(q bankfeed.Challenge) verdict {
	q.Text = connector.Bound(q.Text, maxChallengeText)
	if q.Deadline = s.now.Add(s.s.ChallengeTimeout); s.asked != nil && s.asked.Kind == bankfeed.ChallengeApp && q.Kind == s.asked.Kind {
		q.Deadline = s.asked.Deadline
		s.run.Deadline = q.Deadline
		s.ch.Challenge = &q
		return verdict{challenge: &q}
	}
	s.ch.Challenge = &q
	s.waitUntil(q.Deadline)
	s.event(bankfeed.EventActionRequired, func(snap *bankfeed.Snapshot) { snap.Reason = bankfeed.ChannelChallengeRequired })
	return verdict{challenge: &q}
}

// confirm takes the consent as the bank granted it and hands the channel to the
// session engine.
func (s *settling) confirm(info connector.ConsentInfo) verdict {
	k := s.k
	k.Previous, k.Status, k.ConfirmedAt = k.Status, bankfeed.ConsentConfirmed, &s.now
	k.FreshUntil, k.Grant.State = s.now.Add(freshFor), ""
	if info.ValidUntil != "" {
		k.ValidUntil = info.ValidUntil
	}
	if info.FrequencyPerDay > 0 {
		k.FrequencyPerDay = info.FrequencyPerDay
	}
	s.ch.Authorise(expiry(k.ValidUntil))
	s.run.Phase, s.run.Deadline = bankfeed.PhaseReady, time.Time{}
	s.event(bankfeed.EventAuthSucceeded, nil)
	for i := range s.st.Consents {
		old := &s.st.Consents[i]
		if old.ID == k.ID || old.Mode != k.Mode || old.Status != bankfeed.ConsentConfirmed {
			continue
		}
		invalidate(old, s.now, bankfeed.InvalidReplaced, "")
		s.c.Consents = append(s.c.Consents, *old)
		s.event(bankfeed.EventConsentUpdated, func(snap *bankfeed.Snapshot) { snap.Consent = old })
	}
	s.c.Ready = append(s.c.Ready, sessionWork(s.tenant, s.st, s.now))
	if len(s.st.Spent()) > 0 {
		s.c.Ready = append(s.c.Ready, removalWork(s.tenant, s.st, s.now))
	}
	return verdict{done: true}
}

// fail ends the wait without access. The session engine ends the session.
func (s *settling) fail(f *bankfeed.Failure) verdict {
	if s.st.Confirmed(s.mode) != nil && !s.ch.Final().NeedsUser() {
		s.ch.Keep(s.now, f)
	} else {
		s.ch.Fail(s.now, f)
	}
	if s.ch.Action == bankfeed.ActionNone && s.st.Confirmed(s.mode) == nil {
		// Without a consent nothing gets better by waiting.
		s.ch.Action = renewal(s.mode)
	}
	s.run.Phase, s.run.Deadline = bankfeed.PhaseDone, time.Time{}
	switch old := s.st.Consent(s.run.Consent); {
	case s.k != nil && s.k.Status == bankfeed.ConsentReceived:
		reject(s.k)
	case s.k == nil && old != nil && old.Status == bankfeed.ConsentReceived:
		reject(old)
		s.c.Consents = append(s.c.Consents, *old)
	}
	if s.ch.Status.NeedsUser() {
		s.event(bankfeed.EventActionRequired, func(snap *bankfeed.Snapshot) { snap.Reason, snap.Failure = s.ch.Status, f })
	}
	s.c.Ready = append(s.c.Ready, sessionWork(s.tenant, s.st, s.now))
	return verdict{done: true, failure: f}
}

// store puts the parts of the state into the change.
func (s *settling) store() {
	s.st.Connection.Status = bankfeed.DeriveStatus(s.st.Connection.Channels)
	s.c.Connection, s.c.Session = &s.st.Connection, s.st.Session
	if s.k != nil {
		s.c.Consents = append(s.c.Consents, *s.k)
	}
}

// keepLink stores what becomes of the link: its state parameter works once,
// its credentials are gone as soon as they were used.
func (s *settling) keepLink(l *bankfeed.Link, v verdict) error {
	kept, err := decodeStash(l.Credentials)
	if err != nil {
		return err
	}
	kept.Login, kept.Password = "", ""
	if l.Credentials, err = kept.encode(); err != nil {
		return err
	}
	l.Consent = s.run.Consent
	switch {
	case v.done:
		l.State, l.EndedAt, l.Credentials = nil, &s.now, ""
	case v.again && s.useState == nil: // the step is begun anew, with a state of its own
	case s.nextState != nil, s.useState != nil:
		l.State = s.nextState
	}
	if !v.done {
		l.ExpiresAt = s.run.Deadline
	}
	s.c.Links = append(s.c.Links, *l)
	return nil
}

func renewal(m bankfeed.Mode) bankfeed.Action {
	if m == bankfeed.Embedded {
		return bankfeed.ActionCredentials
	}
	return bankfeed.ActionRedirect
}

// reject ends a consent that was never given.
func reject(k *bankfeed.Consent) {
	k.Previous, k.Status, k.Grant.State = k.Status, bankfeed.ConsentRejected, ""
}

// invalidate ends a consent that was given.
func invalidate(k *bankfeed.Consent, now time.Time, why bankfeed.InvalidationReason, description string) {
	k.Previous, k.Status = k.Status, bankfeed.ConsentInvalid
	k.Invalidation = &bankfeed.Invalidation{At: now, Reason: why, Description: description}
}

// endless is how banks write a consent without an end (1.3.12, validUntil).
const endless bankfeed.Date = "9999-12-31"

// expiry is the end of a consent's last day; nil if it has none.
func expiry(d bankfeed.Date) *time.Time {
	if d == "" || d >= endless {
		return nil
	}
	t := d.AddDays(1).Time()
	return &t
}
