package secret_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// keyStore is a KeyStore in memory.
type keyStore struct {
	mu     sync.Mutex
	stored []byte
	loads  int
	// before, if set, runs once ahead of the next save: another node's turn.
	before func()
}

func (s *keyStore) LoadKeyset(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return bytes.Clone(s.stored), nil
}

func (s *keyStore) SaveKeyset(_ context.Context, old, new []byte) error {
	s.mu.Lock()
	before := s.before
	s.before = nil
	s.mu.Unlock()
	if before != nil {
		before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.stored, old) {
		return secret.ErrChanged
	}
	s.stored = bytes.Clone(new)
	return nil
}

// userKeyStore is a UserKeyStore in memory. A nil key is a tombstone.
type userKeyStore struct {
	mu    sync.Mutex
	keys  map[secret.UserRef][]byte
	gets  int
	onGet func() // runs after a key was read, before it is returned
}

func newUserKeyStore() *userKeyStore {
	return &userKeyStore{keys: make(map[secret.UserRef][]byte)}
}

func (s *userKeyStore) get(ref secret.UserRef) ([]byte, error) {
	k, ok := s.keys[ref]
	if ok && k == nil {
		return nil, secret.ErrErased
	}
	return bytes.Clone(k), nil
}

func (s *userKeyStore) Get(_ context.Context, ref secret.UserRef) ([]byte, error) {
	s.mu.Lock()
	s.gets++
	k, err := s.get(ref)
	onGet := s.onGet
	s.mu.Unlock()
	if onGet != nil {
		onGet()
	}
	return k, err
}

func (s *userKeyStore) Put(_ context.Context, ref secret.UserRef, wrapped []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.keys[ref]; !ok {
		s.keys[ref] = bytes.Clone(wrapped)
	}
	return s.get(ref)
}

func (s *userKeyStore) Replace(_ context.Context, ref secret.UserRef, old, new []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[ref]; k == nil || !bytes.Equal(k, old) {
		return secret.ErrChanged
	}
	s.keys[ref] = bytes.Clone(new)
	return nil
}

func (s *userKeyStore) Destroy(_ context.Context, ref secret.UserRef, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[ref] = nil
	return nil
}

func (s *userKeyStore) List(_ context.Context, after secret.UserRef, limit int) ([]secret.WrappedKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	order := func(a, b secret.UserRef) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.User, b.User))
	}
	var keys []secret.WrappedKey
	for ref, k := range s.keys {
		if k != nil && order(ref, after) > 0 {
			keys = append(keys, secret.WrappedKey{UserRef: ref, Wrapped: bytes.Clone(k)})
		}
	}
	slices.SortFunc(keys, func(a, b secret.WrappedKey) int { return order(a.UserRef, b.UserRef) })
	return keys[:min(limit, len(keys))], nil
}

// key returns a master key made of one repeated byte, as text.
func key(b byte) bankfeed.Secret {
	return bankfeed.Secret(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)))
}

func master(t testing.TB, current, previous bankfeed.Secret) *secret.Master {
	t.Helper()
	m, err := secret.LoadMaster(secret.MasterOptions{Key: current, PreviousKey: previous})
	require.NoError(t, err)
	return m
}

func keyring(t testing.TB, store secret.KeyStore) *secret.Keyring {
	t.Helper()
	k, err := secret.OpenKeyring(t.Context(), master(t, key(1), ""), store)
	require.NoError(t, err)
	return k
}
