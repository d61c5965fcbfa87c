// Package store keeps the hub's state and its event log in SQL: SQLite in the
// data directory by default, PostgreSQL by one setting. It decides nothing. A
// method is one whole transaction, and a bankfeed.Change is persisted state and
// events together.
//
// One SQL text serves both engines: both understand $1, ON CONFLICT and
// RETURNING. Where they differ, the two ways stand side by side (dialect.go).
// Times are microseconds since 1970, days are YYYY-MM-DD, amounts exact
// decimals. Methods take the time; no SQL asks the server for it.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// Engine is the kind of database behind a store.
type Engine string

// Engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Config says where the data is.
type Config struct {
	// URL is a postgres:// URL; empty means SQLite.
	URL string
	// Path is the SQLite file, KeysPath the file beside it that holds the
	// users' keys and is left out of backups.
	Path, KeysPath string
	// MaxConns bounds the connections to PostgreSQL (default 4 per CPU, at
	// least 16).
	MaxConns int
	Now      func() time.Time
}

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	engine       Engine
	write        *sql.DB // SQLite: the one writer
	read         *sql.DB
	keys         *sql.DB
	pool         *pgxpool.Pool // PostgreSQL only
	now          func() time.Time
	installation bankfeed.Installation
	ids          idBlocks
	keyring      *secret.Keyring
	userKeys     *secret.UserKeys
	committed    func(bankfeed.Committed)
	ready        func(bankfeed.WorkKind)
}

// Open connects, without looking at the schema: Migrate or CheckMigrated comes
// next, then Load.
func Open(ctx context.Context, c Config) (*Store, error) {
	s := &Store{now: c.Now, committed: func(bankfeed.Committed) {}, ready: func(bankfeed.WorkKind) {}}
	if s.now == nil {
		s.now = time.Now
	}
	s.ids.store = s
	var err error
	if c.URL == "" {
		err = s.openSQLite(ctx, c)
	} else {
		err = s.openPostgres(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// sqliteDSN: FULL makes a commit durable (NORMAL loses acknowledged commits on
// power loss, and reuses their positions); IMMEDIATE keeps a transaction that
// reads before it writes from failing when another one writes in between.
func sqliteDSN(path string, writer bool) string {
	dsn := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) +
		"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=temp_store(MEMORY)"
	if writer {
		return dsn + "&_txlock=immediate"
	}
	return dsn + "&_pragma=query_only(1)"
}

// SQLiteDSN is how the hub opens its database for writing, for whoever compares
// with it.
func SQLiteDSN(path string) string { return sqliteDSN(path, true) }

func (s *Store) openSQLite(ctx context.Context, c Config) (err error) {
	s.engine = SQLite
	if s.write, err = sql.Open("sqlite", sqliteDSN(c.Path, true)); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err = s.write.PingContext(ctx); err != nil { // creates the file, before a reader asks for it
		return fmt.Errorf("opening the SQLite database: %w", err)
	}
	if s.read, err = sql.Open("sqlite", sqliteDSN(c.Path, false)); err != nil {
		return err
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if s.keys, err = sql.Open("sqlite", sqliteDSN(c.KeysPath, true)+"&_pragma=secure_delete(1)"); err != nil {
		return err
	}
	s.keys.SetMaxOpenConns(1)
	if err = s.keys.PingContext(ctx); err != nil {
		return fmt.Errorf("opening the SQLite database of the users' keys: %w", err)
	}
	return nil
}

func (s *Store) openPostgres(ctx context.Context, c Config) error {
	s.engine = Postgres
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return errors.New("the database URL cannot be read") // err repeats the password
	}
	conns := c.MaxConns
	if conns == 0 {
		conns = max(16, 4*runtime.GOMAXPROCS(0))
	}
	pc.MaxConns = int32(min(conns, 1000))
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "bankfeed"
	}
	pc.AfterConnect = boundLocks
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return err
	}
	if err = s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	s.write = stdlib.OpenDBFromPool(s.pool)
	s.read, s.keys = s.write, s.write
	return nil
}

// boundLocks lets the server end the transaction of a node that stands still in
// the middle of it, or whose machine is gone without a word. It holds the locks
// of its work and of the lane: nobody could take over, nor commit in that lane,
// until it moves again. The times are well below that of a lease.
func boundLocks(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SET idle_in_transaction_session_timeout = '10s'; SET tcp_keepalives_idle = 5;
		SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2`)
	return err
}

// Engine tells which database this is.
func (s *Store) Engine() Engine { return s.engine }

// Installation identifies the data; valid after Load.
func (s *Store) Installation() bankfeed.Installation { return s.installation }

// UseKeys gives the store what it seals with. Before that only the schema and
// the key stores can be used.
func (s *Store) UseKeys(r *secret.Keyring, u *secret.UserKeys) { s.keyring, s.userKeys = r, u }

// OnCommit sets what is told of each commit that appended events, right after
// it. It must not block. Set it before the store is used.
func (s *Store) OnCommit(f func(bankfeed.Committed)) { s.committed = f }

// OnReady sets what is told of work that was put up and can be claimed at once,
// right after the commit. It must not block. Set it before the store is used.
func (s *Store) OnReady(f func(bankfeed.WorkKind)) { s.ready = f }

// Close ends all connections.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.keys, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return errors.Join(errs...)
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// Load reads what this installation is, and writes it down the first time.
func (s *Store) Load(ctx context.Context) error {
	now := s.now().UnixMilli()
	return s.tx(ctx, func(tx *sql.Tx) error {
		for _, name := range []string{"born_ms", "epoch_ms"} {
			if _, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
				name, strconv.FormatInt(now, 10)); err != nil {
				return err
			}
		}
		var born, epoch int64
		for name, to := range map[string]*int64{"born_ms": &born, "epoch_ms": &epoch} {
			var v string
			if err := tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = $1`, name).Scan(&v); err != nil {
				return err
			}
			var err error
			if *to, err = strconv.ParseInt(v, 10, 64); err != nil {
				return fmt.Errorf("meta %s: %w", name, err)
			}
		}
		s.installation = bankfeed.Installation{Born: time.UnixMilli(born).UTC(), Epoch: bankfeed.Epoch(epoch)}
		return nil
	})
}

// tx runs f in a writing transaction. On PostgreSQL it starts over when the
// server ended it to break a deadlock; f must not keep anything from a failed
// run.
func (s *Store) tx(ctx context.Context, f func(*sql.Tx) error) error {
	for try := 0; ; try++ {
		err := s.txOnce(ctx, f)
		if err == nil || try == 3 || !startOver(err) {
			return err
		}
	}
}

func (s *Store) txOnce(ctx context.Context, f func(*sql.Tx) error) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // back into the pool
	uncut, release := outlive(ctx, commitGrace)
	defer release()
	tx, err := conn.BeginTx(uncut, nil)
	if err != nil {
		return ended(ctx, err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the first error tells more
		return ended(ctx, err)
	}
	if ctx.Err() != nil {
		_ = tx.Rollback()
		return ctx.Err()
	}
	return ended(ctx, tx.Commit())
}

// commitGrace is how long a commit may take after its caller is gone.
const commitGrace = 2 * time.Second

// outlive gives a context that ends the given time after ctx: a commit cut off
// on its way leaves its caller not knowing, and what it writes again is there
// twice.
func outlive(ctx context.Context, grace time.Duration) (context.Context, func()) {
	uncut, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(grace, cancel)
		context.AfterFunc(uncut, func() { t.Stop() })
	})
	return uncut, func() { stop(); cancel() }
}

// ended tells a caller whose context ended just that: what comes after the
// statement that was cut off finds the transaction or its connection gone.
func ended(ctx context.Context, err error) error {
	if (errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn)) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// collect runs a query and scans each row with f.
func collect[T any](ctx context.Context, q querier, f func(scan func(...any) error) (T, error), query string, args ...any) (_ []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []T
	for rows.Next() {
		v, err := f(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// one is collect for a query of at most one row; ErrNotFound if there is none.
func one[T any](ctx context.Context, q querier, f func(scan func(...any) error) (T, error), query string, args ...any) (T, error) {
	all, err := collect(ctx, q, f, query, args...)
	var zero T
	if err != nil {
		return zero, err
	}
	if len(all) == 0 {
		return zero, bankfeed.ErrNotFound
	}
	return all[0], nil
}

// micros and at convert between times and columns; a zero time is NULL.
func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

func at(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

// text makes an empty string NULL.
func text(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// changed turns "no row" of an UPDATE into err.
func changed(r sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = none
	}
	return err
}

// microsOf is micros for an optional time.
func microsOf(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return micros(*t)
}

// when is at for an optional time.
func when(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := at(n)
	return &t
}
