// Package storetest opens real stores for tests: an empty SQLite file always,
// an empty PostgreSQL database where a server is at hand.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
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

// SQLite opens an empty store in a directory of the test's own. Its tables are a
// copy: to make them takes longer than most tests.
func SQLite(t testing.TB) *store.Store {
	t.Helper()
	c := SQLiteConfig(t)
	files, err := migrated()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.Path, files[0], 0o600))
	require.NoError(t, os.WriteFile(c.KeysPath, files[1], 0o600))
	return Open(t, c)
}

// migrated are the files of a SQLite store without content, made once.
var migrated = sync.OnceValues(func() (files [2][]byte, err error) {
	dir, err := os.MkdirTemp("", "bankfeed-storetest-")
	if err != nil {
		return files, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, c := context.Background(), store.Config{Path: filepath.Join(dir, "bankfeed.db"), KeysPath: filepath.Join(dir, "bankfeed-keys.db")}
	s, err := store.Open(ctx, c)
	if err != nil {
		return files, err
	}
	_, err = s.Migrate(ctx)
	if err := errors.Join(err, s.Close()); err != nil { // the last to close leaves all in the files
		return files, err
	}
	for i, name := range []string{c.Path, c.KeysPath} {
		if files[i], err = os.ReadFile(name); err != nil {
			return files, err
		}
	}
	return files, nil
})

// Postgres opens an empty store in a database of the test's own, a copy too.
func Postgres(t testing.TB) *store.Store {
	t.Helper()
	key, err := schema()
	require.NoError(t, err)
	url := backingtest.PostgresCopy(t, key, func(url string) error {
		s, err := store.Open(context.Background(), store.Config{URL: url, MaxConns: 2})
		if err != nil {
			return err
		}
		_, err = s.Migrate(context.Background())
		return errors.Join(err, s.Close())
	})
	return Open(t, store.Config{URL: url, MaxConns: 10})
}

// schema names the tables as they are today.
var schema = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	dir, sum := filepath.Join(filepath.Dir(filepath.Dir(here)), "migrations"), sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", d.Name(), len(text), text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
})

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
