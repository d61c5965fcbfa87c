package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func (h *hub) request(p *bankfeed.PSU, handle string, connections ...bankfeed.ConnectionID) bankfeed.Request {
	h.t.Helper()
	r, err := h.engine.Request(context.Background(), ingest.RequestOrder{Tenant: h.tenant, User: h.user.ID, Client: "client", Sandbox: true, PSU: p,
		Handle: handle, Connections: connections, Callback: &bankfeed.RequestCallback{Moment: bankfeed.MomentFinished, URL: "https://receiver.example/cb"}})
	require.NoError(h.t, err)
	return r
}

// finish does what work on requests is ready, as the app does, and tells how much
// that was.
func (h *hub) finish() (done int) {
	h.t.Helper()
	ctx := context.Background()
	claims, err := h.store.ClaimWork(ctx, lease.Request{Kind: bankfeed.WorkRequest, Owner: "node", Now: h.now, Until: h.now.Add(20 * time.Second), Limit: 10,
		Cap: func(string) int { return 0 }})
	require.NoError(h.t, err)
	for _, c := range claims {
		r, err := h.store.RequestOf(ctx, c.Fence)
		require.NoError(h.t, err)
		require.NoError(h.t, h.engine.RunRequest(ctx, c.Fence, r))
		if r, err = h.store.RequestOf(ctx, c.Fence); err == nil && r.EndedAt != nil {
			done++
		}
	}
	return done
}

func (h *hub) finished() []*bankfeed.RequestRef {
	var refs []*bankfeed.RequestRef
	for _, e := range only(h.events(), "request.") {
		refs = append(refs, e.Snapshot.Request)
	}
	return refs
}

func (h *hub) openSync() bool {
	open, err := h.store.OpenSync(context.Background(), h.tenant, h.conn)
	require.NoError(h.t, err)
	return open
}

func TestARequestForFreshDataCallsNoBank(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		h := newHub(t, s, b)
		h.sync(psu)
		h.events()
		b.calls = nil
		h.now = h.now.Add(59 * time.Minute)
		r := h.request(nil, "mine")
		require.Equal(t, []bankfeed.RequestMember{{Connection: h.conn}}, r.Members)
		require.True(t, h.openSync(), "the answer draws it as in progress")
		require.Zero(t, h.finish(), "its caller stores the answer first")
		require.NoError(t, h.engine.Answered(t.Context(), h.tenant, r))
		h.now = h.now.Add(499 * time.Millisecond)
		require.Zero(t, h.finish())
		h.now = h.now.Add(time.Millisecond)
		require.Equal(t, 1, h.finish())
		require.Empty(t, b.calls)
		require.False(t, h.openSync())
		got := h.finished()
		require.Len(t, got, 1)
		require.Equal(t, &bankfeed.RequestRef{ID: r.ID, UUID: s.Installation().UUID(bankfeed.KindRequest, h.tenant, int64(r.ID)), Kind: bankfeed.RequestSync,
			Status: "succeeded", Handle: "mine", Client: "client", Sources: []bankfeed.SourceRef{{Connection: h.conn,
				UUID: s.Installation().UUID(bankfeed.KindConnection, h.tenant, int64(h.conn)), Outcome: bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded}}}}, got[0])
		h.now = h.now.Add(time.Hour)
		require.Zero(t, h.finish(), "once")
	})
}

func TestARequestEndsWithoutAWordOfItsAnswer(t *testing.T) {
	h := newHub(t, storetest.SQLite(t), newBank(ibanA))
	h.sync(psu)
	h.request(nil, "")
	h.now = h.now.Add(3 * time.Second)
	require.Equal(t, 1, h.finish())
}

func TestARequestWaitsForItsSession(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		h := newHub(t, s, b)
		h.sync(psu)
		h.now = h.now.Add(2 * time.Hour)
		h.events()
		first := h.request(nil, "first")
		second := h.request(nil, "second")
		require.NotZero(t, first.Members[0].Session)
		require.Equal(t, first.Members, second.Members, "it joins")
		found, err := s.SessionsByExternalID(t.Context(), h.tenant, h.user.ID, "second")
		require.NoError(t, err)
		require.Len(t, found, 1, "and is found by its own handle")
		h.now = h.now.Add(5 * time.Second)
		require.Zero(t, h.finish())
		require.NoError(t, h.engine.Run(t.Context(), h.claim()))
		require.Equal(t, 2, h.finish(), "each has an end of its own, at once")
		events := h.events()
		last := events[len(events)-3:]
		require.Equal(t, []string{"sync.succeeded", "request.finished", "request.finished"}, types(last))
		require.ElementsMatch(t, []string{"first", "second"}, []string{last[1].Snapshot.Request.Handle, last[2].Snapshot.Request.Handle})
	})
}

func TestWhatARequestComesTo(t *testing.T) {
	down := &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}
	for name, c := range map[string]struct {
		before bool // an earlier session delivered
		err    error
		want   bankfeed.OutcomeStatus
		needed bool
	}{
		"down, with data":        {true, down, bankfeed.OutcomeSucceeded, false},
		"limited, with data":     {true, &connector.Error{Reason: bankfeed.FailRateLimited, Status: 429}, bankfeed.OutcomeSucceeded, false},
		"without data":           {false, down, bankfeed.OutcomeFailed, false},
		"the consent has ended":  {true, &connector.Error{Reason: bankfeed.FailConsentExpired, Status: 401}, bankfeed.OutcomeUserNeeded, true},
		"the bank changed words": {false, &connector.Error{Reason: bankfeed.FailProtocol, Status: 200}, bankfeed.OutcomeFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(ibanA)
			h := newHub(t, storetest.SQLite(t), b)
			refuse := func(string) error { return c.err }
			if !c.before {
				b.refuse = refuse
			}
			h.sync(psu)
			b.refuse = refuse
			h.authorised()
			h.now = h.now.Add(25 * time.Hour)
			h.events()
			r := h.request(psu, "")
			require.NotZero(t, r.Members[0].Session)
			require.NoError(t, h.engine.Run(t.Context(), h.claim()))
			h.now = h.now.Add(3 * time.Second)
			require.Equal(t, 1, h.finish())
			got := h.finished()[0]
			require.Equal(t, c.want, got.Sources[0].Outcome.Status)
			require.Equal(t, c.needed, got.Sources[0].Outcome.UserNeeded)
			require.Equal(t, c.want == bankfeed.OutcomeSucceeded, got.Status == "succeeded")

			// Unattended, it asks no bank that needs its user or patience.
			b.calls = nil
			h.now = h.now.Add(30 * time.Minute)
			h.request(nil, "")
			require.Empty(t, b.calls)
		})
	}
}

// authorised marks the connection as one that its bank has let the hub into.
func (h *hub) authorised() {
	ctx := context.Background()
	st, err := h.store.ConnectionState(ctx, h.tenant, h.user.ID, h.conn)
	require.NoError(h.t, err)
	for i := range st.Connection.Channels {
		until := h.now.Add(24 * time.Hour)
		st.Connection.Channels[i].Expires = &until
	}
	_, err = h.store.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: h.user.ID, Connection: &st.Connection})
	require.NoError(h.t, err)
}

func TestARequestForNothing(t *testing.T) {
	h := newHub(t, storetest.SQLite(t), newBank(ibanA))
	r := h.request(nil, "none")
	require.Empty(t, r.Members, "nothing was imported yet")
	h.now = h.now.Add(3 * time.Second)
	require.Equal(t, 1, h.finish())
	got := h.finished()[0]
	require.Equal(t, "failed", got.Status)
	require.Empty(t, got.Sources)
}

func TestARequestForTheUnknownStartsNothing(t *testing.T) {
	b := newBank(ibanA)
	h := newHub(t, storetest.SQLite(t), b)
	h.sync(psu)
	h.now = h.now.Add(2 * time.Hour)
	_, err := h.engine.Request(t.Context(), ingest.RequestOrder{Tenant: h.tenant, User: h.user.ID, Connections: []bankfeed.ConnectionID{h.conn, h.conn + 1}})
	require.ErrorIs(t, err, bankfeed.ErrNotFound)
	sessions, err := h.store.Sessions(t.Context(), h.tenant, h.user.ID, h.conn, 0, 10)
	require.NoError(t, err)
	require.Len(t, sessions, 1)
}

// closing is a store in which a connection is closed as soon as somebody has seen
// it.
type closing struct {
	*store.Store
	t    *testing.T
	user bankfeed.UserID
}

func (s closing) Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error) {
	all, err := s.Store.Connections(ctx, tenant, user)
	require.NoError(s.t, err)
	gone := all[len(all)-1].Clone()
	gone.Status = bankfeed.ConnectionClosed
	_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: s.user, Connection: &gone})
	require.NoError(s.t, err)
	return all, nil
}

func TestARequestDoesWithoutWhatIsClosedMeanwhile(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := newHub(t, s, newBank(ibanA))
		h.sync(psu)
		h.now = h.now.Add(2 * time.Hour)
		h.engine.Store = closing{s, t, h.user.ID}
		_, err := h.engine.Request(t.Context(), ingest.RequestOrder{Tenant: h.tenant, User: h.user.ID, Connections: []bankfeed.ConnectionID{h.conn}})
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "to whoever names it")
		require.Empty(t, h.request(nil, "all").Members)
	})
}

// Nobody tells a request of a session that ended between its opening and the
// request's own commit.
func TestARequestThatNobodyTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := newHub(t, s, newBank(ibanA))
		old := h.sync(psu)
		id, err := s.NextID(t.Context(), h.tenant, bankfeed.KindRequest)
		require.NoError(t, err)
		_, err = s.Apply(t.Context(), &bankfeed.Change{Tenant: h.tenant, User: h.user.ID,
			Requests: []bankfeed.Request{{ID: bankfeed.RequestID(id), User: h.user.ID, Kind: bankfeed.RequestSync, CreatedAt: h.now, NotBefore: h.now,
				Members: []bankfeed.RequestMember{{Connection: h.conn, Session: old.ID}}}},
			Ready: []bankfeed.WorkItem{{Tenant: h.tenant, Kind: bankfeed.WorkRequest, ID: id, ReadyAt: h.now}}})
		require.NoError(t, err)
		require.Equal(t, 1, h.finish())
		require.Equal(t, "succeeded", h.finished()[0].Status)
	})
}

func TestARemovedConnectionEndsItsRequest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := newHub(t, s, newBank(ibanA))
		h.sync(psu)
		h.now = h.now.Add(2 * time.Hour)
		h.request(nil, "")
		h.now = h.now.Add(3 * time.Second)
		require.Zero(t, h.finish())
		_, err := s.Apply(t.Context(), &bankfeed.Change{Tenant: h.tenant, User: h.user.ID, Delete: &bankfeed.Deletion{Connection: h.conn}})
		require.NoError(t, err)
		require.Equal(t, 1, h.finish())
		require.Equal(t, bankfeed.OutcomeFailed, h.finished()[0].Sources[0].Outcome.Status)
	})
}
