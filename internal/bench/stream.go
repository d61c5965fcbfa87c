package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// streamLoad is what the stream bench sends.
type streamLoad struct {
	backlog int // transactions that wait
	rounds  int
	events  int           // of the latency case
	warm    int           // before those
	every   time.Duration // between events
	many    int           // transactions of the memory case; 0 leaves it out
}

// bareWindow is how many confirms the bare publisher has in flight.
const bareWindow = 256

// streamBench measures the relay on a real broker, in a virtual host of its own.
func streamBench(ctx context.Context, r *run) error {
	l := streamLoad{backlog: 60_000, rounds: 5, events: 4_000, warm: 200, every: 5 * time.Millisecond, many: 1_000_000}
	if r.Quick {
		l = streamLoad{backlog: 20_000, rounds: 3, events: 1_000, warm: 100, every: 5 * time.Millisecond}
	}
	broker, err := backing.RabbitMQ(ctx)
	switch {
	case errors.Is(err, backing.ErrNotFound):
		r.Notice("RabbitMQ is not there: the stream is not measured")
		return nil
	case err != nil:
		return err
	}
	defer func() { _ = broker.Stop() }() // the figures stand whatever becomes of it
	r.Progress("RabbitMQ " + broker.Version + ": " + broker.Source)
	if err := r.each(ctx, func(p place) error {
		return r.onVHost(ctx, broker, func(url string) error { return r.streamDrain(ctx, p, url, l) })
	}); err != nil {
		return err
	}
	if err := r.each(ctx, func(p place) error {
		return r.onVHost(ctx, broker, func(url string) error { return r.streamLatency(ctx, p, url, l) })
	}); err != nil {
		return err
	}
	if l.many == 0 {
		return nil
	}
	return r.streamMemory(ctx, broker, l)
}

func (r *run) onVHost(ctx context.Context, broker *backing.RabbitMQServer, f func(url string) error) error {
	url, drop, err := broker.CreateVHost(ctx, "bankfeed_bench")
	if err != nil {
		return err
	}
	return errors.Join(f(url), drop())
}

// relay runs a relay of a store until stop is called.
func relay(ctx context.Context, s *store.Store, hub *eventlog.Hub, tenant bankfeed.TenantID, name, url string, observe func(banqup.Kind, bool)) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	r := stream.New(stream.Config{Store: s, Log: s, Subscribe: func(t bankfeed.TenantID) (<-chan struct{}, func()) { return hub.Subscribe(t, 0) }, Settings: stream.Settings{Name: name, URL: bankfeed.Secret(url)},
		Tenant: func(context.Context, string) (bankfeed.TenantID, error) { return tenant, nil },
		Epoch:  s.Installation().Epoch, Node: "0123456789ab", Build: "20260101.1", Now: time.Now, Logger: slog.New(slog.DiscardHandler), Observe: observe})
	go func() { done <- r.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// streamDrain: a backlog through the relay, from its start to the last confirm,
// beside the same messages from memory through a bare publisher. Both publish to
// the same exchanges, to which one durable queue is bound that nobody reads.
func (r *run) streamDrain(ctx context.Context, p place, url string, l streamLoad) (err error) {
	h, err := openHub(ctx, p)
	if err != nil {
		return err
	}
	defer h.close()
	r.Progress(fmt.Sprintf("stream drain, %s: a backlog of %d transactions", p.engine, l.backlog))
	const account = 20_000
	for n := 0; n < l.backlog; n += account {
		if _, err := h.sync(ctx, min(account, l.backlog-n)); err != nil {
			return err
		}
	}
	messages, err := rendered(ctx, h, url)
	if err != nil {
		return err
	}
	q, err := openQueue(url)
	if err != nil {
		return err
	}
	defer q.close()
	hub := eventlog.NewHub(h.store, 0, slog.New(slog.DiscardHandler))
	type round struct{ rate, baseline float64 }
	var all []round
	for i := range l.rounds {
		r.Progress(fmt.Sprintf("stream drain, %s: round %d of %d", p.engine, i+1, l.rounds))
		bare, err := q.publish(ctx, messages)
		if err != nil {
			return err
		}
		if err := q.purge(len(messages)); err != nil {
			return err
		}
		took, err := drain(ctx, h, hub, fmt.Sprintf("round-%d", i), url, len(messages))
		if err != nil {
			return err
		}
		if err := q.purge(len(messages)); err != nil {
			return err
		}
		n := float64(len(messages))
		all = append(all, round{n / took.Seconds(), n / bare.Seconds()})
	}
	slices.SortFunc(all, func(a, b round) int { return cmp.Compare(a.rate/a.baseline, b.rate/b.baseline) })
	m := all[len(all)/2]
	return r.emit(Row{Bench: "stream", Case: "drain", Engine: string(p.engine), N: len(messages), Rate: rounded(m.rate), BaselineRate: rounded(m.baseline), Ratio: rounded(m.rate / m.baseline)})
}

// drain relays everything in the log as a new stream.
func drain(ctx context.Context, h *hub, hub *eventlog.Hub, name, url string, n int) (time.Duration, error) {
	// One stream to a virtual host: the one of the round before has ended.
	if err := h.store.DisableStreams(ctx, nil, "measured", time.Now()); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var confirmed atomic.Int64
	all := make(chan struct{})
	begin := time.Now()
	stop := relay(ctx, h.store, hub, h.tenant, name, url, func(banqup.Kind, bool) {
		if confirmed.Add(1) == int64(n) {
			close(all)
		}
	})
	select {
	case <-all:
	case <-ctx.Done():
	}
	took := time.Since(begin)
	return took, errors.Join(stop(), ctx.Err())
}

// message is what a relay would publish.
type message struct {
	exchange, id string
	body         []byte
}

// rendered holds the messages of everything in the log.
func rendered(ctx context.Context, h *hub, url string) (list []message, err error) {
	bus := stream.NewBus(bankfeed.Secret(url), banqup.Settings{}, "0123456789ab", "20260101.1")
	var after bankfeed.Position
	for {
		events, next, err := h.store.ReadEvents(ctx, eventlog.Query{Tenant: h.tenant, After: after, Limit: eventlog.MaxLimit})
		if err != nil {
			return nil, err
		}
		for i := range events {
			kind, ok := banqup.KindOf(events[i].Type)
			if !ok {
				continue
			}
			body, err := banqup.AppendMessage(nil, &events[i], banqup.Settings{})
			if err != nil {
				return nil, err
			}
			id := events[i].ID()
			list = append(list, message{kind.Exchange(), id.String(), bus.AppendEnvelope(nil, kind, banqup.Delivery{MessageID: id, SentTime: events[i].At}, body)})
		}
		if next == after {
			return list, nil
		}
		after = next
	}
}

// queue is a durable queue bound to the five exchanges.
type queue struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

const queueName = "bench"

func openQueue(url string) (_ *queue, err error) {
	q := &queue{}
	if q.conn, err = amqp.Dial(url); err != nil {
		return nil, err
	}
	if q.ch, err = q.conn.Channel(); err != nil {
		return nil, errors.Join(err, q.conn.Close())
	}
	_, err = q.ch.QueueDeclare(queueName, true, false, false, false, nil)
	for _, k := range banqup.Kinds {
		if err == nil {
			err = q.ch.ExchangeDeclare(k.Exchange(), amqp.ExchangeFanout, true, false, false, false, nil)
		}
		if err == nil {
			err = q.ch.QueueBind(queueName, "", k.Exchange(), false, nil)
		}
	}
	if err != nil {
		return nil, errors.Join(err, q.conn.Close())
	}
	return q, nil
}

func (q *queue) close() { _ = q.conn.Close() } // its virtual host is dropped next

// purge empties the queue, which must hold everything that was published.
func (q *queue) purge(want int) error {
	n, err := q.ch.QueuePurge(queueName, false)
	if err == nil && n < want {
		err = fmt.Errorf("the queue got %d of %d messages", n, want)
	}
	return err
}

// publish is the bare publisher: the library, confirms in flight, nothing else.
func (q *queue) publish(ctx context.Context, messages []message) (time.Duration, error) {
	ch, err := q.conn.Channel()
	if err != nil {
		return 0, err
	}
	defer func() { _ = ch.Close() }()
	if err := ch.Confirm(false); err != nil {
		return 0, err
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, bareWindow))
	begin, open := time.Now(), 0
	await := func() error {
		select {
		case c, ok := <-confirms:
			if !ok || !c.Ack {
				return errors.New("the broker did not confirm a message")
			}
			open--
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, m := range messages {
		if open == bareWindow {
			if err := await(); err != nil {
				return 0, err
			}
		}
		if err := ch.PublishWithContext(ctx, m.exchange, "", true, false, amqp.Publishing{ContentType: banqup.ContentType,
			DeliveryMode: amqp.Persistent, MessageId: m.id, Body: m.body}); err != nil {
			return 0, err
		}
		open++
	}
	for open > 0 {
		if err := await(); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// streamLatency: transactions are committed at a fixed rate while a consumer
// reads. A latency begins when the database has confirmed the commit, before
// anybody is told of it, and ends when the consumer has the message.
func (r *run) streamLatency(ctx context.Context, p place, url string, l streamLoad) (err error) {
	h, err := openHub(ctx, p)
	if err != nil {
		return err
	}
	defer h.close()
	if _, err := h.sync(ctx, 10); err != nil {
		return err
	}
	r.Progress(fmt.Sprintf("stream latency, %s: %d events", p.engine, l.warm+l.events))
	q, err := openQueue(url)
	if err != nil {
		return err
	}
	defer q.close()
	log := slog.New(slog.DiscardHandler)
	hub := eventlog.NewHub(h.store, 0, log)
	running, stopHub := context.WithCancel(ctx)
	defer stopHub()
	go func() { _ = hub.Run(running) }() // ends with running
	w := &witness{committed: map[bankfeed.Position]time.Time{}, received: map[bankfeed.Position]time.Time{}}
	h.store.OnCommit(func(c bankfeed.Committed) {
		w.commit(c)
		hub.Committed(c)
	})
	in, err := q.ch.Consume(queueName, "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for d := range in {
			w.receive(d.MessageId)
		}
	}()
	stop := relay(ctx, h.store, hub, h.tenant, "latency", url, nil)
	defer func() { err = errors.Join(err, stop()) }()
	backlog, err := rendered(ctx, h, url)
	if err != nil {
		return err
	}
	if err := w.wait(ctx, len(backlog)); err != nil { // the relay leads
		return err
	}
	first, rate, err := h.commitEvery(ctx, l)
	if err != nil {
		return err
	}
	_ = w.wait(ctx, len(backlog)+l.warm+l.events) // what has not come by then is lost
	lost, took := w.result(first)
	repeated, disordered := w.repeated, w.disordered
	row := Row{Bench: "stream", Case: "latency", Engine: string(p.engine), Rate: rounded(rate), Lost: &lost, Repeated: &repeated, OutOfOrder: &disordered}
	if len(took) == 0 {
		return errors.New("no message reached the consumer")
	}
	latencies(&row, took)
	return r.emit(row)
}

// commitEvery commits one transaction at a time, at fixed times, and returns the
// position of the first that is measured.
func (h *hub) commitEvery(ctx context.Context, l streamLoad) (first bankfeed.Position, rate float64, err error) {
	connections, err := h.store.Connections(ctx, h.tenant, h.user)
	if err != nil {
		return 0, 0, err
	}
	accounts, err := h.store.Accounts(ctx, h.tenant, h.user, bankfeed.AccountFilter{})
	if err != nil {
		return 0, 0, err
	}
	amount, err := bankfeed.ParseAmount("-12.50")
	if err != nil {
		return 0, 0, err
	}
	snap := bankfeed.Snapshot{Schema: bankfeed.SnapshotSchema, Initiator: bankfeed.ByUser, Build: "20260101.1", Node: "0123456789ab",
		User: bankfeed.UserRef{ID: h.user, BusinessContext: bankfeed.Individual}, Connection: &connections[0], Account: &accounts[0]}
	begin := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for i := range l.warm + l.events {
		t.Reset(time.Until(begin.Add(time.Duration(i) * l.every)))
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-t.C:
		}
		s := snap
		s.Transaction = &bankfeed.Transaction{ID: bankfeed.TransactionID(1_000_000 + i), Status: bankfeed.TransactionBooked,
			Money: bankfeed.Money{Amount: amount, Currency: "EUR"}, BookingDate: bankfeed.DateOf(h.now), Remittance: []string{"Rechnung 4711"}, CreatedAt: h.now}
		done, err := h.store.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: h.user, Events: []bankfeed.Draft{{Type: bankfeed.EventTransactionCreated,
			At: time.Now().UTC(), Connection: connections[0].ID, Account: accounts[0].ID, Snapshot: &s}}})
		if err != nil {
			return 0, 0, err
		}
		if i == l.warm {
			first = done.First
		}
	}
	return first, float64(l.warm+l.events) / time.Since(begin).Seconds(), nil
}

// witness takes down when events were committed and when they came.
type witness struct {
	mu                   sync.Mutex
	committed, received  map[bankfeed.Position]time.Time
	last                 bankfeed.Position
	repeated, disordered int
}

func (w *witness) commit(c bankfeed.Committed) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := c.First; p <= c.Last; p++ {
		w.committed[p] = now
	}
}

func (w *witness) receive(id string) {
	now := time.Now()
	u, err := bankfeed.ParseUUID(id)
	if err != nil {
		return // counts as lost
	}
	_, _, _, p, _ := bankfeed.ParseEventID(u)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.received[p]; again {
		w.repeated++
		return
	}
	if p < w.last {
		w.disordered++
	}
	w.received[p], w.last = now, max(w.last, p)
}

// wait waits, for 10 seconds at most, until n messages have come.
func (w *witness) wait(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return until(ctx, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.received) >= n
	})
}

func (w *witness) result(first bankfeed.Position) (lost int, took []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, at := range w.committed {
		got, ok := w.received[p]
		switch {
		case p < first:
		case !ok:
			lost++
		default:
			took = append(took, max(0, got.Sub(at))) // the message may be faster than the news of the commit
		}
	}
	return lost, took
}
