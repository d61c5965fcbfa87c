package backingtest_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// recorder is a test that notes how it ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper()           {}
func (r *recorder) Skip(args ...any)  { r.skipped = fmt.Sprint(args...); panic(r) }
func (r *recorder) Fatal(args ...any) { r.failed = fmt.Sprint(args...); panic(r) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}

// record runs f as a test of its own.
func record(t *testing.T, f func(testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		f(r)
	}()
	return r
}

func TestSpecDir(t *testing.T) {
	specDir := func(tb testing.TB) { backingtest.SpecDir(tb) }

	t.Setenv("BANKFEED_SPEC_DIR", "")
	require.Equal(t, "NOT RUN: BANKFEED_SPEC_DIR is not set", record(t, specDir).skipped)

	t.Setenv("BANKFEED_SPEC_DIR", filepath.Join(t.TempDir(), "missing"))
	r := record(t, specDir)
	require.Empty(t, r.skipped, "a directory that is named and cannot be read fails")
	require.Contains(t, r.failed, "BANKFEED_SPEC_DIR")

	dir := t.TempDir()
	t.Setenv("BANKFEED_SPEC_DIR", dir)
	require.Equal(t, dir, backingtest.SpecDir(t))
}

func TestNamedServiceThatIsDownFails(t *testing.T) {
	t.Setenv("BANKFEED_TEST_DATABASE_URL", "postgres://127.0.0.1:1/x")
	r := record(t, func(tb testing.TB) { backingtest.PostgresURL(tb) })
	require.Empty(t, r.skipped)
	require.Contains(t, r.failed, "BANKFEED_TEST_DATABASE_URL")
}

func TestBulkRunsWithoutRaceDetectorOnly(t *testing.T) {
	r := record(t, backingtest.Bulk)
	require.Equal(t, backingtest.RaceEnabled, strings.HasPrefix(r.skipped, "BULK: "), r.skipped)
}
