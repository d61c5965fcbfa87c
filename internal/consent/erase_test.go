package consent_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // to look into the file

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// all reads the whole log of the user.
func (w *world) all() []bankfeed.Event {
	w.t.Helper()
	w.seen = 0
	return w.events()
}

func (w *world) requireErased() {
	w.t.Helper()
	events := w.all()
	last := events[len(events)-1]
	require.Equal(w.t, bankfeed.EventUserErased, last.Type)
	erased := 0
	for _, e := range events {
		require.Nil(w.t, e.Snapshot, e.Type)
		if e.Type == bankfeed.EventUserErased {
			erased++
		}
	}
	require.Equal(w.t, 1, erased)
	require.Empty(w.t, w.connections())
	_, err := w.store.User(w.t.Context(), w.tenant, w.user.ID)
	require.ErrorIs(w.t, err, bankfeed.ErrNotFound)
	_, err = w.store.Keys().Get(w.t.Context(), secret.UserRef{Tenant: w.tenant, User: w.user.ID})
	require.ErrorIs(w.t, err, secret.ErrErased)
}

func TestAUserIsErased(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		grant := w.state(w.linked("fine")).Consents[0].Grant
		waiting := w.link(w.linking(redirect))
		before := len(w.all())

		require.NoError(t, w.consent.EraseUser(ctx, w.tenant, w.user.ID))
		_, err := w.store.User(ctx, w.tenant, w.user.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "at once")
		require.ErrorIs(t, w.consent.EraseUser(ctx, w.tenant, w.user.ID), bankfeed.ErrNotFound)
		_, err = w.consent.Link(ctx, w.linking(redirect))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.Equal(t, 404, w.get(waiting.Steps[0].RedirectURL).StatusCode)

		w.work()
		w.requireErased()
		require.Greater(t, len(w.all()), before, "what happened stays countable")
		_, bank, err := w.consent.Banks.Lookup("200")
		require.NoError(t, err)
		require.NotNil(t, bank)
		require.NotEqual(t, 1, int(w.honoured(bankfeed.Redirect, grant)), "the bank was told")
	})
}

// Until every sink has been told of the deletions they stay readable, and
// nothing else does; for a day at most.
func TestDeletionsAreToldBeforeTheKeyGoes(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "never told": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			w.linked("fine")
			ready := false
			w.consent.Told = func(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
				require.Equal(t, w.tenant, tenant)
				require.Equal(t, w.user.ID, user)
				return ready, nil
			}
			require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
			w.work()
			var readable []string
			for _, e := range w.all() {
				if e.Snapshot != nil {
					readable = append(readable, string(e.Type))
				}
			}
			require.Equal(t, []string{"consent.deleted", "connection.deleted"}, readable)
			require.Zero(t, w.transactions())
			require.Empty(t, w.connections())
			if ready = told; told {
				w.advance(time.Minute)
			} else {
				w.advance(23 * time.Hour)
				w.work()
				require.NotEqual(t, bankfeed.EventUserErased, w.all()[0].Type)
				w.advance(time.Hour)
			}
			w.work()
			w.requireErased()
		})
	}
}

// Where there is no sink nobody is waited for, but who follows the log itself has
// a moment: the client sees its deletion end.
func TestErasureWithoutSinksEndsSoon(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.linked("fine")
		w.consent.Told = s.Told
		id, err := w.consent.EraseData(t.Context(), w.tenant, w.user.ID)
		require.NoError(t, err)
		successor := bankfeed.UserID(0)
		users, err := s.Access().ListUsers(t.Context(), w.tenant, true, 0, 10)
		require.NoError(t, err)
		for _, u := range users {
			successor = max(successor, u.ID)
		}
		require.NotEqual(t, w.user.ID, successor)
		w.work()
		require.Equal(t, tally{bankfeed.EventConsentDeleted: 1, bankfeed.EventConnectionDeleted: 1}, w.readable(bankfeed.EventConsentDeleted, bankfeed.EventConnectionDeleted))
		d, open := w.deletion(successor, id)
		require.False(t, d.Done)
		require.Contains(t, open, "HISTORY")
		w.advance(time.Minute)
		w.work()
		w.requireErased()
		d, open = w.deletion(successor, id)
		require.True(t, d.Done)
		require.Empty(t, open)
	})
}

// named gives the world's user an id of the client's own.
func (w *world) named(externalID string) {
	w.t.Helper()
	u := access.User{User: bankfeed.User{ExternalID: externalID, BusinessContext: bankfeed.Individual, CreatedAt: storetest.Now}, Sandbox: true}
	id, err := w.store.Access().CreateUser(w.t.Context(), w.tenant, u)
	require.NoError(w.t, err)
	w.user = u.User
	w.user.ID = id
}

// A client looks up by its own id whose consent was removed. The id can be given
// to another user meanwhile.
func TestDeletionsNameTheUserAsTheClientDoes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.named("customer-4711")
		w.linked("fine")
		w.consent.Told = func(context.Context, bankfeed.TenantID, bankfeed.UserID) (bool, error) { return false, nil }
		require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
		again := access.User{User: bankfeed.User{ExternalID: "customer-4711", BusinessContext: bankfeed.Individual, CreatedAt: storetest.Now}, Sandbox: true}
		_, err := s.Access().CreateUser(t.Context(), w.tenant, again)
		require.NoError(t, err)
		w.work()
		told := 0
		for _, e := range w.all() {
			if e.Snapshot != nil {
				told++
				require.Equal(t, "customer-4711", e.Snapshot.User.ExternalID, e.Type)
			}
		}
		require.Equal(t, 2, told)
		w.advance(24 * time.Hour)
		w.work()
		w.requireErased()
	})
}

func TestErasureWithABankThatIsDown(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.linked("fine")
	w.event(`{"event":"bank_down"}`)
	require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
	w.work()
	require.Len(t, w.connections(), 1)
	require.Zero(t, w.transactions())
	for _, e := range w.all() {
		require.Nil(t, e.Snapshot, e.Type)
	}
	w.advance(time.Hour)
	w.work()
	w.requireErased()
}

func TestAnErasureGoesOnAfterACrash(t *testing.T) {
	everyCrash(t, func(w *world) {
		w.planted()
		w.link(w.linking(redirect))
		require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
	}, bankfeed.WorkErasure, func(w *world) func(context.Context, bankfeed.Fence) error { return w.consent.RunErasure }, func(w *world) {
		w.requireErased()
		deleted := 0
		for _, e := range w.all() {
			if e.Type == bankfeed.EventConnectionDeleted {
				deleted++
			}
		}
		require.Equal(w.t, 2, deleted, "each once")
	})
}

// The node dies between the work and the mark: the work marks the user itself.
func TestErasureMarksItsUser(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.crash(2, false) // the first is the work
	require.ErrorIs(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID), errCrash)
	_, err := w.store.User(t.Context(), w.tenant, w.user.ID)
	require.NoError(t, err)
	w.work()
	w.requireErased()
}

// What is left in the tables of an erased user is the stub.
func TestNothingOfAnErasedUserStaysInTheTables(t *testing.T) {
	c := storetest.SQLiteConfig(t)
	w := newWorld(t, storetest.Open(t, c))
	w.named("customer-of-ada")
	in := w.linking(redirect)
	in.ConsentExternalID, in.SessionExternalID = "consent-of-ada", "session-of-ada"
	w.confirm(w.link(in), "fine")
	w.work()
	require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
	w.work()
	w.requireErased()

	db, err := sql.Open("sqlite", c.Path)
	require.NoError(t, err)
	defer db.Close()
	tables := column(t, db, `SELECT name FROM sqlite_master WHERE type = 'table'`)
	kept := map[string]bool{"users": true, "events": true}
	for _, table := range tables {
		columns := column(t, db, `SELECT name FROM pragma_table_info('`+table+`')`)
		if strings.Contains(strings.Join(columns, " "), "user_id") && !kept[table] {
			require.Equal(t, []string{"0"}, column(t, db, `SELECT count(*) FROM `+table), table)
		}
		for _, name := range columns {
			for _, value := range column(t, db, `SELECT coalesce(CAST("`+name+`" AS TEXT), '') FROM `+table) {
				require.NotContains(t, value, "of-ada", table+"."+name)
				require.NotContains(t, value, "DE89", table+"."+name)
				require.NotContains(t, value, "iban", table+"."+name)
			}
		}
	}
	require.NotEqual(t, []string{"0"}, column(t, db, `SELECT count(*) FROM consent_history`), "the stub of what was consented stays")
}

func column(t *testing.T, db *sql.DB, query string) (values []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var v string
		require.NoError(t, rows.Scan(&v))
		values = append(values, v)
	}
	require.NoError(t, rows.Err())
	return values
}
