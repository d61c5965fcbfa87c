package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// replayWindow is how many messages of a replay may be under way; fewer than of
// a relay, which must not be slowed down by replays.
const replayWindow = 256

// replayOutlet publishes the messages of a replay over a connection of its own.
type replayOutlet struct {
	broker   *broker
	out      *outlet
	queue    string   // empty: to the exchanges
	flight   []string // message ids, in the order of sending and of confirms
	returned int      // since the last settle
}

// openReplay connects and sees to it that there is something to publish to. A
// queue must be there; exchanges are made.
func openReplay(ctx context.Context, address bankfeed.Secret, name, queue string) (*replayOutlet, error) {
	b, err := dial(ctx, address, name)
	if err != nil {
		return nil, outage(err)
	}
	o := &replayOutlet{broker: b, queue: queue}
	if queue != "" {
		err = o.checkQueue()
	} else if err = b.declareExchanges(); err != nil {
		err = outage(err)
	}
	if err == nil {
		if o.out, err = b.outlet(replayWindow); err != nil {
			err = outage(err)
		}
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return o, nil
}

// checkQueue fails for good if the queue does not exist.
func (o *replayOutlet) checkQueue() error {
	ch, err := o.broker.conn.Channel()
	if err != nil {
		return outage(err)
	}
	defer func() { _ = ch.Close() }()
	_, err = ch.QueueDeclarePassive(o.queue, false, false, false, false, nil)
	var e *amqp.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Code == amqp.NotFound:
		return &fatalError{fmt.Sprintf("the queue %q does not exist", o.queue)}
	case errors.As(err, &e) && e.Code == amqp.AccessRefused:
		return &fatalError{fmt.Sprintf("the broker refuses access to the queue %q: %s", o.queue, e.Reason)}
	case errors.As(err, &e) && e.Code == amqp.ResourceLocked:
		return nil // another connection's own: it cannot be looked at, but published to
	}
	return outage(err)
}

func (o *replayOutlet) close() { o.broker.close() }

// abortAfter ends the connection when ctx ends: a publish that the broker does
// not read cannot be interrupted otherwise.
func (o *replayOutlet) abortAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = o.broker.raw.Close() })
}

// send publishes one message, as soon as there is room for it. Its confirm is
// waited for by settle.
func (o *replayOutlet) send(ctx context.Context, k banqup.Kind, d banqup.Delivery, body []byte) error {
	for len(o.flight) >= replayWindow {
		if err := o.confirm(ctx); err != nil {
			return err
		}
	}
	exchange, key := k.Exchange(), ""
	if o.queue != "" {
		exchange, key = "", o.queue
	}
	id := d.MessageID.String()
	if err := o.out.send(exchange, key, true, id, amqp.Table(d.Headers()), body); err != nil {
		return o.lost(ctx, fmt.Errorf("publishing: %w", err))
	}
	o.flight = append(o.flight, id)
	return nil
}

// settle waits until nothing is under way, and returns how many messages no queue
// took since it was called last. That a named queue takes none means that it is
// gone, which is fatal.
func (o *replayOutlet) settle(ctx context.Context) (returned int, err error) {
	for len(o.flight) > 0 {
		if err := o.confirm(ctx); err != nil {
			return 0, err
		}
	}
	returned, o.returned = o.returned, 0
	if returned > 0 && o.queue != "" {
		return returned, &fatalError{fmt.Sprintf("the queue %q does not exist any more", o.queue)}
	}
	return returned, nil
}

// confirm waits for the next confirm.
func (o *replayOutlet) confirm(ctx context.Context) error {
	blocked := ""
	for {
		select {
		case c, ok := <-o.out.confirms:
			switch {
			case !ok:
				return o.lost(ctx, errors.New("the channel to the broker was closed"))
			case !c.Ack:
				return &outageError{"the broker refused a message"}
			}
			if o.out.wasReturned(o.flight[0]) {
				o.returned++
			}
			o.flight = o.flight[1:]
			return nil
		case b := <-o.broker.blocked:
			if blocked = ""; b.Active {
				blocked = "the broker blocks publishers: " + b.Reason
			}
		case <-ctx.Done():
			if blocked == "" {
				blocked = fmt.Sprintf("the broker did not confirm within %s", replayPatience)
			}
			return &outageError{blocked}
		}
	}
}

// reasonPatience is how long the reason of an end is waited for: a publish fails
// before the library tells it.
const reasonPatience = time.Second

// lost finds out why the connection or channel ended.
func (o *replayOutlet) lost(ctx context.Context, err error) error {
	timer := time.NewTimer(reasonPatience)
	defer timer.Stop()
	select {
	case e, ok := <-o.out.closed:
		err = lost(e, ok)
	case e, ok := <-o.broker.closed:
		err = lost(e, ok)
	case <-timer.C:
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("the broker took nothing within %s", replayPatience)
	}
	return outage(err)
}
