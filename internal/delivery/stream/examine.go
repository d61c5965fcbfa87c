package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Finding is something that an examination of a stream's broker found.
type Finding struct {
	Level   FindingLevel
	Subject string
	Text    string // what is, and what to do about it
}

// FindingLevel is how bad a finding is.
type FindingLevel string

// Finding levels.
const (
	FindingOK   FindingLevel = "ok"
	FindingWarn FindingLevel = "warn"
	FindingFail FindingLevel = "fail"
)

// tripPatience bounds the round trip of an examination.
const tripPatience = 10 * time.Second

// Examine looks at the broker of a stream, and sends a message of its own there
// and back. It changes nothing: what it declares is gone when it ends, and the
// stream's own exchanges are only looked at. r is what is stored of the stream,
// nil if nothing is, or if that could not be read.
func Examine(ctx context.Context, s Settings, r *Record) (list []Finding) {
	add := func(level FindingLevel, subject, format string, args ...any) {
		list = append(list, Finding{level, subject, fmt.Sprintf(format, args...)})
	}
	target, err := Target(s.URL)
	if err != nil {
		add(FindingFail, "broker", "the address %v", err)
		return list
	}
	b, err := dial(ctx, s.URL, "bankfeed doctor")
	if err != nil {
		add(FindingFail, "broker", "%s: %v", target, err)
		return list
	}
	defer b.close()
	version, _ := b.conn.Properties["version"].(string)
	product, _ := b.conn.Properties["product"].(string)
	add(FindingOK, "broker", "%s %s answers at %s", product, version, target)
	took, err := b.roundTrip(ctx)
	if err != nil {
		add(FindingFail, "round trip", "%v", err)
	} else {
		add(FindingOK, "round trip", "a message over an exchange and queue of its own was confirmed and received in %s", took.Round(100*time.Microsecond))
	}
	for _, k := range banqup.Kinds {
		list = append(list, b.examineExchange(k, &s, r))
	}
	for _, name := range s.Queues {
		switch q, exists, err := b.queue(name); {
		case err != nil:
			add(FindingFail, "queue "+name, "%v", err)
		case !exists:
			add(FindingWarn, "queue "+name, "does not exist on this virtual host")
		case q.Consumers == 0:
			add(FindingWarn, "queue "+name, "%d messages ready, and nobody consumes", q.Messages)
		default:
			add(FindingOK, "queue "+name, "%d messages ready, %d consumers", q.Messages, q.Consumers)
		}
	}
	switch {
	case r == nil:
		add(FindingOK, "cursor", "nothing is known of it; the first start begins it")
	case r.Term == 0:
		add(FindingWarn, "cursor", "no node has led the stream yet")
	case r.SavedAt.IsZero():
		add(FindingOK, "cursor", "term %d of node %s, which has stored nothing yet", r.Term, r.Leader)
	case r.Progress.Trouble != "":
		add(FindingWarn, "cursor", "position %d; last trouble: %s", r.Progress.Position, r.Progress.Trouble)
	default:
		add(FindingOK, "cursor", "position %d, term %d of node %s, stored at %s", r.Progress.Position, r.Term, r.Leader, clock(r.SavedAt))
	}
	return list
}

// examineExchange says what is known about one exchange, and no more: only what
// was published tells whether somebody is bound.
func (b *broker) examineExchange(k banqup.Kind, s *Settings, r *Record) Finding {
	subject := "exchange " + string(k)
	if !carries(s, k) {
		return Finding{FindingOK, subject, "not carried by this stream (messages)"}
	}
	exists, err := b.exchange(k.Exchange())
	if err != nil {
		return Finding{FindingFail, subject, err.Error()}
	}
	if !exists {
		return Finding{FindingWarn, subject, k.Exchange() + " does not exist yet; serve declares it"}
	}
	var x Exchange
	var hold *Hold
	if r != nil {
		x = r.Progress.Exchanges[k]
		if h, held := r.Progress.Holds[k]; held {
			hold = &h
		}
	}
	switch {
	case hold != nil && !hold.Redrive:
		return Finding{FindingFail, subject, fmt.Sprintf("its binding was lost: what comes after position %d waits for it since %s; bind the consumer's queue again", hold.After, clock(hold.Since))}
	case r == nil:
		return Finding{FindingOK, subject, "is there; of its messages nothing is known"}
	case x.Published == 0:
		return Finding{FindingOK, subject, "nothing published yet, so nobody knows whether a queue is bound"}
	case unroutedOf(s, k) == UnroutedOff:
		return Finding{FindingOK, subject, fmt.Sprintf("last message at %s; whether it was routed is not asked for (unrouted: off)", clock(x.LastAt))}
	case !x.LastRouted && !x.Routed:
		return Finding{FindingWarn, subject, fmt.Sprintf("no queue was ever bound: %d messages reached nobody, the last at %s", x.Unrouted, clock(x.LastAt))}
	case !x.LastRouted:
		return Finding{FindingFail, subject, fmt.Sprintf("the last message, at %s, reached no queue; %d did so far", clock(x.LastAt), x.Unrouted)}
	}
	return Finding{FindingOK, subject, fmt.Sprintf("the last message, at %s, was routed", clock(x.LastAt))}
}

// exchange declares an exchange passively.
func (b *broker) exchange(name string) (exists bool, err error) {
	ch, err := b.conn.Channel()
	if err != nil {
		return false, err
	}
	err = ch.ExchangeDeclarePassive(name, amqp.ExchangeFanout, true, false, false, false, nil)
	var e *amqp.Error
	if errors.As(err, &e) && e.Code == amqp.NotFound {
		return false, nil // it closed the channel
	}
	if err != nil {
		return false, fmt.Errorf("exchange %s: %w", name, err)
	}
	// A passive declare does not compare: the real one does.
	_ = ch.Close()
	return true, b.declareFanout(name)
}

// roundTrip publishes a message as the stream does and waits for it.
func (b *broker) roundTrip(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tripPatience, fmt.Errorf("no answer within %s", tripPatience))
	defer cancel()
	name := "bankfeed.doctor." + rand.Text()[:12]
	ch, err := b.conn.Channel()
	if err != nil {
		return 0, err
	}
	defer func() { _ = ch.Close() }()
	if err := ch.ExchangeDeclare(name, amqp.ExchangeFanout, false, true, false, false, nil); err != nil {
		return 0, fmt.Errorf("declaring an exchange: %w", err)
	}
	if _, err := ch.QueueDeclare(name, false, true, true, false, nil); err != nil {
		return 0, fmt.Errorf("declaring a queue: %w", err)
	}
	if err := ch.QueueBind(name, "", name, false, nil); err != nil {
		return 0, fmt.Errorf("binding a queue: %w", err)
	}
	in, err := ch.Consume(name, "", true, true, false, false, nil)
	if err != nil {
		return 0, fmt.Errorf("consuming: %w", err)
	}
	out, err := b.outlet(1)
	if err != nil {
		return 0, err
	}
	id, began := bankfeed.UUID{}.String(), time.Now()
	if err := out.send(name, "", true, id, nil, []byte(`{"messageType":["urn:message:bankfeed:Doctor"],"message":{}}`)); err != nil {
		return 0, fmt.Errorf("publishing: %w", err)
	}
	for confirmed, received := false, false; !confirmed || !received; {
		select {
		case c, ok := <-out.confirms:
			if !ok || !c.Ack {
				return 0, errors.New("the broker did not confirm the message")
			}
			if out.wasReturned(id) {
				return 0, errors.New("the message came back although a queue is bound")
			}
			confirmed = true
		case _, ok := <-in:
			if !ok {
				return 0, errors.New("the queue was taken away")
			}
			received = true
		case <-b.blocked:
			return 0, errors.New("the broker blocks publishers (its memory or disk alarm is on)")
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return time.Since(began), nil
}
