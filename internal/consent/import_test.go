package consent_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector/statement"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

const handedIn = `{"bankName":"Ledger","accounts":[
 {"iban":"DE89370400440532013000","transactions":[{"id":"1","amount":-1,"valueDate":"2026-01-05"},{"id":"2","amount":-2,"valueDate":"2026-01-05"},{"id":"3","amount":-3,"valueDate":"2026-01-05"}]},
 {"accountNumber":"4711","transactions":[{"id":"1","amount":-1,"valueDate":"2026-01-05"}]}]}`

// interrupted does something before its n-th commit.
type interrupted struct {
	*store.Store
	left int
	do   func()
}

func (s *interrupted) Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error) {
	if s.left--; s.left == 0 {
		s.do()
	}
	return s.Store.Apply(ctx, c)
}

// handIn hands the document in; before the n-th commit something happens.
func (w *world) handIn(to bankfeed.ConnectionID, n int, do func()) (ingest.Imported, error) {
	c := w.engine.Config
	c.Store, c.Statements, c.CommitRows = &interrupted{w.store, n, do}, statement.JSON{}, 1
	return ingest.New(c).Import(w.t.Context(), ingest.ImportOrder{Tenant: w.tenant, User: w.user.ID, Client: "c", Connection: to}, strings.NewReader(handedIn))
}

func TestAConnectionThatWasHandedInIsRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		done, err := w.handIn(0, 0, nil)
		require.NoError(t, err)
		require.Equal(t, 4, w.transactions())
		require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, done.Connection))
		w.work()
		require.Empty(t, w.connections())
		require.Zero(t, w.transactions())
		events := w.events()
		require.Equal(t, bankfeed.EventConnectionDeleted, events[len(events)-1].Type)
		again, err := w.handIn(0, 0, nil)
		require.NoError(t, err)
		require.NotEqual(t, done.Connection, again.Connection, "what was remembered of the document went with it")
	})
}

// Whoever removes a connection while it is being handed in wins, at every commit.
func TestARemovalInTheMiddleOfAnImport(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		cut := 0
		for n := 2; ; n++ {
			w := newWorld(t, s)
			_, err := w.handIn(0, n, func() {
				require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, w.connections()[0].ID))
				w.work()
			})
			if err == nil {
				break // there is no such commit any more
			}
			cut++
			require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(err))
			w.work()
			require.Empty(t, w.connections())
			require.Zero(t, w.transactions(), "nothing is written to what is gone")
			if n > 20 {
				t.Fatal("too many commits")
			}
		}
		require.Greater(t, cut, 4)
	})
}

func TestAnAccountOfAnImportIsRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		done, err := w.handIn(0, 0, nil)
		require.NoError(t, err)
		account := w.state(done.Connection).Accounts[0].ID

		// Asked for in the middle of an addition it waits for its end.
		_, err = w.handIn(done.Connection, 3, func() {
			require.NoError(t, w.consent.DeleteAccount(t.Context(), w.tenant, w.user.ID, account))
			w.work()
			require.Equal(t, 4, w.transactions())
		})
		require.NoError(t, err)
		w.advance(time.Minute)
		w.work()
		require.Equal(t, 1, w.transactions())
		require.Len(t, w.state(done.Connection).Accounts, 1)

		// Handed in again, it is there again, under a number of its own.
		_, err = w.handIn(done.Connection, 0, nil)
		require.NoError(t, err)
		require.Equal(t, 4, w.transactions())
		for _, a := range w.state(done.Connection).Accounts {
			require.NotEqual(t, account, a.ID)
		}
	})
}

func TestNothingOfAnImportSurvivesItsUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		_, err := w.handIn(0, 0, nil)
		require.NoError(t, err)
		require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
		w.work()
		w.advance(24 * time.Hour)
		w.work()
		w.requireErased()
		_, err = w.handIn(0, 0, nil)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		// In the middle of it too.
		w = newWorld(t, s)
		_, err = w.handIn(0, 4, func() {
			require.NoError(t, w.consent.EraseUser(t.Context(), w.tenant, w.user.ID))
			w.work()
		})
		require.Error(t, err)
		w.advance(24 * time.Hour)
		w.work()
		w.requireErased()
	})
}
