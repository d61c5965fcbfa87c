// Package storetest opens real stores for tests: an empty SQLite file always,
// an empty PostgreSQL database where a server is at hand.
package storetest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
)

// masterKey is the same in every test: 32 zero bytes.
const masterKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// Each runs a test on both engines.
func Each(t *testing.T, f func(t *testing.T, s *store.Store)) {
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t)) })
}

// SQLite opens an empty store in a directory of the test's own.
func SQLite(t testing.TB) *store.Store { return Open(t, SQLiteConfig(t)) }

// Postgres opens an empty store in a database of the test's own.
func Postgres(t testing.TB) *store.Store { return Open(t, PostgresConfig(t)) }

// SQLiteConfig names files that do not exist yet.
func SQLiteConfig(t testing.TB) store.Config {
	dir := t.TempDir()
	return store.Config{Path: filepath.Join(dir, "bankfeed.db"), KeysPath: filepath.Join(dir, "bankfeed-keys.db")}
}

// PostgresConfig names an empty database.
func PostgresConfig(t testing.TB) store.Config {
	return store.Config{URL: backingtest.PostgresURL(t), MaxConns: 10}
}

// Open opens and migrates a store, which is closed when the test ends. Opening
// the same Config twice makes two nodes on one database (PostgreSQL).
func Open(t testing.TB, c store.Config) *store.Store {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = s.Migrate(ctx)
	require.NoError(t, err)
	require.NoError(t, s.Load(ctx))
	master, err := secret.LoadMaster(secret.MasterOptions{Key: bankfeed.Secret(masterKey)})
	require.NoError(t, err)
	keyring, err := secret.OpenKeyring(ctx, master, s.Keys())
	require.NoError(t, err)
	s.UseKeys(keyring, secret.NewUserKeys(keyring, s.Keys(), secret.UserKeysOptions{}))
	return s
}

// Now is a fixed time for tests that need one.
var Now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// User makes a tenant, once, and a user of it.
func User(t testing.TB, s *store.Store) (bankfeed.TenantID, bankfeed.User) {
	t.Helper()
	ctx, a := context.Background(), s.Access()
	tenant, _, err := a.EnsureTenant(ctx, "test", Now)
	require.NoError(t, err)
	u := access.User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: Now}, Sandbox: true}
	u.ID, err = a.CreateUser(ctx, tenant, u)
	require.NoError(t, err)
	return tenant, u.User
}
