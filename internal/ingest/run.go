package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bankfeed/bankfeed"
)

// run is one claim of one session. Several goroutines work on it, a channel
// each and an account each; they share what is known about the connection.
type run struct {
	*Engine
	fence  bankfeed.Fence
	scribe bankfeed.Scribe
	stop   context.CancelFunc

	mu sync.Mutex // guards state; held during a commit that decides on it
	st bankfeed.ConnectionState
}

// Run works on a claimed session until it has ended or waits for its user. It
// returns an error only for faults of the hub; what banks do wrong ends up in
// the state of the channel.
func (e *Engine) Run(ctx context.Context, f bankfeed.Fence) error {
	st, err := e.Store.SessionState(ctx, f.Tenant, bankfeed.SessionID(f.ID))
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil // removed with its connection; the work went with it
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &run{Engine: e, fence: f, scribe: e.scribe(f.Tenant), stop: stop, st: st}
	if !st.Session.Open() {
		return r.commit(ctx, func(_ *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Release = &bankfeed.Release{Done: true}
			return nil
		})
	}
	for {
		var g errgroup.Group
		for _, m := range r.runnable() {
			g.Go(func() error {
				err := r.channel(ctx, m)
				if err != nil {
					stop() // the session is lost to this node: no use in going on
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		settled, err := r.settle(ctx)
		if settled || err != nil {
			return err
		}
	}
}

// runnable lists the channels that can go on without their user.
func (r *run) runnable() []bankfeed.Mode {
	st := r.snapshot()
	var modes []bankfeed.Mode
	for _, c := range st.Session.Runs {
		if c.Phase != bankfeed.PhaseAuth && c.Phase != bankfeed.PhaseDone {
			modes = append(modes, c.Mode)
		}
	}
	return modes
}

// settle ends the session when all its channels have ended, gives it back when
// one waits for its user, and reports false when there is more to do.
func (r *run) settle(ctx context.Context) (settled bool, err error) {
	err = r.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		now := r.now()
		settled = false
		var wake time.Time
		for i := range st.Session.Runs {
			switch cr := &st.Session.Runs[i]; cr.Phase {
			case bankfeed.PhaseDone:
			case bankfeed.PhaseAuth:
				if !cr.Deadline.After(now) {
					r.giveUpAuth(st, c, cr, now)
				} else if wake.IsZero() || cr.Deadline.Before(wake) {
					wake = cr.Deadline
				}
			default:
				return errMore // authorised meanwhile
			}
		}
		settled = true
		c.Connection, c.Session = &st.Connection, st.Session
		if !wake.IsZero() {
			c.Release = &bankfeed.Release{ReadyAt: wake}
			return nil
		}
		return r.end(ctx, st, c, now)
	})
	if errors.Is(err, errMore) {
		return false, nil
	}
	if err == nil {
		r.Kick() // a session of its own may follow
	}
	return settled, err
}

var errMore = errors.New("ingest: another channel became ready")

// giveUpAuth ends a channel whose user did not come back in time.
func (r *run) giveUpAuth(st *bankfeed.ConnectionState, c *bankfeed.Change, cr *bankfeed.ChannelRun, now time.Time) {
	ch := st.Connection.Channel(cr.Mode)
	f := &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the user did not come back from the bank in time"}
	if ch.Challenge != nil && ch.Challenge.Kind != bankfeed.ChallengeRedirect {
		f = &bankfeed.Failure{Reason: bankfeed.FailChallenge, Text: "the bank's challenge was not answered in time"}
	}
	ch.Fail(now, f)
	cr.Phase = bankfeed.PhaseDone
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	if k := st.Consent(cr.Consent); k != nil && k.Status == bankfeed.ConsentReceived {
		k.Previous, k.Status = k.Status, bankfeed.ConsentRejected
		c.Consents = append(c.Consents, *k)
	}
	c.Events = append(c.Events, r.scribe.Draft(bankfeed.EventActionRequired, now, st, func(s *bankfeed.Snapshot) {
		s.Channel, s.Reason, s.Failure = cr.Mode, ch.Status, f
	}))
}

// end decides how the session ended. The end event follows the connection's
// status, but a run that read nothing has failed whatever was known before.
func (r *run) end(ctx context.Context, st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time) error {
	n := st.Session
	read := 0
	for _, cr := range n.Runs {
		read += cr.Read
	}
	conn := &st.Connection
	conn.Status = bankfeed.DeriveStatus(conn.Channels)
	conn.NextSyncAt = time.Time{}
	if conn.AutoSync {
		conn.NextSyncAt = conn.NextSync(r.daily(now))
	}
	event := bankfeed.EventSyncSucceeded
	n.Status = bankfeed.SessionFinished
	if read == 0 || conn.Status != bankfeed.ConnectionSuccess && conn.Status != bankfeed.ConnectionPartialSuccess {
		event, n.Status = bankfeed.EventSyncFailed, bankfeed.SessionFailed
		n.Failure = whyNobody(*conn)
	}
	n.EndedAt, n.PSU = &now, nil // the address has served its purpose
	c.Events = append(c.Events, r.scribe.Draft(event, now, st, func(s *bankfeed.Snapshot) { s.Failure = n.Failure }))
	c.Release = &bankfeed.Release{Done: true}
	if !n.FollowAll {
		return nil
	}
	id, err := r.Store.NextIDs(ctx, r.fence.Tenant, bankfeed.KindSession, 1)
	if err != nil {
		return err
	}
	next := *st
	next.Connection = conn.Clone()
	follow := r.open(&next, bankfeed.SyncOrder{Tenant: r.fence.Tenant, User: st.User.ID, Connection: conn.ID, Type: bankfeed.SessionAll,
		PSU: r.st.Session.PSU, Initiator: n.Initiator, ExternalID: n.ExternalID}, bankfeed.SessionID(id), now)
	c.Connection, c.NewSession, c.Ready = &next.Connection, next.Session, follow.Ready
	c.Events = append(c.Events, follow.Events...)
	return nil
}

// commit decides on the state and persists the decision. When somebody else
// changed the same rows meanwhile, the state is read again and decided anew.
func (r *run) commit(ctx context.Context, decide func(st *bankfeed.ConnectionState, c *bankfeed.Change) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		st := clone(r.st)
		c := &bankfeed.Change{Tenant: r.fence.Tenant, User: st.User.ID, Fence: &r.fence}
		if err := decide(&st, c); err != nil {
			return err
		}
		_, err := r.Store.Apply(ctx, c)
		if errors.Is(err, bankfeed.ErrConflict) {
			if r.st, err = r.Store.SessionState(ctx, r.fence.Tenant, bankfeed.SessionID(r.fence.ID)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		r.st = st
		r.remember(c)
		return nil
	}
}

// commitRows persists rows that nobody else decides on, without holding up the
// other accounts of the session.
func (r *run) commitRows(ctx context.Context, decide func(st *bankfeed.ConnectionState, c *bankfeed.Change) error) error {
	st := r.snapshot()
	c := &bankfeed.Change{Tenant: r.fence.Tenant, User: st.User.ID, Fence: &r.fence}
	if err := decide(&st, c); err != nil {
		return err
	}
	if _, err := r.Store.Apply(ctx, c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remember(c)
	return nil
}

// remember brings the known state up to date with what was stored.
func (r *run) remember(c *bankfeed.Change) {
	if c.Connection != nil {
		r.st.Connection.Version++
	}
	if c.Session != nil {
		r.st.Session.Version++
	}
	for _, k := range c.Consents {
		k.Version++
		if old := r.st.Consent(k.ID); old != nil {
			*old = k
		}
	}
	for _, a := range c.Accounts {
		if old := r.st.Account(a.ID); old != nil {
			*old = a
		} else {
			r.st.Accounts = append(r.st.Accounts, a)
		}
	}
}

func (r *run) snapshot() bankfeed.ConnectionState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return clone(r.st)
}

// clone copies what decisions change; what lies deeper is never changed in
// place.
func clone(st bankfeed.ConnectionState) bankfeed.ConnectionState {
	st.Connection = st.Connection.Clone()
	n := *st.Session
	n.Runs = slices.Clone(n.Runs)
	st.Session = &n
	st.Consents = slices.Clone(st.Consents)
	st.Accounts = slices.Clone(st.Accounts)
	return st
}
