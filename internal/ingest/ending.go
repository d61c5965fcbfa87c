package ingest

import (
	"context"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// succeed ends the channel with data, wholly or in part.
func (c *channelRun) succeed(ctx context.Context) error {
	listOnly := c.snapshot().Session.Type == bankfeed.SessionListAccounts
	if !listOnly && c.reads == 0 {
		// Not one account could be read: that is no success in part.
		return c.fail(ctx, &channelEnd{err: c.partial})
	}
	var partial *bankfeed.Failure
	if c.partial != nil {
		partial = c.partial.Failure()
	}
	calls := c.unstored()
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		c.told(st, ch, calls)
		c.resumable(st, ch)
		channel := st.Connection.Channel(c.mode)
		channel.Succeed(c.now(), partial)
		cr := st.Session.Run(c.mode)
		cr.Phase, cr.Read = bankfeed.PhaseDone, cr.Read+c.reads
		st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
		ch.Connection, ch.Session = &st.Connection, st.Session
		if !listOnly {
			ch.Events = append(ch.Events, c.scribe.Draft(bankfeed.EventTransactionsSucceeded, c.now(), st, func(s *bankfeed.Snapshot) {
				s.Channel, s.Failure = c.mode, partial
			}))
		}
		return nil
	})
}

// fail ends the channel without success. A refusal that may mean the consent is
// checked against the consent itself, so that the history tells what happened.
func (c *channelRun) fail(ctx context.Context, end *channelEnd) error {
	e, state := end.err, connector.ConsentPending
	c.keep(end.calls)
	if e.Reason == bankfeed.FailConsentInvalid && e.Status != 0 {
		access, calls := c.recorded()
		if info, err := c.bank.ConsentStatus(ctx, access); err == nil {
			e, state = asConsentSays(e, info.State), info.State
		}
		c.keep(*calls)
	}
	if e.Reason == bankfeed.FailInternal {
		c.Logger.ErrorContext(ctx, "reading a channel failed", "session", c.fence.ID, "channel", c.mode, "error", e)
	}
	calls := c.unstored()
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		if end.refund != nil && e.Reason == bankfeed.FailRateLimited {
			ch.Refunds = []bankfeed.QuotaUse{*end.refund}
		}
		c.told(st, ch, calls)
		c.resumable(st, ch)
		c.end(st, ch, e, state)
		return nil
	})
}

func asConsentSays(e *connector.Error, s connector.ConsentState) *connector.Error {
	known := *e
	switch s {
	case connector.ConsentExpired:
		known.Reason = bankfeed.FailConsentExpired
	case connector.ConsentRevoked, connector.ConsentTerminated:
		known.Reason = bankfeed.FailConsentRevoked
	}
	return &known
}

var listFailed = map[bankfeed.Phase]bankfeed.EventType{
	bankfeed.PhaseAccounts:     bankfeed.EventAccountsListFailed,
	bankfeed.PhaseTransactions: bankfeed.EventTransactionsFailed,
}

// end decides what a failure makes of the channel, its consent and its run.
// state is what the bank says of the consent, as far as it was asked.
func (c *channelRun) end(st *bankfeed.ConnectionState, ch *bankfeed.Change, e *connector.Error, state connector.ConsentState) {
	now, f := c.now(), e.Failure()
	channel, cr := st.Connection.Channel(c.mode), st.Session.Run(c.mode)
	channel.Fail(now, f)
	switch {
	case f.Reason == bankfeed.FailRateLimited || f.Reason == bankfeed.FailQuota:
		next := now.Add(waitFor(e, now))
		channel.NextTryAt = &next
	case channel.Status == bankfeed.ChannelUnavailable:
		next := now.Add(max(e.RetryAfter, bankfeed.BackOff(channel.Failures)))
		channel.NextTryAt = &next
	}
	if k := st.Consent(c.consent); k != nil && k.Status == bankfeed.ConsentConfirmed && endsConsent(f.Reason) {
		k.Previous, k.Status = k.Status, bankfeed.ConsentInvalid
		k.Invalidation = &bankfeed.Invalidation{At: now, Reason: invalidation(f.Reason, state)}
		if e.Status != 0 { // the bank's own words, not the hub's
			k.Invalidation.Description = strings.TrimSpace(f.Code + " " + f.Text)
		}
		channel.Expires = nil
		ch.Consents = append(ch.Consents, *k)
		ch.Events = append(ch.Events, c.scribe.Draft(bankfeed.EventConsentUpdated, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Consent = c.mode, k
		}))
		sweepSpent(st, ch)
	}
	phase := cr.Phase
	cr.Phase, cr.Read = bankfeed.PhaseDone, cr.Read+c.reads
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	ch.Connection, ch.Session = &st.Connection, st.Session
	if t, ok := listFailed[phase]; ok {
		ch.Events = append(ch.Events, c.scribe.Draft(t, now, st, func(s *bankfeed.Snapshot) { s.Channel, s.Failure = c.mode, f }))
	}
	if channel.Status.NeedsUser() && channel.NextTryAt == nil {
		ch.Events = append(ch.Events, c.scribe.Draft(bankfeed.EventActionRequired, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Reason, s.Failure = c.mode, channel.Status, f
		}))
	}
}

// endsConsent reports whether a refusal means that the consent is of no more
// use.
func endsConsent(r bankfeed.FailureReason) bool {
	switch r {
	case bankfeed.FailConsentExpired, bankfeed.FailConsentRevoked, bankfeed.FailConsentInvalid, bankfeed.FailTokenExpired:
		return true
	}
	return false
}

func invalidation(r bankfeed.FailureReason, state connector.ConsentState) bankfeed.InvalidationReason {
	switch {
	case state == connector.ConsentTerminated:
		return bankfeed.InvalidTerminated
	case r == bankfeed.FailConsentRevoked:
		return bankfeed.InvalidRevokedByPSU
	}
	return bankfeed.InvalidExpired
}

// waitFor is how long to stay away after a 429 or an empty quota: as the bank
// says, else until the next midnight where its words speak of a day, else an
// hour.
func waitFor(e *connector.Error, now time.Time) time.Duration {
	switch {
	case e.RetryAfter > 0:
		return e.RetryAfter
	case e.Daily:
		return now.Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
	}
	return time.Hour
}

// wholeChannel reports whether a refusal for one account is meant for the
// channel: the consent is gone, the bank wants its user, or asks for patience.
// The hub's own quota is counted for each account.
func wholeChannel(e *connector.Error) bool {
	switch e.Reason {
	case bankfeed.FailQuota, bankfeed.FailAccount, bankfeed.FailFormat, bankfeed.FailProtocol, bankfeed.FailUnavailable, bankfeed.FailUnstable:
		return false
	}
	return true
}
