package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const (
	// lookEvery is how often the leader looks at queues, and for what people
	// asked for.
	lookEvery = 2 * time.Second
	// faultsKept bounds the queue of faults, should no leader read it for long.
	faultsKept = 100_000
	// faultsAtOnce bounds one write of faults.
	faultsAtOnce = 100
)

// faultQueue collects what consumers say of messages that they could not process.
// It is bound to MassTransit's fault exchanges only, so it never counts as a
// binding of the stream's own.
func faultQueue(stream string) string { return "bankfeed.faults." + stream }

// watch looks around beside the flow, on a connection of its own: a broker that
// blocks publishers blocks whole connections.
func (t *term) watch(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		err := t.watchOnce(ctx)
		if err != nil && ctx.Err() == nil {
			if err.Error() != last {
				last = err.Error()
				t.log.WarnContext(ctx, "watching queues and faults", "error", err) // once an outage
			}
			t.tellBlind(ctx, causeOf(err))
		}
		wait(ctx, lookEvery)
	}
}

// tellBlind tells why queues and faults are not seen, empty if they are, once.
func (t *term) tellBlind(ctx context.Context, text string) {
	if text != t.blind {
		t.blind = text
		t.tell(ctx, news{blind: &text})
	}
}

func (t *term) watchOnce(ctx context.Context) error {
	b, err := dial(ctx, t.c.Settings.URL, fmt.Sprintf("bankfeed %s stream %s watch", t.c.Node, t.key.Name))
	if err != nil {
		return errors.Join(err, t.lookForRedrives(ctx))
	}
	defer b.close()
	// A broker that stands still is not waited for.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closePatience, func() { _ = b.raw.Close() }) })()
	faults, err := b.consumeFaults(t.key.Name)
	if err != nil {
		return err
	}
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	for {
		if err := t.lookForRedrives(ctx); err != nil && ctx.Err() == nil {
			t.log.DebugContext(ctx, "looking for redrives", "error", err) // the cursor's trouble says the same
		}
		if err := t.look(ctx, b); err != nil {
			return err
		}
		t.tellBlind(ctx, "")
		for look := false; !look; {
			select {
			case <-ctx.Done():
				return nil
			case e, ok := <-b.closed:
				return lost(e, ok)
			case <-looks.C:
				look = true
			case d, ok := <-faults:
				if !ok {
					return errors.New("the queue of faults was taken away")
				}
				if err := t.record(ctx, d, faults); err != nil {
					return err
				}
			}
		}
	}
}

func (t *term) tell(ctx context.Context, n news) {
	select {
	case t.news <- n:
	case <-ctx.Done():
	}
}

func (t *term) lookForRedrives(ctx context.Context) error {
	r, err := t.c.Store.Stream(ctx, t.key)
	if err == nil && r.Asked {
		t.tell(ctx, news{asked: true})
	}
	return err
}

// look declares the named queues passively. A queue that is empty now has given
// everything to its consumers that was confirmed before.
func (t *term) look(ctx context.Context, b *broker) error {
	if len(t.c.Settings.Queues) == 0 {
		return nil
	}
	seen := map[string]Queue{}
	for _, name := range t.c.Settings.Queues {
		confirmed := bankfeed.Position(t.safe.Load())
		state, exists, err := b.queue(name)
		var refused *refusedError
		if errors.As(err, &refused) {
			seen[name] = Queue{Refused: refused.Error()}
			continue
		}
		if err != nil {
			return err
		}
		q := Queue{SeenAt: t.c.Now(), Missing: !exists, Depth: state.Messages, Consumers: state.Consumers}
		if exists && state.Messages == 0 {
			q.Drained, q.DrainedAt = confirmed, q.SeenAt
		}
		seen[name] = q
	}
	t.tell(ctx, news{queues: seen})
	return nil
}

// refusedError: the broker does not show a queue to the hub. It says nothing of
// the connection.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

// queue declares a queue passively.
func (b *broker) queue(name string) (q amqp.Queue, exists bool, err error) {
	ch, err := b.conn.Channel()
	if err != nil {
		return q, false, err
	}
	q, err = ch.QueueDeclarePassive(name, false, false, false, false, nil)
	var e *amqp.Error
	if errors.As(err, &e) && e.Code == amqp.NotFound {
		return q, false, nil // it closed the channel
	}
	if e != nil && (e.Code == amqp.ResourceLocked || e.Code == amqp.AccessRefused) {
		return q, true, &refusedError{e.Reason} // an exclusive one, for instance
	}
	if err != nil {
		return q, false, fmt.Errorf("queue %s: %w", name, err)
	}
	return q, true, ch.Close()
}

// declareFaults binds the hub's queue to MassTransit's fault exchanges, which it
// declares as MassTransit does. What is published there before is lost, so it
// happens before the first message of a stream. An exchange that is there with
// other arguments is a consumer's, which made it for a class that is not public:
// it is bound to as it is.
func (b *broker) declareFaults(stream string) error {
	ch, err := b.conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	name := faultQueue(stream)
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-max-length": int32(faultsKept)}); err != nil {
		return fmt.Errorf("queue %s: %w", name, err)
	}
	exchanges := []string{banqup.ReceiveFaultExchange}
	for _, k := range banqup.Kinds {
		exchanges = append(exchanges, k.FaultExchange())
	}
	for _, e := range exchanges {
		var differs *topologyError
		if err := b.declareFanout(e); err != nil && !errors.As(err, &differs) {
			return err
		}
		if err := ch.QueueBind(name, "", e, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// consumeFaults declares the hub's queue, should somebody have deleted it, and
// reads it.
func (b *broker) consumeFaults(stream string) (<-chan amqp.Delivery, error) {
	if err := b.declareFaults(stream); err != nil {
		return nil, err
	}
	ch, err := b.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Qos(faultsAtOnce, 0, false); err != nil {
		return nil, err
	}
	return ch.Consume(faultQueue(stream), "", false, false, false, false, nil)
}

// record stores a fault and those that are there already, then acknowledges them.
// What is no fault of a message of this stream is dropped: the exchange of
// ReceiveFault is shared by everything on the virtual host.
func (t *term) record(ctx context.Context, d amqp.Delivery, more <-chan amqp.Delivery) error {
	list, last := t.fault(nil, d), d
collect:
	for n := 1; n < faultsAtOnce; n++ {
		select {
		case d, ok := <-more:
			if !ok {
				break collect
			}
			list, last = t.fault(list, d), d
		default:
			break collect
		}
	}
	list, err := t.sent(ctx, list)
	if err == nil {
		err = t.keep(ctx, list)
	}
	if err != nil {
		return fmt.Errorf("storing faults: %w", err)
	}
	return last.Ack(true)
}

// sent drops faults of messages that this stream has not sent in this life of its
// log: an id from before a restore looks like that of a replay.
func (t *term) sent(ctx context.Context, list []Fault) ([]Fault, error) {
	ours := map[int64]bool{0: true}
	for _, f := range list {
		if _, asked := ours[f.Replay]; asked {
			continue
		}
		r, err := t.c.Store.Replay(ctx, t.key.Tenant, f.Replay)
		if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			return nil, err
		}
		if ours[f.Replay] = err == nil && r.Stream == t.key; !ours[f.Replay] {
			t.log.InfoContext(ctx, "a fault of a message from before the log was restored is not recorded", "message", f.Message)
		}
	}
	return slices.DeleteFunc(list, func(f Fault) bool { return !ours[f.Replay] }), nil
}

// keep stores faults and counts them for the exchanges of their messages. One of a
// message that the consumer could not read does not say which that was: its event does.
func (t *term) keep(ctx context.Context, list []Fault) error {
	by := map[banqup.Kind][]Fault{}
	for _, f := range list {
		k := f.Kind
		if k == "" {
			events, _, err := t.c.Log.Select(ctx, LogQuery{Tenant: t.key.Tenant, Lane: t.key.Lane, After: f.Position - 1, Limit: 1})
			if err != nil {
				return err
			}
			if len(events) > 0 && events[0].Position == f.Position {
				k, _ = banqup.KindOf(events[0].Type)
			}
		}
		by[k] = append(by[k], f)
	}
	counts := map[banqup.Kind]int64{}
	for k, faults := range by {
		added, err := t.c.Store.RecordFaults(ctx, t.key, faults)
		if err != nil {
			return err
		}
		for _, n := range added {
			counts[k] += n
		}
	}
	if len(counts) > 0 {
		t.tell(ctx, news{faults: counts})
	}
	return nil
}

// maxFaultText bounds what is kept of an exception's message.
const maxFaultText = 2000

func (t *term) fault(list []Fault, d amqp.Delivery) []Fault {
	f, err := banqup.ParseFault(d.Body)
	if err != nil {
		t.log.Debug("a message on a fault exchange that is none", "error", err)
		return list
	}
	when, tenant, lane, position, ok := bankfeed.ParseEventID(f.Message)
	if !ok || tenant != t.key.Tenant || lane != t.key.Lane {
		return list
	}
	fault := Fault{Message: f.Message, Position: position, Kind: f.Kind, At: f.At, Host: cut(f.Host.MachineName, 255)}
	if len(f.Exceptions) > 0 {
		fault.Type, fault.Text = cut(f.Exceptions[0].Type, 255), cut(f.Exceptions[0].Text, maxFaultText)
	}
	if when != t.c.Epoch {
		fault.Replay = int64(when)
	}
	if fault.At.IsZero() {
		fault.At = t.c.Now()
	}
	return append(list, fault)
}

// cut bounds a text without breaking a character, and takes out what PostgreSQL
// refuses: one such fault would keep all behind it from being stored.
func cut(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
