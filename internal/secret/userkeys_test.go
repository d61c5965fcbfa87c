package secret_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

func TestUserKeysAreSeparate(t *testing.T) {
	ctx := t.Context()
	store := newUserKeyStore()
	ring := keyring(t, new(keyStore))
	keys := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	a, err := keys.Sealer(ctx, 1, 2)
	require.NoError(t, err)
	sealed := a.Seal(nil, []byte("payload"), nil)

	for _, other := range []secret.UserRef{{Tenant: 1, User: 3}, {Tenant: 2, User: 2}, {Tenant: 2, User: 1}} {
		b, err := keys.Sealer(ctx, other.Tenant, other.User)
		require.NoError(t, err)
		_, err = b.Open(nil, sealed, nil)
		require.ErrorIs(t, err, secret.ErrOpen)
	}

	node2, err := secret.NewUserKeys(ring, store, secret.UserKeysOptions{}).Sealer(ctx, 1, 2)
	require.NoError(t, err)
	got, err := node2.Open(nil, sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "payload", string(got))

	// A wrapped key that is moved to another user's row does not open.
	store.keys[secret.UserRef{Tenant: 1, User: 9}] = store.keys[secret.UserRef{Tenant: 1, User: 2}]
	_, err = keys.Sealer(ctx, 1, 9)
	require.ErrorIs(t, err, secret.ErrOpen)
}

func TestDestroyedKey(t *testing.T) {
	ctx := t.Context()
	store := newUserKeyStore()
	ring := keyring(t, new(keyStore))
	now := time.Unix(1_700_000_000, 0)
	opts := secret.UserKeysOptions{Now: func() time.Time { return now }}
	here, there := secret.NewUserKeys(ring, store, opts), secret.NewUserKeys(ring, store, opts)
	for _, k := range []*secret.UserKeys{here, there} {
		_, err := k.Sealer(ctx, 1, 1)
		require.NoError(t, err)
	}

	require.NoError(t, here.Destroy(ctx, 1, 1))
	_, err := here.Sealer(ctx, 1, 1)
	require.ErrorIs(t, err, secret.ErrErased, "at once on the node that did it")

	now = now.Add(59 * time.Second)
	_, err = there.Sealer(ctx, 1, 1)
	require.NoError(t, err, "another node has it in memory")
	now = now.Add(time.Second)
	_, err = there.Sealer(ctx, 1, 1)
	require.ErrorIs(t, err, secret.ErrErased, "but not longer than MaxAge, however often it is used")

	require.NoError(t, here.Destroy(ctx, 1, 1), "again")
	require.NoError(t, here.Destroy(ctx, 1, 77), "a user without a key")
	_, err = there.Sealer(ctx, 1, 77)
	require.ErrorIs(t, err, secret.ErrErased, "does not get one afterwards")

	_, err = there.Sealer(ctx, 1, 2)
	require.NoError(t, err)
	require.NoError(t, here.Destroy(ctx, 1, 2))
	there.Forget(1, 2)
	_, err = there.Sealer(ctx, 1, 2)
	require.ErrorIs(t, err, secret.ErrErased, "at once when told")
}

// A key that was read before it was destroyed must not enter the memory after.
func TestDestroyDuringRead(t *testing.T) {
	store := newUserKeyStore()
	keys := secret.NewUserKeys(keyring(t, new(keyStore)), store, secret.UserKeysOptions{})
	_, err := keys.Sealer(t.Context(), 1, 1)
	require.NoError(t, err)
	keys.Forget(1, 1)

	store.onGet = func() {
		store.onGet = nil
		require.NoError(t, keys.Destroy(t.Context(), 1, 1))
	}
	_, err = keys.Sealer(t.Context(), 1, 1)
	require.NoError(t, err, "the reader came first")
	_, err = keys.Sealer(t.Context(), 1, 1)
	require.ErrorIs(t, err, secret.ErrErased)
}

func TestUserKeysMemoryIsBounded(t *testing.T) {
	ctx := t.Context()
	store := newUserKeyStore()
	keys := secret.NewUserKeys(keyring(t, new(keyStore)), store, secret.UserKeysOptions{Size: 3})
	use := func(user bankfeed.UserID) (read bool) {
		before := store.gets
		_, err := keys.Sealer(ctx, 1, user)
		require.NoError(t, err)
		return store.gets > before
	}
	for u := range bankfeed.UserID(3) {
		require.True(t, use(u+1))
	}
	require.False(t, use(1))
	require.True(t, use(4), "takes the place of 2, which was used longest ago")
	require.False(t, use(1))
	require.False(t, use(3))
	require.False(t, use(4))
	require.True(t, use(2))
}

func TestTwoNodesMakeOneKey(t *testing.T) {
	store := newUserKeyStore()
	ring := keyring(t, new(keyStore))
	a := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	b := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	var second *secret.Sealer
	store.onGet = func() {
		store.onGet = nil
		var err error
		second, err = b.Sealer(t.Context(), 1, 1)
		require.NoError(t, err)
	}
	first, err := a.Sealer(t.Context(), 1, 1)
	require.NoError(t, err)
	_, err = first.Open(nil, second.Seal(nil, []byte("x"), nil), nil)
	require.NoError(t, err)
}

func TestRewrap(t *testing.T) {
	ctx := t.Context()
	store := newUserKeyStore()
	ring := keyring(t, new(keyStore))
	keys := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	const users = 1203 // more than two pages
	sealed := make(map[secret.UserRef][]byte)
	for i := range users {
		ref := secret.UserRef{Tenant: bankfeed.TenantID(i%3 + 1), User: bankfeed.UserID(i + 1)}
		s, err := keys.Sealer(ctx, ref.Tenant, ref.User)
		require.NoError(t, err)
		sealed[ref] = s.Seal(nil, []byte("payload"), nil)
	}
	gone := secret.UserRef{Tenant: 1, User: 1}
	require.NoError(t, keys.Destroy(ctx, gone.Tenant, gone.User))
	delete(sealed, gone)

	n, err := keys.Rewrap(ctx, nil)
	require.NoError(t, err)
	require.Zero(t, n, "all under the primary key already")

	primary, err := ring.Rotate(ctx)
	require.NoError(t, err)
	damaged := secret.UserRef{Tenant: 2, User: 2}
	store.keys[damaged][20] ^= 1
	var seen []int
	n, err = keys.Rewrap(ctx, func(n int) { seen = append(seen, n) })
	require.ErrorContains(t, err, "1 user keys do not open")
	require.ErrorIs(t, err, secret.ErrOpen)
	require.Equal(t, users-2, n, "all but the destroyed and the damaged one")
	require.Equal(t, []int{500, 1000, 1202}, seen)
	store.keys[damaged][20] ^= 1
	n, err = keys.Rewrap(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, 1, n, "goes on where it stopped")

	fresh := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	for ref, blob := range sealed {
		id, _ := secret.KeyID(store.keys[ref])
		require.Equal(t, primary, id)
		s, err := fresh.Sealer(ctx, ref.Tenant, ref.User)
		require.NoError(t, err)
		_, err = s.Open(nil, blob, nil)
		require.NoError(t, err, "payloads need no rewriting")
	}
	_, err = fresh.Sealer(ctx, gone.Tenant, gone.User)
	require.ErrorIs(t, err, secret.ErrErased)
}

func TestUserKeysConcurrentUse(t *testing.T) {
	store := newUserKeyStore()
	ring := keyring(t, new(keyStore))
	keys := secret.NewUserKeys(ring, store, secret.UserKeysOptions{Size: 4})
	ctx := context.WithoutCancel(t.Context())
	aad := secret.AAD("event", 1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				user := bankfeed.UserID(j%7 + 1)
				a, err := keys.Sealer(ctx, 1, user)
				if err != nil {
					t.Error(err)
					return
				}
				if i == 0 && j%10 == 0 {
					keys.Forget(1, user)
				}
				b, err := keys.Sealer(ctx, 1, user)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := b.Open(nil, a.Seal(nil, []byte("x"), aad), aad); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if _, err := ring.Rotate(ctx); err != nil {
				t.Error(err)
			}
			if _, err := keys.Rewrap(ctx, nil); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

// erasingStore destroys a key after it was listed, as another node may.
type erasingStore struct {
	*userKeyStore
	victim secret.UserRef
}

func (s erasingStore) List(ctx context.Context, after secret.UserRef, limit int) ([]secret.WrappedKey, error) {
	keys, err := s.userKeyStore.List(ctx, after, limit)
	_ = s.Destroy(ctx, s.victim, time.Time{})
	return keys, err
}

func TestRewrapMeetsErasure(t *testing.T) {
	ring := keyring(t, new(keyStore))
	store := erasingStore{newUserKeyStore(), secret.UserRef{Tenant: 1, User: 1}}
	keys := secret.NewUserKeys(ring, store, secret.UserKeysOptions{})
	for user := range bankfeed.UserID(2) {
		_, err := keys.Sealer(t.Context(), 1, user+1)
		require.NoError(t, err)
	}
	_, err := ring.Rotate(t.Context())
	require.NoError(t, err)
	n, err := keys.Rewrap(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Nil(t, store.keys[store.victim], "a destroyed key does not come back")
}
