package masstransit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Endpoint is a receive endpoint: a queue with the consumers of some messages.
type Endpoint struct {
	Options
	*Ledger

	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	last  error
	ready chan struct{}
}

// Options of an endpoint.
type Options struct {
	URL   string // amqp://…
	Queue string // its name, which is the client's choice
	Judge Judge
	// Prefetch is how many messages the broker hands over unacknowledged; 0 is
	// MassTransit's 16.
	Prefetch int
	// Retries is how often a message is tried again at once after the consumer threw.
	Retries int
	// Throw is what the consumer's own code does with a message; nil does nothing.
	Throw func(*Judgement) error
	// Forget keeps no bodies, for runs with very many messages.
	Forget bool
}

// again is the pause between attempts to reach the broker.
const again = 100 * time.Millisecond

// Start begins to consume and returns once the queue is bound. Whatever happens
// to the connection, the endpoint comes back until the test ends.
func Start(t testing.TB, o Options) *Endpoint {
	t.Helper()
	e := New(o)
	t.Cleanup(e.Stop)
	select {
	case <-e.ready:
	case <-time.After(time.Minute):
		t.Fatalf("the endpoint %s did not start: %v", o.Queue, e.Trouble())
	}
	return e
}

// New is Start without a test to end it, and without waiting.
func New(o Options) *Endpoint {
	if o.Prefetch == 0 {
		o.Prefetch = 16
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Endpoint{Options: o, Ledger: newLedger(), stop: stop, done: make(chan struct{}), ready: make(chan struct{})}
	go e.run(ctx)
	return e
}

// Stop ends the endpoint. Its queue stays, and so does what was not acknowledged.
func (e *Endpoint) Stop() {
	e.stop()
	<-e.done
}

// Trouble is why the connection ended the last time, or could not be made.
func (e *Endpoint) Trouble() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *Endpoint) run(ctx context.Context) {
	defer close(e.done)
	for ctx.Err() == nil {
		err := e.session(ctx)
		e.mu.Lock()
		e.last = err
		e.mu.Unlock()
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// session consumes over one connection.
func (e *Endpoint) session(ctx context.Context) error {
	conn, err := amqp.DialConfig(e.URL, amqp.Config{
		Heartbeat: 5 * time.Second, Dial: amqp.DefaultDial(5 * time.Second), Properties: amqp.Table{"connection_name": e.Queue},
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseDeadline(time.Now().Add(5 * time.Second)) })
	defer func() {
		if stop() {
			_ = conn.CloseDeadline(time.Now().Add(5 * time.Second))
		}
	}()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if err := e.topology(ch); err != nil {
		return err
	}
	if err := ch.Qos(e.Prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(e.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	select {
	case <-e.ready:
	default:
		close(e.ready)
	}
	for d := range deliveries {
		if err := e.handle(ctx, ch, &d); err != nil {
			return err
		}
	}
	return errors.New("the channel was closed")
}

// topology declares what a receive endpoint declares, in its order.
func (e *Endpoint) topology(ch *amqp.Channel) error {
	if err := withExchange(ch, e.Queue); err != nil {
		return err
	}
	types := e.Judge.Types
	if types == nil {
		types = Types
	}
	for _, t := range types {
		if err := exchange(ch, t); err != nil {
			return err
		}
		if err := ch.ExchangeBind(e.Queue, "", t, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// withExchange declares a queue with an exchange of the same name in front of it.
func withExchange(ch *amqp.Channel, name string) error {
	if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
		return err
	}
	if err := exchange(ch, name); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, nil)
}

func exchange(ch *amqp.Channel, name string) error {
	return ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil)
}

func (e *Endpoint) handle(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery) error {
	j := e.Judge.Message(d)
	if j.Verdict == Consumed && e.Throw != nil {
		var err error
		for range 1 + e.Retries {
			if err = e.Throw(&j); err == nil {
				break
			}
		}
		if err != nil {
			j.Verdict, j.Reason = Faulted, err.Error()
		}
	}
	e.add(d, j, e.Forget)
	if j.Verdict != Consumed {
		if err := e.reject(ctx, ch, d, &j); err != nil {
			return err
		}
	}
	return d.Ack(false)
}

// reject tells of the fault and moves the message.
func (e *Endpoint) reject(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery, j *Judgement) error {
	at, queue := time.Now(), e.Queue+"_error"
	if j.Verdict == Skipped {
		queue = e.Queue + "_skipped"
	} else {
		to, p, err := e.faultOf(d, j, at)
		if err != nil {
			return err
		}
		for _, name := range []string{to, faultExchange} {
			if err := exchange(ch, name); err != nil {
				return err
			}
		}
		if err := ch.ExchangeBind(faultExchange, "", to, false, nil); err != nil {
			return err
		}
		if err := publish(ctx, ch, to, "", p); err != nil {
			return err
		}
	}
	if err := withExchange(ch, queue); err != nil {
		return err
	}
	return publish(ctx, ch, queue, d.RoutingKey, amqp.Publishing{
		Headers: e.headersOf(d, j, at), ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, AppId: d.AppId, Body: d.Body,
	})
}

func publish(ctx context.Context, ch *amqp.Channel, exchange, key string, p amqp.Publishing) error {
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, p)
	if err != nil {
		return err
	}
	if ok, err := confirm.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("not confirmed: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}

// address names an exchange of the endpoint's broker.
func (e *Endpoint) address(exchange string) string {
	u, err := amqp.ParseURI(e.URL)
	if err != nil {
		return "rabbitmq://unknown/" + exchange
	}
	vhost := strings.TrimPrefix(u.Vhost, "/")
	if vhost != "" {
		vhost += "/"
	}
	return "rabbitmq://" + u.Host + "/" + vhost + exchange
}
