package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
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

	unchanged bool // tell of what did not change, too

	mu     sync.Mutex // guards what follows; held during a commit that decides on it
	st     bankfeed.ConnectionState
	toldOf map[bankfeed.AccountID]bool // in this session; with unchanged only
}

// Run works on a claimed session until it has ended or waits for its user. It
// returns an error only for faults of the hub; what banks do wrong ends up in
// the state of the channel.
func (e *Engine) Run(ctx context.Context, f bankfeed.Fence) error {
	st, err := e.sessionState(ctx, f)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil // removed with its connection, or its user is being erased: the work goes with it
	}
	if err != nil {
		return err
	}
	r := &run{Engine: e, fence: f, scribe: e.scribe(f.Tenant), st: st, unchanged: e.Unchanged(f.Tenant), toldOf: map[bankfeed.AccountID]bool{}}
	if !st.Session.Open() {
		return r.commit(ctx, func(_ *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Release = &bankfeed.Release{Done: true}
			return nil
		})
	}
	if st.Session.Faults >= maxFaults {
		err = r.abandon(ctx)
	}
	for settled := false; err == nil && !settled; {
		if err = r.channels(ctx); err == nil {
			settled, err = r.settle(ctx)
		}
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, bankfeed.ErrFenced) {
		err = errors.Join(err, r.fault(ctx))
	}
	return err
}

// sessionState reads what is stored of a claimed session and its connection.
func (e *Engine) sessionState(ctx context.Context, f bankfeed.Fence) (bankfeed.ConnectionState, error) {
	st, err := e.Store.SessionState(ctx, f.Tenant, bankfeed.SessionID(f.ID))
	if err == nil {
		e.nameBank(&st.Connection)
	}
	return st, err
}

// nameBank has events name the bank as its profile does today: a BIC may have
// been added since the connection was made.
func (e *Engine) nameBank(c *bankfeed.Connection) {
	if p, _, err := e.Banks.Lookup(c.ProviderID); err == nil {
		c.ProviderName, c.BIC = cmp.Or(p.Provider.Name, c.ProviderName), cmp.Or(p.Provider.BIC, c.BIC)
	}
}

// maxFaults is how often a session is tried although the hub itself fails at
// it. A database that is away does not count: it cannot store the fault.
const maxFaults = 5

// fault counts a failure of the hub, so that a session that can never go on
// ends instead of standing in the way of the next ones.
func (r *run) fault(ctx context.Context) error {
	return r.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		st.Session.Faults++
		c.Session = st.Session
		return nil
	})
}

// abandon ends the channels that the hub failed at too often.
func (r *run) abandon(ctx context.Context) error {
	return r.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		f := &bankfeed.Failure{Reason: bankfeed.FailInternal, Text: "the hub failed at this session again and again", Retry: true}
		now := r.now()
		for i := range st.Session.Runs {
			cr := &st.Session.Runs[i]
			if cr.Phase == bankfeed.PhaseDone || cr.Phase == bankfeed.PhaseAuth {
				continue
			}
			ch := st.Connection.Channel(cr.Mode)
			ch.Fail(now, f)
			next := now.Add(bankfeed.BackOff(ch.Failures))
			ch.NextTryAt, cr.Phase = &next, bankfeed.PhaseDone
		}
		st.Session.Faults = 0
		st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
		c.Connection, c.Session = &st.Connection, st.Session
		return nil
	})
}

// channels runs every channel that can go on without its user, and joins those
// that become able to meanwhile. Lists come first for all of them: which channel
// feeds an account that both list is decided before anybody reads it.
func (r *run) channels(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx) // one that fails takes the claim with it: no use in going on
	var lists errgroup.Group
	started := map[bankfeed.Mode]bool{}
	var active atomic.Int32
	reading := make(chan *channelRun, 2*len(r.snapshot().Session.Runs))
	for _, m := range r.runnable() {
		started[m] = true
		lists.Go(func() error {
			c, err := r.list(ctx, m)
			if c != nil {
				reading <- c
			}
			return err
		})
	}
	if err := lists.Wait(); err != nil {
		return err
	}
	close(reading)
	read := func(f func() error) {
		active.Add(1)
		g.Go(func() error {
			defer active.Add(-1)
			return guard(f)
		})
	}
	for c := range reading {
		read(func() error { return c.read(ctx) })
	}
	g.Go(func() error { return r.join(ctx, started, &active, read) })
	return g.Wait()
}

// list begins a channel; it returns nil when the channel has ended with that.
func (r *run) list(ctx context.Context, m bankfeed.Mode) (c *channelRun, err error) {
	err = guard(func() error {
		c, err = r.channel(ctx, m)
		return err
	})
	if err != nil {
		c = nil
	}
	return c, err
}

// joinEvery is how long a channel whose user has come back may wait for the
// node that works on the other one to notice.
const joinEvery = 2 * time.Second

// join starts channels that were authorised while others were being read.
func (r *run) join(ctx context.Context, started map[bankfeed.Mode]bool, active *atomic.Int32, read func(func() error)) error {
	waiting := func() bool {
		st := r.snapshot()
		return slices.ContainsFunc(st.Session.Runs, func(c bankfeed.ChannelRun) bool { return c.Phase == bankfeed.PhaseAuth })
	}
	t := time.NewTicker(joinEvery)
	defer t.Stop()
	for active.Load() > 0 && waiting() {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := r.refresh(ctx); err != nil {
			return err
		}
		for _, m := range r.runnable() {
			if started[m] {
				continue
			}
			started[m] = true
			read(func() error {
				c, err := r.list(ctx, m)
				if c == nil || err != nil {
					return err
				}
				return c.read(ctx)
			})
		}
	}
	return nil
}

// guard turns a panic into an error: one bank's answer must not take the
// process down, and the next node after it.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("ingest: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
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
	if st.Confirmed(cr.Mode) != nil && !ch.Final().NeedsUser() {
		ch.Keep(now, f)
	} else {
		ch.Fail(now, f)
	}
	cr.Phase = bankfeed.PhaseDone
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	if k := st.Consent(cr.Consent); k != nil && k.Status == bankfeed.ConsentReceived {
		k.Previous, k.Status = k.Status, bankfeed.ConsentRejected
		c.Consents = append(c.Consents, *k)
	}
	if ch.Status.NeedsUser() {
		c.Events = append(c.Events, r.scribe.Draft(bankfeed.EventActionRequired, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Reason, s.Failure = cr.Mode, ch.Status, f
		}))
	}
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
	if !n.FollowAll || event == bankfeed.EventSyncFailed {
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
			if r.st, err = r.sessionState(ctx, r.fence); err != nil {
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
// other accounts of the session. Entities that are written whole (connection,
// session, consents, accounts) go through commit.
func (r *run) commitRows(ctx context.Context, decide func(st *bankfeed.ConnectionState, c *bankfeed.Change) error) error {
	st := r.snapshot()
	c := &bankfeed.Change{Tenant: r.fence.Tenant, User: st.User.ID, Fence: &r.fence}
	if err := decide(&st, c); err != nil {
		return err
	}
	_, err := r.Store.Apply(ctx, c)
	return err
}

// refresh reads what others have stored meanwhile.
func (r *run) refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	st, err := r.sessionState(ctx, r.fence)
	if err == nil {
		r.st = st
	}
	return err
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
	r.st.Accounts = slices.DeleteFunc(r.st.Accounts, func(a bankfeed.Account) bool { return slices.Contains(c.Forget, a.ID) })
	for _, a := range c.Accounts {
		if old := r.st.Account(a.ID); old != nil {
			*old = a
		} else {
			r.st.Accounts = append(r.st.Accounts, a)
		}
	}
	if r.unchanged {
		r.noteTold(c.Events)
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
