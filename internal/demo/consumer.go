package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	sdk "github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Queue is the queue of the demo's consumer, and the exchange in front of it.
const Queue = "bankfeed-demo-consumer"

// consumer stands for a company's software at the end of the stream. It knows
// the hub by the broker, and by the address that takes acknowledgements.
type consumer struct {
	broker *broker
	print  *printer
	stop   context.CancelFunc
	done   chan error

	mu     sync.Mutex
	copies map[bankfeed.UUID]int
	list   []message // the first copy of each, in order of arrival
	live   bool      // messages are shown as they come
}

// message is what is kept of a received one.
type message struct {
	id        bankfeed.UUID
	kind      banqup.Kind
	operation string // created, updated, deleted; empty where there is none
	subject   string // id of what it is about, as the message has it
	about     string // for people
}

// bindPatience is far more than it takes to declare a queue.
const bindPatience = 30 * time.Second

// consume begins to consume and returns once the queue is bound. A queue that is
// left of a demo that was killed is deleted first, with what is in it.
func consume(ctx context.Context, b *broker, tell sdk.Acknowledge, p *printer, log *slog.Logger) (*consumer, error) {
	if err := b.clear(ctx, true); err != nil {
		return nil, err
	}
	c := &consumer{broker: b, print: p, done: make(chan error, 1), copies: map[bankfeed.UUID]int{}}
	stream, err := sdk.NewStream(sdk.StreamOptions{URL: b.address(), Queue: Queue, Handler: c, Acknowledge: &tell, StopTimeout: brokerPatience, Log: log})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() { c.done <- stream.Run(running) }()
	select {
	case <-stream.Ready():
		return c, nil
	case <-time.After(bindPatience):
		err = fmt.Errorf("the consumer could not bind its queue %s within %s", Queue, bindPatience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, c.end(), c.remove())
}

// end stops consuming; what was received is acknowledged to the hub before.
func (c *consumer) end() error {
	c.stop()
	return <-c.done
}

// remove deletes what consume declared.
func (c *consumer) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), brokerPatience)
	defer cancel()
	if err := c.broker.clear(ctx, false); err != nil {
		return fmt.Errorf("removing the consumer's queue: %w", err)
	}
	return nil
}

// clear deletes the consumer's queue and exchange, and those for what it could
// not process. With unused it fails if somebody consumes from the queue.
func (b *broker) clear(ctx context.Context, unused bool) error {
	conn, err := b.connect(ctx, "bankfeed demo")
	if err != nil {
		return b.explain(err)
	}
	defer func() { _ = conn.CloseDeadline(time.Now().Add(brokerPatience)) }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	for _, name := range []string{Queue, Queue + "_error", Queue + "_skipped"} {
		_, err := ch.QueueDelete(name, unused, false, false)
		var e *amqp.Error
		switch {
		case errors.As(err, &e) && e.Code == amqp.PreconditionFailed:
			return fmt.Errorf("another demo runs in virtual host %s of the broker at %s: somebody consumes from queue %s", b.target.Vhost, b.host(), name)
		case err != nil:
			return err
		}
		if err := ch.ExchangeDelete(name, false, false); err != nil {
			return err
		}
	}
	return nil
}

// AccountMessage implements sdk.Handler, as do the four after it.
func (c *consumer) AccountMessage(_ context.Context, d sdk.Delivery, m *banqup.AccountMessage) error {
	about := fmt.Sprintf("%s, account %d %q", m.Meta.Operation, m.Data.ID, m.Data.Name)
	for _, t := range slices.Sorted(maps.Keys(m.Data.Balances)) {
		about += fmt.Sprintf(", %s %s %s", t, m.Data.Balances[t].Value, m.Data.Balances[t].Currency)
	}
	c.took(d, message{kind: banqup.Account, operation: m.Meta.Operation, subject: fmt.Sprint(m.Data.ID), about: about})
	return nil
}

// TransactionMessage implements sdk.Handler.
func (c *consumer) TransactionMessage(_ context.Context, d sdk.Delivery, m *banqup.TransactionMessage) error {
	about := fmt.Sprintf("%s, %s %s, %s, %q", m.Meta.Operation, m.Data.Amount, m.Data.Currency, m.Data.Status, clip(m.Data.Title))
	c.took(d, message{kind: banqup.Transaction, operation: m.Meta.Operation, subject: m.Data.ID, about: about})
	return nil
}

// SessionFinishedMessage implements sdk.Handler.
func (c *consumer) SessionFinishedMessage(_ context.Context, d sdk.Delivery, m *banqup.SessionFinishedMessage) error {
	about := fmt.Sprintf("account %d is complete; its newest transaction is %s", m.Embedded.Account.ID, m.Data.ID)
	c.took(d, message{kind: banqup.Session, subject: m.Embedded.Session.ID, about: about})
	return nil
}

// ConsentMessage implements sdk.Handler.
func (c *consumer) ConsentMessage(_ context.Context, d sdk.Delivery, m *banqup.ConsentMessage) error {
	about := fmt.Sprintf("%s, %s, before %s, reaches %d accounts", m.Meta.Operation, m.Data.Status, m.Data.PreviousStatus, len(m.Embedded.Accounts))
	c.took(d, message{kind: banqup.Consent, operation: m.Meta.Operation, subject: m.Data.ID, about: about})
	return nil
}

// AspspCall implements sdk.Handler.
func (c *consumer) AspspCall(_ context.Context, d sdk.Delivery, m *banqup.AspspCall) error {
	took := time.Duration(m.RequestDuration).Round(100 * time.Microsecond)
	c.took(d, message{kind: banqup.Call, subject: m.ExecutionID, about: fmt.Sprintf("%s, %d, %s, by %s", m.RequestContext, m.StatusCode, took, m.Initiator)})
	return nil
}

func (c *consumer) took(d sdk.Delivery, m message) {
	m.id = d.ID
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copies[m.id]++; c.copies[m.id] > 1 {
		return
	}
	c.list = append(c.list, m)
	if c.live {
		c.print.message(wireName(m.kind), m.about)
	}
}

// showLive shows what comes from now on, when it comes.
func (c *consumer) showLive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = true
}

// received is what has come so far, and how often a message came again.
func (c *consumer) received() (list []message, repeated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.copies {
		repeated += n - 1
	}
	return slices.Clone(c.list), repeated
}

// wireName is what the producer calls the message: the end of its messageType.
func wireName(k banqup.Kind) string {
	_, name, _ := strings.Cut(k.Exchange(), ":")
	return name
}

// clip keeps a line short.
func clip(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
