package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
)

// The baseline writes the rows that the hub wrote, byte for byte, into the same
// tables with the same indexes and the same durability, a page a transaction,
// in the fastest way each engine knows: prepared statements of several rows on
// SQLite, COPY on PostgreSQL. It decodes, compares, encodes and seals nothing.
type baseline struct {
	engine store.Engine
	sqlite *sql.DB
	pg     *pgx.Conn
	tenant int64
}

var (
	transactionColumns = []string{"tenant_id", "id", "user_id", "account_id", "day", "status", "amount", "currency", "identity", "fingerprint", "content", "created_at", "data"}
	eventColumns       = []string{"tenant_id", "lane", "position", "type", "topic", "at", "user_id", "connection_id", "account_id", "session_id", "payload"}
)

// rows are what one sync of the hub left behind.
type rows struct{ transactions, events [][]any }

func openBaseline(ctx context.Context, p place) (*baseline, error) {
	b := &baseline{engine: p.engine, tenant: 1_000_000}
	var err error
	if p.engine == store.Postgres {
		b.pg, err = pgx.Connect(ctx, p.config.URL)
		return b, err
	}
	b.sqlite, err = sql.Open("sqlite", store.SQLiteDSN(p.config.Path))
	if err == nil {
		b.sqlite.SetMaxOpenConns(1)
	}
	return b, err
}

func (b *baseline) close() {
	if b.pg != nil {
		_ = b.pg.Close(context.Background()) // the database is dropped next
	} else {
		_ = b.sqlite.Close()
	}
}

// capture reads what the hub wrote for a user, numbers as numbers and texts as
// texts.
func (b *baseline) capture(ctx context.Context, user bankfeed.UserID) (rows, error) {
	transactions, err := b.read(ctx, "transactions", transactionColumns, user, "")
	if err != nil {
		return rows{}, err
	}
	events, err := b.read(ctx, "events", eventColumns, user, " AND type = 'transaction.created'")
	if err == nil && len(events) != len(transactions) {
		err = fmt.Errorf("%d transactions but %d events", len(transactions), len(events))
	}
	return rows{transactions, events}, err
}

func (b *baseline) read(ctx context.Context, table string, columns []string, user bankfeed.UserID, and string) (all [][]any, err error) {
	names := strings.Join(columns, ", ")
	if b.engine == store.Postgres {
		names = strings.Replace(names, "amount", "amount::text", 1)
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE user_id = $1%s", names, table, and) //nolint:gosec // names of our own
	if b.pg != nil {
		rows, err := b.pg.Query(ctx, query, int64(user))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	}
	rows, err := b.sqlite.QueryContext(ctx, query, int64(user))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		values := make([]any, len(columns))
		to := make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, rows.Err()
}

// insert writes the rows as those of a tenant of their own and returns how long
// that took.
func (b *baseline) insert(ctx context.Context, r rows) (time.Duration, error) {
	b.tenant++
	for i := range r.transactions {
		r.transactions[i][0], r.events[i][0] = b.tenant, b.tenant
		r.events[i][2] = int64(i + 1) // position
	}
	begin := time.Now()
	for from := 0; from < len(r.transactions); from += pageSize {
		to := min(len(r.transactions), from+pageSize)
		var err error
		if b.pg != nil {
			err = b.copyPage(ctx, r, from, to)
		} else {
			err = b.insertPage(ctx, r, from, to)
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

const takePositions = `INSERT INTO lanes (tenant_id, lane, position, floor) VALUES ($1, 0, $2, 0)
	ON CONFLICT (tenant_id, lane) DO UPDATE SET position = lanes.position + $2`

func (b *baseline) copyPage(ctx context.Context, r rows, from, to int) error {
	return pgx.BeginFunc(ctx, b.pg, func(tx pgx.Tx) error {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"transactions"}, transactionColumns, pgx.CopyFromRows(r.transactions[from:to])); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, takePositions, b.tenant, int64(to-from)); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"events"}, eventColumns, pgx.CopyFromRows(r.events[from:to]))
		return err
	})
}

func (b *baseline) insertPage(ctx context.Context, r rows, from, to int) (err error) {
	tx, err := b.sqlite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // the first error tells more
		}
	}()
	if err = insertRows(ctx, tx, "transactions", transactionColumns, r.transactions[from:to]); err != nil {
		return err
	}
	if _, err = tx.ExecContext(ctx, takePositions, b.tenant, to-from); err != nil {
		return err
	}
	if err = insertRows(ctx, tx, "events", eventColumns, r.events[from:to]); err != nil {
		return err
	}
	return tx.Commit()
}

// atOnce is how many rows a statement of the baseline inserts on SQLite: one,
// 5, 25, 50 and 100 are no faster. It divides a page.
const atOnce = 10

func insertRows(ctx context.Context, tx *sql.Tx, table string, columns []string, rows [][]any) (err error) {
	marks := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
	st, err := tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", table, strings.Join(columns, ", "), strings.Repeat(marks+", ", atOnce-1)+marks))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	endless := context.WithoutCancel(ctx) // a statement that can be cancelled costs a goroutine
	for page := range slices.Chunk(rows, atOnce) {
		if _, err := st.ExecContext(endless, slices.Concat(page...)...); err != nil {
			return err
		}
	}
	return nil
}

// benchKey seals what a bench stores. The database lives as long as the bench:
// any key will do.
const benchKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// openStore opens a migrated store with keys of its own.
func openStore(ctx context.Context, p place) (_ *store.Store, err error) {
	s, err := store.Open(ctx, p.config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if _, err = s.Migrate(ctx); err != nil {
		return nil, err
	}
	if err = s.Load(ctx); err != nil {
		return nil, err
	}
	master, err := secret.LoadMaster(secret.MasterOptions{Key: benchKey})
	if err != nil {
		return nil, err
	}
	keyring, err := secret.OpenKeyring(ctx, master, s.Keys())
	if err != nil {
		return nil, err
	}
	s.UseKeys(keyring, secret.NewUserKeys(keyring, s.Keys(), secret.UserKeysOptions{}))
	return s, nil
}

func newUser(ctx context.Context, s *store.Store, tenant bankfeed.TenantID, now time.Time) (bankfeed.UserID, error) {
	return s.Access().CreateUser(ctx, tenant, access.User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: now}, Sandbox: true})
}
