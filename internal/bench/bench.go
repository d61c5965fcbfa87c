// Package bench measures the hub, each figure beside a raw baseline of the same
// run: the same rows, messages or requests without the hub. Machines differ and
// so do days; a ratio of two neighbours stays.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/store"
)

// Row is one result. Fields that do not apply to a case are left out.
type Row struct {
	Bench        string   `json:"bench"`
	Case         string   `json:"case"`
	Engine       string   `json:"engine"`
	N            int      `json:"n"`
	Rate         *float64 `json:"rate,omitempty"`          // per second
	BaselineRate *float64 `json:"baseline_rate,omitempty"` // per second
	Ratio        *float64 `json:"ratio,omitempty"`         // rate / baseline_rate; of growth: cost with much stored / cost with little
	P50          *float64 `json:"p50_ms,omitempty"`
	P95          *float64 `json:"p95_ms,omitempty"`
	P99          *float64 `json:"p99_ms,omitempty"`
	Max          *float64 `json:"max_ms,omitempty"`
	Growth       *float64 `json:"growth,omitempty"` // cost with much stored / cost with little
	PeakRSS      *float64 `json:"peak_rss_mb,omitempty"`
	Lost         *int     `json:"lost,omitempty"`
	Repeated     *int     `json:"repeated,omitempty"`
	OutOfOrder   *int     `json:"out_of_order,omitempty"`
}

// Options say what to run and where to print.
type Options struct {
	Quick bool // small numbers, and without the cases that take long
	JSON  bool
	Out   io.Writer
	// Progress is told what is going on, Notice what is left out and why; nil
	// keeps quiet.
	Progress, Notice func(text string)
	// Self is the bankfeed binary, for cases that need a process of their own.
	Self string
}

// Benches by name, in the order in which "all" runs them.
var benches = []struct {
	name string
	run  func(context.Context, *run) error
}{
	{"ingest", ingestBench},
	{"queue", queueBench},
	{"stream", streamBench},
	{"callback", callbackBench},
}

// Names lists what can be measured.
func Names() []string {
	var names []string
	for _, b := range benches {
		names = append(names, b.name)
	}
	return names
}

// Run measures one bench, or all of them. Engines that this machine does not
// offer are said to be missing and left out.
func Run(ctx context.Context, name string, o Options) (err error) {
	if name != "all" && !slices.Contains(Names(), name) {
		return fmt.Errorf("no bench is called %q; there are %s and all", name, strings.Join(Names(), ", "))
	}
	r := &run{Options: o}
	for _, tell := range []*func(string){&r.Progress, &r.Notice} {
		if *tell == nil {
			*tell = func(string) {}
		}
	}
	defer func() { err = errors.Join(err, r.end()) }()
	for _, b := range benches {
		if name != "all" && name != b.name {
			continue
		}
		if err := b.run(ctx, r); err != nil {
			return fmt.Errorf("bench %s: %w", b.name, err)
		}
	}
	return nil
}

type run struct {
	Options
	rows     []Row
	postgres *backing.PostgresServer
	looked   bool
}

// emit prints a row as soon as it is known (JSON), or keeps it for the table.
func (r *run) emit(row Row) error {
	if r.JSON {
		return json.NewEncoder(r.Out).Encode(row)
	}
	r.rows = append(r.rows, row)
	return nil
}

// end stops what was started, and prints the table as far as it came.
func (r *run) end() error {
	if r.postgres != nil {
		defer func() { _ = r.postgres.Stop() }() // the figures stand whatever becomes of the server
	}
	if r.JSON || len(r.rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "bench\tcase\tengine\tn\trate/s\tbaseline/s\tratio\tp50 ms\tp95 ms\tp99 ms\tmax ms\tgrowth\tpeak MB\tlost\trepeated\tout of order\t")
	for _, x := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", x.Bench, x.Case, x.Engine, x.N, show(x.Rate, 0), show(x.BaselineRate, 0),
			show(x.Ratio, 2), show(x.P50, 2), show(x.P95, 2), show(x.P99, 2), show(x.Max, 2), show(x.Growth, 2), show(x.PeakRSS, 0),
			count(x.Lost), count(x.Repeated), count(x.OutOfOrder))
	}
	return w.Flush()
}

func show(v *float64, digits int) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.*f", digits, *v)
}

func count(v *int) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}

func rounded(v float64) *float64 {
	v = math.Round(v*1000) / 1000
	return &v
}

// place is a database made for a bench, and gone after it.
type place struct {
	engine store.Engine
	config store.Config
	drop   func() error
}

// place makes a fresh place on an engine.
func (r *run) place(ctx context.Context, e store.Engine) (place, error) {
	if e == store.Postgres {
		url, drop, err := r.postgres.CreateDatabase(ctx, "bankfeed_bench")
		return place{e, store.Config{URL: url}, drop}, err
	}
	dir, err := os.MkdirTemp("", "bankfeed_bench_")
	return place{e, store.Config{Path: filepath.Join(dir, "bankfeed.db"), KeysPath: filepath.Join(dir, "bankfeed-keys.db")},
		func() error { return os.RemoveAll(dir) }}, err
}

// engines lists what is there.
func (r *run) engines(ctx context.Context) (_ []store.Engine, err error) {
	if !r.looked {
		r.looked = true
		r.postgres, err = backing.Postgres(ctx)
		switch {
		case errors.Is(err, backing.ErrNotFound):
			r.Notice("PostgreSQL is not there: left out")
		case err != nil:
			return nil, err
		default:
			r.Progress("PostgreSQL " + r.postgres.Version + ": " + r.postgres.Source)
		}
	}
	if r.postgres == nil {
		return []store.Engine{store.SQLite}, nil
	}
	return []store.Engine{store.SQLite, store.Postgres}, nil
}

// each runs f on a fresh place of each engine, and drops it afterwards.
func (r *run) each(ctx context.Context, f func(place) error) error {
	engines, err := r.engines(ctx)
	if err != nil {
		return err
	}
	for _, e := range engines {
		p, err := r.place(ctx, e)
		if err != nil {
			return err
		}
		if err := errors.Join(f(p), p.drop()); err != nil {
			return err
		}
	}
	return nil
}

// median is the middle one, so that one bad moment of a shared machine does not
// count.
func median(values []float64) float64 {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

// latencies fills in the percentiles of a latency case.
func latencies(row *Row, all []time.Duration) {
	slices.Sort(all)
	at := func(p float64) *float64 {
		i := min(len(all)-1, int(math.Ceil(p*float64(len(all))))-1)
		return rounded(float64(all[max(0, i)].Microseconds()) / 1000)
	}
	row.N = len(all)
	row.P50, row.P95, row.P99, row.Max = at(0.50), at(0.95), at(0.99), at(1)
}
