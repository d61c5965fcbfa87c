package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
)

// Names in the data directory.
const (
	dataFile   = "bankfeed.db"
	keysFile   = "bankfeed-keys.db"
	sandboxDir = "sandbox"
)

// Data is the hub's data, opened and unsealed, without anything running on it.
type Data struct {
	Store    *store.Store
	Keyring  *secret.Keyring
	UserKeys *secret.UserKeys
	Master   *secret.Master
}

// OpenData opens the data for a command. A new or outdated SQLite database is
// migrated first, unless another process works with it; with PostgreSQL that is
// what `bankfeed migrate` is for.
func OpenData(ctx context.Context, c config.Storage) (*Data, error) {
	s, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.CheckMigrated(ctx); err != nil {
		if c.SQLite() && errors.Is(err, store.ErrPending) {
			_, err = migrateLocked(ctx, s, c)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return unseal(ctx, s, c)
}

// Migrate brings the schema up to date, or with check only reports whether it
// is (store.ErrPending). It returns what it applied.
func Migrate(ctx context.Context, c config.Storage, check bool) (applied []string, err error) {
	s, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	switch {
	case check:
		return nil, s.CheckMigrated(ctx)
	case c.SQLite():
		return migrateLocked(ctx, s, c)
	}
	return s.Migrate(ctx)
}

func migrateLocked(ctx context.Context, s *store.Store, c config.Storage) (applied []string, err error) {
	unlock, err := lockDataDir(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("the database must be migrated: %w", err)
	}
	applied, err = s.Migrate(ctx)
	return applied, errors.Join(err, unlock())
}

func openStore(ctx context.Context, c config.Storage) (*store.Store, error) {
	if c.SQLite() {
		if err := makeDataDir(c.DataDir); err != nil {
			return nil, err
		}
	}
	return store.Open(ctx, store.Config{URL: string(c.DatabaseURL), Path: c.Path(dataFile), KeysPath: c.Path(keysFile), MaxConns: c.DatabaseConns})
}

// unseal reads the keys. It closes the store when it fails.
func unseal(ctx context.Context, s *store.Store, c config.Storage) (_ *Data, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.Load(ctx); err != nil {
		return nil, err
	}
	d := &Data{Store: s}
	if d.Master, err = loadMaster(c); err != nil {
		return nil, err
	}
	if d.Keyring, err = secret.OpenKeyring(ctx, d.Master, s.Keys()); err != nil {
		return nil, err
	}
	d.UserKeys = secret.NewUserKeys(d.Keyring, s.Keys(), secret.UserKeysOptions{})
	s.UseKeys(d.Keyring, d.UserKeys)
	return d, nil
}

func loadMaster(c config.Storage) (*secret.Master, error) {
	return secret.LoadMaster(secret.MasterOptions{Key: c.MasterKey, KeyFile: c.MasterKeyFile, PreviousKey: c.PreviousKey,
		PreviousKeyFile: c.PreviousKeyFile, Generate: c.SQLite(), DataDir: c.DataDir})
}

// Access is the management of tenants, clients and users.
func (d *Data) Access() *access.Service { return d.accessWith(access.Options{}) }

func (d *Data) accessWith(o access.Options) *access.Service {
	o.Installation = d.Store.Installation()
	return access.New(d.Store.Access(), o)
}

// Close ends the connections.
func (d *Data) Close() error { return d.Store.Close() }

// openForServing opens the data for a node: SQLite is migrated at once,
// PostgreSQL when the operator says so.
func openForServing(ctx context.Context, c config.Config, log *slog.Logger) (*Data, error) {
	s, err := openStore(ctx, c.Storage)
	if err != nil {
		return nil, err
	}
	if c.SQLite() || c.Migrate {
		applied, err := s.Migrate(ctx)
		if len(applied) > 0 {
			log.InfoContext(ctx, "database migrated", "applied", applied)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	} else if err := s.CheckMigrated(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return unseal(ctx, s, c.Storage)
}
