package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// allFaults is bound behind every exchange of faults.
const allFaults = "MassTransit:Fault"

const goos = runtime.GOOS

func goVersion() string { return strings.TrimPrefix(runtime.Version(), "go") }

func processName() string { return filepath.Base(os.Args[0]) }

// failure is why a message was not processed. Without an envelope it could not
// even be read.
type failure struct {
	err      error
	kind     banqup.Kind
	envelope *banqup.Envelope
}

// exception is what .NET would call it: the type of the error that is at the root.
func (f failure) exception() string {
	err := f.err
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
}

func (f failure) stack() string {
	var p *panicked
	if errors.As(f.err, &p) {
		return clip(p.stack)
	}
	return ""
}

func (f failure) text() string { return clip(f.err.Error()) }

// maxText bounds what is told of a failure, in bytes. All headers of a message
// must fit into one frame, of 128 KiB as a rule: the broker closes the connection
// over more, and the message would come again for ever.
const maxText = 16 << 10

// clip shortens a text between two letters.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// skip moves a message that is none of the stream's to <queue>_skipped.
func (s *Stream) skip(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery) error {
	s.o.Log.WarnContext(ctx, "stream: a message of another type was moved aside", "queue", s.o.Queue, "to", s.o.Queue+"_skipped", "message_id", d.MessageId)
	return s.move(ctx, ch, d, s.o.Queue+"_skipped", amqp.Table{"MT-Reason": "dead-letter"})
}

// fault tells whoever listens, the hub among them, and moves the message to
// <queue>_error. Both are in the broker's hands before the message is
// acknowledged; after a crash in between, both happen again.
func (s *Stream) fault(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery, f failure) error {
	at := time.Now().UTC()
	s.o.Log.ErrorContext(ctx, "stream: a message failed and was moved aside", "queue", s.o.Queue, "to", s.o.Queue+"_error", "message_id", d.MessageId, "err", f.err)
	exchange, p, err := s.report(d, f, at)
	if err != nil {
		return err
	}
	for _, name := range []string{exchange, allFaults} {
		if err := declareExchange(ch, name); err != nil {
			return err
		}
	}
	if err := ch.ExchangeBind(allFaults, "", exchange, false, nil); err != nil {
		return err
	}
	if err := publish(ctx, ch, exchange, "", p); err != nil {
		return err
	}
	headers := amqp.Table{
		"MT-Reason": "fault", "MT-Fault-ExceptionType": f.exception(), "MT-Fault-Message": f.text(), "MT-Fault-StackTrace": f.stack(),
		"MT-Fault-Timestamp": at.Format(dotNetTime), "MT-Fault-InputAddress": s.address(s.o.Queue),
	}
	if f.envelope != nil {
		headers["MT-Fault-ConsumerType"] = s.consumer()
		headers["MT-Fault-MessageType"] = strings.TrimPrefix(f.kind.URN(), "urn:message:")
		headers["MT-Fault-RetryCount"] = int32(len(s.o.Retries))
	}
	return s.move(ctx, ch, d, s.o.Queue+"_error", headers)
}

// dotNetTime is the round-trip form ("O") of a DateTime.
const dotNetTime = "2006-01-02T15:04:05.0000000Z07:00"

func (s *Stream) consumer() string {
	return strings.TrimPrefix(fmt.Sprintf("%T", s.o.Handler), "*")
}

// faultBody is the message of Fault<T> and of ReceiveFault.
type faultBody struct {
	FaultID           bankfeed.UUID    `json:"faultId"`
	FaultedMessageID  *bankfeed.UUID   `json:"faultedMessageId"`
	Timestamp         string           `json:"timestamp"`
	Exceptions        []faultException `json:"exceptions"`
	Host              banqup.Host      `json:"host"`
	FaultMessageTypes []string         `json:"faultMessageTypes"`
	Message           json.RawMessage  `json:"message,omitempty"`
	ContentType       string           `json:"contentType,omitempty"`
}

type faultException struct {
	ExceptionType  string         `json:"exceptionType"`
	InnerException *string        `json:"innerException"`
	StackTrace     string         `json:"stackTrace"`
	Message        string         `json:"message"`
	Source         string         `json:"source"`
	Data           map[string]any `json:"data"`
}

type faultEnvelope struct {
	MessageID          bankfeed.UUID  `json:"messageId"`
	RequestID          *string        `json:"requestId"`
	CorrelationID      *string        `json:"correlationId"`
	ConversationID     bankfeed.UUID  `json:"conversationId"`
	InitiatorID        *string        `json:"initiatorId"`
	SourceAddress      string         `json:"sourceAddress"`
	DestinationAddress string         `json:"destinationAddress"`
	ResponseAddress    *string        `json:"responseAddress"`
	FaultAddress       *string        `json:"faultAddress"`
	MessageType        []string       `json:"messageType"`
	Message            faultBody      `json:"message"`
	ExpirationTime     *string        `json:"expirationTime"`
	SentTime           string         `json:"sentTime"`
	Headers            map[string]any `json:"headers"`
	Host               banqup.Host    `json:"host"`
}

// report is the message about a fault, and the exchange that it goes to.
func (s *Stream) report(d *amqp.Delivery, f failure, at time.Time) (exchange string, p amqp.Publishing, err error) {
	body := faultBody{
		FaultID: newID(), Timestamp: at.Format(dotNetTime), Host: s.host,
		Exceptions: []faultException{{ExceptionType: f.exception(), StackTrace: f.stack(), Message: f.text(), Source: s.host.ProcessName, Data: map[string]any{}}},
	}
	id := bankfeed.UUID{}
	types := []string{"urn:message:" + banqup.ReceiveFaultExchange, "urn:message:" + allFaults}
	if f.envelope == nil {
		exchange = banqup.ReceiveFaultExchange
		body.ContentType = d.ContentType
		id, _ = bankfeed.ParseUUID(d.MessageId) // all there is; zero if there is none
	} else {
		exchange = f.kind.FaultExchange()
		types[0] = "urn:message:" + allFaults + "[[" + strings.TrimPrefix(f.kind.URN(), "urn:message:") + "]]"
		body.Message, body.FaultMessageTypes, id = f.envelope.Message, f.envelope.MessageType, f.envelope.MessageID
	}
	if id != (bankfeed.UUID{}) {
		body.FaultedMessageID = &id
	}
	e := faultEnvelope{
		MessageID: newID(), ConversationID: newID(), SourceAddress: s.address(s.o.Queue), DestinationAddress: s.address(exchange),
		MessageType: types, Message: body, SentTime: body.Timestamp, Headers: map[string]any{}, Host: s.host,
	}
	if f.envelope != nil && f.envelope.ConversationID != (bankfeed.UUID{}) {
		e.ConversationID = f.envelope.ConversationID
	}
	text, err := json.Marshal(e)
	return exchange, amqp.Publishing{ContentType: banqup.ContentType, DeliveryMode: amqp.Persistent, MessageId: e.MessageID.String(), Body: text}, err
}

// move puts a message into another queue as it came, with headers that say why,
// and acknowledges it.
func (s *Stream) move(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery, queue string, why amqp.Table) error {
	headers := amqp.Table{}
	maps.Copy(headers, d.Headers)
	for name, value := range map[string]string{
		"MachineName": s.host.MachineName, "ProcessName": s.host.ProcessName, "ProcessId": strconv.Itoa(s.host.ProcessID), "Assembly": s.host.Assembly,
		"AssemblyVersion": s.host.AssemblyVersion, "FrameworkVersion": s.host.FrameworkVersion, "MassTransitVersion": s.host.MassTransitVersion,
		"OperatingSystemVersion": s.host.OperatingSystemVersion,
	} {
		headers["MT-Host-"+name] = value
	}
	maps.Copy(headers, why)
	if err := declareQueue(ch, queue); err != nil {
		return err
	}
	err := publish(ctx, ch, queue, d.RoutingKey, amqp.Publishing{
		Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, AppId: d.AppId, Body: d.Body,
	})
	if err != nil {
		return err
	}
	return d.Ack(false)
}

// publish waits until the broker has the message.
func publish(ctx context.Context, ch *amqp.Channel, exchange, key string, p amqp.Publishing) error {
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, p)
	if err != nil {
		return err
	}
	ok, err := confirm.WaitContext(ctx)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the broker refused a message for %s", exchange)
	}
	return nil
}

// address names an exchange or queue as MassTransit does.
func (s *Stream) address(name string) string {
	port := ":" + strconv.Itoa(s.target.Port)
	host := net.JoinHostPort(s.target.Host, port[1:]) // in brackets where they are needed
	if s.target.Port == 5672 || s.target.Port == 5671 {
		host = strings.TrimSuffix(host, port)
	}
	vhost := ""
	if s.target.Vhost != "/" && s.target.Vhost != "" {
		vhost = url.PathEscape(s.target.Vhost) + "/"
	}
	return "rabbitmq://" + host + "/" + vhost + url.PathEscape(name)
}

// newID is a random UUID.
func newID() bankfeed.UUID {
	var u bankfeed.UUID
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}
