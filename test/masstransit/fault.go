package masstransit

import (
	"crypto/rand"
	"encoding/json"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
)

const (
	faultExchange        = "MassTransit:Fault"
	receiveFaultExchange = "MassTransit:ReceiveFault"

	exceptionType = "Bankfeed.Test.ConsumerException"
	consumerType  = "Bankfeed.Test.StreamConsumer"
)

// FaultExchange is where Fault<T> of a type is published.
func FaultExchange(full string) string { return faultExchange + "--" + full + "--" }

// hostInfo is the block that describes a process, as MassTransit writes it.
type hostInfo struct {
	MachineName            string `json:"machineName"`
	ProcessName            string `json:"processName"`
	ProcessID              int    `json:"processId"`
	Assembly               string `json:"assembly"`
	AssemblyVersion        string `json:"assemblyVersion"`
	FrameworkVersion       string `json:"frameworkVersion"`
	MassTransitVersion     string `json:"massTransitVersion"`
	OperatingSystemVersion string `json:"operatingSystemVersion"`
}

func consumerHost(v Version) hostInfo {
	version := "8.5.8.0"
	if v == V7 {
		version = "7.3.1.0"
	}
	return hostInfo{"CONSUMER-01", "StreamConsumer", 4711, "StreamConsumer", "1.0.0.0", "8.0.0", version, "Unix 6.1.0"}
}

type exceptionInfo struct {
	ExceptionType  string         `json:"exceptionType"`
	InnerException any            `json:"innerException"`
	StackTrace     string         `json:"stackTrace"`
	Message        string         `json:"message"`
	Source         string         `json:"source"`
	Data           map[string]any `json:"data"`
}

type fault struct {
	FaultID           string          `json:"faultId"`
	FaultedMessageID  *string         `json:"faultedMessageId"`
	Timestamp         string          `json:"timestamp"`
	Exceptions        []exceptionInfo `json:"exceptions"`
	Host              hostInfo        `json:"host"`
	FaultMessageTypes []string        `json:"faultMessageTypes"`
	Message           json.RawMessage `json:"message,omitempty"`     // of Fault<T>
	ContentType       string          `json:"contentType,omitempty"` // of ReceiveFault
}

type envelope struct {
	MessageID          string         `json:"messageId"`
	RequestID          *string        `json:"requestId"`
	CorrelationID      *string        `json:"correlationId"`
	ConversationID     string         `json:"conversationId"`
	InitiatorID        *string        `json:"initiatorId"`
	SourceAddress      string         `json:"sourceAddress"`
	DestinationAddress string         `json:"destinationAddress"`
	ResponseAddress    *string        `json:"responseAddress"`
	FaultAddress       *string        `json:"faultAddress"`
	MessageType        []string       `json:"messageType"`
	Message            fault          `json:"message"`
	ExpirationTime     *string        `json:"expirationTime"`
	SentTime           string         `json:"sentTime"`
	Headers            map[string]any `json:"headers"`
	Host               hostInfo       `json:"host"`
}

// faultOf makes the message that is published about j, and its exchange.
func (e *Endpoint) faultOf(d *amqp.Delivery, j *Judgement, at time.Time) (exchange string, p amqp.Publishing, err error) {
	f := fault{
		FaultID: newGUID(), Timestamp: at.UTC().Format(sevenDigits), Host: consumerHost(e.Judge.Version),
		Exceptions: []exceptionInfo{{
			ExceptionType: exceptionType, StackTrace: "   at " + consumerType + ".Consume()", Message: j.Reason, Source: "StreamConsumer", Data: map[string]any{},
		}},
	}
	exchange = receiveFaultExchange
	types := []string{urn + receiveFaultExchange, urn + faultExchange}
	if j.Verdict == Faulted {
		exchange = FaultExchange(j.Type)
		types[0] = urn + faultExchange + "[[" + j.Type + "]]"
		for _, t := range j.envelope.get("messageType").items {
			f.FaultMessageTypes = append(f.FaultMessageTypes, t.text)
		}
		var whole struct {
			Message json.RawMessage `json:"message"`
		}
		if err := json.Unmarshal(d.Body, &whole); err != nil {
			return "", p, err
		}
		f.Message = whole.Message
		f.FaultedMessageID = idText(j.ID)
	} else {
		f.ContentType = d.ContentType
		if d.MessageId != "" { // the only trace of a message that could not be read
			f.FaultedMessageID = idText(guid(d.MessageId))
		}
	}
	out := envelope{
		MessageID: newGUID(), ConversationID: newGUID(), SourceAddress: e.address(e.Queue), DestinationAddress: e.address(exchange),
		MessageType: types, Message: f, SentTime: f.Timestamp, Headers: map[string]any{}, Host: f.Host,
	}
	body, err := json.MarshalIndent(out, "", "  ")
	return exchange, amqp.Publishing{ContentType: envelopeType, DeliveryMode: amqp.Persistent, MessageId: out.MessageID, Body: body}, err
}

// sevenDigits is how .NET writes a time for the round trip ("O").
const sevenDigits = "2006-01-02T15:04:05.0000000Z07:00"

// headersOf are what a moved message gets in addition to its own.
func (e *Endpoint) headersOf(d *amqp.Delivery, j *Judgement, at time.Time) amqp.Table {
	host := consumerHost(e.Judge.Version)
	h := amqp.Table{}
	for name, value := range d.Headers {
		h[name] = value
	}
	h["MT-Host-MachineName"] = host.MachineName
	h["MT-Host-ProcessName"] = host.ProcessName
	h["MT-Host-ProcessId"] = "4711"
	h["MT-Host-Assembly"] = host.Assembly
	h["MT-Host-AssemblyVersion"] = host.AssemblyVersion
	h["MT-Host-MassTransitVersion"] = host.MassTransitVersion
	h["MT-Host-FrameworkVersion"] = host.FrameworkVersion
	h["MT-Host-OperatingSystemVersion"] = host.OperatingSystemVersion
	if j.Verdict == Skipped {
		h["MT-Reason"] = "dead-letter"
		return h
	}
	h["MT-Reason"] = "fault"
	h["MT-Fault-ExceptionType"] = exceptionType
	h["MT-Fault-Message"] = j.Reason
	h["MT-Fault-StackTrace"] = "   at " + consumerType + ".Consume()"
	h["MT-Fault-Timestamp"] = at.UTC().Format(sevenDigits)
	h["MT-Fault-InputAddress"] = e.address(e.Queue)
	if j.Verdict == Faulted {
		h["MT-Fault-ConsumerType"] = consumerType
		h["MT-Fault-MessageType"] = j.Type
		h["MT-Fault-RetryCount"] = int32(e.Retries)
	}
	return h
}

func newGUID() string {
	var u bankfeed.UUID
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u.String()
}

func idText(u bankfeed.UUID) *string {
	s := u.String()
	return &s
}
