package backing_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestPostgresDatabaseIsMadeAndDropped(t *testing.T) {
	admin := backingtest.PrivatePostgres(t, backing.PostgresOptions{NoSync: true})
	url, drop, err := admin.CreateDatabase(t.Context(), "bankfeed_test")
	require.NoError(t, err)

	c := connect(t, url)
	var name, encoding string
	require.NoError(t, c.QueryRow(t.Context(), "SELECT current_database(), current_setting('server_encoding')").Scan(&name, &encoding))
	require.Truef(t, strings.HasPrefix(name, "bankfeed_test_"), "name %q", name)
	require.Equal(t, "UTF8", encoding)

	require.NoError(t, drop(), "a connection that is still open must not keep the database")
	var left int
	require.NoError(t, connect(t, admin.URL).QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&left))
	require.Zero(t, left)
}

func TestPrivatePostgresKeepsCommitsOverKill(t *testing.T) {
	server := backingtest.PrivatePostgres(t, backing.PostgresOptions{Settings: map[string]string{"work_mem": "7MB"}})
	require.NotEmpty(t, server.Version)
	require.True(t, strings.HasPrefix(server.Source, "started /"), server.Source)

	c := connect(t, server.URL)
	var memory, fsync string
	require.NoError(t, c.QueryRow(t.Context(), "SELECT current_setting('work_mem'), current_setting('fsync')").Scan(&memory, &fsync))
	require.Equal(t, "7MB", memory)
	require.Equal(t, "on", fsync)
	_, err := c.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
	require.NoError(t, err)

	// A query that runs for minutes must not hold up the next start.
	busy := connect(t, server.URL)
	go func() { _, _ = busy.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 10000000000)") }()
	require.Eventually(t, func() bool {
		var n int
		err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 10000000000)' AND pid <> pg_backend_pid()").Scan(&n)
		return err == nil && n == 1
	}, 20*time.Second, 20*time.Millisecond)

	for name, end := range map[string]func() error{"kill": server.Kill, "shutdown": server.Shutdown} {
		require.NoError(t, end(), name)
		_, err = pgx.Connect(t.Context(), server.URL)
		require.Error(t, err, "after %s nobody answers", name)
		require.NoError(t, server.Start(t.Context()), name)
		var n int
		require.NoError(t, connect(t, server.URL).QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n), name)
		require.Equal(t, 42, n)
	}
}

func TestNamedPostgresThatIsDownIsAnError(t *testing.T) {
	t.Setenv(backing.PostgresEnv, "postgres://someone:hunter2@127.0.0.1:1/x?connect_timeout=2")
	_, err := backing.Postgres(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, backing.ErrNotFound, "a server that is named and down must fail, not skip")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestPrivatePostgresTellsWhyItDidNotStart(t *testing.T) {
	backingtest.PrivatePostgres(t, backing.PostgresOptions{NoSync: true}) // or else NOT RUN
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := backing.PrivatePostgres(ctx, backing.PostgresOptions{Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, "no_such_setting")
}

// A template is made once, and copies of it are alike and apart.
func TestPostgresTemplateIsCopied(t *testing.T) {
	admin := backingtest.PrivatePostgres(t, backing.PostgresOptions{NoSync: true})
	ctx, made := t.Context(), 0
	var copies []*pgx.Conn
	for range 2 {
		name, err := admin.Template(ctx, "things", func(url string) error {
			made++
			c, err := pgx.Connect(ctx, url)
			require.NoError(t, err)
			_, err = c.Exec(ctx, "CREATE TABLE things (n int)")
			require.NoError(t, err)
			return c.Close(ctx)
		})
		require.NoError(t, err)
		url, _, err := admin.CopyDatabase(ctx, "bankfeed_test", name) // ends with its server
		require.NoError(t, err)
		copies = append(copies, connect(t, url))
	}
	require.Equal(t, 1, made)
	_, err := copies[0].Exec(ctx, "INSERT INTO things VALUES (1)")
	require.NoError(t, err)
	var n int
	require.NoError(t, copies[1].QueryRow(ctx, "SELECT count(*) FROM things").Scan(&n))
	require.Zero(t, n)

	require.NoError(t, admin.DropTemplates(ctx))
	require.NoError(t, connect(t, admin.URL).QueryRow(ctx, "SELECT count(*) FROM pg_database WHERE datname LIKE 'bankfeed_template_%'").Scan(&n))
	require.Zero(t, n)
}
