package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub publishes like one.
type hub struct {
	t  *testing.T
	ch *amqp.Channel
}

func newHub(t *testing.T, url string) *hub {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.Confirm(false))
	for _, k := range banqup.Kinds {
		require.NoError(t, ch.ExchangeDeclare(k.Exchange(), "fanout", true, false, false, false, nil))
	}
	return &hub{t, ch}
}

func id(n int) bankfeed.UUID { return bankfeed.EventID(1_760_000_000_000, 1, 0, bankfeed.Position(n)) }

var sent = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// send publishes a message under the id of a position.
func (h *hub) send(k banqup.Kind, n int, message any) {
	h.t.Helper()
	text, err := json.Marshal(message)
	require.NoError(h.t, err)
	bus := banqup.Bus{Address: "rabbitmq://broker", Source: "rabbitmq://broker/hub"}
	h.publish(k.Exchange(), banqup.Delivery{MessageID: id(n), SentTime: sent}, bus.AppendEnvelope(nil, k, banqup.Delivery{MessageID: id(n), SentTime: sent}, text))
}

func (h *hub) publish(exchange string, d banqup.Delivery, body []byte) {
	h.t.Helper()
	confirm, err := h.ch.PublishWithDeferredConfirmWithContext(h.t.Context(), exchange, "", true, false, amqp.Publishing{
		ContentType: banqup.ContentType, DeliveryMode: amqp.Persistent, MessageId: d.MessageID.String(), Headers: d.Headers(), Body: body,
	})
	require.NoError(h.t, err)
	require.True(h.t, confirm.Wait())
}

func (h *hub) transaction(n int) {
	h.t.Helper()
	m := &banqup.TransactionMessage{Data: banqup.TransactionData{ID: fmt.Sprint(n)}}
	h.send(banqup.Transaction, n, m)
}

// listen binds a queue to an exchange of faults.
func (h *hub) listen(exchange string) string {
	h.t.Helper()
	require.NoError(h.t, h.ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil))
	q, err := h.ch.QueueDeclare("", false, false, true, false, nil)
	require.NoError(h.t, err)
	require.NoError(h.t, h.ch.QueueBind(q.Name, "", exchange, false, nil))
	return q.Name
}

func (h *hub) take(queue string) (d amqp.Delivery) {
	h.t.Helper()
	require.Eventually(h.t, func() (ok bool) {
		var err error
		d, ok, err = h.ch.Get(queue, true)
		require.NoError(h.t, err)
		return ok
	}, patience, 10*time.Millisecond, queue)
	return d
}

// depth is how many messages a queue would hand out.
func (h *hub) depth(queue string) int {
	h.t.Helper()
	q, err := h.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	require.NoError(h.t, err)
	return q.Messages
}

// notes is a handler that writes down what it gets.
type notes struct {
	mu    sync.Mutex
	lines []string
	fail  func(line string) error
}

func (n *notes) note(d client.Delivery, format string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if d.Replay() {
		line += " again"
	}
	n.lines = append(n.lines, line)
	if n.fail == nil {
		return nil
	}
	return n.fail(line)
}

func (n *notes) read() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string{}, n.lines...)
}

func (n *notes) AccountMessage(_ context.Context, d client.Delivery, m *banqup.AccountMessage) error {
	return n.note(d, "account %d", m.Data.ID)
}

func (n *notes) TransactionMessage(_ context.Context, d client.Delivery, m *banqup.TransactionMessage) error {
	return n.note(d, "transaction %s", m.Data.ID)
}

func (n *notes) SessionFinishedMessage(_ context.Context, d client.Delivery, m *banqup.SessionFinishedMessage) error {
	return n.note(d, "finished %s", m.Data.ID)
}

func (n *notes) ConsentMessage(_ context.Context, d client.Delivery, m *banqup.ConsentMessage) error {
	return n.note(d, "consent %s", m.Data.ID)
}

func (n *notes) AspspCall(_ context.Context, d client.Delivery, m *banqup.AspspCall) error {
	return n.note(d, "call %d %s", m.StatusCode, m.RequestDuration)
}

// run starts a stream and returns, once it consumes, how to stop it.
func run(t *testing.T, o client.StreamOptions) (stop func() error) {
	t.Helper()
	s, err := client.NewStream(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case <-s.Ready():
	case <-time.After(patience):
		t.Fatal("the stream did not start")
	}
	return stop
}

func requireLines(t *testing.T, n *notes, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(n.read()) >= len(want) }, patience, 5*time.Millisecond)
	require.Equal(t, want, n.read())
}

func TestStreamHandsOverAllFiveInOrder(t *testing.T) {
	url := backingtest.AMQPURL(t)
	n := &notes{}
	run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: n})
	h := newHub(t, url)
	h.send(banqup.Account, 1, &banqup.AccountMessage{Data: banqup.AccountData{ID: 12}})
	h.send(banqup.Consent, 2, &banqup.ConsentMessage{Data: banqup.ConsentData{ID: "c"}})
	h.transaction(3)
	h.send(banqup.Session, 4, &banqup.SessionFinishedMessage{Data: banqup.SessionFinishedData{ID: "3"}})
	h.send(banqup.Call, 5, &banqup.AspspCall{StatusCode: 200, RequestDuration: banqup.TimeSpan(14317700)})
	d := banqup.Delivery{MessageID: bankfeed.EventID(1_770_000_000_000, 1, 0, 3), Original: id(3), SentTime: sent}
	bus := banqup.Bus{}
	h.publish(banqup.Transaction.Exchange(), d, bus.AppendEnvelope(nil, banqup.Transaction, d, []byte(`{"data":{"id":"3"}}`)))
	requireLines(t, n, "account 12", "consent c", "transaction 3", "finished 3", "call 200 00:00:00.0143177", "transaction 3 again")
	require.Eventually(t, func() bool { return h.depth("books") == 0 }, patience, 10*time.Millisecond)
}

// A queue of its own for each name: what is not bound to is not seen.
func TestStreamBindsToWhatIsAsked(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	n := &notes{}
	run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "transactions", Messages: []banqup.Kind{banqup.Transaction, banqup.Session}, Handler: n})
	h.send(banqup.Account, 1, &banqup.AccountMessage{})
	h.transaction(2)
	requireLines(t, n, "transaction 2")
}

func TestStreamMovesFailedMessages(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	faults, unreadable := h.listen(banqup.Transaction.FaultExchange()), h.listen(banqup.ReceiveFaultExchange)
	all := h.listen("MassTransit:Fault")
	n := &notes{fail: func(line string) error {
		switch line {
		case "transaction 1":
			return fmt.Errorf("books: %w", errors.New("closed"))
		case "transaction 2":
			panic("no such ledger")
		}
		return nil
	}}
	var log bytes.Buffer
	stop := run(t, client.StreamOptions{
		URL: bankfeed.Secret(url), Queue: "books", Handler: n, Retries: []time.Duration{time.Millisecond, time.Millisecond}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	h.transaction(1)
	h.transaction(2)
	h.publish(banqup.Call.Exchange(), banqup.Delivery{MessageID: id(3)}, []byte(`{"messageId":"`+id(3).String()+`"}`))
	bus := banqup.Bus{}
	wrong := bus.AppendEnvelope(nil, banqup.Call, banqup.Delivery{MessageID: id(4)}, []byte(`{"statusCode":"200"}`))
	h.publish(banqup.Call.Exchange(), banqup.Delivery{MessageID: id(4)}, wrong)
	foreign := bytes.Replace(wrong, []byte("urn:message:Psd2Hub"), []byte("urn:message:Other"), 1)
	h.publish(banqup.Call.Exchange(), banqup.Delivery{MessageID: id(5)}, foreign)
	h.transaction(6)
	requireLines(t, n, "transaction 1", "transaction 1", "transaction 1", "transaction 2", "transaction 2", "transaction 2", "transaction 6")

	// What the hub learns.
	for i, want := range []struct{ kind, text string }{{"*errors.errorString", "books: closed"}, {"client.panicked", "the handler panicked: no such ledger"}} {
		d := h.take(faults)
		require.Equal(t, banqup.ContentType, d.ContentType)
		f, err := banqup.ParseFault(d.Body)
		require.NoError(t, err)
		require.Equal(t, banqup.Transaction, f.Kind)
		require.Equal(t, id(i+1), f.Message)
		require.Equal(t, []banqup.Exception{{Type: strings.TrimPrefix(want.kind, "*"), Text: want.text}}, f.Exceptions)
		require.NotEmpty(t, f.Host.MachineName)
		require.WithinDuration(t, time.Now(), f.At, patience)
	}
	for _, n := range []int{3, 4} {
		f, err := banqup.ParseFault(h.take(unreadable).Body)
		require.NoError(t, err)
		require.Equal(t, id(n), f.Message)
		require.Empty(t, f.Kind)
	}
	for range 4 {
		h.take(all)
	}

	// What an operator finds.
	moved := h.take("books_error")
	require.Equal(t, id(1).String(), moved.MessageId)
	require.Equal(t, "fault", moved.Headers["MT-Reason"])
	require.Equal(t, "books: closed", moved.Headers["MT-Fault-Message"])
	require.Equal(t, int32(2), moved.Headers["MT-Fault-RetryCount"])
	require.Equal(t, "client_test.notes", moved.Headers["MT-Fault-ConsumerType"])
	moved = h.take("books_error")
	require.Contains(t, moved.Headers["MT-Fault-StackTrace"], "TransactionMessage", "where it panicked")
	require.Equal(t, id(3).String(), h.take("books_error").MessageId)
	moved = h.take("books_error")
	require.Equal(t, string(wrong), string(moved.Body), "as it came")
	require.NotContains(t, moved.Headers, "MT-Fault-RetryCount")
	moved = h.take("books_skipped")
	require.Equal(t, string(foreign), string(moved.Body))
	require.Equal(t, "dead-letter", moved.Headers["MT-Reason"])

	require.NoError(t, stop())
	require.Contains(t, log.String(), "moved aside")
	require.Equal(t, 0, h.depth("books"))
}

// An error may quote a whole page. Headers must fit into a frame of the broker's,
// else it closes the connection and the message comes again for ever.
func TestStreamMovesWhatFailedAtLength(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	faults := h.listen(banqup.Transaction.FaultExchange())
	n := &notes{fail: func(line string) error {
		if line == "transaction 1" {
			return errors.New("the ledger said: " + strings.Repeat("ż", 200<<10))
		}
		return nil
	}}
	stop := run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: n, Retries: []time.Duration{}})
	h.transaction(1)
	h.transaction(2)
	requireLines(t, n, "transaction 1", "transaction 2")
	moved := h.take("books_error")
	require.Equal(t, id(1).String(), moved.MessageId)
	text, _ := moved.Headers["MT-Fault-Message"].(string)
	require.True(t, strings.HasPrefix(text, "the ledger said: ż") && strings.HasSuffix(text, "ż…"), "between two letters")
	f, err := banqup.ParseFault(h.take(faults).Body)
	require.NoError(t, err)
	require.Equal(t, id(1), f.Message)
	require.NoError(t, stop())
}

func TestStreamDropsDuplicates(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	failed := false
	n := &notes{fail: func(line string) error {
		if line == "transaction 2" && !failed {
			failed = true
			return errors.New("once")
		}
		return nil
	}}
	run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: n, Duplicates: 2, Retries: []time.Duration{}})
	for _, i := range []int{1, 1, 2, 2, 1, 3, 4, 2, 1, 4, 5} {
		h.transaction(i)
	}
	// 2 was not processed the first time; only the last two are remembered.
	requireLines(t, n, "transaction 1", "transaction 2", "transaction 2", "transaction 3", "transaction 4", "transaction 2", "transaction 1", "transaction 4", "transaction 5")
}

// The hub hears of what was processed, once more for a duplicate, and not of
// what was moved aside.
func TestStreamAcknowledges(t *testing.T) {
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			MessageIDs []string `json:"message_ids"`
		}
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			for _, id := range body.MessageIDs {
				got <- id
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	n := &notes{fail: func(line string) error {
		if line == "transaction 2" {
			return errors.New("closed")
		}
		return nil
	}}
	stop := run(t, client.StreamOptions{
		URL: bankfeed.Secret(url), Queue: "books", Handler: n, Duplicates: 10, Retries: []time.Duration{},
		Acknowledge: &client.Acknowledge{
			Hub: server.URL, Stream: "main", HTTP: server.Client(), Every: time.Millisecond, Token: func(context.Context) (string, error) { return "t", nil },
		},
	})
	for _, i := range []int{1, 2, 1, 3} {
		h.transaction(i)
	}
	requireLines(t, n, "transaction 1", "transaction 2", "transaction 3")
	for _, i := range []int{1, 1, 3} {
		require.Equal(t, id(i).String(), <-got)
	}
	require.NoError(t, stop())
	require.Empty(t, got)
}

// The message in work is finished; those behind it stay for the next consumer.
func TestStreamStopsInOrder(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	working, finish := make(chan struct{}), make(chan struct{})
	n := &notes{fail: func(string) error {
		close(working)
		<-finish
		return nil
	}}
	stop := run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: n})
	h.transaction(1)
	h.transaction(2)
	<-working
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case <-stopped:
		t.Fatal("it did not wait for the handler")
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	require.NoError(t, <-stopped)
	require.Equal(t, []string{"transaction 1"}, n.read())
	require.Eventually(t, func() bool { return h.depth("books") == 1 }, patience, 10*time.Millisecond)

	next := &notes{}
	run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: next})
	requireLines(t, next, "transaction 2")
}

type stuck struct{ client.Ignore }

func (stuck) TransactionMessage(ctx context.Context, _ client.Delivery, _ *banqup.TransactionMessage) error {
	<-ctx.Done()
	return ctx.Err()
}

// A handler that does not end is cut off, and its message is nobody's fault.
func TestStreamStopsAStuckHandler(t *testing.T) {
	url := backingtest.AMQPURL(t)
	h := newHub(t, url)
	stop := run(t, client.StreamOptions{URL: bankfeed.Secret(url), Queue: "books", Handler: stuck{}, StopTimeout: 20 * time.Millisecond})
	h.transaction(1)
	require.Eventually(t, func() bool { return h.depth("books") == 0 }, patience, 10*time.Millisecond, "it is with the handler")
	require.ErrorContains(t, stop(), "stopping took longer")
	require.Eventually(t, func() bool { return h.depth("books") == 1 }, patience, 10*time.Millisecond)
}

func TestStreamSurvivesTheBroker(t *testing.T) {
	broker := backingtest.PrivateRabbitMQ(t)
	n := &notes{}
	run(t, client.StreamOptions{URL: bankfeed.Secret(broker.URL), Queue: "books", Handler: n, Duplicates: 10})
	newHub(t, broker.URL).transaction(1)
	requireLines(t, n, "transaction 1")
	require.NoError(t, broker.Kill())
	require.NoError(t, broker.Start(t.Context()))
	h := newHub(t, broker.URL)
	h.transaction(2)
	requireLines(t, n, "transaction 1", "transaction 2")

	// Its queue is deleted by somebody: it makes another.
	_, err := h.ch.QueueDelete("books", false, false, false)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ch := newHub(t, broker.URL)
		q, err := ch.ch.QueueDeclarePassive("books", true, false, false, false, nil)
		return err == nil && q.Consumers == 1 // it is bound by then
	}, patience, 50*time.Millisecond)
	h.transaction(3)
	requireLines(t, n, "transaction 1", "transaction 2", "transaction 3")
}

// A broker that is not there keeps nobody from stopping.
func TestStreamWithoutABroker(t *testing.T) {
	s, err := client.NewStream(client.StreamOptions{URL: "amqp://u:secret@127.0.0.1:1/", Queue: "books", Handler: client.Ignore{}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Run(ctx))
}

func TestStreamOptionsAreChecked(t *testing.T) {
	token := func(context.Context) (string, error) { return "", nil }
	good := client.StreamOptions{URL: "amqp://u:geheim@localhost/v", Queue: "q", Handler: client.Ignore{}}
	_, err := client.NewStream(good)
	require.NoError(t, err)
	for field, spoil := range map[string]func(*client.StreamOptions){
		"URL":        func(o *client.StreamOptions) { o.URL = "http://u:geheim@local host/v" },
		"Queue":      func(o *client.StreamOptions) { o.Queue = strings.Repeat("q", 249) },
		"Handler":    func(o *client.StreamOptions) { o.Handler = nil },
		"Prefetch":   func(o *client.StreamOptions) { o.Prefetch = 1 << 16 },
		"Duplicates": func(o *client.StreamOptions) { o.Duplicates = -1 },
		"Messages":   func(o *client.StreamOptions) { o.Messages = []banqup.Kind{"geheim"} },
		"Acknowledge.Hub": func(o *client.StreamOptions) {
			o.Acknowledge = &client.Acknowledge{Hub: "geheim", Stream: "s", Token: token}
		},
		"Acknowledge.Stream": func(o *client.StreamOptions) { o.Acknowledge = &client.Acknowledge{Hub: "https://h", Token: token} },
		"Acknowledge.Token":  func(o *client.StreamOptions) { o.Acknowledge = &client.Acknowledge{Hub: "https://h", Stream: "s"} },
		"Acknowledge.Batch": func(o *client.StreamOptions) {
			o.Acknowledge = &client.Acknowledge{Hub: "https://h", Stream: "s", Token: token, Batch: 1001}
		},
	} {
		o := good
		spoil(&o)
		_, err := client.NewStream(o)
		var e *bankfeed.Error
		require.ErrorAs(t, err, &e, field)
		require.Equal(t, bankfeed.Invalid, e.Kind)
		require.Equal(t, field, e.Field)
		require.NotContains(t, err.Error(), "geheim")
	}
}
