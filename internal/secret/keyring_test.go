package secret_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/secret"
)

func TestKeyringSealsForOnePlace(t *testing.T) {
	store := new(keyStore)
	k := keyring(t, store)
	plain, aad := []byte("bank token"), secret.AAD("consent token", 1, 2)
	sealed, err := k.Seal(plain, aad)
	require.NoError(t, err)
	require.NotContains(t, string(sealed), string(plain))

	got, err := keyring(t, store).Open(t.Context(), sealed, aad)
	require.NoError(t, err, "after a restart")
	require.Equal(t, plain, got)

	for _, other := range [][]byte{nil, secret.AAD("consent token", 1, 3), secret.AAD("consent token", 1),
		secret.AAD("callback", 1, 2)} {
		_, err := k.Open(t.Context(), sealed, other)
		require.ErrorIs(t, err, secret.ErrOpen)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		_, err := k.Open(t.Context(), bad, aad)
		if i >= 1 && i < 5 {
			require.ErrorIs(t, err, secret.ErrUnknownKey)
		} else {
			require.ErrorIs(t, err, secret.ErrOpen)
		}
		_, err = k.Open(t.Context(), sealed[:i], aad)
		require.ErrorIs(t, err, secret.ErrOpen)
	}
}

func TestKeyringRotation(t *testing.T) {
	store := new(keyStore)
	a, b := keyring(t, store), keyring(t, store)
	aad := secret.AAD("x", 1)
	before, err := a.Seal([]byte("before"), aad)
	require.NoError(t, err)
	oldID := a.PrimaryID()

	newID, err := a.Rotate(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, oldID, newID)
	require.Equal(t, newID, a.PrimaryID())
	require.Equal(t, []uint32{oldID, newID}, a.IDs())

	after, err := a.Seal([]byte("after"), aad)
	require.NoError(t, err)
	id, ok := secret.KeyID(after)
	require.True(t, ok)
	require.Equal(t, newID, id)
	got, err := a.Open(t.Context(), before, aad)
	require.NoError(t, err, "the old key still opens")
	require.Equal(t, "before", string(got))

	require.Equal(t, oldID, b.PrimaryID())
	got, err = b.Open(t.Context(), after, aad)
	require.NoError(t, err, "another node finds the new key by itself")
	require.Equal(t, "after", string(got))
	require.Equal(t, newID, b.PrimaryID())

	resealed, err := b.Reseal(t.Context(), before, aad)
	require.NoError(t, err)
	id, _ = secret.KeyID(resealed)
	require.Equal(t, newID, id)
	got, err = a.Open(t.Context(), resealed, aad)
	require.NoError(t, err)
	require.Equal(t, "before", string(got))
	same, err := b.Reseal(t.Context(), resealed, aad)
	require.NoError(t, err)
	require.Equal(t, resealed, same)
}

func TestKeyringNodesRotateAtOnce(t *testing.T) {
	store := new(keyStore)
	a, b := keyring(t, store), keyring(t, store)
	var fromB uint32
	store.before = func() {
		var err error
		fromB, err = b.Rotate(t.Context())
		require.NoError(t, err)
	}
	fromA, err := a.Rotate(t.Context())
	require.NoError(t, err)
	require.Len(t, a.IDs(), 3, "neither key is lost")
	require.Equal(t, fromB, a.IDs()[1])
	require.Equal(t, fromA, a.PrimaryID())
	require.NoError(t, b.Reload(t.Context()))
	require.Equal(t, a.IDs(), b.IDs())
}

func TestKeyringFirstStartOfTwoNodes(t *testing.T) {
	store := new(keyStore)
	var first *secret.Keyring
	store.before = func() { first = keyring(t, store) }
	second := keyring(t, store)
	require.Equal(t, first.IDs(), second.IDs())
}

func TestMasterRotation(t *testing.T) {
	store := new(keyStore)
	ctx := t.Context()
	sealed, err := keyring(t, store).Seal([]byte("x"), nil)
	require.NoError(t, err)
	old, next := master(t, key(1), ""), master(t, key(2), "")

	_, err = secret.OpenKeyring(ctx, next, store)
	require.ErrorIs(t, err, secret.ErrUnknownKey)
	require.ErrorContains(t, err, old.ID(), "says which key is missing")
	require.ErrorContains(t, err, next.ID())

	k, err := secret.OpenKeyring(ctx, master(t, key(2), key(1)), store)
	require.NoError(t, err)
	require.True(t, k.NeedsRewrap())
	require.NoError(t, k.Rewrap(ctx))
	require.False(t, k.NeedsRewrap())
	stored := bytes.Clone(store.stored)
	require.NoError(t, k.Rewrap(ctx))
	require.Equal(t, stored, store.stored, "nothing to do the second time")

	k, err = secret.OpenKeyring(ctx, next, store)
	require.NoError(t, err, "the previous key is superfluous now")
	got, err := k.Open(ctx, sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
	_, err = secret.OpenKeyring(ctx, old, store)
	require.ErrorIs(t, err, secret.ErrUnknownKey)
}

func TestKeyringRefusesDamagedOrLostKeyset(t *testing.T) {
	store := new(keyStore)
	k := keyring(t, store)
	good := store.stored
	_, err := secret.OpenKeyring(t.Context(), master(t, key(1), ""), &keyStore{stored: good[:len(good)/2]})
	require.ErrorIs(t, err, secret.ErrOpen)

	store.stored = nil
	require.Error(t, k.Reload(t.Context()))
	require.Error(t, k.Rewrap(t.Context()))
	_, err = k.Rotate(t.Context())
	require.Error(t, err)
	require.Nil(t, store.stored, "no second keyset takes the place of the lost one")
}

func TestKeyringStopsWithItsContext(t *testing.T) {
	store := new(keyStore)
	k := keyring(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	store.before = func() {
		_, err := keyring(t, store).Rotate(context.Background())
		require.NoError(t, err)
		cancel()
	}
	_, err := k.Rotate(ctx)
	require.ErrorIs(t, err, secret.ErrChanged)
}

func TestKeyringConcurrentUse(t *testing.T) {
	store := new(keyStore)
	nodes := []*secret.Keyring{keyring(t, store), keyring(t, store)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine, other := nodes[i%2], nodes[(i+1)%2]
			for j := range 50 {
				if j%20 == i {
					if _, err := mine.Rotate(t.Context()); err != nil {
						t.Error(err)
					}
				}
				sealed, err := mine.Seal([]byte("x"), nil)
				if err != nil {
					t.Error(err)
				}
				if _, err := other.Open(t.Context(), sealed, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzKeyset(f *testing.F) {
	store := new(keyStore)
	keyring(f, store)
	f.Add(store.stored)
	f.Add([]byte{})
	f.Add([]byte{0x12, 5, 1, 2, 3, 4, 5})
	m := master(f, key(2), "")
	f.Fuzz(func(t *testing.T, stored []byte) {
		if stored == nil {
			stored = []byte{}
		}
		if _, err := secret.OpenKeyring(t.Context(), m, &keyStore{stored: stored}); err == nil {
			t.Fatal("opened a keyset that this master key never sealed")
		}
	})
}
