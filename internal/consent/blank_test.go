package consent_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// readable counts the events of some types that still have their payload.
func (w *world) readable(types ...bankfeed.EventType) map[bankfeed.EventType]int {
	w.t.Helper()
	n := map[bankfeed.EventType]int{}
	for _, e := range w.all() {
		for _, t := range types {
			if e.Type == t && e.Snapshot != nil {
				n[t]++
			}
		}
	}
	return n
}

type tally = map[bankfeed.EventType]int

// Deletions stay readable until every sink was told of them, or for a day; then
// they are blanked, and what lists a removed account beside others too.
func TestDeletionsAreBlankedOnceTheyWereTold(t *testing.T) {
	const (
		removed, consent, connection = bankfeed.EventAccountRemoved, bankfeed.EventConsentDeleted, bankfeed.EventConnectionDeleted
		created, list                = bankfeed.EventConsentCreated, bankfeed.EventAccountsListSucceeded
	)
	for name, c := range map[string]struct {
		remove     func(w *world, st bankfeed.ConnectionState)
		soon, late tally
	}{
		"an account": {func(w *world, st bankfeed.ConnectionState) { w.deleteAccount(st.Accounts[0].ID) },
			tally{removed: 1, created: 2, list: 2}, tally{created: 1, list: 1}},
		"a consent": {func(w *world, st bankfeed.ConnectionState) {
			require.NoError(w.t, w.consent.DeleteConsent(w.t.Context(), w.tenant, w.user.ID, st.Consents[0].ID))
		}, tally{removed: 2, consent: 1, created: 1, list: 1}, tally{created: 1, list: 1}},
		"a connection": {func(w *world, st bankfeed.ConnectionState) {
			require.NoError(w.t, w.consent.DeleteConnection(w.t.Context(), w.tenant, w.user.ID, st.Connection.ID))
		}, tally{consent: 1, connection: 1, created: 1, list: 1}, tally{created: 1, list: 1}},
	} {
		for _, told := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", told", false: ", never told"}[told], func(t *testing.T) {
				storetest.Each(t, func(t *testing.T, s *store.Store) {
					w := newWorld(t, s)
					st := w.state(w.linked("fine"))
					w.linked("fine") // another one, which stays
					ready, asked := false, 0
					w.consent.Told = func(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
						require.Equal(t, w.tenant, tenant)
						require.Equal(t, w.user.ID, user)
						asked++
						return ready, nil
					}
					c.remove(w, st)
					w.work()
					types := []bankfeed.EventType{removed, consent, connection, created, list}
					require.Equal(t, c.soon, w.readable(types...))
					w.advance(time.Minute)
					w.work()
					require.Equal(t, c.soon, w.readable(types...))
					require.Equal(t, 1, asked)
					if ready = told; told {
						w.advance(2 * time.Minute)
					} else {
						for range 22 {
							w.advance(time.Hour)
							w.work()
						}
						require.Equal(t, c.soon, w.readable(types...))
						require.Less(t, asked, 15, "less and less often")
						w.advance(2 * time.Hour)
					}
					w.work()
					require.Equal(t, c.late, w.readable(types...))
					require.Empty(t, w.claim(bankfeed.WorkBlanking))
				})
			})
		}
	}
}

// An account that its bank lists no longer keeps its history, and the fact.
func TestWhatABankRemovedStaysReadable(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.linked("fine")
	st := w.state(id)
	st.Accounts[0].RemovedAt, st.Accounts[0].Status, st.Accounts[0].Access = w.clock(), bankfeed.AccountGone, nil
	draft := bankfeed.Scribe{Installation: w.store.Installation(), Tenant: w.tenant}.Draft(bankfeed.EventAccountRemoved, w.clock(), &st, func(s *bankfeed.Snapshot) { s.Account = &st.Accounts[0] })
	_, err := w.store.Apply(t.Context(), &bankfeed.Change{Tenant: w.tenant, User: w.user.ID, Accounts: st.Accounts[:1], Events: []bankfeed.Draft{draft}})
	require.NoError(t, err)
	other := w.state(w.linked("fine"))
	w.deleteAccount(other.Accounts[0].ID)
	require.Equal(t, tally{bankfeed.EventAccountRemoved: 1}, w.readable(bankfeed.EventAccountRemoved))
	for range 3 {
		w.work()
		w.advance(25 * time.Hour)
	}
	require.Equal(t, tally{bankfeed.EventAccountRemoved: 1}, w.readable(bankfeed.EventAccountRemoved))

	// Its removal by request blanks that too, and says nothing new.
	w.deleteAccount(st.Accounts[0].ID)
	w.work()
	w.advance(25 * time.Hour)
	w.work()
	require.Empty(t, w.readable(bankfeed.EventAccountRemoved))
	require.Equal(t, 2, w.countAll()[bankfeed.EventAccountRemoved])
}

func (w *world) countAll() tally {
	w.seen = 0
	return w.count()
}
