package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// Whose context ends while the server commits, learns how the commit ended: told
// otherwise, it would write the same facts a second time.
func TestACommitOnItsWayIsNotCutOff(t *testing.T) {
	config := storetest.PostgresConfig(t)
	s := storetest.Open(t, config)
	direct, err := pgx.Connect(t.Context(), config.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, direct.Close(context.Background())) }()
	// The commit does not go on before the lock is free.
	_, err = direct.Exec(t.Context(), `
		CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON clients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();
		SELECT pg_advisory_lock(1)`)
	require.NoError(t, err)

	tenant, _, err := s.Access().EnsureTenant(t.Context(), "test", storetest.Now)
	require.NoError(t, err)
	client := bankfeed.Client{ID: "test", Tenant: tenant}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Access().CreateClient(ctx, client, "test", []byte("hash"), storetest.Now)
	}()
	require.Eventually(t, func() bool {
		var waits bool
		err := direct.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waits)
		return err == nil && waits
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	_, err = direct.Exec(t.Context(), `SELECT pg_advisory_unlock(1)`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Error(t, s.Access().CreateClient(t.Context(), client, "test", []byte("hash"), storetest.Now), "it is there")
}
