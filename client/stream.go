package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// StreamOptions say what to consume and how. URL, Queue and Handler are needed.
type StreamOptions struct {
	// URL of the broker: amqp(s)://user:password@host:port/vhost.
	URL bankfeed.Secret
	// TLS is for amqps with certificates of one's own; nil trusts the system's.
	TLS *tls.Config
	// Queue is any name. Consumers that share it share the messages; each name of
	// its own gets all of them.
	Queue string
	// Messages to bind to; nil is all five.
	Messages []banqup.Kind
	Handler  Handler

	// Prefetch is how many messages the broker hands over ahead; 0 is 64.
	Prefetch int
	// Retries are the pauses before a message that failed is tried again; the
	// messages behind it wait. When they are used up, it is moved to <queue>_error
	// and the fault is published. Nil is 100 ms, 1 s and 5 s; empty is none.
	Retries []time.Duration
	// Duplicates is how many ids of processed messages are remembered, to drop a
	// message that comes again; 0 drops none. The memory ends with the process.
	Duplicates int
	// Acknowledge tells the hub what was processed; nil tells nobody.
	Acknowledge *Acknowledge
	// StopTimeout is how long a handler may go on after the stop; 0 is 30 s.
	StopTimeout time.Duration
	// Log gets what the stream has to say; nil is silence.
	Log *slog.Logger
}

// Stream consumes messages. It is made by NewStream and runs once.
type Stream struct {
	o      StreamOptions
	target amqp.URI
	host   banqup.Host
	known  *recent
	acks   *acknowledger // nil without
	ready  chan struct{}
}

// NewStream checks the options. An error is Invalid and names the field.
func NewStream(o StreamOptions) (*Stream, error) {
	target, err := amqp.ParseURI(string(o.URL))
	if err != nil { // it would show the password
		return nil, bankfeed.InvalidField("URL", "is not the URL of an AMQP broker")
	}
	switch {
	case o.Queue == "" || len(o.Queue) > maxName:
		return nil, bankfeed.InvalidField("Queue", "must have 1 to %d bytes", maxName)
	case o.Handler == nil:
		return nil, bankfeed.InvalidField("Handler", "is needed")
	case o.Prefetch < 0 || o.Prefetch > maxPrefetch:
		return nil, bankfeed.InvalidField("Prefetch", "must be at most %d", maxPrefetch)
	case o.Duplicates < 0:
		return nil, bankfeed.InvalidField("Duplicates", "must not be negative")
	}
	for _, k := range o.Messages {
		if !slices.Contains(banqup.Kinds, k) {
			return nil, bankfeed.InvalidField("Messages", "holds a kind of message that does not exist")
		}
	}
	if o.Messages == nil {
		o.Messages = banqup.Kinds
	}
	if o.Prefetch == 0 {
		o.Prefetch = 64
	}
	if o.Retries == nil {
		o.Retries = []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second}
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stream{o: o, target: target, host: thisHost(), known: newRecent(o.Duplicates), ready: make(chan struct{})}
	if o.Acknowledge != nil {
		if s.acks, err = newAcknowledger(*o.Acknowledge, o.Log); err != nil {
			return nil, err
		}
	}
	return s, nil
}

const (
	maxName     = 248 // an AMQP name has 255 bytes, and _skipped is added
	maxPrefetch = 1<<16 - 1

	dialTimeout  = 10 * time.Second
	closeTimeout = 5 * time.Second
	heartbeat    = 10 * time.Second
	firstPause   = 100 * time.Millisecond // before the broker is tried again
	longestPause = 10 * time.Second
)

// Ready is closed once the queue was bound for the first time: what the hub
// publishes from then on arrives.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// Run consumes until the context ends. It reconnects for ever; broker trouble is
// logged and no error. After the context ended, the message in work is finished,
// those behind it stay in the queue, and Run returns nil; it returns an error if
// the handler, or the hub with the last acknowledgements, took longer than
// StopTimeout.
func (s *Stream) Run(ctx context.Context) error {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopped := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(s.o.StopTimeout):
			cancel()
		case <-patient.Done():
		}
	})
	defer stopped()

	acked := make(chan error, 1)
	acking, stopAcks := context.WithCancel(patient)
	if s.acks != nil {
		go func() { acked <- s.acks.run(acking, patient) }()
	} else {
		acked <- nil
	}
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, patient)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		s.o.Log.WarnContext(ctx, "stream: the connection to the broker ended", "queue", s.o.Queue, "broker", s.target.Host, "again_in", pause, "err", err)
		select {
		case <-time.After(pause + rand.N(pause)): //nolint:gosec // spreads consumers, is no secret
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
	stopAcks()
	err := <-acked
	if patient.Err() != nil {
		return errors.Join(fmt.Errorf("client: stopping took longer than %s", s.o.StopTimeout), err)
	}
	return err
}

// session consumes over one connection. ctx ends it after the message in work;
// patient is for what must be finished.
func (s *Stream) session(ctx, patient context.Context) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseDeadline(time.Now().Add(closeTimeout)) }() // whatever was lost comes again
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := s.topology(ch); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if err := ch.Qos(s.o.Prefetch, 0, false); err != nil {
		return err
	}
	// Before there is anything to tell: a queue may be deleted at once.
	closed, cancelled := ch.NotifyClose(make(chan *amqp.Error, 1)), ch.NotifyCancel(make(chan string, 1))
	deliveries, err := ch.Consume(s.o.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
	s.o.Log.InfoContext(ctx, "stream: consuming", "queue", s.o.Queue, "broker", s.target.Host)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-closed:
			if err == nil {
				return errors.New("the connection was closed")
			}
			return err
		case <-cancelled:
			return errors.New("the queue was deleted")
		case d, ok := <-deliveries:
			if ctx.Err() != nil {
				return nil
			}
			if !ok {
				deliveries = nil // why is told by one of the others
				continue
			}
			if err := s.receive(ctx, patient, ch, &d); err != nil {
				return err
			}
		}
	}
}

func (s *Stream) dial(ctx context.Context) (*amqp.Connection, error) {
	stop := func() bool { return true }
	conn, err := amqp.DialConfig(string(s.o.URL), amqp.Config{
		Heartbeat: heartbeat, TLSClientConfig: s.o.TLS.Clone(), Properties: amqp.Table{"connection_name": "bankfeed client " + s.o.Queue},
		Dial: func(network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTimeout}
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil { // lifted after the handshake
				return nil, err
			}
			stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
			return c, nil
		},
	})
	stop()
	var bad *url.Error
	if errors.As(err, &bad) { // it would show the password
		return nil, bad.Err
	}
	return conn, err
}

// topology declares what MassTransit declares for a receive endpoint, so that it
// does not matter who of hub and consumers comes first.
func (s *Stream) topology(ch *amqp.Channel) error {
	if err := declareQueue(ch, s.o.Queue); err != nil {
		return err
	}
	for _, k := range s.o.Messages {
		if err := declareExchange(ch, k.Exchange()); err != nil {
			return err
		}
		if err := ch.ExchangeBind(s.o.Queue, "", k.Exchange(), false, nil); err != nil {
			return fmt.Errorf("binding %s to %s: %w", k.Exchange(), s.o.Queue, err)
		}
	}
	return nil
}

// declareQueue declares a queue and an exchange of the same name in front of it.
func declareQueue(ch *amqp.Channel, name string) error {
	if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
		return fmt.Errorf("queue %s: %w", name, err)
	}
	if err := declareExchange(ch, name); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, nil)
}

func declareExchange(ch *amqp.Channel, name string) error {
	if err := ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return fmt.Errorf("exchange %s: %w", name, err)
	}
	return nil
}

// receive processes one delivery and acknowledges it to the broker. An error
// ends the connection, and the message comes again.
func (s *Stream) receive(ctx, patient context.Context, ch *amqp.Channel, d *amqp.Delivery) error {
	envelope, err := banqup.ParseEnvelope(d.Body)
	if err != nil {
		return s.fault(patient, ch, d, failure{err: err})
	}
	kind, ok := envelope.Kind()
	if !ok || !slices.Contains(s.o.Messages, kind) {
		return s.skip(patient, ch, d)
	}
	message, err := envelope.Decode()
	if err != nil {
		return s.fault(patient, ch, d, failure{err: err})
	}
	id := envelope.MessageID
	if s.known.has(id) {
		s.o.Log.DebugContext(ctx, "stream: a duplicate was dropped", "queue", s.o.Queue, "message_id", id)
		s.processed(id) // the first acknowledgement may be lost
		return d.Ack(false)
	}
	err = s.try(ctx, patient, Delivery{ID: id, Original: envelope.Original(), SentTime: envelope.SentTime, Redelivered: d.Redelivered}, message)
	switch {
	case errors.Is(err, errStopped):
		return err
	case err != nil:
		return s.fault(patient, ch, d, failure{err: err, kind: kind, envelope: envelope})
	}
	// Before the broker is told: if that fails, the message comes again.
	s.known.add(id)
	s.processed(id)
	return d.Ack(false)
}

func (s *Stream) processed(id bankfeed.UUID) {
	if s.acks != nil && id != (bankfeed.UUID{}) {
		s.acks.add(id)
	}
}

// errStopped: the stop came before the message was processed.
var errStopped = errors.New("stopped")

// try hands a message to the handler, and again after a failure.
func (s *Stream) try(ctx, patient context.Context, d Delivery, message any) error {
	for n := 0; ; n++ {
		err := handle(patient, s.o.Handler, d, message)
		if err == nil {
			return nil
		}
		if patient.Err() != nil {
			return errStopped // the handler was cut off: no fault of the message
		}
		if n == len(s.o.Retries) {
			return err
		}
		s.o.Log.WarnContext(ctx, "stream: a message failed and is tried again", "queue", s.o.Queue, "message_id", d.ID, "again_in", s.o.Retries[n], "err", err)
		select {
		case <-time.After(s.o.Retries[n]):
		case <-ctx.Done():
			return errStopped
		}
	}
}

func thisHost() banqup.Host {
	name, _ := os.Hostname() // empty if the system does not tell
	return banqup.Host{
		MachineName: name, ProcessName: processName(), ProcessID: os.Getpid(), Assembly: "bankfeed", AssemblyVersion: "1.0.0.0",
		FrameworkVersion: goVersion(), MassTransitVersion: "8.5.8.0", OperatingSystemVersion: goos,
	}
}
