package bankfeed

import (
	"crypto/sha256"
	"time"
)

// Scribe writes the snapshots of events: it knows what every event says about
// the hub itself.
type Scribe struct {
	Installation Installation
	Tenant       TenantID
	Build        string // YYYYMMDD.n
	Node         string // 12 hex digits
}

// Draft freezes what is known about a connection into an event. Parts of the
// state are shared, not copied: whoever changes them later works on a copy.
func (s Scribe) Draft(t EventType, at time.Time, st *ConnectionState, fill func(*Snapshot)) Draft {
	snap := &Snapshot{Schema: SnapshotSchema, Build: s.Build, Node: s.Node, User: s.UserRef(st.User), Connection: &st.Connection}
	d := Draft{Type: t, At: at, Connection: st.Connection.ID, Snapshot: snap}
	if st.Session != nil {
		snap.Session, snap.Initiator, d.Session = s.SessionRef(st.Session), st.Session.Initiator, st.Session.ID
	} else {
		snap.Initiator = ByUser
	}
	if fill != nil {
		fill(snap)
	}
	if snap.Account != nil {
		d.Account = snap.Account.ID
	}
	return d
}

// UserRef names a user in snapshots.
func (s Scribe) UserRef(u User) UserRef {
	return UserRef{ID: u.ID, UUID: s.Installation.UUID(KindUser, s.Tenant, int64(u.ID)), ExternalID: u.ExternalID, BusinessContext: u.BusinessContext}
}

// SessionRef names a session in snapshots. Its trace id is computed from its
// UUID, so that logs, spans and messages of a session meet without storing one.
func (s Scribe) SessionRef(n *Session) *SessionRef {
	id := s.Installation.UUID(KindSession, s.Tenant, int64(n.ID))
	return &SessionRef{ID: n.ID, UUID: id, ExternalID: n.ExternalID, Type: n.Type, Status: n.Status, Stage: n.Stage,
		Attended: n.Attended, TraceID: TraceID(id)}
}

// TraceID derives a trace id from the UUID of what is traced.
func TraceID(u UUID) UUID {
	h := sha256.Sum256(u[:])
	var t UUID
	copy(t[:], h[:])
	t[6], t[8] = t[6]&0x0f|0x80, t[8]&0x3f|0x80 // version 8, as all of ours
	return t
}

// DraftRequest freezes what a request came to into an event of its user.
func (s Scribe) DraftRequest(t EventType, at time.Time, u User, r RequestRef) Draft {
	return Draft{Type: t, At: at, Snapshot: &Snapshot{Schema: SnapshotSchema, Build: s.Build, Node: s.Node, User: s.UserRef(u), Initiator: ByUser, Request: &r}}
}

// RequestRef names a request in snapshots, with what it covers.
func (s Scribe) RequestRef(r *Request) RequestRef {
	ref := RequestRef{ID: r.ID, UUID: s.Installation.UUID(KindRequest, s.Tenant, int64(r.ID)), Kind: r.Kind, Status: r.Status, Handle: r.Handle, Client: r.Client}
	for _, m := range r.Members {
		o := Outcome{Status: OutcomeRunning}
		if m.Outcome != nil {
			o = *m.Outcome
		}
		ref.Sources = append(ref.Sources, SourceRef{m.Connection, s.Installation.UUID(KindConnection, s.Tenant, int64(m.Connection)), o})
	}
	return ref
}
