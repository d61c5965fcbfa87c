// Package processsql keeps processes in SQLite or PostgreSQL. The tables may lie
// beside the application's own; their migrations have a table of their own.
package processsql

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver named sqlite

	"github.com/bankfeed/bankfeed/client/process"
)

//go:embed migrations
var migrations embed.FS

// migrationsTable names what was applied.
const migrationsTable = "bankfeed_process_migrations"

// Engine is the kind of database.
type Engine string

// Engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Store is a process.Store. It may be used by any number of programs at once
// on PostgreSQL, and by one on SQLite.
type Store struct {
	db     *sql.DB
	engine Engine
}

var _ process.Store = (*Store)(nil)

// Open opens a database and brings its tables up to date: postgres://… or a
// file of SQLite, which is made if it does not exist.
func Open(ctx context.Context, database string) (*Store, error) {
	engine, driver, dsn := SQLite, "sqlite", sqliteDSN(database)
	if strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") {
		engine, driver, dsn = Postgres, "pgx", database
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, errors.New("processsql: the database's address cannot be read") // it may hold a password
	}
	if engine == SQLite {
		db.SetMaxOpenConns(1) // one writer; a reader beside it would have nothing to gain
	}
	s := &Store{db, engine}
	if err := s.Migrate(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// New uses a database that the application has opened, by any driver of that
// engine. Transactions of SQLite must begin immediate (_txlock of modernc.org/sqlite).
func New(db *sql.DB, engine Engine) *Store { return &Store{db, engine} }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// sqliteDSN makes commits durable and transactions immediate: a transaction that
// reads first and writes later would fail as soon as two overlap.
func sqliteDSN(file string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(file) +
		"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_txlock=immediate"
}

// Migrate brings the tables up to date. Several programs may do so at once.
func (s *Store) Migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations/"+string(s.engine))
	if err != nil {
		return err
	}
	opts := []goose.ProviderOption{goose.WithTableName(migrationsTable)}
	dialect := goose.DialectSQLite3
	if s.engine == Postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, s.db, dir, opts...)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("processsql: migrating: %w", err)
	}
	return nil
}

// columns of a record, in the order of scan.
const columns = "id, user_name, status, version, fence, sequence, next_at, lease_until, token, body"

// body is what has no column of its own.
type body struct {
	Process process.Process `json:"process"`
	Work    process.Work    `json:"work"`
}

func scan(row interface{ Scan(...any) error }) (r process.Record, err error) {
	var next sql.NullInt64
	var lease, version, fence, sequence int64
	var id, user, status, text string
	var token []byte
	if err := row.Scan(&id, &user, &status, &version, &fence, &sequence, &next, &lease, &token, &text); err != nil {
		return r, err
	}
	var b body
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return r, fmt.Errorf("processsql: process %s: %w", id, err)
	}
	r = process.Record{Process: b.Process, Work: b.Work, Token: token, Fence: fence, Version: version, LeaseUntil: fromMS(lease)}
	r.ID, r.User, r.Status, r.Sequence = id, user, process.Status(status), sequence
	if next.Valid {
		r.NextAt = fromMS(next.Int64)
	}
	return r, nil
}

func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// orNull is for columns in which nothing is NULL.
func orNull(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: toMS(t), Valid: !t.IsZero()} }

func endedAt(r *process.Record) sql.NullInt64 {
	if !r.Status.Ended() {
		return sql.NullInt64{}
	}
	return orNull(r.UpdatedAt)
}

func text(r *process.Record) (string, error) {
	b, err := json.Marshal(body{r.Process, r.Work})
	return string(b), err
}

// Create stores a new process.
func (s *Store) Create(ctx context.Context, r process.Record) (process.Record, error) {
	r.Version = 1
	err := s.transaction(ctx, func(tx *sql.Tx) error {
		b, err := text(&r)
		if err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `INSERT INTO processes (`+columns+`, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
			r.ID, r.User, string(r.Status), r.Version, r.Fence, 0, orNull(r.NextAt), toMS(r.LeaseUntil), r.Token, b, endedAt(&r))
		if err := one(done, err); err != nil {
			return err
		}
		return s.tell(ctx, tx, &r)
	})
	return r, err
}

// Get reads a process.
func (s *Store) Get(ctx context.Context, id string) (process.Record, error) {
	r, err := scan(s.db.QueryRowContext(ctx, "SELECT "+columns+" FROM processes WHERE id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		err = process.ErrNotFound
	}
	return r, err
}

// Save stores r if it is the newest.
func (s *Store) Save(ctx context.Context, r process.Record, tell bool) (process.Record, error) {
	was := r.Version
	r.Version++
	err := s.transaction(ctx, func(tx *sql.Tx) error {
		b, err := text(&r)
		if err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `UPDATE processes SET user_name = $1, status = $2, version = $3, fence = $4, next_at = $5, lease_until = $6, token = $7, body = $8, ended_at = $9
			WHERE id = $10 AND version = $11`,
			r.User, string(r.Status), r.Version, r.Fence, orNull(r.NextAt), toMS(r.LeaseUntil), r.Token, b, endedAt(&r), r.ID, was)
		if err := one(done, err); err != nil || !tell {
			return err
		}
		return s.tell(ctx, tx, &r)
	})
	return r, err
}

// tell adds the process to the stream of changes and sets its sequence. Its row
// comes first, the sequence's last: it is held no longer than needed, whoever is
// too late takes no number, and two that want both do not wait for each other.
func (s *Store) tell(ctx context.Context, tx *sql.Tx, r *process.Record) error {
	if err := tx.QueryRowContext(ctx, "UPDATE process_sequence SET last = last + 1 WHERE one = 1 RETURNING last").Scan(&r.Sequence); err != nil {
		return err
	}
	b, err := json.Marshal(r.Summary())
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO process_changes (sequence, process, user_name, at, body) VALUES ($1, $2, $3, $4, $5)",
		r.Sequence, r.ID, r.User, toMS(r.UpdatedAt), string(b))
	if err == nil {
		_, err = tx.ExecContext(ctx, "UPDATE processes SET sequence = $1 WHERE id = $2", r.Sequence, r.ID)
	}
	return err
}

// one turns a statement that changed no row into a conflict.
func one(done sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return process.ErrConflict
}

// Claim takes what is due.
func (s *Store) Claim(ctx context.Context, now, until time.Time, limit int) (due []process.Record, next time.Time, err error) {
	skip := ""
	if s.engine == Postgres {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	err = s.transaction(ctx, func(tx *sql.Tx) error {
		next = time.Time{}
		// Materialized: it is looked once, whatever the planner takes the table for.
		due, err = query(tx.QueryContext(ctx, `WITH due AS MATERIALIZED (SELECT id FROM processes WHERE next_at <= $2 AND lease_until <= $2 ORDER BY next_at LIMIT $3`+skip+`)
			UPDATE processes SET lease_until = $1, fence = fence + 1, version = version + 1 WHERE id IN (SELECT id FROM due) RETURNING `+columns,
			toMS(until), toMS(now), limit))
		if err != nil {
			return err
		}
		var at sql.NullInt64
		err = tx.QueryRowContext(ctx, "SELECT next_at FROM processes WHERE next_at IS NOT NULL AND lease_until <= $1 ORDER BY next_at LIMIT 1", toMS(now)).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		next = fromMS(at.Int64)
		return err
	})
	return due, next, err
}

func query(rows *sql.Rows, err error) (list []process.Record, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// Changes reads the stream.
func (s *Store) Changes(ctx context.Context, after int64, limit int) (changes []process.Change, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT sequence, user_name, body FROM process_changes WHERE sequence > $1 ORDER BY sequence LIMIT $2", after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c process.Change
		var user, b string
		if err := rows.Scan(&c.Sequence, &user, &b); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(b), &c.Process); err != nil {
			return nil, fmt.Errorf("processsql: change %d: %w", c.Sequence, err)
		}
		c.Process.User, c.Process.Sequence = user, c.Sequence
		changes = append(changes, c)
	}
	return changes, rows.Err()
}

// Bounds are the first and the last change.
func (s *Store) Bounds(ctx context.Context) (first, last int64, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT coalesce((SELECT min(sequence) FROM process_changes), 0), last FROM process_sequence").Scan(&first, &last)
	return first, last, err
}

// Delete removes a process.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		for _, statement := range []string{"DELETE FROM processes WHERE id = $1", "DELETE FROM process_changes WHERE process = $1"} {
			if _, err := tx.ExecContext(ctx, statement, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Prune removes what is too old.
func (s *Store) Prune(ctx context.Context, changes, ended time.Time) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM process_changes WHERE at < $1", toMS(changes)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM processes WHERE ended_at < $1", toMS(ended))
		return err
	})
}

func (s *Store) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}
