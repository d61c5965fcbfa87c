package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Fresh and CallbackDelay are the defaults of a Config.
const (
	Fresh         = time.Hour
	CallbackDelay = 500 * time.Millisecond
)

// answerGrace is how long an answer may take to be written before the request
// ends without having heard that it was.
const answerGrace = 2 * time.Second

// RequestOrder asks for the data of some connections, or of all.
type RequestOrder struct {
	Tenant      bankfeed.TenantID
	User        bankfeed.UserID
	Client      string
	Sandbox     bool
	Connections []bankfeed.ConnectionID // nil: all of the user that were imported
	Handle      string
	Callback    *bankfeed.RequestCallback
	PSU         *bankfeed.PSU
}

// Request brings the stored data of connections up to date, as far as that is
// due: one that is being read is joined, one that was read less than Fresh ago
// stands as it is, and so does one that its bank would not answer for now. Others
// get a session. The request ends, with a request.finished event, when the last
// of these sessions has; not before its caller had time to store the answer
// (Answered). A connection that is not the user's, or was not imported yet, is
// ErrNotFound, and then nothing begins.
func (e *Engine) Request(ctx context.Context, o RequestOrder) (bankfeed.Request, error) {
	all, err := e.Store.Connections(ctx, o.Tenant, o.User)
	if err != nil {
		return bankfeed.Request{}, err
	}
	chosen, err := choose(all, o.Connections)
	if err != nil {
		return bankfeed.Request{}, err
	}
	now := e.now()
	r := bankfeed.Request{User: o.User, Client: o.Client, Sandbox: o.Sandbox, Kind: bankfeed.RequestSync, Status: string(bankfeed.OutcomeRunning),
		Handle: o.Handle, CreatedAt: now, NotBefore: now.Add(e.CallbackDelay + answerGrace)}
	if o.Callback != nil {
		r.Callbacks = []bankfeed.RequestCallback{*o.Callback}
	}
	for _, c := range chosen {
		m, err := e.member(ctx, c, o, now)
		switch kind := bankfeed.ErrorKindOf(err); {
		case err == nil:
			r.Members = append(r.Members, m)
		case kind != bankfeed.NotFound && kind != bankfeed.Conflict:
			return bankfeed.Request{}, err
		case o.Connections != nil:
			return bankfeed.Request{}, bankfeed.ErrNotFound
		default: // removed or closed since it was chosen
		}
	}
	id, err := e.Store.NextIDs(ctx, o.Tenant, bankfeed.KindRequest, 1)
	if err != nil {
		return bankfeed.Request{}, err
	}
	r.ID = bankfeed.RequestID(id)
	_, err = e.Store.Apply(ctx, &bankfeed.Change{Tenant: o.Tenant, User: o.User, Requests: []bankfeed.Request{r},
		Ready: []bankfeed.WorkItem{{Tenant: o.Tenant, Kind: bankfeed.WorkRequest, ID: id, ReadyAt: r.NotBefore}}})
	return r, err
}

// choose finds the connections that a request is about.
func choose(all []bankfeed.Connection, named []bankfeed.ConnectionID) (chosen []bankfeed.Connection, err error) {
	for _, c := range all {
		if c.Imported() && (named == nil || slices.Contains(named, c.ID)) {
			chosen = append(chosen, c)
		}
	}
	for _, id := range named {
		if !slices.ContainsFunc(chosen, func(c bankfeed.Connection) bool { return c.ID == id }) {
			return nil, bankfeed.ErrNotFound
		}
	}
	return chosen, nil
}

// member decides whether a connection needs a session, and opens or joins it.
func (e *Engine) member(ctx context.Context, c bankfeed.Connection, o RequestOrder, now time.Time) (bankfeed.RequestMember, error) {
	m := bankfeed.RequestMember{Connection: c.ID}
	if c.Status != bankfeed.ConnectionRunning && (e.fresh(c, now) || o.PSU == nil && !due(c, now)) {
		return m, nil
	}
	n, _, err := e.Synchronize(ctx, bankfeed.SyncOrder{Tenant: o.Tenant, User: o.User, Connection: c.ID, PSU: o.PSU, ExternalID: o.Handle})
	m.Session = n.ID
	return m, err
}

// fresh reports whether the last session ended so lately that the bank is not
// asked again.
func (e *Engine) fresh(c bankfeed.Connection, now time.Time) bool {
	return len(c.Channels) == 0 || slices.ContainsFunc(c.Channels, func(ch bankfeed.Channel) bool {
		return ch.LastEndAt != nil && now.Sub(*ch.LastEndAt) < e.Fresh
	})
}

// due reports whether any channel could take part without its user.
func due(c bankfeed.Connection, now time.Time) bool {
	return slices.ContainsFunc(c.Channels, func(ch bankfeed.Channel) bool {
		return !ch.Status.NeedsUser() && (ch.NextTryAt == nil || !ch.NextTryAt.After(now))
	})
}

// Answered is called when the answer to a request was written: from now on its
// caller gets CallbackDelay to store it. A hub that dies before that gives it a
// little more.
func (e *Engine) Answered(ctx context.Context, tenant bankfeed.TenantID, r bankfeed.Request) error {
	return e.Store.Answered(context.WithoutCancel(ctx), tenant, r.ID, e.now().Add(e.CallbackDelay))
}

// recheckRequest is how soon a request looks again whether its sessions have
// ended, in case nobody told it.
const recheckRequest = time.Minute

// RunRequest ends a claimed request of the kind RequestSync, once all that it
// covers has. After ErrConflict it must be read and run again.
func (e *Engine) RunRequest(ctx context.Context, f bankfeed.Fence, r bankfeed.Request) error {
	now := e.now()
	change := &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f, Release: &bankfeed.Release{Done: true}}
	ended, err := e.outcomes(ctx, f.Tenant, &r)
	switch {
	case err != nil:
		return err
	case r.EndedAt != nil:
	case !ended || now.Before(r.NotBefore):
		change.Release = &bankfeed.Release{ReadyAt: now.Add(recheckRequest)}
		if ended {
			change.Release.ReadyAt = r.NotBefore
		}
	default:
		u, err := e.Store.User(ctx, f.Tenant, r.User)
		if err != nil {
			return err
		}
		r.Status, r.EndedAt = string(overall(r.Members)), &now
		s := e.scribe(f.Tenant)
		d := s.DraftRequest(bankfeed.EventRequestFinished, now, u, s.RequestRef(&r))
		d.Callbacks = r.Calls(bankfeed.MomentFinished, now)
		change.Requests, change.Events = []bankfeed.Request{r}, []bankfeed.Draft{d}
	}
	_, err = e.Store.Apply(ctx, change)
	return err
}

// overall is what a request came to: a success only if everything is.
func overall(members []bankfeed.RequestMember) bankfeed.OutcomeStatus {
	for _, m := range members {
		if m.Outcome.Status != bankfeed.OutcomeSucceeded {
			return bankfeed.OutcomeFailed
		}
	}
	if len(members) == 0 {
		return bankfeed.OutcomeFailed
	}
	return bankfeed.OutcomeSucceeded
}

// outcomes fills in how the members stand that nobody has told of: those whose
// stored data counts, and those whose session had ended before the request was
// stored. It reports whether all of them have ended.
func (e *Engine) outcomes(ctx context.Context, tenant bankfeed.TenantID, r *bankfeed.Request) (bool, error) {
	for i := range r.Members {
		m := &r.Members[i]
		if m.Outcome != nil {
			continue
		}
		st, err := e.Store.ConnectionState(ctx, tenant, r.User, m.Connection)
		switch {
		case errors.Is(err, bankfeed.ErrNotFound):
			m.Outcome = &bankfeed.Outcome{Status: bankfeed.OutcomeFailed,
				Failure: &bankfeed.Failure{Reason: bankfeed.FailInternal, Text: "the data source was removed"}}
			continue
		case err != nil:
			return false, err
		case st.Session != nil && st.Session.ID == m.Session:
			return false, nil
		}
		// Another session may run by now: what came before it counts.
		c := st.Connection.Clone()
		for j := range c.Channels {
			if ch := &c.Channels[j]; ch.Status == bankfeed.ChannelRunning {
				ch.Status = ch.Final()
			}
		}
		o := c.Outcome()
		m.Outcome = &o
	}
	return true, nil
}
