//go:build unix

package services_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/services"
	"github.com/bankfeed/bankfeed/internal/services/servicetest"
)

// abandonEnv makes this test binary the process that starts a server and dies without stopping it.
const abandonEnv = "BANKFEED_TEST_ABANDON_IN"

func TestAbandonedServerLeavesNothingBehind(t *testing.T) {
	if os.Getenv(abandonEnv) != "" {
		_, err := services.PrivatePostgres(t.Context(), services.PostgresOptions{NoSync: true})
		require.NoError(t, err)
		os.Exit(0)
	}
	servicetest.PrivatePostgres(t, services.PostgresOptions{NoSync: true}) // or else NOT RUN

	tmp, err := os.MkdirTemp("", "bankfeed-test-") //nolint:usetesting // the server's account may not enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	require.NoError(t, os.Chmod(tmp, 0o755))

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAbandonedServerLeavesNothingBehind$")
	cmd.Env = append(os.Environ(), abandonEnv+"=1", "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	require.Eventually(t, func() bool {
		left, err := os.ReadDir(tmp)
		return err == nil && len(left) == 0
	}, 30*time.Second, 50*time.Millisecond, "the guard removes the data directory")
	ps, err := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
	require.NoError(t, err)
	require.NotContains(t, string(ps), tmp, "the guard ends the server")
}
