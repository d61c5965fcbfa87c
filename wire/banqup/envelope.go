package banqup

import (
	"crypto/sha256"
	"net/url"
	"time"

	"github.com/bankfeed/bankfeed"
)

// ContentType is the AMQP content type of an envelope.
const ContentType = "application/vnd.masstransit+json"

// Headers that a replay has, in the envelope and as AMQP headers.
const (
	HeaderOriginalID = "MT-OriginalMessageId" // the message id of the first delivery; MassTransit's own name
	HeaderReplay     = "bankfeed-replay"      // "true"
)

const replayed = "true"

// Bus is the producer as envelopes name it.
type Bus struct {
	Host    Host
	Address string // rabbitmq://host:port/vhost, without a trailing slash
	Source  string // sourceAddress
	// OmitNulls leaves members out that are null (Settings.OmitNulls).
	OmitNulls bool
}

// Host is the envelope's host block.
type Host struct {
	MachineName            string `json:"machineName"`
	ProcessName            string `json:"processName"`
	ProcessID              int    `json:"processId"`
	Assembly               string `json:"assembly"`
	AssemblyVersion        string `json:"assemblyVersion"`
	FrameworkVersion       string `json:"frameworkVersion"`
	MassTransitVersion     string `json:"massTransitVersion"`
	OperatingSystemVersion string `json:"operatingSystemVersion"`
}

// Delivery is what an envelope says beside its message.
type Delivery struct {
	MessageID bankfeed.UUID
	SentTime  time.Time
	Original  bankfeed.UUID // of a replay: the event's own message id
	Queue     string        // destination, if it is not the exchange
}

// Headers are the application headers of a message: none unless it is a replay.
// MassTransit has them in the envelope and as AMQP headers alike.
func (d Delivery) Headers() map[string]any {
	if d.Original == (bankfeed.UUID{}) {
		return nil
	}
	return map[string]any{HeaderOriginalID: d.Original.String(), HeaderReplay: replayed}
}

// AppendEnvelope appends the envelope around a message that AppendMessage made.
// It is a pure function too: sending a delivery again gives the same bytes.
func (bus *Bus) AppendEnvelope(b []byte, k Kind, d Delivery, message []byte) []byte {
	w := writer{b: append(b, '{'), omitNulls: bus.OmitNulls}
	w.uuid("messageId", d.MessageID)
	w.null("requestId")
	w.null("correlationId")
	w.uuid("conversationId", conversation(d.MessageID))
	w.null("initiatorId")
	w.text("sourceAddress", bus.Source)
	w.name("destinationAddress")
	w.b = appendText(w.b, bus.Address)
	w.b = append(w.b[:len(w.b)-1], '/')
	if d.Queue == "" {
		w.b = append(append(w.b, types[k]...), '"')
	} else {
		w.b = append(append(w.b, url.PathEscape(d.Queue)...), '"')
	}
	w.null("responseAddress")
	w.null("faultAddress")
	w.name("messageType")
	w.b = append(append(append(w.b, `["`...), urnPrefix...), types[k]...)
	w.b = append(w.b, `"]`...)
	w.name("message")
	w.b = append(w.b, message...)
	w.null("expirationTime")
	w.time("sentTime", d.SentTime)
	w.open("headers")
	if d.Original != (bankfeed.UUID{}) {
		w.uuid(HeaderOriginalID, d.Original)
		w.text(HeaderReplay, replayed)
	}
	w.close()
	h := &bus.Host
	w.open("host")
	w.text("machineName", h.MachineName)
	w.text("processName", h.ProcessName)
	w.int("processId", int64(h.ProcessID))
	w.text("assembly", h.Assembly)
	w.text("assemblyVersion", h.AssemblyVersion)
	w.text("frameworkVersion", h.FrameworkVersion)
	w.text("massTransitVersion", h.MassTransitVersion)
	w.text("operatingSystemVersion", h.OperatingSystemVersion)
	w.close()
	w.close()
	return w.b
}

// conversation is fresh for every message, as for whatever MassTransit
// publishes outside of a consumer, but the same when it is sent again.
func conversation(message bankfeed.UUID) bankfeed.UUID {
	h := sha256.Sum256(append([]byte("conversation"), message[:]...))
	var u bankfeed.UUID
	copy(u[:], h[:])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8, as all of ours
	return u
}
