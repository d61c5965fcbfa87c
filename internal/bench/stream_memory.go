package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// streamMemory: the most memory that `serve` takes to drain many messages, beside
// few.
func (r *run) streamMemory(ctx context.Context, broker *backing.RabbitMQServer, l streamLoad) error {
	if runtime.GOOS != "linux" {
		r.Notice("stream memory: not measured on " + runtime.GOOS)
		return nil
	}
	var peaks [2]int64
	for i, n := range []int{20_000, l.many} {
		r.Progress(fmt.Sprintf("stream memory: a backlog of %d", n))
		err := r.onVHost(ctx, broker, func(url string) (err error) {
			peaks[i], err = r.serveBacklog(ctx, url, n)
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.emit(Row{Bench: "stream", Case: "memory", Engine: string(store.SQLite), N: l.many, PeakRSS: rounded(float64(peaks[1]) / (1 << 20)),
		Growth: rounded(float64(peaks[1]) / float64(peaks[0]))})
}

// serveBacklog has `serve` drain a backlog, and returns the most memory that it
// had.
func (r *run) serveBacklog(ctx context.Context, url string, n int) (peak int64, err error) {
	dir, err := os.MkdirTemp("", "bankfeed_bench_")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	total, err := fill(ctx, place{store.SQLite, store.Config{Path: filepath.Join(dir, "bankfeed.db"), KeysPath: filepath.Join(dir, "bankfeed-keys.db")}, nil}, n)
	if err != nil {
		return 0, err
	}
	q, err := openQueue(url)
	if err != nil {
		return 0, err
	}
	defer q.close()
	in, err := q.ch.Consume(queueName, "", true, true, false, false, nil)
	if err != nil {
		return 0, err
	}
	serve, _, err := r.start(ctx, []string{"BANKFEED_DATA_DIR=" + dir, "BANKFEED_MASTER_KEY=" + benchKey, "BANKFEED_AMQP_URL=" + url},
		hubAddress, "serve", "--listen=127.0.0.1:0", "--log-format=json")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, serve.stop()) }()
	seen := map[string]bool{} // a message may come twice
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for len(seen) < total {
		select {
		case d, ok := <-in:
			if !ok {
				return 0, errors.New("the broker ended the consumer")
			}
			seen[d.MessageId] = true
			patience.Reset(time.Minute)
		case <-patience.C:
			return 0, fmt.Errorf("%d of %d messages came", len(seen), total)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return peakRSS(serve.cmd.Process.Pid)
}

// fill makes a database with transactions in its log, and returns how many
// messages that makes.
func fill(ctx context.Context, p place, n int) (messages int, err error) {
	h, err := openHub(ctx, p)
	if err != nil {
		return 0, err
	}
	defer h.close()
	// A stream begins with the first client of its tenant.
	if _, err := access.New(h.store.Access(), access.Options{Installation: h.store.Installation()}).CreateClient(ctx, "bench", "bench", true); err != nil {
		return 0, err
	}
	const account = 20_000
	for done := 0; done < n; done += account {
		if _, err := h.sync(ctx, min(account, n-done)); err != nil {
			return 0, err
		}
	}
	var after bankfeed.Position
	var types []bankfeed.EventType
	for _, t := range bankfeed.EventTypes {
		if _, ok := banqup.KindOf(t.Type); ok {
			types = append(types, t.Type)
		}
	}
	for {
		events, next, err := h.store.ReadEvents(ctx, eventlog.Query{Tenant: h.tenant, Types: types, After: after, Limit: eventlog.MaxLimit})
		if err != nil || next == after {
			return messages, err
		}
		messages, after = messages+len(events), next
	}
}
