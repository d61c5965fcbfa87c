package consent

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// SweepStore finds what time has ended.
type SweepStore interface {
	// EndingConsents lists confirmed consents by their last day.
	EndingConsents(ctx context.Context, q Ending) ([]EndingConsent, error)
	// SweepLinks forgets the credentials of links that expired before one time
	// and the links that did before another, up to limit of each, and returns
	// how many of whichever were more.
	SweepLinks(ctx context.Context, expired, forgotten time.Time, limit int) (int, error)
}

// Ending selects confirmed consents by their last day.
type Ending struct {
	Before   bankfeed.Date // exclusive
	Unwarned bool          // only those whose end was not announced
	After    EndingConsent // where the page before ended
	Limit    int
}

// EndingConsent names a consent that ends.
type EndingConsent struct {
	Tenant     bankfeed.TenantID
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Consent    bankfeed.ConsentID
	ValidUntil bankfeed.Date
}

const (
	// warnDays is how long before its last day the end of a consent is
	// announced: what others of the trade do in Europe.
	warnDays = 7
	// rememberLinks is how long an expired link can still say that it is.
	rememberLinks = 24 * time.Hour
	sweepChunk    = 200
)

// Sweep does what is due by the calendar: it announces the end of consents,
// once each and a week ahead, ends those whose last day is over, and forgets
// expired links. It may run on several nodes at once, and as often as one likes;
// every few minutes keeps credentials from waiting much longer than they may.
// One connection that cannot be changed does not hold up the others. It returns
// how many consents and links it changed.
func (s *Service) Sweep(ctx context.Context, now time.Time) (int, error) {
	now = now.UTC()
	today := bankfeed.DateOf(now)
	warned, err1 := s.ending(ctx, Ending{Before: today.AddDays(warnDays + 1), Unwarned: true},
		func(k *bankfeed.Consent) bool { return k.WarnedAt == nil && k.ValidUntil >= today },
		func(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent) { s.warn(st, c, k, now) })
	expired, err2 := s.ending(ctx, Ending{Before: today}, func(k *bankfeed.Consent) bool { return k.ValidUntil < today },
		func(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent) { s.expire(st, c, k, now) })
	links, err3 := s.sweepLinks(ctx, now)
	return warned + expired + links, errors.Join(err1, err2, err3)
}

// ending walks through the consents that a query selects. What does not hold of
// a consent any more when it is read again is left alone.
func (s *Service) ending(ctx context.Context, q Ending, holds func(*bankfeed.Consent) bool, act func(*bankfeed.ConnectionState, *bankfeed.Change, *bankfeed.Consent)) (n int, err error) {
	q.Limit = sweepChunk
	for {
		found, err := s.Store.EndingConsents(ctx, q)
		if err != nil {
			return n, err
		}
		for _, e := range found {
			q.After = e
			changed := 0
			err := s.changeConnection(ctx, e.Tenant, e.User, e.Connection, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
				changed = 0
				k := st.Consent(e.Consent)
				if k == nil || k.Status != bankfeed.ConsentConfirmed || !holds(k) {
					return errDone
				}
				act(st, c, k)
				if len(c.Events) == 0 {
					return errDone
				}
				changed = 1
				return nil
			})
			if ctx.Err() != nil {
				return n, ctx.Err()
			}
			if err == nil {
				n += changed
			}
			if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
				s.Logger.ErrorContext(ctx, "sweeping a consent failed", "consent", e.Consent, "error", err)
			}
		}
		if len(found) < sweepChunk {
			return n, nil
		}
	}
}

// warn announces the end of a consent.
func (s *Service) warn(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent, now time.Time) {
	k.WarnedAt = &now
	c.Consents = append(c.Consents, *k)
	c.Events = append(c.Events, s.byClock(c.Tenant, bankfeed.EventConsentExpiring, st, now, func(snap *bankfeed.Snapshot) {
		snap.Channel, snap.Consent = k.Mode, k
	}))
}

// expire ends a consent whose last day is over. While a session is open that is
// the session's business, which has the bank's own word.
func (s *Service) expire(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent, now time.Time) {
	if st.Session != nil {
		return
	}
	invalidate(k, now, bankfeed.InvalidExpired, "")
	c.Consents = append(c.Consents, *k)
	if len(st.Spent()) > 0 {
		c.Ready = append(c.Ready, removalWork(c.Tenant, st, now))
	}
	f := &bankfeed.Failure{Reason: bankfeed.FailConsentExpired, Text: "the last day of the consent is over"}
	ch := st.Connection.Channel(k.Mode)
	last := st.Confirmed(k.Mode) == nil && ch != nil && ch.Status != bankfeed.ChannelClosed
	if last {
		ended, failures := ch.LastEndAt, ch.Failures
		ch.Fail(now, f)
		ch.Expires, ch.LastEndAt, ch.Failures = nil, ended, failures // no run has ended or failed
		st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
		if !st.Connection.NextSyncAt.IsZero() {
			st.Connection.NextSyncAt = st.Connection.NextSync(st.Connection.NextSyncAt)
		}
		c.Connection = &st.Connection
	}
	c.Events = append(c.Events, s.byClock(c.Tenant, bankfeed.EventConsentUpdated, st, now, func(snap *bankfeed.Snapshot) {
		snap.Channel, snap.Consent = k.Mode, k
	}))
	if last {
		c.Events = append(c.Events, s.byClock(c.Tenant, bankfeed.EventActionRequired, st, now, func(snap *bankfeed.Snapshot) {
			snap.Channel, snap.Reason, snap.Failure = k.Mode, ch.Status, f
		}))
	}
}

// byClock drafts an event that nobody asked for.
func (s *Service) byClock(tenant bankfeed.TenantID, t bankfeed.EventType, st *bankfeed.ConnectionState, now time.Time, fill func(*bankfeed.Snapshot)) bankfeed.Draft {
	return s.scribe(tenant).Draft(t, now, st, func(snap *bankfeed.Snapshot) {
		snap.Initiator = bankfeed.ByBackground
		fill(snap)
	})
}

func (s *Service) sweepLinks(ctx context.Context, now time.Time) (total int, err error) {
	for {
		n, err := s.Store.SweepLinks(ctx, now, now.Add(-rememberLinks), sweepChunk)
		total += n
		if err != nil || n < sweepChunk {
			return total, err
		}
	}
}
