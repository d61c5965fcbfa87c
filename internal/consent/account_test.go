package consent_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// accounts are those that readers see, removed ones too.
func (w *world) accounts() []bankfeed.Account {
	w.t.Helper()
	list, err := w.store.Accounts(w.t.Context(), w.tenant, w.user.ID, bankfeed.AccountFilter{Removed: true})
	require.NoError(w.t, err)
	return list
}

func (w *world) deleteAccount(id bankfeed.AccountID) {
	w.t.Helper()
	require.NoError(w.t, w.consent.DeleteAccount(w.t.Context(), w.tenant, w.user.ID, id))
}

// listed has the bank's list read again under the present consents.
func (w *world) listed(id bankfeed.ConnectionID) {
	w.t.Helper()
	_, _, err := w.engine.Synchronize(w.t.Context(), bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id, PSU: psu, Type: bankfeed.SessionListAccounts})
	require.NoError(w.t, err)
	w.work()
	require.Equal(w.t, bankfeed.ConnectionSuccess, w.state(id).Connection.Status)
}

// count counts what came into the log since the last call.
func (w *world) count() map[bankfeed.EventType]int {
	w.t.Helper()
	n := map[bankfeed.EventType]int{}
	for _, e := range w.events() {
		n[e.Type]++
	}
	return n
}

// requireRemains checks that nothing but its identifiers is left of an account.
func (w *world) requireRemains(st bankfeed.ConnectionState, was bankfeed.Account, consents int) {
	w.t.Helper()
	a := st.Account(was.ID)
	require.NotNil(w.t, a)
	require.Len(w.t, a.Withheld, consents)
	require.False(w.t, a.RemovedAt.IsZero())
	require.NotEmpty(w.t, was.Balances)
	require.Equal(w.t, bankfeed.Account{ID: was.ID, User: was.User, Connection: was.Connection, Type: was.Type, Status: bankfeed.AccountDeleted, Currency: was.Currency,
		Identifiers: was.Identifiers, Source: was.Source, CreatedAt: was.CreatedAt, RemovedAt: a.RemovedAt, Withheld: a.Withheld}, *a)
}

func TestAnAccountIsRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		id := w.linked("fine")
		_, _, err := w.engine.Synchronize(ctx, bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id}) // writes the ledger
		require.NoError(t, err)
		w.work()
		st := w.state(id)
		gone, kept, consent := st.Accounts[0], st.Accounts[1], st.Consents[0]
		all := w.transactions()
		w.events()

		w.deleteAccount(gone.ID)
		w.deleteAccount(gone.ID) // once more
		w.work()
		require.Equal(t, map[bankfeed.EventType]int{bankfeed.EventAccountRemoved: 1}, w.count())
		require.ErrorIs(t, w.consent.DeleteAccount(ctx, w.tenant, w.user.ID, gone.ID), bankfeed.ErrNotFound)
		_, err = s.Account(ctx, w.tenant, w.user.ID, gone.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.Len(t, w.accounts(), 1)
		left, err := s.Transactions(ctx, w.tenant, w.user.ID, bankfeed.TransactionFilter{Limit: 10_000})
		require.NoError(t, err)
		require.NotEmpty(t, left)
		require.Less(t, len(left), all)
		for _, x := range left {
			require.Equal(t, kept.ID, x.Account)
		}
		st = w.state(id)
		require.Empty(t, st.Connection.Removing)
		w.requireRemains(st, gone, 1)
		require.Len(t, st.Consent(consent.ID).Accounts, 1)
		require.Equal(t, bankfeed.ConsentConfirmed, st.Consent(consent.ID).Status)
		uses, err := s.Accesses(ctx, w.tenant, consent.ID, time.Time{})
		require.NoError(t, err)
		require.NotEmpty(t, uses)
		for _, u := range uses {
			require.NotEqual(t, gone.ID, u.Account)
		}
		for _, e := range w.all() {
			readable := e.Account != gone.ID || e.Type == bankfeed.EventAccountRemoved
			require.Equal(t, readable, e.Snapshot != nil, e.Type)
			if e.Type == bankfeed.EventAccountRemoved {
				require.Equal(t, bankfeed.AccountGone, e.Snapshot.Account.Status, "the word that dialects know")
			}
		}

		// The bank lists it on; it stays away.
		w.listed(id)
		require.Zero(t, w.count()[bankfeed.EventAccountCreated])
		require.Len(t, w.accounts(), 1)
		require.Len(t, w.state(id).Consents[0].Accounts, 1)
		w.requireRemains(w.state(id), gone, 1)

		// A consent that the PSU gives now brings it back as another one.
		in := w.linking(redirect)
		in.Renew = id
		w.confirm(w.link(in), "fine")
		w.work()
		require.Equal(t, 1, w.count()[bankfeed.EventAccountCreated])
		st = w.state(id)
		require.Len(t, st.Accounts, 2)
		require.Nil(t, st.Account(gone.ID))
		require.Equal(t, all, w.transactions(), "the whole history")
		require.Len(t, st.Confirmed(bankfeed.Redirect).Accounts, 2)
	})
}

func TestTheLastAccountTakesItsConsentAlong(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.linked("fine")
		st := w.state(id)
		w.deleteAccount(st.Accounts[0].ID)
		w.work()
		require.Equal(t, []string(nil), w.told())
		w.deleteAccount(st.Accounts[1].ID)
		w.work()
		require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Redirect, st.Consents[0].Grant))
		var types []bankfeed.EventType
		for _, e := range w.events() {
			if e.Type != bankfeed.EventBankCalled {
				types = append(types, e.Type)
			}
			if e.Type == bankfeed.EventConsentDeleted {
				k := e.Snapshot.Consent
				require.Equal(t, bankfeed.ConsentConfirmed, k.Status, "its last state")
				require.Equal(t, bankfeed.ConsentReceived, k.Previous)
				require.Len(t, k.Accounts, 1)
				require.Equal(t, st.Accounts[1].ID, k.Accounts[0].ID)
			}
		}
		require.Equal(t, []bankfeed.EventType{bankfeed.EventAccountRemoved, bankfeed.EventConsentDeleted}, types)
		st = w.state(id)
		require.Empty(t, st.Accounts, "nobody could list them")
		require.Empty(t, st.Consents)
		require.Equal(t, bankfeed.ConnectionNone, st.Connection.Status)
		require.Zero(t, w.transactions())
	})
}

func TestAnAccountOfBothChannelsIsRemoved(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.both()
	st := w.state(id)
	var shared bankfeed.Account
	for _, a := range st.Accounts {
		if len(a.Access) == 2 {
			shared = a
		}
	}
	require.NotZero(t, shared.ID)
	w.deleteAccount(shared.ID)
	w.work()
	w.requireRemains(w.state(id), shared, 2)
	w.listed(id)
	require.Len(t, w.accounts(), 3)

	// A renewal of one channel ends it for the other too.
	in := w.linking(redirect)
	in.Renew = id
	w.confirm(w.link(in), "fine")
	w.work()
	w.listed(id)
	st = w.state(id)
	require.Nil(t, st.Account(shared.ID))
	require.Len(t, w.accounts(), 4)
	for _, k := range st.Consents {
		if k.Status == bankfeed.ConsentConfirmed && k.Mode == bankfeed.Embedded {
			require.Len(t, k.Accounts, 4)
		}
	}
}

func TestAnAccountIsRemovedWhileItIsRead(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.linked("fine")
	gone := w.state(id).Accounts[0]
	n, _, err := w.engine.Synchronize(t.Context(), bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id, PSU: psu})
	require.NoError(t, err)
	w.deleteAccount(gone.ID)
	for _, f := range w.claim(bankfeed.WorkRemoval) {
		require.NoError(t, w.consent.RunRemoval(t.Context(), f))
	}
	require.Len(t, w.accounts(), 2, "the session goes first")
	w.work()
	require.Equal(t, bankfeed.SessionFinished, w.session(n.ID).Status)
	require.Len(t, w.accounts(), 2)
	w.advance(time.Minute)
	w.work()
	require.Len(t, w.accounts(), 1)
	w.requireRemains(w.state(id), gone, 1)
}

// What an account is recognised by is kept for as long as there is a consent
// that could list it.
func TestTheRemainsOfAnAccountGoWithItsConsent(t *testing.T) {
	for name, end := range map[string]func(*world, bankfeed.ConsentID){
		"expired": func(w *world, _ bankfeed.ConsentID) { w.advance(200 * 24 * time.Hour); w.sweep() },
		"revoked": func(w *world, _ bankfeed.ConsentID) {
			w.event(`{"event":"revoke_consent","user":"fine"}`)
			_, _, err := w.engine.Synchronize(w.t.Context(), bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: w.connections()[0].ID})
			require.NoError(w.t, err)
		},
		"deleted": func(w *world, k bankfeed.ConsentID) {
			require.NoError(w.t, w.consent.DeleteConsent(w.t.Context(), w.tenant, w.user.ID, k))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			id := w.linked("fine")
			st := w.state(id)
			w.deleteAccount(st.Accounts[0].ID)
			w.work()
			require.NotNil(t, func() *bankfeed.Account { st := w.state(id); return st.Account(st.Accounts[0].ID) }())
			end(w, st.Consents[0].ID)
			w.work()
			w.advance(time.Minute)
			w.work()
			after := w.state(id)
			require.Nil(t, after.Account(st.Accounts[0].ID))
			if name != "deleted" {
				require.Equal(t, bankfeed.ConsentInvalid, after.Consents[0].Status)
				require.NotNil(t, after.Account(st.Accounts[1].ID))
			}
		})
	}
}

func TestTheRemovalOfAnAccountGoesOnAfterACrash(t *testing.T) {
	everyCrash(t, func(w *world) {
		w.planted()
		w.deleteAccount(w.accounts()[0].ID)
		w.events()
	}, bankfeed.WorkRemoval, func(w *world) func(context.Context, bankfeed.Fence) error { return w.consent.RunRemoval }, func(w *world) {
		require.Empty(w.t, w.accounts())
		require.Zero(w.t, w.transactions())
		require.Equal(w.t, map[bankfeed.EventType]int{bankfeed.EventAccountRemoved: 1}, w.count(), "once")
		st := w.state(w.connections()[0].ID)
		require.Len(w.t, st.Accounts, 1)
		require.Empty(w.t, st.Connection.Removing)
	})
}
