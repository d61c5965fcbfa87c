package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations of both engines, numbered alike. The users' keys have their own:
// their own file on SQLite, their own schema on PostgreSQL.
//
//go:embed migrations
var migrations embed.FS

// providers are the migrations of the data and of the users' keys.
func (s *Store) providers() ([]*goose.Provider, error) {
	var all []*goose.Provider
	for _, part := range []struct {
		dir   string
		table string
		db    *sql.DB
	}{
		{"migrations/", "bankfeed_migrations", s.write},
		{"migrations/keys/", "bankfeed_keys_migrations", s.keys},
	} {
		dir, err := fs.Sub(migrations, part.dir+string(s.engine))
		if err != nil {
			return nil, err
		}
		opts := []goose.ProviderOption{goose.WithTableName(part.table)}
		dialect := goose.DialectSQLite3
		if s.engine == Postgres {
			dialect = goose.DialectPostgres
			locker, err := lock.NewPostgresSessionLocker() // several nodes may start at once
			if err != nil {
				return nil, err
			}
			opts = append(opts, goose.WithSessionLocker(locker))
		}
		p, err := goose.NewProvider(dialect, part.db, dir, opts...)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Migrate brings the schema up to date and returns the names of what it
// applied.
func (s *Store) Migrate(ctx context.Context) (applied []string, err error) {
	providers, err := s.providers()
	if err != nil {
		return nil, err
	}
	for _, p := range providers {
		results, err := p.Up(ctx)
		if err != nil {
			return applied, fmt.Errorf("migrating the database: %w", err)
		}
		for _, r := range results {
			applied = append(applied, r.Source.Path)
		}
	}
	return applied, nil
}

// ErrPending: the schema is older than this build.
var ErrPending = errors.New("the database has pending migrations: run bankfeed migrate, or serve --migrate")

// CheckMigrated returns ErrPending if there is something to migrate.
func (s *Store) CheckMigrated(ctx context.Context) error {
	providers, err := s.providers()
	if err != nil {
		return err
	}
	for _, p := range providers {
		pending, err := p.HasPending(ctx)
		if err != nil {
			return err
		}
		if pending {
			return ErrPending
		}
	}
	return nil
}
