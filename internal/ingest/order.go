package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Synchronize opens a session for a connection, or joins the one that is open:
// a connection has one at a time. When no channel can take part without its
// user, the session ends at once as failed, so that whoever follows the events
// sees an end.
func (e *Engine) Synchronize(ctx context.Context, o bankfeed.SyncOrder) (session bankfeed.Session, joined bool, err error) {
	for {
		st, err := e.Store.ConnectionState(ctx, o.Tenant, o.User, o.Connection)
		if err != nil {
			return session, false, err
		}
		if st.Session != nil {
			err := e.join(ctx, &st, o)
			if errors.Is(err, bankfeed.ErrConflict) {
				continue
			}
			return *st.Session, true, err
		}
		if st.Connection.Status == bankfeed.ConnectionClosed {
			return session, false, bankfeed.Errorf(bankfeed.Conflict, "the connection is closed")
		}
		id, err := e.Store.NextIDs(ctx, o.Tenant, bankfeed.KindSession, 1)
		if err != nil {
			return session, false, err
		}
		e.nameBank(&st.Connection)
		c := e.open(&st, o, bankfeed.SessionID(id), e.now())
		_, err = e.Store.Apply(ctx, c)
		switch {
		case err == nil:
			if len(c.Ready) > 0 {
				e.Kick()
			}
			return *st.Session, false, nil
		case errors.Is(err, bankfeed.ErrBusy), errors.Is(err, bankfeed.ErrConflict):
			continue // somebody was faster: join
		default:
			return session, false, err
		}
	}
}

// join lets a request be found under its own external id.
func (e *Engine) join(ctx context.Context, st *bankfeed.ConnectionState, o bankfeed.SyncOrder) error {
	if o.ExternalID == "" || o.ExternalID == st.Session.ExternalID {
		return nil
	}
	_, err := e.Store.Apply(ctx, &bankfeed.Change{Tenant: o.Tenant, User: o.User, Session: st.Session, Alias: o.ExternalID})
	return err
}

// SynchronizeAll opens or joins a session for each of a user's connections that
// is not closed.
func (e *Engine) SynchronizeAll(ctx context.Context, o bankfeed.SyncOrder) ([]bankfeed.Session, error) {
	connections, err := e.Store.Connections(ctx, o.Tenant, o.User)
	if err != nil {
		return nil, err
	}
	sessions := []bankfeed.Session{}
	for _, c := range connections {
		if c.Status == bankfeed.ConnectionClosed || len(c.Channels) == 0 {
			continue
		}
		one := o
		one.Connection = c.ID
		s, _, err := e.Synchronize(ctx, one)
		if errors.Is(err, bankfeed.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return sessions, err
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

// open decides which channels take part and starts them.
func (e *Engine) open(st *bankfeed.ConnectionState, o bankfeed.SyncOrder, id bankfeed.SessionID, now time.Time) *bankfeed.Change {
	if o.Type == "" {
		o.Type = bankfeed.SessionAll
	}
	if o.Initiator == "" {
		o.Initiator = bankfeed.ByUser
	}
	n := bankfeed.Session{ID: id, ExternalID: o.ExternalID, Status: bankfeed.SessionInitiated, Stage: bankfeed.StageAccounts, Type: o.Type,
		Initiator: o.Initiator, Attended: o.PSU != nil, CreatedAt: now, User: o.User, Connection: o.Connection, PSU: o.PSU,
		FollowAll: o.Type == bankfeed.SessionListAccounts}
	for i := range st.Connection.Channels {
		ch := &st.Connection.Channels[i]
		consent := st.Confirmed(ch.Mode)
		// What the user must mend at the bank's own site may be mended by now,
		// and a limit on unattended access does not bind a user who is there:
		// only an attended session goes and sees.
		if consent == nil || o.PSU == nil && (ch.Status.NeedsUser() || ch.NextTryAt != nil && ch.NextTryAt.After(now)) {
			continue
		}
		ch.Start()
		n.Runs = append(n.Runs, bankfeed.ChannelRun{Mode: ch.Mode, Phase: bankfeed.PhaseReady, Consent: consent.ID})
	}
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	st.Connection.NextSyncAt = time.Time{}
	st.Session = &n

	s := e.scribe(o.Tenant)
	c := &bankfeed.Change{Tenant: o.Tenant, User: o.User, Connection: &st.Connection, NewSession: &n}
	c.Events = append(c.Events, s.Draft(bankfeed.EventSyncStarted, now, st, nil))
	if len(st.Connection.Channels) == 0 { // what was handed in is as fresh as it gets
		n.Status, n.EndedAt = bankfeed.SessionFinished, &now
		c.Events = append(c.Events, s.Draft(bankfeed.EventSyncSucceeded, now, st, nil))
		return c
	}
	if len(n.Runs) == 0 {
		n.Status, n.EndedAt = bankfeed.SessionFailed, &now
		n.Failure = whyNobody(st.Connection)
		if st.Connection.AutoSync {
			st.Connection.NextSyncAt = st.Connection.NextSync(e.daily(now))
		}
		c.Events = append(c.Events, s.Draft(bankfeed.EventSyncFailed, now, st, func(snap *bankfeed.Snapshot) { snap.Failure = n.Failure }))
		return c
	}
	c.Ready = []bankfeed.WorkItem{{Tenant: o.Tenant, Kind: bankfeed.WorkSession, ID: int64(id), Group: st.Connection.ProviderID,
		Attended: n.Attended, ReadyAt: now}}
	return c
}

// whyNobody is the failure of the first channel that has one.
func whyNobody(c bankfeed.Connection) *bankfeed.Failure {
	for _, ch := range c.Channels {
		if ch.Failure != nil {
			return ch.Failure
		}
	}
	return &bankfeed.Failure{Reason: bankfeed.FailConsentInvalid, Text: "no channel has a valid consent"}
}
