//go:build unix

package backing_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// serversIn returns the command lines of the PostgreSQL servers whose data lies in the directory. The rest of the process table is
// nobody's business, and in no message of a test.
func serversIn(t *testing.T, dir string) []string {
	t.Helper()
	table, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "args=").Output()
	require.NoError(t, err)
	var servers []string
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, "postgres -D "+dir) {
			servers = append(servers, line)
		}
	}
	return servers
}

// abandonEnv makes this test binary the process that starts a server and dies without stopping it.
const abandonEnv = "BANKFEED_TEST_ABANDON_IN"

func TestAbandonedServerLeavesNothingBehind(t *testing.T) {
	if os.Getenv(abandonEnv) != "" {
		_, err := backing.PrivatePostgres(t.Context(), backing.PostgresOptions{NoSync: true})
		require.NoError(t, err)
		require.Len(t, serversIn(t, os.TempDir()), 1)
		os.Exit(0)
	}
	backingtest.PrivatePostgres(t, backing.PostgresOptions{NoSync: true}) // or else NOT RUN

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
	require.Eventually(t, func() bool { return len(serversIn(t, tmp)) == 0 }, 30*time.Second, 50*time.Millisecond, "the guard ends the server")
}
