package stream

import (
	"context"
	"encoding/json"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// consumer reads a queue that is bound to some of the exchanges.
type consumer struct {
	t     *testing.T
	ch    *amqp.Channel
	queue string
	mu    sync.Mutex
	got   []amqp.Delivery
}

func consume(t *testing.T, address, queue string, kinds ...banqup.Kind) *consumer {
	t.Helper()
	conn, err := amqp.Dial(address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	c := &consumer{t: t, ch: ch, queue: queue}
	_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
	require.NoError(t, err)
	for _, k := range kinds {
		c.bind(k)
	}
	in, err := ch.Consume(queue, "", true, false, false, false, nil)
	require.NoError(t, err)
	go func() {
		for d := range in {
			c.mu.Lock()
			c.got = append(c.got, d)
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *consumer) bind(k banqup.Kind) {
	require.NoError(c.t, c.ch.ExchangeDeclare(k.Exchange(), "fanout", true, false, false, false, nil))
	require.NoError(c.t, c.ch.QueueBind(c.queue, "", k.Exchange(), false, nil))
}

func (c *consumer) unbind(k banqup.Kind) {
	require.NoError(c.t, c.ch.QueueUnbind(c.queue, "", k.Exchange(), nil))
}

// positions are those of the messages that came.
func (c *consumer) positions() (list []bankfeed.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.got {
		id, err := bankfeed.ParseUUID(d.MessageId)
		require.NoError(c.t, err)
		_, _, _, p, ok := bankfeed.ParseEventID(id)
		require.True(c.t, ok)
		list = append(list, p)
	}
	return list
}

func start(t *testing.T, c Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(c).Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(20 * time.Second):
				t.Error("the relay does not stop")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func TestRelayPublishesWhatConsumersExpect(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Kinds...)
	stop := start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	for _, e := range []bankfeed.EventType{bankfeed.EventBankCalled, bankfeed.EventAccountCreated, bankfeed.EventConsentCreated,
		bankfeed.EventTransactionCreated, bankfeed.EventAccountFinished} {
		l.add(e, 4)
	}
	eventually(t, "five messages", func() bool { return len(got.positions()) == 5 })
	require.Equal(t, []bankfeed.Position{1, 2, 3, 4, 5}, got.positions())
	for i, k := range []banqup.Kind{banqup.Call, banqup.Account, banqup.Consent, banqup.Transaction, banqup.Session} {
		d := got.got[i]
		require.Equal(t, k.Exchange(), d.Exchange)
		require.Equal(t, "application/vnd.masstransit+json", d.ContentType)
		require.EqualValues(t, 2, d.DeliveryMode)
		require.Empty(t, d.RoutingKey)
		var e struct {
			MessageID   string   `json:"messageId"`
			MessageType []string `json:"messageType"`
		}
		require.NoError(t, json.Unmarshal(d.Body, &e))
		require.Equal(t, d.MessageId, e.MessageID)
		require.Equal(t, []string{k.URN()}, e.MessageType)
		require.Equal(t, l.events[i].ID().String(), e.MessageID, "the event's id")
	}
	eventually(t, "a saved cursor", func() bool { return st.now().Position == 5 })
	stop()
	require.EqualValues(t, 5, st.now().Position)

	// The next term goes on behind the cursor.
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	l.add(bankfeed.EventTransactionUpdated, 4)
	eventually(t, "the next message", func() bool { return len(got.positions()) == 6 })
	require.EqualValues(t, 6, got.positions()[5])
	eventually(t, "a second term", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.record.Term == 2 })
}

// Two of the five are bound, which is what most clients do; one binding is lost
// and comes back.
func TestRelayHoldsForABindingThatWasLost(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction, banqup.Account)
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	add := func() {
		l.add(bankfeed.EventBankCalled, 0)
		l.add(bankfeed.EventAccountUpdated, 4)
		l.add(bankfeed.EventTransactionCreated, 4)
		l.add(bankfeed.EventAccountFinished, 4)
	}
	add()
	eventually(t, "the first", func() bool { return len(got.positions()) == 2 && st.now().Position == 4 })
	require.EqualValues(t, 1, st.now().Exchanges[banqup.Call].Unrouted, "nobody ever bound it")
	got.unbind(banqup.Transaction)
	add()
	eventually(t, "the account", func() bool { return len(got.positions()) == 3 && st.now().Position == 8 })
	require.EqualValues(t, 6, st.now().Holds[banqup.Transaction].After)
	add()
	eventually(t, "the next account", func() bool { return len(got.positions()) == 4 })
	got.bind(banqup.Transaction)
	eventually(t, "what was held", func() bool { return len(got.positions()) == 6 })
	require.Equal(t, []bankfeed.Position{2, 3, 6, 10, 7, 11}, got.positions())
	eventually(t, "no hold", func() bool { return len(st.now().Holds) == 0 })
	add()
	eventually(t, "and on", func() bool { return len(got.positions()) == 8 })
}

func TestOneRelayLeads(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction)
	stopFirst := start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	eventually(t, "a leader", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.record.Term == 1 })
	second := testConfig(t, st, l, bankfeed.Secret(address))
	second.Node = "second"
	start(t, second)
	for range 20 {
		l.add(bankfeed.EventTransactionCreated, 4)
	}
	eventually(t, "all", func() bool { return len(got.positions()) == 20 })
	stopFirst()
	eventually(t, "the other takes over", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.record.Leader == "second" })
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "the next", func() bool { return len(got.positions()) == 21 })
}

// A stream that was disabled for longer than events are kept says what it lost.
func TestWhatRetentionRemovedIsSaid(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction)
	stop := start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "the first", func() bool { return len(got.positions()) == 1 && st.now().Position == 1 })
	stop()
	for range 5 {
		l.add(bankfeed.EventTransactionCreated, 4)
	}
	l.mu.Lock()
	l.floor = 4
	l.mu.Unlock()
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	eventually(t, "what is left", func() bool { return len(got.positions()) == 3 && st.now().Position == 6 })
	require.Equal(t, []bankfeed.Position{1, 5, 6}, got.positions())
	x := st.now().Expired
	require.NotNil(t, x)
	require.Equal(t, Expired{First: 2, Last: 4, At: x.At}, *x)
}

// Two hubs, each with a database of its own, on one virtual host.
func TestAStrangersLeadershipIsSaid(t *testing.T) {
	address := backingtest.AMQPURL(t)
	other := &memoryStore{}
	start(t, testConfig(t, other, &memoryLog{}, bankfeed.Secret(address)))
	eventually(t, "the other leads", func() bool { other.mu.Lock(); defer other.mu.Unlock(); return other.record.Term == 1 })
	var late atomic.Int64
	c := testConfig(t, &memoryStore{}, &memoryLog{}, bankfeed.Secret(address))
	c.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	r := New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, "it waits", func() bool { return r.Key().Name != "" })
	late.Store(int64(time.Minute))
	eventually(t, "a word", func() bool { text, _ := r.Trouble(); return text != "" })
	text, _ := r.Trouble()
	require.Contains(t, text, "another hub")
	cancel()
	require.NoError(t, <-done)
}

// elsewhere is a store in which a node with a newer configuration has enabled the
// stream.
type elsewhere struct{ *memoryStore }

func (s elsewhere) Stream(ctx context.Context, key Key) (Record, error) {
	r, err := s.memoryStore.Stream(ctx, key)
	r.Target = "new.example:5672/finat"
	return r, err
}

// Two nodes that publish to two brokers in turn would leave each with a part.
func TestANodeDoesNotLeadToABrokerThatAnotherHasLeft(t *testing.T) {
	address := backingtest.AMQPURL(t)
	st := elsewhere{&memoryStore{}}
	r := New(testConfig(t, st, &memoryLog{}, bankfeed.Secret(address)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, "a word", func() bool { text, _ := r.Trouble(); return text != "" })
	text, leading := r.Trouble()
	require.Contains(t, text, "new.example:5672/finat")
	require.False(t, leading)
	cancel()
	require.NoError(t, <-done)
	require.Zero(t, st.record.Term)
}

// A node whose configuration names no stream disables those of the others when it
// starts.
func TestAStreamThatIsConfiguredHereIsEnabledAgain(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction)
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "a leader", func() bool { return st.now().Position == 1 })
	st.mu.Lock()
	st.record.Enabled = false
	st.mu.Unlock()
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "the cursor", func() bool { return st.now().Position == 2 })
	require.Subset(t, got.positions(), []bankfeed.Position{1, 2})
}

// A broker that stands still must not keep a process from its end.
func TestConnectingEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := dial(ctx, bankfeed.Secret("amqp://"+silent.Addr().String()), "test")
		done <- err
	}()
	c, err := silent.Accept()
	require.NoError(t, err)
	defer c.Close()
	cancel()
	select {
	case err := <-done:
		require.Error(t, err)
	case <-time.After(dialPatience / 2):
		t.Fatal("it goes on waiting")
	}
}

func TestATopologyThatDiffersIsSaidClearly(t *testing.T) {
	address := backingtest.AMQPURL(t)
	conn, err := amqp.Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.ExchangeDeclare(banqup.Consent.Exchange(), "topic", true, false, false, false, nil))
	l, st := &memoryLog{}, &memoryStore{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := New(testConfig(t, st, l, bankfeed.Secret(address)))
	go func() { _ = r.Run(ctx) }()
	eventually(t, "a clear word", func() bool { text, _ := r.Trouble(); return text != "" })
	text, leading := r.Trouble()
	require.False(t, leading)
	require.Contains(t, text, banqup.Consent.Exchange())
	require.Contains(t, text, "delete it")
	require.NoError(t, ch.ExchangeDelete(banqup.Consent.Exchange(), false, false))
	eventually(t, "it goes on by itself", func() bool { _, leading := r.Trouble(); return leading })
}

func TestQueuesAndFaultsAreWatched(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction)
	c := testConfig(t, st, l, bankfeed.Secret(address))
	c.Settings.Queues = []string{"finat", "nobody"}
	start(t, c)
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "drained", func() bool { return st.now().Queues["finat"].Drained == 1 })
	q := st.now().Queues["finat"]
	require.Equal(t, 1, q.Consumers)
	require.Zero(t, q.Depth)
	require.True(t, st.now().Queues["nobody"].Missing)
	require.Zero(t, st.now().Queues["nobody"].Drained)

	body := faultOf(t, l.events[0].ID(), "System.InvalidOperationException", "worker-1")
	for _, b := range [][]byte{[]byte("no JSON"), body, []byte("{}")} {
		require.NoError(t, got.ch.Publish(banqup.Transaction.FaultExchange(), "", false, false, amqp.Publishing{ContentType: banqup.ContentType, Body: b}))
	}
	eventually(t, "the fault", func() bool { return st.now().Exchanges[banqup.Transaction].Faults == 1 })
	st.mu.Lock()
	defer st.mu.Unlock()
	require.Len(t, st.faults, 1)
	f := st.faults[0]
	require.Equal(t, Fault{Message: l.events[0].ID(), Position: 1, Kind: banqup.Transaction, At: f.At, Type: "System.InvalidOperationException", Text: "no such account", Host: "worker-1"}, f)
}

// faultOf is what MassTransit publishes when a consumer of a TransactionMessage threw.
func faultOf(t *testing.T, message bankfeed.UUID, exception, machine string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"messageId": "7a000000-9a3c-0005-1813-08d7e7027a0c", "messageType": []string{"urn:message:MassTransit:Fault[[" + banqup.Transaction.URN()[len("urn:message:"):] + "]]", "urn:message:MassTransit:Fault"},
		"message": map[string]any{"faultId": "7a000000-9a3c-0005-1813-08d7e7027a0d", "faultedMessageId": message.String(), "timestamp": "2026-03-02T09:00:01Z",
			"exceptions":        []any{map[string]any{"exceptionType": exception, "message": "no such account"}},
			"host":              map[string]any{"machineName": machine},
			"faultMessageTypes": []string{banqup.Transaction.URN()}, "message": map[string]any{}},
	})
	require.NoError(t, err)
	return body
}

// receiveFaultOf is what it publishes when a message could not be read: it does not
// say of which type that was.
func receiveFaultOf(t *testing.T, message bankfeed.UUID) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"messageType": []string{"urn:message:MassTransit:ReceiveFault", "urn:message:MassTransit:Fault"},
		"message": map[string]any{"faultId": "7a000000-9a3c-0005-1813-08d7e7027a0e", "faultedMessageId": message.String(), "timestamp": "2026-03-02T09:00:01Z",
			"exceptions": []any{map[string]any{"exceptionType": "System.Text.Json.JsonException", "message": "no number"}}, "contentType": banqup.ContentType},
	})
	require.NoError(t, err)
	return body
}

// Whatever is on the fault exchanges, the faults behind it are recorded.
func TestNoFaultKeepsOthersFromBeingRecorded(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	ours := Replay{ID: 1_772_442_111_000, Stream: Key{Tenant: 1, Name: "main"}}
	other := Replay{ID: 1_772_442_222_000, Stream: Key{Tenant: 1, Name: "other"}}
	st.replays = map[int64]Replay{ours.ID: ours, other.ID: other}
	got := consume(t, address, "finat", banqup.Kinds...)
	// A consumer's class that is not public makes MassTransit declare its exchange so.
	require.NoError(t, got.ch.ExchangeDeclare(banqup.Transaction.FaultExchange(), "fanout", false, true, false, false, nil))
	_, err := got.ch.QueueDeclare("mine", false, true, true, false, nil) // exclusive: nobody else may look at it
	require.NoError(t, err)
	c := testConfig(t, st, l, bankfeed.Secret(address))
	c.Settings.Queues = []string{"mine", "finat"}
	start(t, c)
	for range 3 {
		l.add(bankfeed.EventTransactionCreated, 4)
	}
	eventually(t, "the messages", func() bool { return len(got.positions()) == 3 })
	id := func(epoch int64, p bankfeed.Position) bankfeed.UUID {
		return bankfeed.EventID(bankfeed.Epoch(epoch), 1, 0, p)
	}
	publish := func(exchange string, body []byte) {
		t.Helper()
		require.NoError(t, got.ch.Publish(exchange, "", false, false, amqp.Publishing{ContentType: banqup.ContentType, Body: body}))
	}
	faults := banqup.Transaction.FaultExchange()
	publish(faults, faultOf(t, id(int64(testEpoch), 1), "System.Odd\x00Exception", "worker\x001"))
	publish(faults, faultOf(t, id(int64(testEpoch)-86_400_000, 1), "System.Exception", "before the restore"))
	publish(faults, faultOf(t, id(other.ID, 1), "System.Exception", "of another stream"))
	publish(faults, faultOf(t, id(ours.ID, 2), "System.Exception", "worker-2"))
	publish(banqup.ReceiveFaultExchange, receiveFaultOf(t, id(int64(testEpoch), 3)))
	eventually(t, "the faults", func() bool { return st.now().Exchanges[banqup.Transaction].Faults == 3 })
	require.NotContains(t, st.now().Exchanges, banqup.Kind(""), "a message that could not be read is one of some exchange")
	st.mu.Lock()
	require.Len(t, st.faults, 3)
	for _, f := range st.faults {
		require.NotContains(t, f.Type+f.Host, "\x00", "PostgreSQL stores no text with it")
		require.Equal(t, f.Position == 3, f.Kind == "", "could it be read?")
		require.Equal(t, f.Position == 2, f.Replay == ours.ID)
	}
	st.mu.Unlock()
	eventually(t, "the queues", func() bool { return st.now().Queues["finat"].Drained == 3 })
	require.Contains(t, st.now().Queues["mine"].Refused, "exclusive")
	require.Zero(t, st.now().Queues["mine"].SeenAt)
	require.Empty(t, st.now().Blind)
}

// A queue of faults that the broker refuses is said, and goes away with its reason.
func TestWhoSeesNoFaultsSaysSo(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	got := consume(t, address, "finat", banqup.Transaction)
	_, err := got.ch.QueueDeclare(faultQueue("main"), true, false, false, false, nil) // without the bound
	require.NoError(t, err)
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	eventually(t, "it is said", func() bool { return st.now().Blind != "" })
	require.Contains(t, st.now().Blind, faultQueue("main"))
	require.Empty(t, st.now().Trouble, "the messages flow")
	_, err = got.ch.QueueDelete(faultQueue("main"), false, false, false)
	require.NoError(t, err)
	eventually(t, "it sees again", func() bool { return st.now().Blind == "" })
}

// A consumer parses the addresses of an envelope as URIs.
func TestAddressesAreURIs(t *testing.T) {
	for address, want := range map[string]string{
		"amqp://u:p@rabbit.example":             "rabbitmq://rabbit.example",
		"amqps://u:p@rabbit.example/hub":        "rabbitmq://rabbit.example/hub",
		"amqp://u:p@rabbit.example:5673/a%2Fb":  "rabbitmq://rabbit.example:5673/a%2Fb",
		"amqp://u:p@[::1]/hub":                  "rabbitmq://[::1]/hub",
		"amqp://u:p@[2001:db8::5]:5673/hub":     "rabbitmq://[2001:db8::5]:5673/hub",
		"amqps://u:p@[2001:db8::5671]:5671/hub": "rabbitmq://[2001:db8::5671]/hub",
	} {
		require.Equal(t, want, busAddress(bankfeed.Secret(address)))
	}
}

// A consumer may throw at the very first message; its fault must find the hub's
// queue.
func TestRelayHearsOfTheFirstFault(t *testing.T) {
	address := backingtest.AMQPURL(t)
	l, st := &memoryLog{}, &memoryStore{}
	l.add(bankfeed.EventTransactionCreated, 4)
	got := consume(t, address, "finat", banqup.Transaction)
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	eventually(t, "the message", func() bool { return len(got.positions()) == 1 })
	returned := got.ch.NotifyReturn(make(chan amqp.Return, 1))
	require.NoError(t, got.ch.Confirm(false))
	confirm, err := got.ch.PublishWithDeferredConfirmWithContext(t.Context(), banqup.Transaction.FaultExchange(), "", true, false, amqp.Publishing{})
	require.NoError(t, err)
	require.True(t, confirm.Wait())
	require.Empty(t, returned, "a queue takes it")
}
