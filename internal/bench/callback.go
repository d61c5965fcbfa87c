package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/wire/native"
)

// callbackLoad is what the callback bench sends.
type callbackLoad struct {
	backlog int // transactions that wait
	rounds  int
	events  int           // of the latency and hanging cases
	warm    int           // before those
	every   time.Duration // between events
	fan     int           // receivers of the hanging case
	waiting int           // deliveries that wait in the waiting case; 0 leaves it out
}

// bareClients is how many requests the bare client has under way.
const bareClients = 32

// callbackBench measures standing subscriptions: HTTP on the loopback interface.
func callbackBench(ctx context.Context, r *run) error {
	l := callbackLoad{backlog: 40_000, rounds: 5, events: 3_000, warm: 200, every: 10 * time.Millisecond, fan: 10, waiting: 1_000_000}
	if r.Quick {
		l = callbackLoad{backlog: 10_000, rounds: 3, events: 700, warm: 100, every: 10 * time.Millisecond, fan: 10}
	}
	for _, measure := range []func(context.Context, place, callbackLoad) error{r.callbackDrain, r.callbackLatency, r.callbackHanging, r.callbackWaiting} {
		if err := r.each(ctx, func(p place) error { return measure(ctx, p, l) }); err != nil {
			return err
		}
	}
	return nil
}

// callbackHub is as much of the hub as an event passes on its way to receivers.
type callbackHub struct {
	*hub
	events *eventlog.Hub
	engine *callback.Engine
	sender *callback.Sender
	leads  []func() error
	stop   context.CancelFunc
	ended  chan struct{}
}

func openCallbackHub(ctx context.Context, p place) (*callbackHub, error) {
	h, err := openHub(ctx, p)
	if err != nil {
		return nil, err
	}
	s, in, log := h.store.Callbacks(), h.store.Installation(), slog.New(slog.DiscardHandler)
	c := &callbackHub{hub: h, events: eventlog.NewHub(h.store, 0, log), ended: make(chan struct{}),
		sender: callback.NewSender(callback.SenderConfig{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Build: "20260101.1", Now: time.Now})}
	h.store.OnCommit(c.events.Committed)
	c.engine = callback.New(callback.Config{Store: s, Log: s, Worlds: h.store, Transport: c.sender, Epoch: in.Epoch, Node: "0123456789ab",
		Subscribe: func(t bankfeed.TenantID) (<-chan struct{}, func()) { return c.events.Subscribe(t, 0) },
		Render: func(e *bankfeed.Event, _ *callback.Target) ([]byte, error) {
			return json.Marshal(native.Renderer{Installation: in, Tenant: e.Tenant}.Event(*e))
		}})
	running, stop := context.WithCancel(ctx)
	c.stop = stop
	go func() { defer close(c.ended); _ = c.events.Run(running) }() // ends with running
	return c, nil
}

// close ends what is led, then everything else.
func (c *callbackHub) close() error {
	var errs []error
	for _, stop := range c.leads {
		errs = append(errs, stop())
	}
	c.stop()
	<-c.ended
	c.sender.Close()
	c.hub.close()
	return errors.Join(errs...)
}

// subscribe makes a subscription to everything after a position and leads it
// until stop is called, or the hub is closed.
func (c *callbackHub) subscribe(ctx context.Context, url string, after bankfeed.Position) (stop func() error, err error) {
	_, f, err := c.claim(ctx, url, after)
	if err != nil {
		return nil, err
	}
	return c.lead(ctx, f), nil
}

// claim makes a subscription and claims its work.
func (c *callbackHub) claim(ctx context.Context, url string, after bankfeed.Position) (callback.Target, bankfeed.Fence, error) {
	service := &callback.Service{Store: c.store.Callbacks(), URLs: c.sender, Now: time.Now}
	t, err := service.Subscribe(ctx, "", callback.Target{Key: callback.Key{Tenant: c.tenant}, Client: "bench", Sandbox: true,
		Subscription: &callback.Settings{Concurrent: bareClients}, URL: bankfeed.Secret(url),
		Cursors: []callback.Cursor{{Epoch: c.store.Installation().Epoch, Position: after}}})
	if err != nil {
		return t, bankfeed.Fence{}, err
	}
	now := time.Now()
	claims, err := c.store.ClaimWork(ctx, lease.Request{Kind: bankfeed.WorkSubscription, Owner: "bench", Now: now, Until: now.Add(time.Hour), Limit: 1,
		Cap: func(string) int { return 0 }})
	if err != nil {
		return t, bankfeed.Fence{}, err
	}
	if len(claims) != 1 || claims[0].ID != int64(t.ID) {
		return t, bankfeed.Fence{}, errors.New("the subscription could not be claimed")
	}
	return t, claims[0].Fence, nil
}

func (c *callbackHub) lead(ctx context.Context, f bankfeed.Fence) (stop func() error) {
	leading, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.engine.Run(leading, f) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	c.leads = append(c.leads, stop)
	return stop
}

// receiver answers 204 and tells of what came.
type receiver struct {
	url    string
	server *http.Server
	got    func(id string)
}

func openReceiver(ctx context.Context, got func(id string)) (*receiver, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + l.Addr().String() + "/", got: got}
	r.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return // what is cut off did not come
		}
		r.got(req.Header.Get("webhook-id"))
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = r.server.Serve(l) }() // ends with close
	return r, nil
}

func (r *receiver) close() { _ = r.server.Close() }

// callbackDrain: a backlog through one subscription, from the start of its leader
// until the receiver has all of it, beside the same bodies from memory through a
// bare client. Both have as many requests under way.
func (r *run) callbackDrain(ctx context.Context, p place, l callbackLoad) (err error) {
	h, err := openCallbackHub(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	r.Progress(fmt.Sprintf("callback drain, %s: a backlog of %d transactions", p.engine, l.backlog))
	if err := h.fill(ctx, l.backlog); err != nil {
		return err
	}
	bodies, err := h.bodies(ctx)
	if err != nil {
		return err
	}
	var all []drained
	var lost, repeated int
	for i := range l.rounds {
		r.Progress(fmt.Sprintf("callback drain, %s: round %d of %d", p.engine, i+1, l.rounds))
		d, err := h.drain(ctx, bodies)
		if err != nil {
			return err
		}
		all, lost, repeated = append(all, d), lost+d.lost, repeated+d.repeated
	}
	slices.SortFunc(all, func(a, b drained) int { return cmp.Compare(a.rate/a.baseline, b.rate/b.baseline) })
	m := all[len(all)/2]
	return r.emit(Row{Bench: "callback", Case: "drain", Engine: string(p.engine), N: len(bodies), Rate: rounded(m.rate), BaselineRate: rounded(m.baseline),
		Ratio: rounded(m.rate / m.baseline), Lost: &lost, Repeated: &repeated})
}

type drained struct {
	rate, baseline float64
	lost, repeated int
}

func (c *callbackHub) drain(ctx context.Context, bodies [][]byte) (d drained, err error) {
	var bare atomic.Int64
	in, err := openReceiver(ctx, func(string) { bare.Add(1) })
	if err != nil {
		return d, err
	}
	defer in.close()
	took, err := postAll(ctx, in.url, bodies)
	if err != nil {
		return d, err
	}
	n := float64(len(bodies))
	d.baseline = n / took.Seconds()

	seen, all := newTally(len(bodies)), make(chan struct{})
	in.got = func(id string) {
		if seen.add(id) {
			close(all)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	begin := time.Now()
	stop, err := c.subscribe(ctx, in.url, 0)
	if err != nil {
		return d, err
	}
	select {
	case <-all:
	case <-ctx.Done():
	}
	d.rate = n / time.Since(begin).Seconds()
	err = stop()
	d.lost, d.repeated = seen.result()
	return d, err
}

// fill makes a log of transactions.
func (c *callbackHub) fill(ctx context.Context, n int) error {
	const account = 20_000
	for done := 0; done < n; done += account {
		if _, err := c.sync(ctx, min(account, n-done)); err != nil {
			return err
		}
	}
	return nil
}

// bodies renders everything in the log.
func (c *callbackHub) bodies(ctx context.Context) (bodies [][]byte, err error) {
	draw := native.Renderer{Installation: c.store.Installation(), Tenant: c.tenant}
	var after bankfeed.Position
	for {
		events, next, err := c.store.ReadEvents(ctx, eventlog.Query{Tenant: c.tenant, After: after, Limit: eventlog.MaxLimit})
		if err != nil || next == after {
			return bodies, err
		}
		for _, e := range events {
			b, err := json.Marshal(draw.Event(e))
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, b)
		}
		after = next
	}
}

// postAll is the bare client: the standard library's, and nothing else.
func postAll(ctx context.Context, url string, bodies [][]byte) (time.Duration, error) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: bareClients}}
	defer c.CloseIdleConnections()
	var next atomic.Int64
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range bareClients {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(bodies) {
					return nil
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(bodies[i]))
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := c.Do(req)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					return err
				}
			}
		})
	}
	err := g.Wait()
	return time.Since(begin), err
}

// tally counts what came, by id.
type tally struct {
	mu       sync.Mutex
	seen     map[string]bool
	want     int
	repeated int
}

func newTally(want int) *tally { return &tally{seen: make(map[string]bool, want), want: want} }

// add reports whether id is the last one that was missing.
func (t *tally) add(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[id] {
		t.repeated++
		return false
	}
	t.seen[id] = true
	return len(t.seen) == t.want
}

func (t *tally) result() (lost, repeated int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want - len(t.seen), t.repeated
}

// callbackLatency: events are committed at a fixed rate. A latency begins when
// the database has confirmed the commit, before anybody is told of it, and ends
// when the receiver has read the body.
func (r *run) callbackLatency(ctx context.Context, p place, l callbackLoad) error {
	r.Progress(fmt.Sprintf("callback latency, %s: %d events", p.engine, l.warm+l.events))
	m, err := r.callbackTimes(ctx, p, l, 1, 0)
	if err != nil {
		return err
	}
	row := Row{Bench: "callback", Case: "latency", Engine: string(p.engine), Rate: rounded(m.rate), Lost: &m.lost, Repeated: &m.repeated}
	latencies(&row, m.took)
	return r.emit(row)
}

// callbackHanging: the same with several receivers of every event, of which one
// never answers; beside it, the same without that one. The figures are those of
// the others, growth is that of their p99.
func (r *run) callbackHanging(ctx context.Context, p place, l callbackLoad) error {
	l.every *= 2
	l.events /= 2
	var p99 [2]float64
	var row Row
	for i, hanging := range []int{0, 1} {
		r.Progress(fmt.Sprintf("callback hanging, %s: %d of %d receivers hang", p.engine, hanging, l.fan))
		m, err := r.callbackTimes(ctx, p, l, l.fan-1, hanging)
		if err != nil {
			return err
		}
		row = Row{Bench: "callback", Case: "hanging", Engine: string(p.engine), Rate: rounded(m.rate), Lost: &m.lost, Repeated: &m.repeated}
		latencies(&row, m.took)
		p99[i] = *row.P99
	}
	row.Growth = rounded(p99[1] / p99[0])
	return r.emit(row)
}

// callTimes is what some receivers saw.
type callTimes struct {
	rate           float64
	took           []time.Duration
	lost, repeated int
}

// callbackTimes sends a stream of events to receivers that answer and to some
// that do not.
func (r *run) callbackTimes(ctx context.Context, p place, l callbackLoad, answering, hanging int) (t callTimes, err error) {
	h, err := openCallbackHub(ctx, p)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if _, err := h.sync(ctx, 10); err != nil {
		return t, err
	}
	_, head, err := h.store.Bounds(ctx, h.tenant, 0)
	if err != nil {
		return t, err
	}
	committed := &witness{committed: map[bankfeed.Position]time.Time{}}
	h.store.OnCommit(func(c bankfeed.Committed) {
		committed.commit(c)
		h.events.Committed(c)
	})
	var witnesses []*witness
	var open []*receiver
	over := make(chan struct{})
	defer func() {
		close(over) // what hangs may go
		for _, in := range open {
			in.close()
		}
	}()
	for i := range answering + hanging {
		got := func(string) { <-over }
		if i < answering {
			w := &witness{received: map[bankfeed.Position]time.Time{}}
			witnesses = append(witnesses, w)
			got = w.receive
		}
		in, err := openReceiver(ctx, got)
		if err != nil {
			return t, err
		}
		open = append(open, in)
		if _, err := h.subscribe(ctx, in.url, head); err != nil {
			return t, err
		}
	}
	first, rate, err := h.commitEvery(ctx, streamLoad{warm: l.warm, events: l.events, every: l.every})
	if err != nil {
		return t, err
	}
	t.rate = rate
	for _, w := range witnesses {
		_ = w.wait(ctx, l.warm+l.events) // what has not come by then is lost
		w.mu.Lock()
		w.committed = committed.committed
		w.mu.Unlock()
		lost, took := w.result(first)
		t.lost, t.repeated, t.took = t.lost+lost, t.repeated+w.repeated, append(t.took, took...)
	}
	if len(t.took) == 0 {
		return t, errors.New("no event reached a receiver")
	}
	return t, nil
}
