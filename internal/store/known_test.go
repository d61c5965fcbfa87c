package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestTransactionsByID(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		tenant, user := storetest.User(t, s)
		c := &bankfeed.Change{Tenant: tenant, User: user.ID}
		for id := bankfeed.TransactionID(1); id <= 3; id++ {
			c.Transactions.Insert = append(c.Transactions.Insert, bankfeed.TransactionRow{Transaction: bankfeed.Transaction{ID: id, Account: 7, User: user.ID,
				Status: bankfeed.TransactionBooked, BookingDate: "2026-03-01", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1.50"), Currency: "EUR"}, CreatedAt: storetest.Now},
				Identity: bankfeed.Identity{Key: uint64(id), Fingerprint: uint64(id), Content: uint64(id)}})
		}
		_, err := s.Apply(ctx, c)
		require.NoError(t, err)

		list, err := s.TransactionsByID(ctx, tenant, user.ID, []bankfeed.TransactionID{3, 9, 1})
		require.NoError(t, err)
		var ids []bankfeed.TransactionID
		for _, x := range list {
			ids = append(ids, x.ID)
			require.Equal(t, "1.50", x.Money.Amount.String())
		}
		require.ElementsMatch(t, []bankfeed.TransactionID{1, 3}, ids, "one that is not there is missing")

		list, err = s.TransactionsByID(ctx, tenant, user.ID, nil)
		require.NoError(t, err)
		require.Empty(t, list)

		foreign, err := s.TransactionsByID(ctx, tenant, user.ID+1, []bankfeed.TransactionID{1})
		require.NoError(t, err)
		require.Empty(t, foreign, "another user's")
	})
}
