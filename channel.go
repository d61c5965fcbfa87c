package bankfeed

import "time"

// Start begins a run: the channel remembers its last final status and forgets
// what went wrong before.
func (c *Channel) Start() {
	c.LastStatus = c.Final()
	c.Status = ChannelRunning
	c.Action, c.Failure, c.NextTryAt, c.Challenge = ActionNone, nil, nil, nil
}

// Authorise takes a new consent into account: what an earlier one had come to
// is over.
func (c *Channel) Authorise(until *time.Time) {
	c.Expires, c.Challenge, c.Failures = until, nil, 0
	if c.LastStatus.NeedsUser() {
		c.LastStatus = ChannelEmpty
	}
}

// Succeed ends a run that delivered.
func (c *Channel) Succeed(now time.Time, partial *Failure) {
	c.Status = ChannelSuccess
	if partial != nil {
		c.Status = ChannelPartialSuccess
	}
	c.Failure, c.Action, c.Challenge, c.Failures = partial, ActionNone, nil, 0
	c.LastSuccessAt, c.LastEndAt = &now, &now
	c.LastStatus = c.Status
}

// Fail ends a run that did not: what the failure means decides status and
// action. A rate limit is neither success nor failure: the last final status
// stays, and no back-off step is burned.
func (c *Channel) Fail(now time.Time, f *Failure) {
	last := c.Final()
	c.Failure, c.Challenge, c.NextTryAt = f, nil, nil
	c.LastEndAt = &now
	c.Status, c.Action = outcome(f.Reason, c.Mode)
	switch {
	case f.Reason == FailRateLimited || f.Reason == FailQuota:
		c.Status, c.Action = last, ActionNone
	case c.Status == ChannelUnavailable:
		c.Failures++
		c.LastStatus = last
	default:
		c.Failures++
		c.LastStatus = c.Status
	}
}

// Keep ends an attempt to renew that came to nothing while the earlier consent
// still works: the channel stays what it was, and says what went wrong.
func (c *Channel) Keep(now time.Time, f *Failure) {
	c.Status = c.Final()
	c.Action, c.Failure, c.Challenge, c.NextTryAt = ActionNone, f, nil, nil
	c.LastEndAt = &now
}

// outcome is the table from cause to status and action.
func outcome(r FailureReason, m Mode) (ChannelStatus, Action) {
	again := ActionRedirect
	if m == Embedded {
		again = ActionCredentials
	}
	switch r {
	case FailCredentials, FailChallengeWrong, FailRefused, FailAborted:
		return ChannelAuthFailed, again
	case FailConsentExpired, FailConsentRevoked, FailConsentInvalid, FailTokenExpired:
		return ChannelTokenExpired, again
	case FailPassword:
		return ChannelPasswordChangeRequired, ActionBankSite
	case FailUserAction:
		return ChannelUserActionRequired, ActionBankSite
	case FailChallenge:
		return ChannelChallengeRequired, ActionChallenge
	}
	return ChannelUnavailable, ActionNone
}

// Back-off of unattended sessions after failures in a row: 2 h, doubling up to
// 5 days (after the table that Powens publishes).
const (
	firstBackOff = 2 * time.Hour
	maxBackOff   = 5 * 24 * time.Hour
)

// BackOff is how long to wait after a number of failures in a row.
func BackOff(failures int) time.Duration {
	d := firstBackOff
	for ; failures > 1 && d < maxBackOff; failures-- {
		d *= 2
	}
	return min(d, maxBackOff)
}

// NextSync is when the next unattended session of a connection is due: the
// earliest of what its channels wait for, zero when all of them need their
// user. daily is when a channel without any other wish is due.
func (c *Connection) NextSync(daily time.Time) time.Time {
	var next time.Time
	for _, ch := range c.Channels {
		if ch.Status.NeedsUser() || ch.Action != ActionNone || ch.Status == ChannelClosed || ch.Status == ChannelEmpty && ch.Failure == nil {
			continue
		}
		at := daily
		if ch.NextTryAt != nil {
			at = *ch.NextTryAt
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}
