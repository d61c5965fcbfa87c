package store

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bankfeed/bankfeed"
)

// Signals carries wake-ups between the nodes on one PostgreSQL, by NOTIFY. They
// go out after the commit and outside its transaction, because NOTIFY inside
// one makes all commits of the database wait for each other; many commits share
// one. A signal may be lost; readers look for themselves now and then.
//
// LISTEN needs a connection of its own to the server itself: through a pooler
// in transaction mode nothing arrives, and wake-ups from other nodes wait for
// that slow look. On SQLite there is no other node, and Signals does nothing.
type Signals struct {
	store *Store
	node  string // tells our own signals from the others'
	to    Receiver
	log   *slog.Logger
	idle  time.Duration

	mu     sync.Mutex
	events map[signalKey]int // index in queue of the last entry of a user
	queue  []bankfeed.Committed
	ready  map[bankfeed.WorkKind]bool
	more   chan struct{}
}

// Receiver is told what other nodes did.
type Receiver struct {
	Committed func(bankfeed.Committed)
	Ready     func(bankfeed.WorkKind)
	// Lost: signals may have been lost.
	Lost func()
}

type signalKey struct {
	tenant bankfeed.TenantID
	user   bankfeed.UserID
}

const (
	signalChannel  = "bankfeed"
	signalInterval = 5 * time.Millisecond // at most 200 signals a second and node
	signalBytes    = 7500                 // PostgreSQL takes payloads of less than 8000
	signalBacklog  = 100_000              // entries kept while the server does not answer
	listenIdle     = 30 * time.Second     // then the connection is tried
	listenRetryMax = 5 * time.Second
)

// NewSignals connects when Run runs.
func (s *Store) NewSignals(to Receiver, log *slog.Logger) *Signals {
	return &Signals{store: s, node: rand.Text()[:12], to: to, log: log, idle: listenIdle, events: map[signalKey]int{}, ready: map[bankfeed.WorkKind]bool{},
		more: make(chan struct{}, 1)}
}

// Committed tells the other nodes of a commit. It does not block.
func (g *Signals) Committed(c bankfeed.Committed) {
	if g.store.engine != Postgres {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := signalKey{c.Tenant, c.User}
	if i, ok := g.events[key]; ok && g.queue[i].Last+1 == c.First {
		e := &g.queue[i]
		e.Last = c.Last
		e.Topics = e.Topics.With(c.Topics)
	} else if len(g.queue) < signalBacklog {
		g.events[key] = len(g.queue)
		g.queue = append(g.queue, c)
	}
	g.wake()
}

// Ready tells the other nodes of work. It does not block.
func (g *Signals) Ready(kind bankfeed.WorkKind) {
	if g.store.engine != Postgres {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready[kind] = true
	g.wake()
}

func (g *Signals) wake() {
	select {
	case g.more <- struct{}{}:
	default:
	}
}

// Name names the worker.
func (g *Signals) Name() string { return "signals" }

// Run sends and listens until ctx ends.
func (g *Signals) Run(ctx context.Context) error {
	if g.store.engine != Postgres {
		<-ctx.Done()
		return nil
	}
	var listening sync.WaitGroup
	listening.Go(func() { g.listen(ctx) })
	g.send(ctx)
	listening.Wait()
	return nil
}

func (g *Signals) send(ctx context.Context) {
	for failed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-g.more:
		}
		var err error
		for _, payload := range g.take() {
			// Not worth a flush: a signal that a crash loses is like any other lost one.
			if _, err = g.store.pool.Exec(ctx, `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`,
				signalChannel, payload); err != nil {
				break
			}
		}
		if err != nil && !failed && ctx.Err() == nil {
			g.log.WarnContext(ctx, "signals to other nodes are lost", "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(signalInterval):
		}
	}
}

// take empties the queue into payloads: node, then entries, separated by ";".
// An entry is w,kind or e,tenant,lane,user,first,last,topics.
func (g *Signals) take() (payloads []string) {
	g.mu.Lock()
	queue, ready := g.queue, g.ready
	g.queue, g.ready = nil, map[bankfeed.WorkKind]bool{}
	clear(g.events)
	g.mu.Unlock()

	var b []byte
	entry := func(kind byte) {
		if len(b) > signalBytes {
			payloads, b = append(payloads, string(b)), nil
		}
		if b == nil {
			b = append(b, g.node...)
		}
		b = append(b, ';', kind)
	}
	for kind := range ready {
		entry('w')
		b = append(append(b, ','), kind...)
	}
	for _, c := range queue {
		topics := 0
		for i, set := range c.Topics {
			if set {
				topics |= 1 << i
			}
		}
		entry('e')
		for _, n := range [...]int64{int64(c.Tenant), int64(c.Lane), int64(c.User), int64(c.First), int64(c.Last), int64(topics)} {
			b = strconv.AppendInt(append(b, ','), n, 10)
		}
	}
	if b != nil {
		payloads = append(payloads, string(b))
	}
	return payloads
}

func (g *Signals) receive(payload string) {
	node, entries, _ := strings.Cut(payload, ";")
	if node == g.node {
		return
	}
	for entry := range strings.SplitSeq(entries, ";") {
		kind, rest, _ := strings.Cut(entry, ",")
		if kind == "w" {
			g.to.Ready(bankfeed.WorkKind(rest))
			continue
		}
		var n [6]int64
		fields := strings.Split(rest, ",")
		if kind != "e" || len(fields) != len(n) {
			continue // of a newer build
		}
		for i, f := range fields {
			n[i], _ = strconv.ParseInt(f, 10, 64) // a number out of range wakes nobody
		}
		g.to.Committed(bankfeed.Committed{Tenant: bankfeed.TenantID(n[0]), Lane: int(n[1]), User: bankfeed.UserID(n[2]),
			First: bankfeed.Position(n[3]), Last: bankfeed.Position(n[4]), Topics: bankfeed.Topics{n[5]&1 != 0, n[5]&2 != 0, n[5]&4 != 0}})
	}
}

// listen reconnects for ever.
func (g *Signals) listen(ctx context.Context) {
	for retry := listenRetryMax / 64; ctx.Err() == nil; {
		began := time.Now()
		err := g.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > listenIdle {
			retry = listenRetryMax / 64
		}
		g.log.WarnContext(ctx, "listening to other nodes", "err", err, "retry_in", retry)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, listenRetryMax)
	}
}

func (g *Signals) listenOnce(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, g.store.pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // nothing depends on a polite end
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+signalChannel); err != nil {
		return err
	}
	g.to.Lost() // whatever was sent before this LISTEN
	for {
		n, err := waitForSignal(ctx, conn, g.idle)
		if err != nil {
			return err
		}
		if n != nil {
			g.receive(n.Payload)
		}
	}
}

// waitForSignal returns nil without an error when nothing came for a while and
// the connection still lives: one that broke silently would be waited on for
// ever.
func waitForSignal(ctx context.Context, conn *pgx.Conn, idle time.Duration) (*pgconn.Notification, error) {
	short, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	n, err := conn.WaitForNotification(short)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return n, err
	}
	alive, cancel := context.WithTimeout(ctx, listenRetryMax)
	defer cancel()
	return nil, conn.Ping(alive)
}
