package store

import (
	"context"
	"database/sql"
	"time"
)

// PoolStats says how busy the connections of one pool are.
type PoolStats struct {
	Name   string // write, read, keys; one for all on PostgreSQL
	Max    int
	Open   int
	InUse  int
	Waited int64 // how often somebody had to wait for one, since the start
}

// Pools lists the pools.
func (s *Store) Pools() []PoolStats {
	if s.pool != nil {
		p := s.pool.Stat()
		return []PoolStats{{Name: "all", Max: int(p.MaxConns()), Open: int(p.TotalConns()), InUse: int(p.AcquiredConns()),
			Waited: p.EmptyAcquireCount()}}
	}
	list := []PoolStats{}
	for _, db := range []struct {
		name string
		*sql.DB
	}{{"write", s.write}, {"read", s.read}, {"keys", s.keys}} {
		d := db.Stats()
		list = append(list, PoolStats{Name: db.name, Max: d.MaxOpenConnections, Open: d.OpenConnections, InUse: d.InUse, Waited: d.WaitCount})
	}
	return list
}

// OpenSessions counts the sessions that have not ended, of all tenants.
func (s *Store) OpenSessions(ctx context.Context) (n int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM sessions WHERE open`).Scan(&n)
	return n, err
}

// ServerVersion is the version of the database.
func (s *Store) ServerVersion(ctx context.Context) (v string, err error) {
	query := `SELECT sqlite_version()`
	if s.engine == Postgres {
		query = `SHOW server_version`
	}
	err = s.read.QueryRowContext(ctx, query).Scan(&v)
	return v, err
}

// Durability names the settings that make a commit durable, and whether they
// do: what was answered for must survive a power cut.
func (s *Store) Durability(ctx context.Context) (settings string, ok bool, err error) {
	var journal, sync string
	if s.engine == SQLite {
		if err = s.write.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&journal); err != nil {
			return "", false, err
		}
		if err = s.write.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&sync); err != nil {
			return "", false, err
		}
		return "journal_mode=" + journal + " synchronous=" + sync, journal == "wal" && (sync == "2" || sync == "3"), nil
	}
	var fsync string
	if err = s.read.QueryRowContext(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &sync); err != nil {
		return "", false, err
	}
	return "fsync=" + fsync + " synchronous_commit=" + sync, fsync == "on" && sync != "off", nil
}

// Count counts the users' keys, without those that were destroyed.
func (k Keys) Count(ctx context.Context) (n int, err error) {
	err = k.store.keys.QueryRowContext(ctx, `SELECT count(*) FROM `+k.table("user_keys")+` WHERE destroyed_at IS NULL`).Scan(&n)
	return n, err
}

// ServerTime is what the database's clock shows. Nothing but a comparison of
// clocks may use it: times come from the callers.
func (s *Store) ServerTime(ctx context.Context) (t time.Time, err error) {
	if s.engine == SQLite {
		return time.Now(), nil // the same machine
	}
	err = s.read.QueryRowContext(ctx, `SELECT clock_timestamp()`).Scan(&t)
	return t, err
}
