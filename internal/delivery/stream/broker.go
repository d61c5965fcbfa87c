package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const (
	// heartbeat is short, because a frozen leader keeps its leadership until
	// the broker misses two of them.
	heartbeat = 5 * time.Second
	// dialPatience bounds connecting and the handshake.
	dialPatience = 10 * time.Second
	// closePatience is how long the broker gets to answer a close.
	closePatience = 2 * time.Second
)

// Target names the broker and virtual host of an amqp(s) URL without its secrets;
// streams with the same target would mix their messages. The error names no part
// of the URL.
func Target(address bankfeed.Secret) (string, error) {
	u, err := url.Parse(string(address))
	if err != nil || u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" || u.Fragment != "" {
		return "", errors.New("is not an amqp:// or amqps:// URL")
	}
	a, err := amqp.ParseURI(string(address))
	if err != nil {
		return "", errors.New("is not an amqp:// or amqps:// URL") // amqp's own error prints the password
	}
	return strings.ToLower(net.JoinHostPort(a.Host, strconv.Itoa(a.Port))) + "/" + a.Vhost, nil
}

// busAddress is how envelopes name the broker: rabbitmq://host/vhost.
func busAddress(address bankfeed.Secret) string {
	a, err := amqp.ParseURI(string(address))
	if err != nil {
		return "rabbitmq://localhost"
	}
	host := net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) // in brackets where they are needed
	if a.Port == 5672 || a.Port == 5671 {
		host = strings.TrimSuffix(host, ":"+strconv.Itoa(a.Port))
	}
	if a.Vhost == "/" || a.Vhost == "" {
		return "rabbitmq://" + host
	}
	return "rabbitmq://" + host + "/" + url.PathEscape(a.Vhost)
}

// broker is a connection.
type broker struct {
	conn    *amqp.Connection
	raw     net.Conn
	closed  chan *amqp.Error
	blocked chan amqp.Blocking
}

// dial connects. name is what the broker's operator sees. For amqps the URL may
// name files with certificates: cacertfile, certfile and keyfile
// (https://www.rabbitmq.com/docs/uri-query-parameters).
func dial(ctx context.Context, address bankfeed.Secret, name string) (*broker, error) {
	b := &broker{closed: make(chan *amqp.Error, 1), blocked: make(chan amqp.Blocking, 16)}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(name)
	var err error
	stop := func() bool { return true }
	b.conn, err = amqp.DialConfig(string(address), amqp.Config{
		Heartbeat: heartbeat, Properties: properties,
		Dial: func(network, addr string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialPatience}
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			b.raw, stop = c, context.AfterFunc(ctx, func() { _ = c.Close() })
			return c, c.SetDeadline(time.Now().Add(dialPatience)) // amqp lifts it after the handshake
		},
	})
	stop()
	if err != nil {
		return nil, fmt.Errorf("connecting to the broker: %w", err)
	}
	b.conn.NotifyClose(b.closed)
	b.conn.NotifyBlocked(b.blocked)
	return b, nil
}

// close ends the connection. A broker that does not answer is not waited for: it
// may have stopped reading, because it blocks publishers.
func (b *broker) close() {
	timer := time.AfterFunc(closePatience, func() { _ = b.raw.Close() })
	defer timer.Stop()
	_ = b.conn.Close() // it ends in any case
}

// lost is why the connection ended.
func lost(err *amqp.Error, ok bool) error {
	if !ok || err == nil {
		return errors.New("the connection to the broker was closed")
	}
	return fmt.Errorf("the broker closed: %w", err)
}

// declareExchanges makes what the five messages are published to. What is there
// already must be the same (design of MassTransit: durable fanout, no arguments).
func (b *broker) declareExchanges() error {
	for _, k := range banqup.Kinds {
		if err := b.declareFanout(k.Exchange()); err != nil {
			return err
		}
	}
	return nil
}

func (b *broker) declareFanout(name string) error {
	ch, err := b.conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	err = ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil)
	var e *amqp.Error
	if errors.As(err, &e) && e.Code == amqp.PreconditionFailed {
		return &topologyError{fmt.Sprintf("exchange %s is declared with other arguments than MassTransit's (durable fanout, none else): "+
			"delete it, bankfeed declares it again and its consumers bind again (the broker says: %s)", name, e.Reason)}
	}
	return err
}

// topologyError is what an operator of the broker must mend.
type topologyError struct{ text string }

func (e *topologyError) Error() string { return e.text }

// errLed: another connection holds the leadership.
var errLed = errors.New("stream: another node leads")

// leaderQueue is held by the leader's publishing connection. There is one on a
// virtual host, whatever the stream is called: exchange names are fixed.
const leaderQueue = "bankfeed.leader"

// apply asks for the leadership on the virtual host.
func (b *broker) apply() error {
	ch, err := b.conn.Channel()
	if err != nil {
		return err
	}
	_, err = ch.QueueDeclare(leaderQueue, false, true, true, false, nil)
	var e *amqp.Error
	if errors.As(err, &e) && e.Code == amqp.ResourceLocked {
		return errLed
	}
	if err != nil {
		return err
	}
	return ch.Close() // the queue lives as long as the connection
}

// outlet is a channel in confirm mode. A message that the broker returns is
// told before its confirm.
type outlet struct {
	publish  func(exchange, key string, mandatory, immediate bool, p amqp.Publishing) error
	confirms chan amqp.Confirmation
	returns  chan amqp.Return
	closed   chan *amqp.Error
	returned map[string]struct{} // message ids
}

// outlet opens a channel that has up to window messages under way.
func (b *broker) outlet(window int) (*outlet, error) {
	ch, err := b.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	// As many as can be under way: the library's reader never waits for us.
	o := &outlet{publish: ch.Publish, confirms: make(chan amqp.Confirmation, window+1), returns: make(chan amqp.Return, window+1),
		closed: make(chan *amqp.Error, 1), returned: map[string]struct{}{}}
	ch.NotifyPublish(o.confirms)
	ch.NotifyReturn(o.returns)
	ch.NotifyClose(o.closed)
	return o, nil
}

// send publishes one message. It returns before the confirm.
func (o *outlet) send(exchange, key string, mandatory bool, id string, headers amqp.Table, body []byte) error {
	return o.publish(exchange, key, mandatory, false, amqp.Publishing{
		Headers: headers, ContentType: banqup.ContentType, DeliveryMode: amqp.Persistent, MessageId: id, Body: body,
	})
}

// wasReturned reports whether the message of a confirm that was just received
// had come back unrouted.
func (o *outlet) wasReturned(id string) bool {
	for more := true; more; {
		var r amqp.Return
		select {
		case r, more = <-o.returns:
			if more {
				o.returned[r.MessageId] = struct{}{}
			}
		default:
			more = false
		}
	}
	if _, ok := o.returned[id]; !ok {
		return false
	}
	delete(o.returned, id)
	return true
}
