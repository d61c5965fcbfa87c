package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runModule runs `go test -json` on a module made of the files and returns what the report prints.
func runModule(t *testing.T, requireAll bool, files map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module " + module + "\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-vet=off", "./...")
	cmd.Dir = dir
	out, _ := cmd.Output() // its exit code only repeats what it printed
	var text strings.Builder
	r := &report{w: &text}
	require.NoError(t, r.read(strings.NewReader(string(out))))
	err := r.summary(time.Second, requireAll)
	return text.String(), err
}

func testFile(body string) string { return "package x\n\nimport \"testing\"\n\n" + body }

func TestReportShowsFailuresInFull(t *testing.T) {
	text, err := runModule(t, false, map[string]string{
		"good/x_test.go":   testFile(`func TestGood(t *testing.T) { t.Log("quiet") }`),
		"bad/x_test.go":    testFile("func TestBad(t *testing.T) { t.Log(\"first\"); t.Run(\"sub\", func(t *testing.T) { t.Error(\"told why\") }) }\nfunc TestFine(t *testing.T) { t.Log(\"quiet\") }"),
		"broken/x_test.go": testFile(`func TestBroken(t *testing.T) { undefinedName() }`),
		"panics/x_test.go": testFile(`func TestPanics(t *testing.T) { panic("out of cheese") }`),
		"empty/x.go":       "package x\n",
	})
	require.EqualError(t, err, "3 packages")
	for _, want := range []string{"told why", "first", "undefined: undefinedName", "out of cheese", "ok   good", "FAIL bad", "FAIL broken", "FAIL panics", "3 packages failed"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "quiet", "what passes prints nothing")
	require.NotContains(t, text, "empty")
}

func TestReportListsWhatDidNotRun(t *testing.T) {
	files := map[string]string{
		"a/x_test.go": testFile(`func TestA(t *testing.T) { t.Run("postgres", func(t *testing.T) { t.Skip("NOT RUN: no PostgreSQL") }) }`),
		"b/x_test.go": testFile("func TestB(t *testing.T) { t.Skip(\"NOT RUN: no PostgreSQL\") }\nfunc TestC(t *testing.T) { t.Skip(\"of no use here\") }"),
	}
	text, err := runModule(t, false, files)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(text, "NOT RUN: no PostgreSQL"), "a reason is printed once")
	require.Contains(t, text, "a TestA/postgres")
	require.Contains(t, text, "b TestB")
	require.NotContains(t, text, "TestC", "an ordinary skip is no matter of a missing service")
	require.Contains(t, text, "2 tests not run")

	_, err = runModule(t, true, files)
	require.ErrorContains(t, err, "2 tests did not run")
}

func TestWhatTheRaceDetectorEndsRunsAgainOnce(t *testing.T) {
	var text strings.Builder
	r := &report{w: &text}
	ends := `{"Action":"output","Package":"` + module + `/x","Test":"TestX","Output":"ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346\n"}
{"Action":"fail","Package":"` + module + `/x","Elapsed":1}
`
	require.NoError(t, r.read(strings.NewReader(ends)))
	require.Equal(t, []string{module + "/x"}, r.died)
	require.Zero(t, r.failures)
	require.Contains(t, text.String(), "DIED x")
	require.NoError(t, r.read(strings.NewReader(ends)))
	require.Len(t, r.died, 1)
	require.Equal(t, 1, r.failures, "twice is no accident")
}

func TestNoTestAtAllIsNoSuccess(t *testing.T) {
	_, err := runModule(t, false, map[string]string{"x.go": "package x\n"})
	require.EqualError(t, err, "no test ran")
}
