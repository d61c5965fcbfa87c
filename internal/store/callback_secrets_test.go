package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestCallbackSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, c, now := t.Context(), s.CallbackSecrets(), storetest.Now
		tenant, _, err := s.Access().EnsureTenant(ctx, "a", now)
		require.NoError(t, err)
		other, _, err := s.Access().EnsureTenant(ctx, "b", now)
		require.NoError(t, err)
		kind := func(want bankfeed.ErrorKind, err error) {
			t.Helper()
			require.Error(t, err)
			require.Equal(t, want, bankfeed.ErrorKindOf(err), err)
		}
		live := func(at time.Time) []bankfeed.Secret {
			t.Helper()
			list, err := c.Secrets(ctx, tenant, "unneeded", at)
			require.NoError(t, err)
			return list
		}

		// The first is made when it is needed, by whoever is first.
		got := make([][]bankfeed.Secret, 4)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i], _ = c.Secrets(ctx, tenant, callback.NewSecret(), now) })
		}
		wg.Wait()
		first := live(now)[0]
		for _, list := range got {
			require.Equal(t, []bankfeed.Secret{first}, list)
		}
		kind(bankfeed.Conflict, c.RetireSecret(ctx, tenant, 1, now)) // nothing would be left to sign with

		// A rotation: both sign until the older one is retired.
		info, err := c.AddSecret(ctx, tenant, "whsec_second", time.Time{}, now)
		require.NoError(t, err)
		require.Equal(t, callback.SecretInfo{ID: 2, CreatedAt: now}, info)
		require.Equal(t, []bankfeed.Secret{"whsec_second", first}, live(now))
		_, err = c.AddSecret(ctx, tenant, "whsec_third", time.Time{}, now)
		kind(bankfeed.Conflict, err)
		kind(bankfeed.NotFound, c.RetireSecret(ctx, tenant, 3, now))
		kind(bankfeed.NotFound, c.RetireSecret(ctx, other, 1, now))
		require.NoError(t, c.RetireSecret(ctx, tenant, 1, now))
		kind(bankfeed.NotFound, c.RetireSecret(ctx, tenant, 1, now))
		require.Equal(t, []bankfeed.Secret{"whsec_second"}, live(now))

		// A rotation with an end of its own.
		later := now.Add(time.Hour)
		_, err = c.AddSecret(ctx, tenant, "whsec_third", later, now)
		require.NoError(t, err)
		require.Equal(t, []bankfeed.Secret{"whsec_third", "whsec_second"}, live(later.Add(-time.Second)))
		kind(bankfeed.Conflict, c.RetireSecret(ctx, tenant, 3, now)) // the other one is about to end
		require.Equal(t, []bankfeed.Secret{"whsec_third"}, live(later))
		_, err = c.AddSecret(ctx, tenant, "whsec_fourth", time.Time{}, later)
		require.NoError(t, err, "what has ended does not count")

		list, err := c.ListSecrets(ctx, tenant, 3)
		require.NoError(t, err)
		require.Equal(t, []callback.SecretInfo{{ID: 4, CreatedAt: later}, {ID: 3, CreatedAt: now}, {ID: 2, CreatedAt: now, RetiredAt: later}}, list)
		list, err = c.ListSecrets(ctx, other, 3)
		require.NoError(t, err)
		require.Empty(t, list)

		// No secret lies open, and none at all once it is retired.
		for query, want := range map[string]int{
			`length(secret) = 0 AND id < 3`: 2, `length(secret) > 20 AND id >= 3`: 2, `secret = $1`: 0,
		} {
			var args []any
			if want == 0 {
				args = []any{[]byte("whsec_third")}
			}
			n, err := s.Count(ctx, `SELECT count(*) FROM callback_secrets WHERE `+query, args...)
			require.NoError(t, err)
			require.Equal(t, want, n, query)
		}

		_, err = c.Secrets(ctx, 999, "whsec_x", now)
		kind(bankfeed.NotFound, err)
	})
}
