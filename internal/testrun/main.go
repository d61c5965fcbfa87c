// Command testrun runs every test of the repository the way `make test` promises: under the race detector, the bulk tests
// (TestBulk…) in a second pass without it, on services that are found or started once for all packages. It ends with what the
// suites ran on and with everything that did NOT RUN.
//
//	go run ./internal/testrun [packages]
//
// With BANKFEED_REQUIRE_ALL=1 a test that did not run fails the run.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bankfeed/bankfeed/internal/backing"
)

const (
	specEnv    = "BANKFEED_SPEC_DIR"
	requireEnv = "BANKFEED_REQUIRE_ALL"

	// testTimeout bounds one package. The slowest start servers of their own.
	testTimeout = "15m"

	// plainSQLite leaves SQLite itself, which is C made into Go, without the race detector, as C would be: it took most
	// of the time. The locks that it takes are those of Go, which the detector sees.
	plainSQLite = "-gcflags=modernc.org/sqlite/lib=-race=false"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, packages []string, w io.Writer) (err error) {
	if len(packages) == 0 {
		packages = []string{"./test", "./..."} // the longest first: it mostly waits, and the others use that time
	}
	began := time.Now()
	dir, err := memoryDir()
	if err != nil {
		return err
	}
	if dir != "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	found, err := findServices(ctx, dir)
	defer func() { err = errors.Join(err, found.stop()) }()
	if err != nil {
		return err
	}
	r := &report{w: w}
	race := []string{"-race", plainSQLite, "-skip=^TestBulk"}
	if err := goTest(ctx, r, "tests under -race", found.env, append(race, packages...)); err != nil {
		return err
	}
	if len(r.died) > 0 {
		if err := goTest(ctx, r, "again, what the race detector itself has ended", found.env, append(race, r.died...)); err != nil {
			return err
		}
	}
	bulk, err := bulkPackages(ctx, packages)
	if err != nil {
		return err
	}
	if len(bulk) > 0 {
		if err := goTest(ctx, r, "bulk tests without -race", found.env, append([]string{"-run=^TestBulk"}, bulk...)); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "\n== ran on")
	for _, line := range found.lines {
		fmt.Fprintln(w, "  "+line)
	}
	return r.summary(time.Since(began), os.Getenv(requireEnv) == "1")
}

// goTest runs `go test -json` and feeds the report. A failing test is the report's business, not an error here.
func goTest(ctx context.Context, r *report, title string, env, args []string) error {
	fmt.Fprintf(r.w, "== %s\n", title)
	// -count=1: a cached result says nothing about the services that are there today.
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-count=1", "-timeout=" + testTimeout}, args...)...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	errRead := r.read(out)
	errWait := cmd.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if errRead != nil {
		return errRead
	}
	if errWait != nil && r.failures == 0 && len(r.died) == 0 {
		return fmt.Errorf("go test: %w", errWait)
	}
	return nil
}

// bulkPackages returns the import paths of the packages that have bulk tests, so that the others are not compiled a second time.
func bulkPackages(ctx context.Context, patterns []string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var bulk []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath   string   `json:"ImportPath"`
			Dir          string   `json:"Dir"`
			TestGoFiles  []string `json:"TestGoFiles"`
			XTestGoFiles []string `json:"XTestGoFiles"`
		}
		if err := dec.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			if strings.Contains(string(text), "\nfunc TestBulk") {
				bulk = append(bulk, p.ImportPath)
				break
			}
		}
	}
	return bulk, nil
}

// found is what the tests run on.
type found struct {
	lines []string // for the summary
	env   []string // of go test
	stops []func() error
}

func (f *found) stop() error {
	var errs []error
	for _, stop := range f.stops {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// findServices looks for the servers once and names them to all packages. A server that is missing is left for the tests to report.
//
// With a directory in memory all files of tests are there, and those of a PostgreSQL server of this run: what tests write is
// thrown away, and making databases took longer than the tests.
func findServices(ctx context.Context, memory string) (*found, error) {
	if memory != "" {
		goFiles := cmp.Or(os.Getenv("GOTMPDIR"), os.TempDir())
		if err := errors.Join(os.Setenv("GOTMPDIR", goFiles), os.Setenv("TMPDIR", memory)); err != nil {
			return &found{}, err
		}
	}
	f := &found{env: os.Environ()}
	pg, err := postgres(ctx, memory != "")
	switch {
	case errors.Is(err, backing.ErrNotFound):
		f.lines = append(f.lines, oneLine(err.Error()))
	case err != nil:
		return f, err
	default:
		f.add("PostgreSQL", pg.Version, pg.Source, pg.Env(), func() error {
			return errors.Join(pg.DropTemplates(context.WithoutCancel(ctx)), pg.Stop())
		})
	}
	mq, err := backing.RabbitMQ(ctx)
	switch {
	case errors.Is(err, backing.ErrNotFound):
		f.lines = append(f.lines, oneLine(err.Error()))
	case err != nil:
		return f, err
	default:
		f.add("RabbitMQ", mq.Version, mq.Source, mq.Env(), mq.Stop)
	}
	spec := os.Getenv(specEnv)
	if spec == "" {
		f.lines = append(f.lines, "test data of others: "+specEnv+" is not set")
		return f, nil
	}
	// Each package's tests run in its own directory, where a relative path would mean something else.
	abs, err := filepath.Abs(spec)
	if err != nil {
		return f, err
	}
	f.env = append(f.env, specEnv+"="+abs)
	f.lines = append(f.lines, "test data of others: "+spec)
	return f, nil
}

// postgres finds a server. One whose files are in memory is preferred, unless the environment names another.
func postgres(ctx context.Context, inMemory bool) (*backing.PostgresServer, error) {
	if inMemory && os.Getenv(backing.PostgresEnv) == "" {
		p, err := backing.PrivatePostgres(ctx, backing.PostgresOptions{NoSync: true})
		if err == nil {
			p.Source += ", in memory"
			return &p.PostgresServer, nil
		}
		if !errors.Is(err, backing.ErrNotFound) {
			return nil, err
		}
	}
	return backing.Postgres(ctx)
}

func (f *found) add(name, version, source string, env []string, stop func() error) {
	f.lines = append(f.lines, fmt.Sprintf("%s %s (%s)", name, version, source))
	f.env = append(f.env, env...)
	f.stops = append(f.stops, stop)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
