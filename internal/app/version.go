package app

import (
	"context"
	"database/sql"
	"runtime/debug"
)

// SQLiteVersion is the version of the SQLite in the binary.
func SQLiteVersion(ctx context.Context) (v string, err error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&v)
	return v, err
}

// PGXVersion is the version of the PostgreSQL driver in the binary.
func PGXVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/jackc/pgx/v5" {
				return m.Version
			}
		}
	}
	return "unknown"
}
