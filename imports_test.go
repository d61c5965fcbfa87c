package bankfeed_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bankfeed/bankfeed"

// arrows lists, package by package, what may be imported from this module. They point inward to the root package, "."; a pattern
// with * stands for one level. The first row that fits a package is its row, and a package without a row fails: a new package is
// a decision about its place.
//
// Files ending in _test.go are exempt: a capability's test may use the real store. The root's tests are not, they stay light.
var arrows = []struct {
	pkg string
	may []string
}{
	// the vocabulary and the words of the outside protocols
	{".", nil},
	{"wire/*", []string{"."}},
	{"client", []string{".", "wire/*"}},
	{"client/process", []string{".", "wire/*", "client"}}, // links no driver
	{"client/processsql", []string{"client/process"}},

	// the binary, and what knows everybody
	{"cmd/bankfeed", []string{".", "internal/app", "internal/bench", "internal/config", "internal/demo", "internal/sandbox", "internal/backing", "internal/telemetry"}},
	{"internal/demo", []string{".", "wire/*", "client", "internal/app", "internal/config", "internal/sandbox", "internal/telemetry"}}, // a client and a browser
	{"internal/app", []string{".", "wire/*", "internal/*", "internal/*/*"}},
	{"internal/bench", []string{".", "wire/*", "internal/*", "internal/*/*"}},

	// support of tests; only tests and each other import it, see TestProductIsFreeOfTestSupport
	{"internal/backing/backingtest", []string{"internal/backing"}},
	{"internal/store/storetest", append([]string{"internal/store", "internal/backing", "internal/backing/backingtest"}, contracts...)},
	{"internal/testrun", []string{"internal/backing"}},
	{"test", []string{".", "wire/*", "client", "internal/*", "internal/*/*"}},
	{"test/*", []string{".", "wire/*", "client", "internal/*", "internal/*/*"}},

	// capabilities: they do not know each other and meet in the event log and in app
	{"internal/connector", []string{"."}},
	{"internal/consent", []string{".", "internal/connector", "internal/pages"}},
	{"internal/webform", []string{".", "internal/pages"}},
	{"internal/pages", []string{"."}}, // the look and the safety of what PSUs see
	{"internal/ingest", []string{".", "internal/connector", "internal/ingest/identity"}},
	{"internal/ingest/identity", []string{"."}},
	{"internal/access", []string{".", "internal/secret"}}, // tokens and client secrets are made and hashed in one place
	{"internal/eventlog", []string{"."}},
	{"internal/lease", []string{"."}},
	{"internal/analysis", []string{".", "wire/finapi"}}, // a report is a document of the one dialect that has reports
	{"internal/secret", []string{"."}},
	{"internal/telemetry", []string{".", "internal/secret"}}, // no IBAN reaches a log
	{"internal/config", []string{"."}},
	{"internal/backing", nil},
	{"internal/egress", nil},
	{"internal/sandbox", []string{"."}}, // a bank knows nothing of the hub

	// edges: they plug into the contract they fulfil
	{"internal/connector/*", []string{".", "internal/connector"}},
	{"internal/delivery/*", []string{".", "wire/*", "internal/egress"}},
	{"internal/store", contracts},
	{"internal/api/dialect", []string{".", "internal/access"}}, // what dialects have in common
	{"internal/api/*", append([]string{"internal/api/dialect"}, capabilities...)},

	{"examples/*", []string{".", "wire/*", "client", "client/*"}},
}

// contracts are what the store fulfils.
var contracts = []string{
	".", "internal/access", "internal/consent", "internal/ingest", "internal/ingest/identity", "internal/eventlog", "internal/lease", "internal/delivery/*",
	"internal/analysis", "internal/secret",
	"wire/banqup", // a stream's settings and kinds of message
	"wire/finapi", // types of reports
}

// capabilities are what a dialect or a page calls.
var capabilities = []string{
	".", "wire/*", "internal/access", "internal/consent", "internal/ingest", "internal/ingest/identity", "internal/eventlog", "internal/lease",
	"internal/delivery/*", "internal/analysis", "internal/webform",
}

// frugal lists the packages that take little from other modules either: what they may.
var frugal = map[string][]string{
	".":                {"github.com/shopspring/decimal"},
	"wire/*":           nil,
	"internal/testrun": nil,
}

// light lists what the tests of the root package may use besides.
var light = []string{"github.com/shopspring/decimal", "github.com/stretchr/testify", "pgregory.net/rapid"}

// refuse returns why package pkg must not import imp, or "". pkg is relative to the module; imp is as written in the source.
func refuse(pkg, imp string) string {
	inside, ours := relative(imp)
	if !ours {
		for pattern, allowed := range frugal {
			if fits(pattern, pkg) && !standard(imp) && !slices.Contains(allowed, imp) {
				return "it depends on the standard library and " + fmt.Sprintf("%q", allowed) + " only"
			}
		}
		return ""
	}
	for _, row := range arrows {
		if fits(row.pkg, pkg) {
			if slices.ContainsFunc(row.may, func(pattern string) bool { return fits(pattern, inside) }) {
				return ""
			}
			return fmt.Sprintf("arrows allow %q", row.may)
		}
	}
	return "the package has no row in arrows: decide its place"
}

func fits(pattern, pkg string) bool {
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

// relative turns an import path of this module into the form of the table.
func relative(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// standard says whether the import path is of the standard library: its first element has no dot.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

// source is a Go file with its imports.
type source struct {
	file    string
	pkg     string // directory relative to the module
	test    bool
	imports []string
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != "." && (name == "testdata" || name == "tools" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if ignored(f) {
			return nil
		}
		s := source{file: file, pkg: filepath.ToSlash(filepath.Dir(file)), test: strings.HasSuffix(name, "_test.go")}
		for _, i := range f.Imports {
			s.imports = append(s.imports, strings.Trim(i.Path.Value, `"`))
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ignored says whether the file is built by no one: generators carry `//go:build ignore`.
func ignored(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if x, err := constraint.Parse(c.Text); err == nil && x.String() == "ignore" {
				return true
			}
		}
	}
	return false
}

func TestImportArrows(t *testing.T) {
	seen := 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		seen++
		if why := refuse(s.pkg, module+"/no/such/package"); strings.Contains(why, "no row") {
			t.Errorf("%s: %s: %s", s.file, s.pkg, why)
			continue
		}
		for _, imp := range s.imports {
			if why := refuse(s.pkg, imp); why != "" {
				t.Errorf("%s imports %s: %s", s.file, imp, why)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no source file found: is this the root of the module?")
	}
}

// A row, or a word in one, that no package answers to any more would let a reader believe in a place that is not there.
func TestImportArrowsNamePackages(t *testing.T) {
	all := sources(t)
	named := func(pattern string) bool {
		return slices.ContainsFunc(all, func(s source) bool { return fits(pattern, s.pkg) })
	}
	for _, row := range arrows {
		for _, pattern := range append([]string{row.pkg}, row.may...) {
			if !named(pattern) {
				t.Errorf("row %s: no package is called %s", row.pkg, pattern)
			}
		}
	}
}

func TestImportArrowsRefuse(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		refused  bool
	}{
		{".", "github.com/shopspring/decimal", false},
		{".", "net/http", false},
		{".", "github.com/google/uuid", true},
		{".", module + "/internal/secret", true},
		{"wire/oxlin", module, false},
		{"wire/oxlin", "github.com/shopspring/decimal", true},
		{"wire/oxlin", module + "/wire/finapi", true},
		{"internal/consent", module + "/internal/connector", false},
		{"internal/consent", module + "/internal/ingest", true},
		{"internal/connector/berlingroup", module + "/internal/consent", true},
		{"internal/store", module + "/internal/delivery/callback", false},
		{"internal/store", module + "/internal/app", true},
		{"internal/api/oxlin", module + "/internal/eventlog", false},
		{"internal/api/oxlin", module + "/internal/store", true},
		{"internal/api/oxlin", module + "/internal/api/native", true},
		{"internal/sandbox", module + "/internal/connector", true},
		{"internal/newcomer", module, true},
	} {
		if why := refuse(c.pkg, c.imp); (why != "") != c.refused {
			t.Errorf("%s imports %s: got %q, want refused = %v", c.pkg, c.imp, why, c.refused)
		}
	}
}

func TestRootTestsStayLight(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test || s.pkg != "." {
			continue
		}
		for _, imp := range s.imports {
			known := slices.ContainsFunc(light, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
			if imp != module && !standard(imp) && !known {
				t.Errorf("%s imports %s: the tests of the vocabulary need only %q", s.file, imp, light)
			}
		}
	}
}

// Test support links the testing package, which would put its flags and its weight into the binary.
func TestProductIsFreeOfTestSupport(t *testing.T) {
	support := regexp.MustCompile(`(^|/)[a-z]+test$|^test(/|$)`)
	for _, s := range sources(t) {
		if s.test || support.MatchString(s.pkg) {
			continue
		}
		for _, imp := range s.imports {
			inside, ours := relative(imp)
			if imp == "testing" || ours && support.MatchString(inside) {
				t.Errorf("%s imports %s: only tests and test support may", s.file, imp)
			}
		}
	}
}

// Both engines take the same migrations, in the same order: one column, one migration per engine. The
// user keys lie apart from the data and have a sequence of their own.
func TestMigrationsAreNumbered(t *testing.T) {
	for _, dir := range []string{"internal/store/migrations", "internal/store/migrations/keys"} {
		t.Run(dir, func(t *testing.T) {
			sqlite, postgres := migrations(t, os.DirFS(dir), "sqlite"), migrations(t, os.DirFS(dir), "postgres")
			if !slices.Equal(sqlite, postgres) {
				t.Errorf("the engines differ:\nsqlite   %q\npostgres %q", sqlite, postgres)
			}
		})
	}
}

// migrations returns the names of an engine's migrations and fails on a gap, a duplicate or a name out of form.
func migrations(t *testing.T, fsys fs.FS, engine string) []string {
	t.Helper()
	names, faults := checkMigrations(fsys, engine)
	for _, fault := range faults {
		t.Error(fault)
	}
	return names
}

func checkMigrations(fsys fs.FS, engine string) (names, faults []string) {
	form := regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)
	entries, err := fs.ReadDir(fsys, engine) // sorted by name
	if err != nil {
		return nil, []string{err.Error()}
	}
	for i, e := range entries {
		names = append(names, e.Name())
		m := form.FindStringSubmatch(e.Name())
		if m == nil {
			faults = append(faults, fmt.Sprintf("%s/%s: a migration is named NNNN_what_it_does.sql", engine, e.Name()))
			continue
		}
		if want := fmt.Sprintf("%04d", i+1); m[1] != want {
			faults = append(faults, fmt.Sprintf("%s/%s: the next number is %s", engine, e.Name(), want))
		}
	}
	if len(entries) == 0 {
		faults = append(faults, engine+": no migrations")
	}
	return names, faults
}

func TestMigrationCheckFindsFaults(t *testing.T) {
	for name, files := range map[string][]string{
		"gap":       {"0001_a.sql", "0003_b.sql"},
		"duplicate": {"0001_a.sql", "0001_b.sql"},
		"no number": {"0001_a.sql", "later.sql"},
		"from zero": {"0000_a.sql"},
		"none":      nil,
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sqlite"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := os.WriteFile(filepath.Join(dir, "sqlite", file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, faults := checkMigrations(os.DirFS(dir), "sqlite"); len(faults) == 0 {
			t.Errorf("%s: %q passes", name, files)
		}
	}
}
