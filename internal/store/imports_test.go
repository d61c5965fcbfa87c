package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestImportsAreRememberedByTheirKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		tenant, u := storetest.User(t, s)
		put := func(i bankfeed.Import) error {
			_, err := s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Import: &i})
			return err
		}
		one := bankfeed.Import{Key: []byte("key"), Digest: []byte("digest"), User: u.ID, Connection: 5, Session: 6, CreatedAt: now}
		require.NoError(t, put(one))
		require.ErrorIs(t, put(one), bankfeed.ErrConflict, "of two at the same time one comes first")
		got, err := s.Import(ctx, tenant, u.ID, []byte("key"))
		require.NoError(t, err)
		one.Version = 1
		require.Equal(t, one, got)
		open, err := s.Unfinished(ctx, tenant, u.ID, 5)
		require.NoError(t, err)
		require.True(t, open)

		ended := now.Add(time.Minute)
		got.EndedAt, got.Session = &ended, 7
		require.NoError(t, put(got))
		require.ErrorIs(t, put(got), bankfeed.ErrConflict)
		found, err := s.ImportOf(ctx, tenant, u.ID, []byte("digest"))
		require.NoError(t, err)
		got.Version = 2
		require.Equal(t, got, found)
		open, err = s.Unfinished(ctx, tenant, u.ID, 5)
		require.NoError(t, err)
		require.False(t, open)

		for _, who := range []struct {
			tenant bankfeed.TenantID
			user   bankfeed.UserID
		}{{tenant + 1, u.ID}, {tenant, u.ID + 1}} {
			_, err = s.Import(ctx, who.tenant, who.user, []byte("key"))
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
			_, err = s.ImportOf(ctx, who.tenant, who.user, []byte("digest"))
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}

		addition := bankfeed.Import{Key: []byte("put"), Digest: []byte("later"), Target: 5, User: u.ID, Connection: 5, Session: 8, CreatedAt: now, EndedAt: &ended}
		running := addition
		running.Key, running.EndedAt = []byte("open"), nil
		require.NoError(t, put(addition))
		require.NoError(t, put(running))
		_, err = s.ImportOf(ctx, tenant, u.ID, []byte("later"))
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "an addition made no connection")
		n, err := s.SweepImports(ctx, ended, 10)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.SweepImports(ctx, ended.Add(time.Second), 10)
		require.NoError(t, err)
		require.Equal(t, 1, n, "what made a connection stays, and what is open")
	})
}

func TestAnImportIsClaimedByWhoeverHandsItIn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		tenant, u := storetest.User(t, s)
		claim := func(owner string, at time.Time) (bankfeed.Fence, error) {
			return s.ClaimImport(ctx, tenant, 6, owner, at, at.Add(20*time.Second))
		}
		_, err := claim("a", now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Ready: []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkImport, ID: 6, ReadyAt: now.Add(time.Hour)}}})
		require.NoError(t, err)
		first, err := claim("a", now)
		require.NoError(t, err, "though nodes may take it later only")
		_, err = claim("b", now.Add(20*time.Second))
		require.ErrorIs(t, err, bankfeed.ErrBusy)
		require.NoError(t, s.RenewImport(ctx, first, "a", now.Add(40*time.Second)))
		require.ErrorIs(t, s.RenewImport(ctx, first, "b", now.Add(40*time.Second)), bankfeed.ErrFenced)
		_, err = claim("b", now.Add(30*time.Second))
		require.ErrorIs(t, err, bankfeed.ErrBusy)
		second, err := claim("b", now.Add(41*time.Second))
		require.NoError(t, err)
		require.Greater(t, second.Number, first.Number)
		require.ErrorIs(t, s.RenewImport(ctx, first, "a", now.Add(time.Minute)), bankfeed.ErrFenced)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Fence: &first})
		require.ErrorIs(t, err, bankfeed.ErrFenced)

		// Given back, it is the client's at once, and the nodes' when it is ready.
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Fence: &second, Release: &bankfeed.Release{ReadyAt: now.Add(time.Hour)}})
		require.NoError(t, err)
		request := lease.Request{Kind: bankfeed.WorkImport, Owner: "n", Now: now.Add(2 * time.Minute), Until: now.Add(3 * time.Minute), Limit: 1, Cap: func(string) int { return 0 }}
		claims, err := s.ClaimWork(ctx, request)
		require.NoError(t, err)
		require.Empty(t, claims)
		third, err := claim("c", now.Add(2*time.Minute))
		require.NoError(t, err)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Fence: &third, Release: &bankfeed.Release{Done: true}})
		require.NoError(t, err)
		_, err = claim("d", now.Add(2*time.Minute))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}

func TestEachKnown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		tenant, u := storetest.User(t, s)
		row := func(id bankfeed.TransactionID, account bankfeed.AccountID, day bankfeed.Date) bankfeed.TransactionRow {
			return bankfeed.TransactionRow{Transaction: bankfeed.Transaction{ID: id, Account: account, BookingDate: day, Status: bankfeed.TransactionBooked,
				Money: bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "EUR"}, CreatedAt: storetest.Now}, Identity: bankfeed.Identity{Key: uint64(id) << 60, Fingerprint: 1 << 63, Content: 3}}
		}
		_, err := s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: u.ID, Transactions: bankfeed.TransactionChanges{Insert: []bankfeed.TransactionRow{
			row(1, 1, "2026-01-01"), row(2, 1, "2026-01-02"), row(3, 1, "2026-01-03"), row(4, 2, "2026-01-02")}}})
		require.NoError(t, err)
		known := func(whole bool, tenant bankfeed.TenantID) (ids []bankfeed.TransactionID) {
			require.NoError(t, s.EachKnown(ctx, tenant, u.ID, 1, "2026-01-02", "2026-01-02", whole, func(k *identity.Known) {
				require.Equal(t, bankfeed.Identity{Key: uint64(k.ID) << 60, Fingerprint: 1 << 63, Content: 3}, k.Identity)
				require.NotEmpty(t, k.Day)
				ids = append(ids, k.ID)
			}))
			slices.Sort(ids)
			return ids
		}
		require.Equal(t, []bankfeed.TransactionID{2}, known(false, tenant))
		require.Equal(t, []bankfeed.TransactionID{1, 2, 3}, known(true, tenant))
		require.Empty(t, known(true, tenant+1))
	})
}
