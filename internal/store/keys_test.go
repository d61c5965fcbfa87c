package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestUserKeysAreDestroyedForGood(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, keys := context.Background(), s.Keys()
		u := secret.UserRef{Tenant: 1, User: 7}

		got, err := keys.Get(ctx, u)
		require.NoError(t, err)
		require.Nil(t, got)

		stored, err := keys.Put(ctx, u, []byte("first"))
		require.NoError(t, err)
		require.Equal(t, "first", string(stored))
		stored, err = keys.Put(ctx, u, []byte("second"))
		require.NoError(t, err)
		require.Equal(t, "first", string(stored), "another node made the key before")

		require.ErrorIs(t, keys.Replace(ctx, u, []byte("other"), []byte("new")), secret.ErrChanged)
		require.NoError(t, keys.Replace(ctx, u, []byte("first"), []byte("new")))

		require.NoError(t, keys.Destroy(ctx, u, time.UnixMicro(5)))
		require.NoError(t, keys.Destroy(ctx, u, time.UnixMicro(9)))
		_, err = keys.Get(ctx, u)
		require.ErrorIs(t, err, secret.ErrErased)
		_, err = keys.Put(ctx, u, []byte("again"))
		require.ErrorIs(t, err, secret.ErrErased)

		require.NoError(t, keys.Destroy(ctx, secret.UserRef{Tenant: 1, User: 8}, time.UnixMicro(5)), "also without a key")
		_, err = keys.Put(ctx, secret.UserRef{Tenant: 2, User: 1}, []byte("k"))
		require.NoError(t, err)
		all, err := keys.List(ctx, secret.UserRef{}, 10)
		require.NoError(t, err)
		require.Len(t, all, 1)
	})
}

func TestNumbersAreUniqueAcrossNodes(t *testing.T) {
	c := storetest.PostgresConfig(t)
	nodes := []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}
	seen := map[int64]bool{}
	for i := range 100 {
		first, err := nodes[i%2].NextIDs(context.Background(), 1, bankfeed.KindSession, 7)
		require.NoError(t, err)
		for n := first; n < first+7; n++ {
			require.False(t, seen[n], "number %d was given out twice", n)
			seen[n] = true
		}
	}
}
