package secret_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/secret"
)

func sealer(t testing.TB) *secret.Sealer {
	t.Helper()
	s, err := secret.NewUserKeys(keyring(t, new(keyStore)), newUserKeyStore(), secret.UserKeysOptions{}).
		Sealer(t.Context(), 1, 1)
	require.NoError(t, err)
	return s
}

func TestSealer(t *testing.T) {
	s := sealer(t)
	aad := secret.AAD("event", 1, 7)
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 100_000} {
		plain := bytes.Repeat([]byte("p"), n)
		sealed := s.Seal([]byte("head"), plain, aad)
		require.Equal(t, "head", string(sealed[:4]), "appends")
		require.Len(t, sealed, 4+n+secret.Overhead)
		got, err := s.Open([]byte("head"), sealed[4:], aad)
		require.NoError(t, err)
		require.Equal(t, "head"+string(plain), string(got))
	}
	a, b := s.Seal(nil, []byte("same"), aad), s.Seal(nil, []byte("same"), aad)
	require.NotEqual(t, a, b, "equal payloads do not show")
	_, err := s.Open(nil, a, secret.AAD("event", 1, 8))
	require.ErrorIs(t, err, secret.ErrOpen)
	for i := range a {
		bad := bytes.Clone(a)
		bad[i] ^= 0x80
		_, err := s.Open(nil, bad, aad)
		require.ErrorIs(t, err, secret.ErrOpen)
		_, err = s.Open(nil, a[:i], aad)
		require.ErrorIs(t, err, secret.ErrOpen)
	}
}

func FuzzOpen(f *testing.F) {
	k := keyring(f, new(keyStore))
	s := sealer(f)
	aad := secret.AAD("event", 1)
	byRing, err := k.Seal([]byte("x"), nil)
	require.NoError(f, err)
	for _, seed := range [][]byte{nil, {1}, bytes.Repeat([]byte{1}, secret.Overhead), byRing} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := s.Open(nil, sealed, aad); err == nil {
			t.Fatal("opened what nobody sealed")
		}
		if _, err := k.Open(t.Context(), sealed, aad); err == nil {
			t.Fatal("opened what nobody sealed")
		}
		// And whatever is sealed opens.
		got, err := s.Open(nil, s.Seal(nil, sealed, aad), aad)
		if err != nil || !bytes.Equal(got, sealed) {
			t.Fatal(err)
		}
	})
}

func BenchmarkSealer(b *testing.B) {
	s := sealer(b)
	plain, aad := make([]byte, 1024), secret.AAD("event", 1, 7)
	sealed := s.Seal(nil, plain, aad)
	buf := make([]byte, 0, 2048)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Seal(buf, plain, aad)
		}
	})
	b.Run("SealAlloc", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Seal(nil, plain, aad)
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Open(buf, sealed, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
