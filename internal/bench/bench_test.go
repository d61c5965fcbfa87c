package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
)

// on runs f on a place of each engine.
func on[T interface {
	testing.TB
	Run(name string, f func(T)) bool
}](t T, f func(t T, p place)) {
	t.Run("sqlite", func(t T) {
		dir := t.TempDir()
		f(t, place{engine: store.SQLite, config: store.Config{Path: filepath.Join(dir, "bankfeed.db"), KeysPath: filepath.Join(dir, "bankfeed-keys.db")}})
	})
	t.Run("postgres", func(t T) {
		f(t, place{engine: store.Postgres, config: store.Config{URL: backingtest.PostgresURL(t)}})
	})
}

func quiet(string) {}

func newRun(out io.Writer) *run {
	return &run{Options: Options{JSON: true, Out: out, Progress: quiet, Notice: quiet}}
}

// one runs a case and returns its only row, with the names of its fields.
func one(t *testing.T, f func(r *run) error) (row Row, fields []string) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, f(newRun(&out)))
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "one object, on one line")
	require.NoError(t, json.Unmarshal(out.Bytes(), &row))
	var object map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &object))
	for name := range object {
		fields = append(fields, name)
	}
	slices.Sort(fields)
	return row, fields
}

func TestIngestNew(t *testing.T) {
	on(t, func(t *testing.T, p place) {
		row, fields := one(t, func(r *run) error { return r.ingestNew(t.Context(), p, 1500, 0) })
		require.Equal(t, []string{"baseline_rate", "bench", "case", "engine", "n", "rate", "ratio"}, fields, "no latency beside a ratio")
		require.Equal(t, Row{Bench: "ingest", Case: "new", Engine: string(p.engine), N: 1500, Rate: row.Rate, BaselineRate: row.BaselineRate, Ratio: row.Ratio}, row)
		require.InDelta(t, *row.Rate / *row.BaselineRate, *row.Ratio, 0.002)
	})
}

func TestBulkIngestGrowth(t *testing.T) {
	backingtest.Bulk(t)
	backingtest.PostgresURL(t)
	var out bytes.Buffer
	r := newRun(&out)
	require.NoError(t, r.each(t.Context(), func(p place) error { return r.ingestGrowth(t.Context(), p, 100, 500) }))
	require.NoError(t, r.end())
	d := json.NewDecoder(&out)
	for _, engine := range []string{"sqlite", "postgres"} {
		var row Row
		require.NoError(t, d.Decode(&row))
		require.Equal(t, Row{Bench: "ingest", Case: "growth", Engine: engine, N: 500, Rate: row.Rate, Growth: row.Growth}, row, "no ratio beside a growth")
		require.Positive(t, *row.Growth)
	}
	require.False(t, d.More())
}

// The baseline must write what the hub wrote, or the ratio means nothing.
func TestBaselineWritesWhatTheHubWrote(t *testing.T) {
	on(t, func(t *testing.T, p place) {
		ctx := t.Context()
		h, err := openHub(ctx, p)
		require.NoError(t, err)
		defer h.close()
		base, err := openBaseline(ctx, p)
		require.NoError(t, err)
		defer base.close()
		const n = 1200
		_, err = h.sync(ctx, n)
		require.NoError(t, err)
		rows, err := base.capture(ctx, h.user)
		require.NoError(t, err)
		require.Len(t, rows.transactions, n)
		_, err = base.insert(ctx, rows)
		require.NoError(t, err)

		for _, query := range []string{
			`SELECT count(*) FROM transactions a JOIN transactions b ON b.tenant_id = $2 AND b.id = a.id AND b.user_id = a.user_id AND b.account_id = a.account_id
				AND b.day = a.day AND b.status = a.status AND b.amount = a.amount AND b.currency = a.currency AND b.identity = a.identity
				AND b.fingerprint = a.fingerprint AND b.content = a.content AND b.created_at = a.created_at AND b.data = a.data WHERE a.tenant_id = $1`,
			`SELECT count(*) FROM events a JOIN events b ON b.tenant_id = $2 AND b.payload = a.payload AND b.lane = a.lane AND b.type = a.type AND b.topic = a.topic
				AND b.at = a.at AND b.user_id = a.user_id AND b.connection_id = a.connection_id AND b.account_id = a.account_id AND b.session_id = a.session_id
				WHERE a.tenant_id = $1`,
			`SELECT position FROM lanes WHERE tenant_id = $2 AND $1 > 0`,
		} {
			var same int
			if base.pg != nil {
				err = base.pg.QueryRow(ctx, query, int64(h.tenant), base.tenant).Scan(&same)
			} else {
				err = base.sqlite.QueryRowContext(ctx, query, int64(h.tenant), base.tenant).Scan(&same)
			}
			require.NoError(t, err)
			require.Equal(t, n, same, query)
		}
	})
}

func TestBulkLongpoll(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, fields := one(t, func(r *run) error {
			return r.longpoll(t.Context(), p, load{live: 200, open: 20, commits: 100, warm: 20, every: 2 * time.Millisecond})
		})
		require.Equal(t, []string{"bench", "case", "engine", "lost", "max_ms", "n", "out_of_order", "p50_ms", "p95_ms", "p99_ms", "rate", "repeated"}, fields, "no ratio")
		require.Equal(t, 100, row.N)
		require.Zero(t, *row.Lost)
		require.Zero(t, *row.Repeated)
		require.Zero(t, *row.OutOfOrder)
		require.Positive(t, *row.P50)
		require.True(t, slices.IsSorted([]float64{*row.P50, *row.P95, *row.P99, *row.Max}))
	})
}

// A client that gets the wrong things must not make good figures.
func TestPollerTakesDownWhatGoesWrong(t *testing.T) {
	now := time.Now()
	h := &queueHub{committed: map[bankfeed.Position]commit{}}
	for p := range bankfeed.Position(5) {
		h.committed[p+1] = commit{user: 7, at: now.Add(-time.Second), measured: p > 0}
	}
	q := &poller{hub: h, user: 7, seen: map[bankfeed.Position]bool{}}
	for _, p := range []bankfeed.Position{1, 3, 2, 3, 4} {
		require.NoError(t, q.take(p, now))
	}
	require.Equal(t, 1, q.disordered)
	require.Equal(t, 1, q.repeated)
	require.Equal(t, 1, h.missing())
	require.Equal(t, []time.Duration{time.Second, time.Second, time.Second}, q.took, "the first was of the warm-up")
	h.committed[6] = commit{user: 8}
	require.ErrorContains(t, q.take(6, now), "not the user's")

	// A poll that was reading just then may be faster than the news of the commit.
	require.NoError(t, q.take(99, now))
	h.note(bankfeed.Committed{User: 7, First: 99, Last: 99})
	require.False(t, h.strayed)
	require.NoError(t, q.take(100, now))
	h.note(bankfeed.Committed{User: 8, First: 100, Last: 100})
	require.True(t, h.strayed)
}

func TestLatencies(t *testing.T) {
	var all []time.Duration
	for i := range 1000 {
		all = append(all, time.Duration(1000-i)*time.Millisecond)
	}
	var row Row
	latencies(&row, all)
	require.Equal(t, []float64{500, 950, 990, 1000}, []float64{*row.P50, *row.P95, *row.P99, *row.Max})
	require.Equal(t, 1000, row.N)
	latencies(&row, []time.Duration{1500 * time.Microsecond})
	require.Equal(t, []float64{1.5, 1.5, 1.5, 1.5}, []float64{*row.P50, *row.P95, *row.P99, *row.Max})
}

// The bench leaves nothing behind, whatever happens in between.
func TestPlacesAreDropped(t *testing.T) {
	server := backingtest.PostgresURL(t)
	for name, fault := range map[string]error{"": nil, "after a fault": errors.New("no")} {
		t.Run(name, func(t *testing.T) {
			r := newRun(io.Discard)
			var all []place
			require.ErrorIs(t, r.each(t.Context(), func(p place) error {
				all = append(all, p)
				s, err := openStore(t.Context(), p)
				require.NoError(t, err)
				require.NoError(t, s.Close())
				return fault
			}), fault)
			require.NoError(t, r.end())
			require.NotEmpty(t, all)
			require.NoDirExists(t, filepath.Dir(all[0].config.Path))
			if fault != nil {
				return
			}
			require.Len(t, all, 2)
			c, err := pgx.ParseConfig(all[1].config.URL)
			require.NoError(t, err)
			require.Regexp(t, `^bankfeed_bench_`, c.Database)
			db, err := pgx.Connect(t.Context(), server)
			require.NoError(t, err)
			defer db.Close(context.Background())
			var left int
			require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname = $1`, c.Database).Scan(&left))
			require.Zero(t, left)
		})
	}
}

func TestUnknownBench(t *testing.T) {
	require.EqualError(t, Run(t.Context(), "coffee", Options{Out: io.Discard}), `no bench is called "coffee"; there are ingest, queue, stream, callback and all`)
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	r := newRun(&out)
	r.JSON = false
	lost := 0
	require.NoError(t, r.emit(Row{Bench: "ingest", Case: "new", Engine: "sqlite", N: 20000, Rate: rounded(1234.5678), Ratio: rounded(0.5)}))
	require.NoError(t, r.emit(Row{Bench: "queue", Case: "longpoll", Engine: "postgres", N: 1000, P99: rounded(7.25), Lost: &lost}))
	require.Empty(t, out.String())
	require.NoError(t, r.end())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, []string{"ingest", "new", "sqlite", "20000", "1235", "0.50"}, strings.Fields(lines[1]))
	require.Equal(t, []string{"queue", "longpoll", "postgres", "1000", "7.25", "0"}, strings.Fields(lines[2]))
}

// The whole way of the memory case, with a smaller account.
func TestBulkServeReadsAnAccount(t *testing.T) {
	backingtest.Bulk(t)
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: peak memory is measured on Linux only")
	}
	self := filepath.Join(t.TempDir(), "bankfeed")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", self, "../../cmd/bankfeed").CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	t.Setenv("BANKFEED_LOG_LEVEL", "nonsense") // settings of this machine are not the bench's
	on(t, func(t *testing.T, p place) {
		r := newRun(io.Discard)
		r.Self = self
		peak, err := r.serveBig(t.Context(), p, "big-2000", 2000)
		require.NoError(t, err)
		require.Greater(t, peak, int64(10<<20))

		_, err = r.serveBig(t.Context(), p, "bank-down", 2000)
		require.ErrorContains(t, err, "the synchronization failed")
	})
}

func TestPeakRSS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: peak memory is measured on Linux only")
	}
	peak, err := peakRSS(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, peak, int64(1<<20))
	_, err = peakRSS(-1)
	require.Error(t, err)
}

// BenchmarkIngest and BenchmarkBaseline are the two sides of ingest new, for
// profiles.
func BenchmarkIngest(b *testing.B) {
	const n = 20_000
	on(b, func(b *testing.B, p place) {
		h, err := openHub(b.Context(), p)
		require.NoError(b, err)
		defer h.close()
		var took time.Duration
		for b.Loop() {
			d, err := h.sync(b.Context(), n)
			require.NoError(b, err)
			took += d
		}
		report(b, n, took)
	})
}

func BenchmarkBaseline(b *testing.B) {
	const n = 20_000
	on(b, func(b *testing.B, p place) {
		h, err := openHub(b.Context(), p)
		require.NoError(b, err)
		defer h.close()
		base, err := openBaseline(b.Context(), p)
		require.NoError(b, err)
		defer base.close()
		_, err = h.sync(b.Context(), n)
		require.NoError(b, err)
		rows, err := base.capture(b.Context(), h.user)
		require.NoError(b, err)
		var took time.Duration
		for b.Loop() {
			d, err := base.insert(b.Context(), rows)
			require.NoError(b, err)
			took += d
		}
		report(b, n, took)
	})
}

// report leaves out what prepares a round.
func report(b *testing.B, n int, took time.Duration) {
	b.ReportMetric(float64(n*b.N)/took.Seconds(), "tx/s")
	b.ReportMetric(0, "ns/op")
}

func TestBulkStreamDrain(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, fields := one(t, func(r *run) error {
			return r.streamDrain(t.Context(), p, backingtest.AMQPURL(t), streamLoad{backlog: 1500, rounds: 2})
		})
		require.Equal(t, []string{"baseline_rate", "bench", "case", "engine", "n", "rate", "ratio"}, fields)
		require.GreaterOrEqual(t, row.N, 1500, "accounts, calls and session messages too")
		require.InDelta(t, *row.Rate / *row.BaselineRate, *row.Ratio, 0.002)
	})
}

func TestBulkStreamLatency(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, _ := one(t, func(r *run) error {
			return r.streamLatency(t.Context(), p, backingtest.AMQPURL(t), streamLoad{events: 100, warm: 20, every: 2 * time.Millisecond})
		})
		require.Equal(t, 100, row.N)
		require.Zero(t, *row.Lost)
		require.Zero(t, *row.Repeated)
		require.Zero(t, *row.OutOfOrder)
		require.Positive(t, *row.P50)
	})
}

// The whole way of the memory case, with a smaller backlog.
func TestBulkServeDrainsABacklog(t *testing.T) {
	backingtest.Bulk(t)
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: peak memory is measured on Linux only")
	}
	self := filepath.Join(t.TempDir(), "bankfeed")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", self, "../../cmd/bankfeed").CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	r := newRun(io.Discard)
	r.Self = self
	peak, err := r.serveBacklog(t.Context(), backingtest.AMQPURL(t), 2000)
	require.NoError(t, err)
	require.Greater(t, peak, int64(10<<20))
}

// BenchmarkRelay and BenchmarkBarePublisher are the two sides of stream drain,
// for profiles.
func BenchmarkRelay(b *testing.B) {
	const n = 20_000
	on(b, func(b *testing.B, p place) {
		ctx, url := b.Context(), backingtest.AMQPURL(b)
		h, err := openHub(ctx, p)
		require.NoError(b, err)
		defer h.close()
		_, err = h.sync(ctx, n)
		require.NoError(b, err)
		messages, err := rendered(ctx, h, url)
		require.NoError(b, err)
		q, err := openQueue(url)
		require.NoError(b, err)
		defer q.close()
		hub := eventlog.NewHub(h.store, 0, slog.New(slog.DiscardHandler))
		var took time.Duration
		for i := 0; b.Loop(); i++ {
			d, err := drain(ctx, h, hub, fmt.Sprintf("round-%d", i), url, len(messages))
			require.NoError(b, err)
			require.NoError(b, q.purge(len(messages)))
			took += d
		}
		report(b, n, took)
	})
}

func BenchmarkBarePublisher(b *testing.B) {
	const n = 20_000
	ctx, url := b.Context(), backingtest.AMQPURL(b)
	h, err := openHub(ctx, place{engine: store.SQLite, config: store.Config{Path: filepath.Join(b.TempDir(), "a.db"), KeysPath: filepath.Join(b.TempDir(), "k.db")}})
	require.NoError(b, err)
	defer h.close()
	_, err = h.sync(ctx, n)
	require.NoError(b, err)
	messages, err := rendered(ctx, h, url)
	require.NoError(b, err)
	q, err := openQueue(url)
	require.NoError(b, err)
	defer q.close()
	var took time.Duration
	for b.Loop() {
		d, err := q.publish(ctx, messages)
		require.NoError(b, err)
		require.NoError(b, q.purge(len(messages)))
		took += d
	}
	report(b, n, took)
}
