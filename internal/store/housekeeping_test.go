package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestSweepAccesses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		c := &bankfeed.Change{Tenant: 1, User: 1}
		for i := range 5 {
			c.Accesses = append(c.Accesses, bankfeed.QuotaUse{Consent: 1, Account: 2, Kind: bankfeed.AccessBalances, At: storetest.Now.Add(time.Duration(i) * time.Hour)})
		}
		_, err := s.Apply(ctx, c)
		require.NoError(t, err)
		n, err := s.SweepAccesses(ctx, storetest.Now.Add(3*time.Hour), 2)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		n, err = s.SweepAccesses(ctx, storetest.Now.Add(3*time.Hour), 2)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		left, err := s.Accesses(ctx, 1, 1, storetest.Now.Add(-time.Hour))
		require.NoError(t, err)
		require.Len(t, left, 2)
	})
}

// Reading a connection's state once began a second transaction on SQLite and
// left the first one open: after as many reads as the pool has connections, all
// readers waited for ever.
func TestReadingStateGivesItsConnectionBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := access.New(s.Access(), access.Options{Installation: s.Installation()})
		client, err := a.CreateClient(ctx, "", "test", true)
		require.NoError(t, err)
		user, err := a.CreateUser(ctx, bankfeed.Caller{Client: client.Client}, access.NewUser{ExternalID: "u"})
		require.NoError(t, err)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: client.Tenant, User: user.ID,
			NewConnection: &bankfeed.Connection{ID: 5, User: user.ID, ProviderID: "200", Status: bankfeed.ConnectionNone, CreatedAt: storetest.Now}})
		require.NoError(t, err)
		for range 100 {
			_, err := s.ConnectionState(ctx, client.Tenant, user.ID, 5)
			require.NoError(t, err)
		}
		for _, p := range s.Pools() {
			require.Zerof(t, p.InUse, "pool %s", p.Name)
		}
	})
}
