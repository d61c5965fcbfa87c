package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

const module = "github.com/bankfeed/bankfeed"

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string  `json:"Action"`
	Package     string  `json:"Package"`
	ImportPath  string  `json:"ImportPath"` // of build output
	Test        string  `json:"Test"`
	Output      string  `json:"Output"`
	Elapsed     float64 `json:"Elapsed"`
	FailedBuild string  `json:"FailedBuild"` // on the failure of a package: what could not be built
}

// notRunLine is how testing prints t.Skip("NOT RUN: …").
var notRunLine = regexp.MustCompile(`^\s+\S+\.go:\d+: NOT RUN: (.*)`)

// report turns the events of `go test -json` into a line per package, the whole output of what failed, and a summary.
type report struct {
	w        io.Writer
	packages map[string]*pkg
	builds   map[string]string // output of the compiler by package
	failures int               // packages that failed
	died     []string          // packages that the race detector itself ended, each once: they are to run again
	tests    int
	notRun   []missing
}

// pkg is what is known of a package while its tests run.
type pkg struct {
	order  []string // tests in the order of their start; "" is the package itself
	output map[string]string
	state  map[string]string // the last action of a test that ended: pass, fail, skip
}

type missing struct{ where, why string }

// read consumes the events of one run.
func (r *report) read(in io.Reader) error {
	r.packages, r.builds = map[string]*pkg{}, map[string]string{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.w, "%s", line) // not of test2json: a message of the go command
			} else {
				r.add(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func (r *report) add(e event) {
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] += e.Output
		return
	case "build-fail":
		return
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &pkg{output: map[string]string{}, state: map[string]string{}}
		r.packages[e.Package] = p
	}
	if _, seen := p.output[e.Test]; !seen {
		p.order = append(p.order, e.Test)
		p.output[e.Test] = ""
	}
	switch e.Action {
	case "output":
		p.output[e.Test] += e.Output
		if m := notRunLine.FindStringSubmatch(strings.TrimRight(e.Output, "\n")); m != nil {
			r.notRun = append(r.notRun, missing{where: short(e.Package) + " " + e.Test, why: m[1]})
		}
	case "pass", "fail", "skip":
		if e.Test != "" {
			p.state[e.Test] = e.Action
			return
		}
		r.finish(e, p)
		delete(r.packages, e.Package)
	}
}

// finish prints the line of a package, and all that explains a failure.
func (r *report) finish(e event, p *pkg) {
	count := map[string]int{}
	for _, state := range p.state {
		count[state]++
	}
	r.tests += count["pass"] + count["fail"]
	if e.Action == "skip" || (e.Action == "pass" && len(p.state) == 0) {
		return // no tests in there, or none that this pass wants
	}
	died := e.Action == "fail" && p.died() && !slices.Contains(r.died, e.Package)
	word := map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action]
	if died {
		word = "DIED"
	}
	line := fmt.Sprintf("%-4s %-40s %7.1fs %5d passed", word, short(e.Package), e.Elapsed, count["pass"])
	for _, state := range []string{"fail", "skip"} {
		if count[state] > 0 {
			line += fmt.Sprintf(", %d %s", count[state], map[string]string{"fail": "failed", "skip": "skipped"}[state])
		}
	}
	fmt.Fprintln(r.w, line)
	if e.Action != "fail" {
		return
	}
	if died {
		r.died = append(r.died, e.Package)
	} else {
		r.failures++
	}
	if e.FailedBuild != "" {
		fmt.Fprint(r.w, indent(r.builds[e.FailedBuild]))
	}
	for _, test := range p.order {
		// A test without an end was running when the process died: its output holds the panic.
		if state := p.state[test]; state != "pass" && state != "skip" {
			fmt.Fprint(r.w, indent(p.output[test]))
		}
	}
}

// died reports whether the race detector ended the process because of a fault of its own. It does so now and then in a test in
// fake time: https://go.dev/issue/78156.
func (p *pkg) died() bool {
	for _, output := range p.output {
		if strings.Contains(output, "ThreadSanitizer: CHECK failed") {
			return true
		}
	}
	return false
}

// summary prints what did not run and the result, and returns an error if the whole is no success.
func (r *report) summary(took time.Duration, requireAll bool) error {
	if len(r.notRun) > 0 {
		fmt.Fprintln(r.w, "\n== NOT RUN")
		var reasons []string
		for _, m := range r.notRun {
			if !slices.Contains(reasons, m.why) {
				reasons = append(reasons, m.why)
			}
		}
		for _, why := range reasons {
			fmt.Fprintf(r.w, "  NOT RUN: %s\n", why)
			for _, m := range r.notRun {
				if m.why == why {
					fmt.Fprintf(r.w, "    %s\n", m.where)
				}
			}
		}
	}
	fmt.Fprintf(r.w, "\n%d tests in %s", r.tests, took.Round(time.Second))
	fmt.Fprintf(r.w, ", %d packages failed, %d tests not run\n", r.failures, len(r.notRun))
	switch {
	case r.failures > 0:
		return fmt.Errorf("%d packages", r.failures)
	case requireAll && len(r.notRun) > 0:
		return fmt.Errorf("%d tests did not run and %s=1", len(r.notRun), requireEnv)
	case r.tests == 0:
		return errors.New("no test ran")
	}
	return nil
}

// short is a package's path within the module.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "     " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n     ") + "\n"
}
