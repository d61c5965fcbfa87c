package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// dying is a store whose node dies with its n-th commit: before it, or after it
// when the answer of the database is lost.
type dying struct {
	*store.Store
	mu    sync.Mutex
	left  int
	after bool
}

var errKilled = errors.New("killed")

func (s *dying) Apply(ctx context.Context, c *bankfeed.Change) (bankfeed.Committed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 || s.left == 0 && !s.after {
		return bankfeed.Committed{}, errKilled
	}
	done, err := s.Store.Apply(ctx, c)
	if s.left == 0 {
		err = errKilled
	}
	return done, err
}

func TestAHubThatDiesOnTheWayIsCompletedByTheClientsRepeat(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		whole := newDesk(t, s)
		want := whole.shown(whole.handed(doc).Connection)
		commits := 0
		for n, completed := 1, false; !completed; n++ {
			for _, after := range []bool{false, true} {
				for _, target := range []string{"new", "there"} {
					d := newDesk(t, s)
					var change []func(*ingest.ImportOrder)
					if target == "there" {
						first := d.handed(`{"accounts":[{"iban":"` + ibanA + `","transactions":[{"id":"a1","amount":-1.50,"bankBookingDate":"2026-02-27","purpose":"coffee","counterpartName":"Bar"}]}]}`)
						change = append(change, to(first.Connection))
					}
					c := d.config
					c.Store = &dying{Store: s, left: n, after: after}
					d.engine = ingest.New(c)
					_, err := d.hand(doc, change...)
					if err == nil {
						completed = true
						continue
					}
					require.ErrorIs(t, err, errKilled)
					commits = n

					d.engine = ingest.New(d.config)
					d.now = d.now.Add(21 * time.Second) // the claim of the dead node has ended
					done, err := d.hand(doc, change...)
					require.NoError(t, err)
					require.Equal(t, want, d.shown(done.Connection))
					all, err := s.Connections(t.Context(), d.tenant, d.user.ID)
					require.NoError(t, err)
					require.Len(t, all, 1, "one data source")
					require.Equal(t, bankfeed.ConnectionNone, all[0].Status)
					ids := map[bankfeed.TransactionID]int{}
					for _, e := range only(d.events(), "transaction.created") {
						ids[e.Snapshot.Transaction.ID]++
					}
					require.Len(t, ids, len(d.transactions()), "each was told of")
					for id, n := range ids {
						require.Equal(t, 1, n, "transaction %d", id)
					}
				}
			}
		}
		require.Greater(t, commits, 5, "it was killed at every commit")
	})
}

func TestEqualRequestsAtTheSameTimeAreOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		const clients = 6
		var wg sync.WaitGroup
		results, errs := make([]ingest.Imported, clients), make([]error, clients)
		for i := range clients {
			wg.Go(func() { results[i], errs[i] = d.hand(doc) })
		}
		wg.Wait()
		created := 0
		for i := range clients {
			require.NoError(t, errs[i])
			require.Equal(t, results[0].Connection, results[i].Connection)
			created += results[i].Created
		}
		require.Equal(t, 6, created, "one of them stored it")
		require.Len(t, d.transactions(), 6)

		// So are additions to one data source: one after the other.
		for i := range clients {
			wg.Go(func() {
				results[i], errs[i] = d.hand(strings.ReplaceAll(doc, "coffee", fmt.Sprint("tea", i/2)), to(results[0].Connection))
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Len(t, d.transactions(), 6+3*3, "three different documents, twice each; a1 has its id")
	})
}

func TestDocumentsOnTheirWayAreBounded(t *testing.T) {
	d := newDesk(t, storetest.SQLite(t))
	d.config.ImportsAtOnce = 1
	d.engine = ingest.New(d.config)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		r, w := io.Pipe()
		wg.Go(func() {
			_, err := d.engine.Import(ctx, d.importOrder(), r)
			require.Error(t, err)
		})
		_, err := w.Write([]byte("{")) // it is being read
		require.NoError(t, err)
		context.AfterFunc(ctx, func() { w.CloseWithError(errKilled) })
	}
	_, err := d.hand(doc)
	require.Equal(t, bankfeed.RateLimited, bankfeed.ErrorKindOf(err))
	cancel()
	wg.Wait()
	d.handed(doc)
}

func TestARequestDoesNotWaitForEver(t *testing.T) {
	d := newDesk(t, storetest.SQLite(t))
	c := d.config
	c.Store = &dying{Store: d.store, left: 2}
	d.engine = ingest.New(c)
	_, err := d.hand(doc)
	require.ErrorIs(t, err, errKilled)
	clock := d.config
	clock.Now = func() time.Time { d.now = d.now.Add(6 * time.Second); return d.now } // each look at the clock
	d.engine = ingest.New(clock)
	_, err = d.hand(doc)
	if err != nil { // the lease had not ended when it gave up
		require.ErrorIs(t, err, bankfeed.ErrBusy)
	}
}

func TestADocumentThatNobodyGoesOnWithIsEnded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, target := range []string{"new", "there"} {
			d := newDesk(t, s)
			var change []func(*ingest.ImportOrder)
			if target == "there" {
				change = append(change, to(d.handed(`{"accounts":[{"accountNumber":"4711"}]}`).Connection))
			}
			c := d.config
			c.Store = &dying{Store: s, left: 4}
			d.engine = ingest.New(c)
			_, err := d.hand(doc, change...)
			require.ErrorIs(t, err, errKilled)
			d.engine = ingest.New(d.config)
			all, err := s.Connections(t.Context(), d.tenant, d.user.ID)
			require.NoError(t, err)
			id := all[0].ID
			require.Equal(t, bankfeed.OutcomeRunning, all[0].Outcome().Status, "a part is no success")

			var removed bankfeed.ConnectionID
			remove := func(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, id bankfeed.ConnectionID) error {
				removed = id
				return nil
			}
			d.now = d.now.Add(21 * time.Second)
			require.NoError(t, d.engine.Abandon(t.Context(), d.claimed(bankfeed.WorkImport), remove), "its client may still come")
			require.NotNil(t, d.state(id).Session)
			require.Empty(t, d.claims(bankfeed.WorkImport))
			d.now = d.now.Add(15 * time.Minute)
			d.events()
			require.NoError(t, d.engine.Abandon(t.Context(), d.claimed(bankfeed.WorkImport), remove))
			if target == "new" {
				require.Equal(t, id, removed, "nobody was told of it")
				continue
			}
			require.Zero(t, removed)
			require.Equal(t, []string{"sync.failed"}, types(d.events()))
			st := d.state(id)
			require.Nil(t, st.Session)
			require.Equal(t, bankfeed.OutcomeSucceeded, st.Connection.Outcome().Status)
			d.handed(doc, change...)
			require.Len(t, d.transactions(), 6)
		}
	})
}

func TestAnImportEndsWithItsConnection(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		first := d.handed(doc)
		st := d.state(first.Connection)
		st.Connection.Status = bankfeed.ConnectionClosed
		_, err := s.Apply(t.Context(), &bankfeed.Change{Tenant: d.tenant, User: d.user.ID, Connection: &st.Connection})
		require.NoError(t, err)
		_, err = d.hand(doc, to(first.Connection))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		again := d.handed(doc)
		require.NotEqual(t, first.Connection, again.Connection, "what is removed does not come back under its id")
		require.Equal(t, again.Connection, d.handed(doc).Connection)
		st = d.state(first.Connection)
		_, err = s.Apply(t.Context(), &bankfeed.Change{Tenant: d.tenant, User: d.user.ID, Connection: &st.Connection, Delete: &bankfeed.Deletion{Connection: first.Connection}})
		require.NoError(t, err)
		require.Equal(t, again.Connection, d.handed(doc).Connection)
	})
}
