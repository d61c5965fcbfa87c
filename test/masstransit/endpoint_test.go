package masstransit_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/test/masstransit"
)

const patience = 30 * time.Second

// eventID is the id of the event at a position of one log.
func eventID(p int) bankfeed.UUID {
	return bankfeed.EventID(1_760_000_000_000, 1, 0, bankfeed.Position(p))
}

// producer publishes like the hub.
type producer struct {
	t  *testing.T
	ch *amqp.Channel
}

func newProducer(t *testing.T, url string) *producer {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.Confirm(false))
	return &producer{t, ch}
}

func (p *producer) send(full string, id bankfeed.UUID, text string) {
	p.t.Helper()
	confirm, err := p.ch.PublishWithDeferredConfirmWithContext(p.t.Context(), full, "", true, false, amqp.Publishing{
		ContentType: "application/vnd.masstransit+json", DeliveryMode: amqp.Persistent, MessageId: id.String(), Body: []byte(text),
	})
	require.NoError(p.t, err)
	require.True(p.t, confirm.Wait())
}

func (p *producer) good(full string, position int) {
	p.t.Helper()
	id := eventID(position)
	p.send(full, id, body(full, payloads[full], id.String()))
}

// take waits for the next message of a queue.
func (p *producer) take(queue string) amqp.Delivery {
	p.t.Helper()
	var d amqp.Delivery
	require.Eventually(p.t, func() bool {
		var ok bool
		var err error
		d, ok, err = p.ch.Get(queue, true)
		require.NoError(p.t, err)
		return ok
	}, patience, 10*time.Millisecond, queue)
	return d
}

// listen binds a queue of the test to an exchange, as the hub does to those of faults.
func (p *producer) listen(exchange string) (queue string) {
	p.t.Helper()
	require.NoError(p.t, p.ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil))
	q, err := p.ch.QueueDeclare("", false, false, true, false, nil)
	require.NoError(p.t, err)
	require.NoError(p.t, p.ch.QueueBind(q.Name, "", exchange, false, nil))
	return q.Name
}

func wait(t *testing.T, e *masstransit.Endpoint, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, e.Wait(ctx, n))
}

func TestEndpointConsumesAllFive(t *testing.T) {
	url := backingtest.AMQPURL(t)
	e := masstransit.Start(t, masstransit.Options{URL: url, Queue: "client", Judge: masstransit.Judge{Version: masstransit.V8}})
	p := newProducer(t, url)
	var expected []bankfeed.UUID
	for i, full := range masstransit.Types {
		p.good(full, i+1)
		expected = append(expected, eventID(i+1))
	}
	p.good(masstransit.AccountMessage, 1)
	wait(t, e, len(expected))
	require.Eventually(t, func() bool { return e.Received() == 6 }, patience, 10*time.Millisecond)
	require.Empty(t, e.Rejected())
	require.Empty(t, e.Lost(expected))
	require.Equal(t, []bankfeed.UUID{eventID(9)}, e.Lost([]bankfeed.UUID{eventID(1), eventID(9)}))
	require.Equal(t, []bankfeed.UUID{eventID(5)}, e.Unexpected(expected[:4]))
	require.Equal(t, map[bankfeed.UUID]int{eventID(1): 1}, e.Repeated())
	require.Equal(t, "account 1234", e.Entries()[0].Subject)
	require.Equal(t, "5 expected, 6 received (consumed 6): lost 0, repeated 1, out of order 1, ahead of their time 0", e.Report(expected),
		"the last copy of the account came after its transaction")
}

func TestEndpointMovesWhatItCannotTake(t *testing.T) {
	url := backingtest.AMQPURL(t)
	p := newProducer(t, url)
	faults, unreadable, all := p.listen(masstransit.FaultExchange(masstransit.AccountMessage)), p.listen("MassTransit:ReceiveFault"), p.listen("MassTransit:Fault")
	tries := 0
	e := masstransit.Start(t, masstransit.Options{URL: url, Queue: "client", Retries: 2, Judge: masstransit.Judge{Version: masstransit.V8}, Throw: func(j *masstransit.Judgement) error {
		if j.Type != masstransit.AccountMessage {
			return nil
		}
		tries++
		return errors.New("no such customer")
	}})
	full := masstransit.AspspCall
	spoiled := strings.Replace(body(full, payloads[full], eventID(2).String()), `"statusCode":200`, `"statusCode":"200"`, 1)
	foreign := strings.Replace(body(full, payloads[full], eventID(3).String()), `["urn:message:Psd2Hub.`, `["urn:message:Other.`, 1)
	p.good(masstransit.AccountMessage, 1)
	p.send(full, eventID(2), spoiled)
	p.send(full, eventID(3), foreign)
	p.good(full, 4)
	wait(t, e, 4)
	require.Equal(t, map[masstransit.Verdict]int{masstransit.Faulted: 1, masstransit.ReceiveFault: 1, masstransit.Skipped: 1, masstransit.Consumed: 1}, e.Verdicts())
	require.Equal(t, 3, tries, "once, and two retries")

	d := p.take(faults)
	require.Equal(t, "MassTransit:Fault--"+masstransit.AccountMessage+"--", d.Exchange)
	f := fault(t, d)
	require.Equal(t, []string{"urn:message:MassTransit:Fault[[" + masstransit.AccountMessage + "]]", "urn:message:MassTransit:Fault"}, f.MessageType)
	require.Equal(t, eventID(1).String(), f.Message.FaultedMessageID)
	require.Equal(t, []string{"urn:message:" + masstransit.AccountMessage}, f.Message.FaultMessageTypes)
	require.Equal(t, "no such customer", f.Message.Exceptions[0].Message)
	require.JSONEq(t, payloads[masstransit.AccountMessage], string(f.Message.Message))

	f = fault(t, p.take(unreadable))
	require.Equal(t, []string{"urn:message:MassTransit:ReceiveFault", "urn:message:MassTransit:Fault"}, f.MessageType)
	require.Equal(t, eventID(2).String(), f.Message.FaultedMessageID)
	require.Nil(t, f.Message.FaultMessageTypes)
	require.Equal(t, "application/vnd.masstransit+json", f.Message.ContentType)
	require.Empty(t, f.Message.Message)

	p.take(all)
	p.take(all)

	moved := p.take("client_error")
	require.Equal(t, eventID(1).String(), moved.MessageId)
	for name, want := range map[string]string{"MT-Reason": "fault", "MT-Fault-Message": "no such customer", "MT-Fault-MessageType": masstransit.AccountMessage} {
		require.Equal(t, want, moved.Headers[name], name)
	}
	require.Equal(t, int32(2), moved.Headers["MT-Fault-RetryCount"])
	require.NotEmpty(t, moved.Headers["MT-Host-MachineName"])
	require.Equal(t, body(masstransit.AccountMessage, payloads[masstransit.AccountMessage], eventID(1).String()), string(moved.Body))

	moved = p.take("client_error")
	require.Equal(t, spoiled, string(moved.Body))
	require.Contains(t, moved.Headers["MT-Fault-Message"], "System.Int32")
	require.NotContains(t, moved.Headers, "MT-Fault-ConsumerType")

	moved = p.take("client_skipped")
	require.Equal(t, foreign, string(moved.Body))
	require.Equal(t, "dead-letter", moved.Headers["MT-Reason"])
}

type faultEnvelope struct {
	MessageType []string `json:"messageType"`
	Message     struct {
		FaultedMessageID  string   `json:"faultedMessageId"`
		FaultMessageTypes []string `json:"faultMessageTypes"`
		ContentType       string   `json:"contentType"`
		Exceptions        []struct {
			Message string `json:"message"`
		} `json:"exceptions"`
		Message json.RawMessage `json:"message"`
	} `json:"message"`
}

func fault(t *testing.T, d amqp.Delivery) (f faultEnvelope) {
	t.Helper()
	require.NoError(t, json.Unmarshal(d.Body, &f))
	return f
}

// The broker goes away in the middle: the endpoint returns, and what it had not
// acknowledged comes again.
func TestEndpointComesBack(t *testing.T) {
	broker := backingtest.PrivateRabbitMQ(t)
	e := masstransit.Start(t, masstransit.Options{URL: broker.URL, Queue: "client", Judge: masstransit.Judge{Version: masstransit.V7}})
	p := newProducer(t, broker.URL)
	p.good(masstransit.TransactionMessage, 1)
	wait(t, e, 1)
	require.NoError(t, broker.Kill())
	require.NoError(t, broker.Start(t.Context()))
	p = newProducer(t, broker.URL)
	p.good(masstransit.TransactionMessage, 2)
	wait(t, e, 2)
	require.Error(t, e.Trouble())
	require.Empty(t, e.OutOfOrder())
}

func TestLedgerFindsDisorder(t *testing.T) {
	url := backingtest.AMQPURL(t)
	p := newProducer(t, url)
	e := masstransit.Start(t, masstransit.Options{URL: url, Queue: "client", Forget: true, Judge: masstransit.Judge{Version: masstransit.V8}})
	send := func(full string, account string, position int, pid int) {
		t.Helper()
		id := eventID(position)
		text := strings.ReplaceAll(body(full, payloads[full], id.String()), `"id":1234`, `"id":`+account)
		p.send(full, id, strings.Replace(text, `"processId":1`, `"processId":`+strconv.Itoa(pid), 1))
	}
	transaction, finished, consent, account := masstransit.TransactionMessage, masstransit.SessionFinishedMessage, masstransit.ConsentMessage, masstransit.AccountMessage
	send(transaction, "1", 10, 1)
	send(transaction, "2", 5, 1) // another account has no order with the first
	send(transaction, "1", 11, 1)
	send(transaction, "1", 10, 1) // repeated, and so is what follows it
	send(transaction, "1", 11, 1)
	send(finished, "1", 12, 1)
	wait(t, e, 4)
	require.Empty(t, e.OutOfOrder())
	require.Empty(t, e.Early())

	send(transaction, "1", 11, 2) // a late copy of another process
	send(finished, "2", 8, 1)
	send(transaction, "2", 7, 1)
	send(consent, "3", 22, 1)
	send(account, "3", 21, 1)
	wait(t, e, 8)
	require.Eventually(t, func() bool { return e.Received() == 11 }, patience, 10*time.Millisecond)
	require.ElementsMatch(t, []masstransit.Disorder{
		{Subject: "account 1", Late: eventID(11), Before: eventID(12)},
		{Subject: "account 2", Late: eventID(7), Before: eventID(8)},
	}, e.OutOfOrder())
	require.Equal(t, []masstransit.Disorder{{Subject: "account 2", Late: eventID(7), Before: eventID(8)}}, e.OutOfOrderByProducer())
	require.Empty(t, e.OutOfOrder(consent))
	require.Equal(t, []masstransit.Disorder{{Subject: "account 2", Late: eventID(7), Before: eventID(8)}}, e.Early(), "an updated consent waits for nobody")
	require.Nil(t, e.Entries()[0].Body, "the endpoint forgets")
}
