package consent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// RemovalStore is what removals and erasures need to remember.
type RemovalStore interface {
	// RemovalState is ConnectionState for a connection by its number alone,
	// also when its user is marked as erased.
	RemovalState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error)
	// RemoveTransactions deletes a portion of the transactions of accounts and
	// reports whether there may be more. Accounts that are in use, because a
	// bank has listed them again, it leaves alone.
	RemoveTransactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, accounts []bankfeed.AccountID, limit int) (more bool, err error)
	// FinishWork gives claimed work back without any other change.
	FinishWork(ctx context.Context, f bankfeed.Fence, r bankfeed.Release) error
	// ErasedAt is when a user was marked as erased, zero if that never happened.
	ErasedAt(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (time.Time, error)
	// FinishErasure removes every row that a user still has, adds user.erased
	// to the log, and ends the claimed work of the erasure, in one commit.
	FinishErasure(ctx context.Context, f bankfeed.Fence, at time.Time) error
}

const (
	// bankPatience is how long a removal waits for a bank that does not answer.
	// Transactions are gone by then; what is left ends without the bank.
	bankPatience = time.Hour
	// First and longest pause between two tries.
	firstRetry, lastRetry = 30 * time.Second, 15 * time.Minute
	// portion is how many transactions one commit removes.
	portion = 1000
)

// errDone: there is nothing left to do.
var errDone = errors.New("consent: done already")

func (s *Service) changeConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) error {
	_, err := s.change(ctx, tenant, func() (bankfeed.ConnectionState, error) { return s.Store.ConnectionState(ctx, tenant, user, id) }, decide)
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// DeleteConnection closes a connection: its session ends, nobody opens another.
// Its consents end at the bank and its data goes away in the background
// (RunRemoval); connection.deleted says when that is done.
func (s *Service) DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	return s.changeConnection(ctx, tenant, user, id, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if st.Connection.Status == bankfeed.ConnectionClosed {
			return errDone
		}
		now := s.now()
		s.closeConnection(st, c, now)
		c.Ready = append(c.Ready, removalWork(tenant, st, now))
		return nil
	})
}

func removalWork(tenant bankfeed.TenantID, st *bankfeed.ConnectionState, at time.Time) bankfeed.WorkItem {
	return bankfeed.WorkItem{Tenant: tenant, Kind: bankfeed.WorkRemoval, ID: int64(st.Connection.ID), Group: st.Connection.ProviderID, ReadyAt: at}
}

func (s *Service) closeConnection(st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time) {
	f := &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the connection was removed"}
	open := st.Session != nil
	if open {
		endSession(st, c, now, f, func(*bankfeed.Channel) {})
		c.Ended = append(c.Ended, sessionWork(c.Tenant, st, now),
			bankfeed.WorkItem{Tenant: c.Tenant, Kind: bankfeed.WorkImport, ID: int64(st.Session.ID)})
	}
	for i := range st.Connection.Channels {
		ch := &st.Connection.Channels[i]
		*ch = bankfeed.Channel{Mode: ch.Mode, Status: bankfeed.ChannelClosed, LastSuccessAt: ch.LastSuccessAt, LastEndAt: &now}
	}
	st.Connection.Status, st.Connection.NextSyncAt = bankfeed.ConnectionClosed, time.Time{}
	c.Connection = &st.Connection
	if open {
		c.Events = append(c.Events, s.scribe(c.Tenant).Draft(bankfeed.EventSyncFailed, now, st, func(snap *bankfeed.Snapshot) { snap.Failure = f }))
		st.Session = nil
	}
}

// DeleteConsent takes a consent away from its channel. It ends at the bank, and
// the data that no other channel reaches goes away, in the background
// (RunRemoval); consent.deleted says when that is done. A session that uses the
// consent ends.
func (s *Service) DeleteConsent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConsentID) error {
	known, err := s.Store.Consent(ctx, tenant, user, id)
	if err != nil {
		return err
	}
	return s.changeConnection(ctx, tenant, user, known.Connection, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		k := st.Consent(id)
		if k == nil || k.DeletedAt != nil || st.Connection.Status == bankfeed.ConnectionClosed {
			return errDone
		}
		now := s.now()
		if used(st.Session, id) {
			f := &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the consent was removed"}
			endSession(st, c, now, f, func(ch *bankfeed.Channel) { ch.Status, ch.Challenge = ch.Final(), nil })
			c.Ended = append(c.Ended, sessionWork(tenant, st, now))
			c.Events = append(c.Events, s.scribe(tenant).Draft(bankfeed.EventSyncFailed, now, st, func(snap *bankfeed.Snapshot) { snap.Failure = f }))
			// endSession may have rejected it.
			c.Consents = slices.DeleteFunc(c.Consents, func(o bankfeed.Consent) bool { return o.ID == id })
		}
		takeConsent(st, c, k, now)
		c.Ready = append(c.Ready, removalWork(tenant, st, now))
		return nil
	})
}

// takeConsent marks a consent as deleted and takes it away from its channel.
func takeConsent(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent, now time.Time) {
	if ch := st.Connection.Channel(k.Mode); ch != nil && k.Status == bankfeed.ConsentConfirmed {
		if ch.Status == bankfeed.ChannelRunning { // for another consent
			ch.LastStatus, ch.Expires = bankfeed.ChannelEmpty, nil
		} else {
			*ch = bankfeed.Channel{Mode: ch.Mode, Status: bankfeed.ChannelEmpty, LastSuccessAt: ch.LastSuccessAt, LastEndAt: ch.LastEndAt}
		}
	}
	k.Previous, k.Status, k.DeletedAt = k.Status, bankfeed.ConsentDeleted, &now
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	if !st.Connection.NextSyncAt.IsZero() {
		st.Connection.NextSyncAt = st.Connection.NextSync(st.Connection.NextSyncAt)
	}
	c.Connection = &st.Connection
	c.Consents = append(c.Consents, *k)
}

func used(n *bankfeed.Session, id bankfeed.ConsentID) bool {
	return n != nil && slices.ContainsFunc(n.Runs, func(r bankfeed.ChannelRun) bool { return r.Consent == id && r.Phase != bankfeed.PhaseDone })
}

// removal is one claim of one removal, or of an erasure that removes.
type removal struct {
	s      *Service
	scribe bankfeed.Scribe
	fence  bankfeed.Fence
	id     bankfeed.ConnectionID
}

// draft is an event of a removal.
func (r *removal) draft(t bankfeed.EventType, at time.Time, st *bankfeed.ConnectionState, fill func(*bankfeed.Snapshot)) bankfeed.Draft {
	return r.scribe.Draft(t, at, outside(st), fill)
}

// outside is a state without its session: a removal is part of none, though one
// may run on another channel, and it was asked for by a person.
func outside(st *bankfeed.ConnectionState) *bankfeed.ConnectionState {
	o := *st
	o.Session = nil
	return &o
}

// change decides on the connection under the fence.
func (r *removal) change(ctx context.Context, decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) (bankfeed.ConnectionState, error) {
	return r.s.change(ctx, r.fence.Tenant, func() (bankfeed.ConnectionState, error) { return r.s.Store.RemovalState(ctx, r.fence.Tenant, r.id) },
		func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Fence = &r.fence
			return decide(st, c)
		})
}

// RunRemoval works on claimed work of kind bankfeed.WorkRemoval: it removes a
// connection that was closed, or those of its accounts and consents that were
// deleted. It may stop anywhere; the next claim goes on.
func (s *Service) RunRemoval(ctx context.Context, f bankfeed.Fence) error {
	r := &removal{s: s, scribe: s.scribe(f.Tenant), fence: f, id: bankfeed.ConnectionID(f.ID)}
	for {
		st, err := s.Store.RemovalState(ctx, f.Tenant, r.id)
		if errors.Is(err, bankfeed.ErrNotFound) {
			return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true}) // removed with its user
		}
		if err != nil {
			return err
		}
		if st.Connection.Status == bankfeed.ConnectionClosed {
			err = r.connection(ctx, st)
		} else {
			err = r.parts(ctx)
		}
		if errors.Is(err, errMore) || errors.Is(err, bankfeed.ErrNotFound) {
			continue
		}
		return err
	}
}

// errMore: something else is to be removed by now.
var errMore = errors.New("consent: more to remove")

// connection removes a closed connection.
func (r *removal) connection(ctx context.Context, st bankfeed.ConnectionState) error {
	st, open, err := r.endAtBank(ctx, st, func(*bankfeed.Consent) bool { return true })
	if err != nil {
		return err
	}
	if err := r.transactions(ctx, st, accountIDs(st.Accounts)); err != nil {
		return err
	}
	if err := r.s.Log.RedactConnection(ctx, r.fence.Tenant, st.User.ID, r.id); err != nil {
		return err
	}
	if open > 0 {
		if wait, ok := r.s.patience(closedAt(st.Connection)); ok {
			return r.s.Store.FinishWork(ctx, r.fence, bankfeed.Release{ReadyAt: wait})
		}
	}
	return r.finish(ctx, &bankfeed.Release{Done: true})
}

func accountIDs(accounts []bankfeed.Account) (ids []bankfeed.AccountID) {
	for _, a := range accounts {
		ids = append(ids, a.ID)
	}
	return ids
}

// closedAt is when a connection was closed.
func closedAt(c bankfeed.Connection) (at time.Time) {
	for _, ch := range c.Channels {
		if ch.LastEndAt != nil {
			at = latest(at, *ch.LastEndAt)
		}
	}
	return at
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// patience is when a bank that does not answer is asked again; ok is false when
// that has gone on for long enough.
func (s *Service) patience(since time.Time) (next time.Time, ok bool) {
	now := s.now()
	waited := now.Sub(since)
	return now.Add(min(max(waited, firstRetry), lastRetry)), waited < bankPatience
}

// finish takes away what is left of the connection and says so.
func (r *removal) finish(ctx context.Context, release *bankfeed.Release) error {
	_, err := r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		now := r.s.now()
		c.Connection = &st.Connection // compare-and-set: said once
		c.Delete = &bankfeed.Deletion{Connection: r.id}
		c.Release = release
		if r.fence.Kind == bankfeed.WorkRemoval {
			c.Ready = append(c.Ready, r.blanking(st))
		} else { // an erasure blanks everything in the end
			c.Ended = append(c.Ended, removalWork(r.fence.Tenant, st, now))
		}
		for i := range st.Consents {
			r.deleted(st, c, &st.Consents[i], now)
		}
		c.Events = append(c.Events, r.draft(bankfeed.EventConnectionDeleted, now, st, nil))
		return nil
	})
	return err
}

// deleted says that a consent is gone, if it was ever told of. The snapshot is
// its last state, which deleted is not.
func (r *removal) deleted(st *bankfeed.ConnectionState, c *bankfeed.Change, k *bankfeed.Consent, now time.Time) {
	if !k.AccountsListed {
		return
	}
	last := *k
	if last.Status == bankfeed.ConsentDeleted {
		last.Status, last.Previous = last.Previous, before[last.Previous]
	}
	c.Events = append(c.Events, r.draft(bankfeed.EventConsentDeleted, now, st, func(s *bankfeed.Snapshot) {
		s.Channel, s.Consent = last.Mode, &last
	}))
}

// before is where a consent came from: its states form a line.
var before = map[bankfeed.ConsentStatus]bankfeed.ConsentStatus{
	bankfeed.ConsentRejected:  bankfeed.ConsentReceived,
	bankfeed.ConsentConfirmed: bankfeed.ConsentReceived,
	bankfeed.ConsentInvalid:   bankfeed.ConsentConfirmed,
}

// errReading: a session writes accounts.
var errReading = errors.New("consent: a session reads")

// reading: a session without a channel stores what was handed in.
func reading(n *bankfeed.Session) bool {
	return n != nil && (len(n.Runs) == 0 || slices.ContainsFunc(n.Runs, func(c bankfeed.ChannelRun) bool {
		return c.Phase != bankfeed.PhaseAuth && c.Phase != bankfeed.PhaseDone
	}))
}

// parts removes what was deleted of a connection that stays. What a session
// reads waits until it has ended.
func (r *removal) parts(ctx context.Context) error {
	err := r.endAccounts(ctx)
	if err == nil {
		err = r.endConsents(ctx)
	}
	if errors.Is(err, errReading) {
		return r.s.Store.FinishWork(ctx, r.fence, bankfeed.Release{ReadyAt: r.s.now().Add(firstRetry)})
	}
	return err
}

// endConsents removes the deleted consents, with the accounts that nobody else
// reaches. Which accounts these are is settled before their transactions go:
// whoever lists one of them later begins anew with it.
func (r *removal) endConsents(ctx context.Context) error {
	st, err := r.settle(ctx)
	if errors.Is(err, errDone) {
		return r.more(ctx)
	}
	if err != nil {
		return err
	}
	gone := left(&st)
	if err := r.transactions(ctx, st, gone); err != nil {
		return err
	}
	settled := map[bankfeed.ConsentID]bool{}
	var since time.Time
	for _, k := range st.Consents {
		if k.DeletedAt != nil {
			settled[k.ID] = true
			since = latest(since, *k.DeletedAt)
		}
	}
	if err := r.redact(ctx, gone, settled); err != nil {
		return err
	}
	_, open, err := r.endAtBank(ctx, st, func(k *bankfeed.Consent) bool { return k.DeletedAt != nil })
	if err != nil {
		return err
	}
	if open > 0 {
		if wait, ok := r.s.patience(since); ok {
			return r.s.Store.FinishWork(ctx, r.fence, bankfeed.Release{ReadyAt: wait})
		}
	}
	_, err = r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if st.Connection.Status == bankfeed.ConnectionClosed {
			return errMore
		}
		if reading(st.Session) {
			return errReading
		}
		c.Connection = &st.Connection // compare-and-set: a deletion or a session that comes now is seen
		i := slices.IndexFunc(st.Consents, func(k bankfeed.Consent) bool { return k.DeletedAt != nil })
		if i < 0 {
			return errDone
		}
		k := st.Consents[i]
		rows := left(st)
		if !settled[k.ID] || slices.ContainsFunc(rows, func(id bankfeed.AccountID) bool { return !slices.Contains(gone, id) }) {
			return errMore
		}
		c.Delete = &bankfeed.Deletion{Connection: r.id, Consent: k.ID, Accounts: rows}
		r.deleted(st, c, &k, r.s.now())
		c.Ready = append(c.Ready, r.blanking(st))
		return nil
	})
	if err != nil && !errors.Is(err, errDone) {
		return err
	}
	return r.more(ctx)
}

// more ends the work, or goes on with what is left.
func (r *removal) more(ctx context.Context) error {
	_, err := r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if st.Connection.Status == bankfeed.ConnectionClosed || len(st.Connection.Removing) > 0 ||
			slices.ContainsFunc(st.Consents, func(k bankfeed.Consent) bool { return k.DeletedAt != nil }) {
			return errMore
		}
		c.Connection = &st.Connection // compare-and-set, as above
		c.Forget = st.Spent()
		c.Release = &bankfeed.Release{Done: true}
		return nil
	})
	return err
}

// transactions removes the transactions of accounts, in portions.
func (r *removal) transactions(ctx context.Context, st bankfeed.ConnectionState, accounts []bankfeed.AccountID) error {
	if len(accounts) == 0 {
		return nil
	}
	for {
		more, err := r.s.Store.RemoveTransactions(ctx, r.fence.Tenant, st.User.ID, accounts, portion)
		if err != nil || !more {
			return err
		}
	}
}

// redact blanks what the log says of consents, and of accounts that nobody has
// listed again.
func (r *removal) redact(ctx context.Context, accounts []bankfeed.AccountID, consents map[bankfeed.ConsentID]bool) error {
	st, err := r.s.Store.RemovalState(ctx, r.fence.Tenant, r.id)
	if err != nil {
		return err
	}
	if reading(st.Session) {
		return errReading
	}
	still := left(&st)
	accounts = slices.DeleteFunc(slices.Clone(accounts), func(id bankfeed.AccountID) bool { return !slices.Contains(still, id) })
	if err := r.s.Log.RedactAccounts(ctx, r.fence.Tenant, st.User.ID, r.id, accounts); err != nil {
		return err
	}
	modes := map[bankfeed.Mode]bool{}
	for _, k := range st.Consents {
		modes[k.Mode] = modes[k.Mode] || consents[k.ID]
	}
	return r.s.Log.RedactLists(ctx, r.fence.Tenant, st.User.ID, r.id, func(snap *bankfeed.Snapshot) bool {
		if snap.Consent != nil {
			return consents[snap.Consent.ID]
		}
		return modes[snap.Channel] && names(snap, func(id bankfeed.AccountID) bool { return slices.Contains(accounts, id) })
	})
}
