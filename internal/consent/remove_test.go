package consent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func (w *world) connections() []bankfeed.Connection {
	w.t.Helper()
	list, err := w.store.Connections(w.t.Context(), w.tenant, w.user.ID)
	require.NoError(w.t, err)
	return list
}

func (w *world) transactions() int {
	w.t.Helper()
	list, err := w.store.Transactions(w.t.Context(), w.tenant, w.user.ID, bankfeed.TransactionFilter{Limit: 10_000})
	require.NoError(w.t, err)
	return len(list)
}

// honoured asks the bank what it makes of a grant.
func (w *world) honoured(m bankfeed.Mode, g bankfeed.Grant) connector.ConsentState {
	w.t.Helper()
	profile, bank, err := w.consent.Banks.Lookup("200")
	require.NoError(w.t, err)
	info, err := bank.ConsentStatus(w.t.Context(), connector.Access{Profile: profile, Mode: m, BusinessContext: bankfeed.Individual, Grant: g,
		Record: func(bankfeed.BankCall) {}})
	require.NoError(w.t, err)
	return info.State
}

func TestAConnectionIsRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		id := w.linked("fine")
		st := w.state(id)
		grant := st.Consents[0].Grant
		require.NotZero(t, w.transactions())

		require.NoError(t, w.consent.DeleteConnection(ctx, w.tenant, w.user.ID, id))
		require.NoError(t, w.consent.DeleteConnection(ctx, w.tenant, w.user.ID, id), "once more")
		require.Empty(t, w.told())
		st = w.state(id)
		require.Equal(t, bankfeed.ConnectionClosed, st.Connection.Status)
		require.Zero(t, st.Connection.NextSyncAt)
		_, _, err := w.engine.Synchronize(ctx, bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id})
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(err))
		in := w.linking(redirect)
		in.Renew = id
		_, err = w.consent.Link(ctx, in)
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(err))

		w.work()
		require.Empty(t, w.connections())
		require.Zero(t, w.transactions())
		require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Redirect, grant))
		var deleted *bankfeed.Consent
		var types []string
		for _, e := range w.events() {
			if e.Type.Topic() == bankfeed.TopicConnections {
				types = append(types, string(e.Type))
			}
			if e.Type == bankfeed.EventConsentDeleted {
				deleted = e.Snapshot.Consent
			}
		}
		require.Equal(t, []string{"consent.deleted", "connection.deleted"}, types)
		for _, e := range w.all() {
			data := e.Type.Topic() == bankfeed.TopicData || e.Type == bankfeed.EventAccountsListSucceeded || e.Type == bankfeed.EventConsentCreated
			require.Equal(t, data, e.Snapshot == nil, e.Type)
		}
		require.Equal(t, bankfeed.ConsentConfirmed, deleted.Status, "its last state")
		require.Len(t, deleted.Accounts, 2)
		require.ErrorIs(t, w.consent.DeleteConnection(ctx, w.tenant, w.user.ID, id), bankfeed.ErrNotFound)
		require.ErrorIs(t, w.consent.DeleteConnection(ctx, w.tenant, w.user.ID+1, id), bankfeed.ErrNotFound)
	})
}

func TestAConnectionIsRemovedWhileItIsLinked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(redirect))
		bank := w.sent(w.get(l.Steps[0].RedirectURL))
		w.events()
		require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, l.Connection.ID))
		require.Equal(t, []string{"sync.failed"}, w.told(), "whoever waits for the end of the session sees one")
		grant := w.state(l.Connection.ID).Consents[0].Grant
		back := w.atBank(bank, "fine")
		require.Equal(t, 410, w.get(back).StatusCode)
		w.work()
		require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Redirect, grant), "though its user confirmed it in the end")
		require.Equal(t, []string{"connection.deleted"}, w.told(), "nobody was ever told of the consent")
		require.Equal(t, 404, w.get(l.Steps[0].RedirectURL).StatusCode)
	})
}

// A bank that does not answer is waited for, but not for ever; the data does
// not wait.
func TestRemovalFromABankThatIsDown(t *testing.T) {
	for name, back := range map[string]bool{"it comes back": true, "it is gone for good": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			id := w.linked("fine")
			grant := w.state(id).Consents[0].Grant
			w.event(`{"event":"bank_down"}`)
			require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, id))
			w.work()
			require.Zero(t, w.transactions())
			require.Len(t, w.connections(), 1)
			if back {
				w.event(`{"event":"bank_up"}`)
			}
			tries := 0
			for ; len(w.connections()) > 0; tries++ {
				require.Less(t, tries, 20)
				w.advance(15 * time.Minute)
				w.work()
			}
			if back {
				require.Equal(t, 1, tries)
				require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Redirect, grant))
				return
			}
			require.GreaterOrEqual(t, tries, 4)
		})
	}
}

// both links both channels of one connection.
func (w *world) both() bankfeed.ConnectionID {
	w.t.Helper()
	in := w.linking(redirect, credentials("fine"))
	in.PSU = psu
	l := w.link(in)
	require.NoError(w.t, w.code(l, "123456"))
	w.confirm(l, "fine")
	w.work()
	require.Equal(w.t, bankfeed.ConnectionSuccess, w.state(l.Connection.ID).Connection.Status)
	w.events()
	return l.Connection.ID
}

func TestAConsentIsRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		id := w.both()
		st := w.state(id)
		require.Len(t, st.Accounts, 4)
		k := st.Confirmed(bankfeed.Embedded)
		all := w.transactions()

		require.NoError(t, w.consent.DeleteConsent(ctx, w.tenant, w.user.ID, k.ID))
		require.NoError(t, w.consent.DeleteConsent(ctx, w.tenant, w.user.ID, k.ID), "once more")
		require.Equal(t, bankfeed.ChannelEmpty, w.channel(id, bankfeed.Embedded).Status)
		w.work()
		st = w.state(id)
		require.Equal(t, bankfeed.ConnectionSuccess, st.Connection.Status)
		require.Nil(t, st.Consent(k.ID))
		require.Len(t, st.Accounts, 2, "what the other channel reaches stays")
		for _, a := range st.Accounts {
			require.Equal(t, bankfeed.Redirect, a.Source)
			require.Len(t, a.Access, 1)
		}
		require.Less(t, w.transactions(), all)
		require.NotZero(t, w.transactions())
		require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Embedded, k.Grant))
		var removed int
		for _, e := range w.events() {
			switch e.Type {
			case bankfeed.EventAccountRemoved:
				removed++
			case bankfeed.EventConsentDeleted:
				require.Equal(t, bankfeed.ConsentConfirmed, e.Snapshot.Consent.Status)
				require.Equal(t, bankfeed.ConsentReceived, e.Snapshot.Consent.Previous)
				require.Equal(t, 2, removed, "last")
			case bankfeed.EventConnectionDeleted:
				require.Fail(t, "the connection stays")
			default:
			}
		}
		require.Equal(t, 2, removed)
		kept := map[bankfeed.AccountID]bool{st.Accounts[0].ID: true, st.Accounts[1].ID: true}
		for _, e := range w.all() {
			if e.Account != 0 {
				require.Equal(t, kept[e.Account] || e.Type == bankfeed.EventAccountRemoved, e.Snapshot != nil, e.Type)
			}
		}
		require.ErrorIs(t, w.consent.DeleteConsent(ctx, w.tenant, w.user.ID, k.ID), bankfeed.ErrNotFound)

		// The connection can be linked again.
		in := w.linking(credentials("fine"))
		in.Renew, in.PSU = id, psu
		l := w.link(in)
		require.NoError(t, w.code(l, "123456"))
		w.work()
		require.Len(t, w.state(id).Accounts, 4)
	})
}

func TestAConsentIsRemovedWhileItIsUsed(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.linked("fine")
	k := w.state(id).Consents[0]
	n, _, err := w.engine.Synchronize(t.Context(), bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id, PSU: psu})
	require.NoError(t, err)
	require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, k.ID))
	require.Equal(t, []string{"sync.started", "sync.failed"}, w.told())
	require.Equal(t, bankfeed.SessionFailed, w.session(n.ID).Status)
	w.work()
	st := w.state(id)
	require.Empty(t, st.Accounts)
	require.Empty(t, st.Consents)
	require.Equal(t, bankfeed.ConnectionNone, st.Connection.Status)
	require.Zero(t, st.Connection.NextSyncAt)
}

// A renewal that removes what it replaced does not take the accounts along.
func TestAReplacedConsentIsRemoved(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.linked("fine")
	old := w.state(id).Consents[0]
	in := w.linking(redirect)
	in.Renew = id
	w.confirm(w.link(in), "fine")
	require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, old.ID))
	w.work()
	w.advance(time.Minute)
	w.work()
	st := w.state(id)
	require.Len(t, st.Accounts, 2)
	require.Len(t, st.Consents, 1)
	require.Equal(t, bankfeed.ConnectionSuccess, st.Connection.Status)
}

// A renewal that was refused never reached the accounts, so its removal leaves
// them alone; that of the consent which listed them does not.
func TestARefusedConsentIsRemoved(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.linked("fine")
	w.advance(200 * 24 * time.Hour)
	w.sweep()
	all, old := w.transactions(), w.state(id).Consents[0]
	require.Equal(t, bankfeed.ConsentInvalid, old.Status)
	in := w.linking(redirect)
	in.Renew = id
	l := w.link(in)
	w.get(w.refuse(w.sent(w.get(l.Steps[0].RedirectURL))))
	w.work()
	refused := w.state(id).Consents[0]
	require.Equal(t, bankfeed.ConsentRejected, refused.Status)
	w.events()

	require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, refused.ID))
	w.work()
	st := w.state(id)
	require.Len(t, st.Accounts, 2)
	require.Len(t, st.Consents, 1)
	require.Equal(t, all, w.transactions())
	for _, e := range w.events() {
		require.NotEqual(t, bankfeed.EventAccountRemoved, e.Type)
	}

	require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, old.ID))
	w.work()
	require.Empty(t, w.state(id).Accounts)
	require.Zero(t, w.transactions())
}

// While a bank does not answer a removed consent stays, but what is gone is
// settled: whoever links again meanwhile gets everything anew.
func TestAConnectionIsLinkedAgainDuringARemoval(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.linked("fine")
		all, k := w.transactions(), w.state(id).Consents[0]
		w.event(`{"event":"bank_down"}`)
		require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, k.ID))
		w.work()
		st := w.state(id)
		require.Zero(t, w.transactions())
		require.Len(t, st.Consents, 1, "the bank does not know yet")
		for _, a := range st.Accounts {
			require.Equal(t, bankfeed.AccountGone, a.Status)
			require.False(t, a.RemovedAt.IsZero())
			require.Empty(t, a.Access)
		}
		kinds := func() (n map[bankfeed.EventType]int) {
			n = map[bankfeed.EventType]int{}
			for _, e := range w.events() {
				n[e.Type]++
			}
			return n
		}
		require.Equal(t, 2, kinds()[bankfeed.EventAccountRemoved])

		w.event(`{"event":"bank_up"}`)
		in := w.linking(redirect)
		in.Renew = id
		w.confirm(w.link(in), "fine")
		w.work()
		require.Equal(t, 2, kinds()[bankfeed.EventAccountCreated])
		require.Equal(t, all, w.transactions(), "the whole history")

		w.advance(15 * time.Minute)
		w.work()
		st = w.state(id)
		require.Len(t, st.Consents, 1)
		require.Equal(t, bankfeed.ConsentConfirmed, st.Consents[0].Status)
		require.Len(t, st.Accounts, 2)
		for _, a := range st.Accounts {
			require.True(t, a.RemovedAt.IsZero())
		}
		require.Equal(t, all, w.transactions())
		require.Zero(t, kinds()[bankfeed.EventAccountRemoved], "once")

		// Portions that come late leave an account alone that is in use.
		more, err := s.RemoveTransactions(t.Context(), w.tenant, w.user.ID, []bankfeed.AccountID{st.Accounts[0].ID, st.Accounts[1].ID}, 10)
		require.NoError(t, err)
		require.False(t, more)
		require.Equal(t, all, w.transactions())
	})
}

var errCrash = errors.New("the node dies here")

// crashing fails one call of many, before or after it has happened.
type crashing struct {
	consent.Store
	consent.Users
	consent.Keys
	consent.Log
	at, calls int
	after     bool
}

func (c *crashing) step(f func() error) error {
	c.calls++
	crash := c.calls == c.at
	if crash && !c.after {
		return errCrash
	}
	if err := f(); err != nil {
		return err
	}
	if crash {
		return errCrash
	}
	return nil
}

func (c *crashing) Apply(ctx context.Context, ch *bankfeed.Change) (done bankfeed.Committed, err error) {
	err = c.step(func() error { done, err = c.Store.Apply(ctx, ch); return err })
	return done, err
}

func (c *crashing) RemoveTransactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, accounts []bankfeed.AccountID, limit int) (more bool, err error) {
	err = c.step(func() error {
		more, err = c.Store.RemoveTransactions(ctx, tenant, user, accounts, min(limit, 2))
		return err
	})
	return more, err
}

func (c *crashing) FinishErasure(ctx context.Context, f bankfeed.Fence, at time.Time) error {
	return c.step(func() error { return c.Store.FinishErasure(ctx, f, at) })
}

func (c *crashing) MarkErased(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	return c.step(func() error { return c.Users.MarkErased(ctx, tenant, user) })
}

func (c *crashing) Destroy(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	return c.step(func() error { return c.Keys.Destroy(ctx, tenant, user) })
}

func (c *crashing) Redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (n int, err error) {
	err = c.step(func() error { n, err = c.Log.Redact(ctx, tenant, user); return err })
	return n, err
}

func (c *crashing) RedactButDeletions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	return c.step(func() error { return c.Log.RedactButDeletions(ctx, tenant, user) })
}

func (c *crashing) RedactConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	return c.step(func() error { return c.Log.RedactConnection(ctx, tenant, user, id) })
}

// crash puts a crash before, or after, the nth step from now on.
func (w *world) crash(at int, after bool) *crashing {
	c := &crashing{Store: w.consent.Store, Users: w.consent.Users, Keys: w.consent.Keys, Log: w.consent.Log, at: at, after: after}
	w.consent.Store, w.consent.Users, w.consent.Keys, w.consent.Log = c, c, c, c
	return c
}

// everyCrash runs a scenario with a crash at each of its steps, and reports the
// events on the connections topic that came of it.
func everyCrash(t *testing.T, start func(*world), kind bankfeed.WorkKind, run func(*world) func(context.Context, bankfeed.Fence) error, check func(*world)) {
	steps := 0
	for at := 1; ; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t, storetest.SQLite(t), asksForCode())
			start(w)
			c := w.crash(at, after)
			for range 10 {
				fences := w.claim(kind)
				if len(fences) == 0 {
					break
				}
				err := run(w)(t.Context(), fences[0])
				if err != nil && !errors.Is(err, errCrash) && !errors.Is(err, bankfeed.ErrFenced) {
					require.NoError(t, err)
				}
				w.advance(2 * time.Minute) // the lease ends, another node takes over
			}
			require.Empty(t, w.claim(kind))
			check(w)
			steps = c.calls
		}
		if steps < at {
			require.Greater(t, at, 3)
			return
		}
	}
}

// planted is a connection with data that no bank was asked for.
func (w *world) planted() bankfeed.ConnectionID {
	w.t.Helper()
	numbers := map[bankfeed.Kind]int64{}
	for _, kind := range []bankfeed.Kind{bankfeed.KindConnection, bankfeed.KindConsent, bankfeed.KindAccount, bankfeed.KindTransaction} {
		first, err := w.store.NextIDs(w.t.Context(), w.tenant, kind, 3)
		require.NoError(w.t, err)
		numbers[kind] = first
	}
	now, id, account := w.clock(), bankfeed.ConnectionID(numbers[bankfeed.KindConnection]), bankfeed.AccountID(numbers[bankfeed.KindAccount])
	c := &bankfeed.Change{Tenant: w.tenant, User: w.user.ID,
		NewConnection: &bankfeed.Connection{ID: id, User: w.user.ID, ProviderID: "200", Sandbox: true, Status: bankfeed.ConnectionSuccess, CreatedAt: now,
			Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess}}},
		Consents: []bankfeed.Consent{{ID: bankfeed.ConsentID(numbers[bankfeed.KindConsent]), Mode: bankfeed.Redirect, Status: bankfeed.ConsentConfirmed, CreatedAt: now,
			User: w.user.ID, Connection: id, AccountsListed: true, Grant: bankfeed.Grant{ConsentID: "c"}}},
		Accounts: []bankfeed.Account{{ID: account, User: w.user.ID, Connection: id, Source: bankfeed.Redirect, CreatedAt: now}}}
	for i := range 3 {
		c.Transactions.Insert = append(c.Transactions.Insert, bankfeed.TransactionRow{Transaction: bankfeed.Transaction{
			ID: bankfeed.TransactionID(numbers[bankfeed.KindTransaction] + int64(i)), Account: account, User: w.user.ID, CreatedAt: now, Status: bankfeed.TransactionBooked,
			BookingDate: bankfeed.DateOf(now), Money: bankfeed.Money{Amount: bankfeed.MustAmount("1.00"), Currency: "EUR"}}})
	}
	_, err := w.store.Apply(w.t.Context(), c)
	require.NoError(w.t, err)
	require.Equal(w.t, 3, w.transactions())
	return id
}

func TestARemovalGoesOnAfterACrash(t *testing.T) {
	everyCrash(t, func(w *world) {
		id := w.planted()
		require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, id))
		w.events()
	}, bankfeed.WorkRemoval, func(w *world) func(context.Context, bankfeed.Fence) error { return w.consent.RunRemoval }, func(w *world) {
		require.Empty(w.t, w.connections())
		require.Zero(w.t, w.transactions())
		require.Equal(w.t, []string{"consent.deleted", "connection.deleted"}, w.told(), "once")
	})
}
