package banqup

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Envelope is a received envelope. Ids that are missing are zero.
type Envelope struct {
	MessageID          bankfeed.UUID
	ConversationID     bankfeed.UUID
	CorrelationID      bankfeed.UUID
	SourceAddress      string
	DestinationAddress string
	MessageType        []string
	Message            json.RawMessage
	SentTime           time.Time // zero if it is missing
	Headers            map[string]any
	Host               Host
}

// Kind is the first of the five messages that the envelope says it holds; ok is
// false if it holds none of them.
func (e *Envelope) Kind() (k Kind, ok bool) {
	for _, urn := range e.MessageType {
		for _, k := range Kinds {
			if strings.EqualFold(urn, k.URN()) {
				return k, true
			}
		}
	}
	return "", false
}

// Header is a header that is a text, by its name in any case; empty if there is none.
func (e *Envelope) Header(name string) string {
	for n, v := range e.Headers {
		if s, ok := v.(string); ok && strings.EqualFold(n, name) {
			return s
		}
	}
	return ""
}

// Original is the message id of the first delivery; of a replay it differs from
// MessageID.
func (e *Envelope) Original() bankfeed.UUID {
	if u, err := parseGUID(e.Header(HeaderOriginalID)); err == nil && u != (bankfeed.UUID{}) {
		return u
	}
	return e.MessageID
}

// Decode reads the message: a pointer to one of the five types.
func (e *Envelope) Decode() (any, error) {
	k, ok := e.Kind()
	if !ok {
		return nil, bankfeed.InvalidField("messageType", "none of the stream's messages")
	}
	return Decode(k, e.Message)
}

// ParseEnvelope reads an envelope as MassTransit does: names in any case, ids in
// any of the usual forms, and nothing but messageType and message is required.
// An error is Invalid or TooLarge and does not repeat what was sent.
func ParseEnvelope(body []byte) (*Envelope, error) {
	var in struct {
		MessageID          guid            `json:"messageId"`
		ConversationID     guid            `json:"conversationId"`
		CorrelationID      guid            `json:"correlationId"`
		SourceAddress      string          `json:"sourceAddress"`
		DestinationAddress string          `json:"destinationAddress"`
		MessageType        []string        `json:"messageType"`
		Message            json.RawMessage `json:"message"`
		SentTime           Time            `json:"sentTime"`
		Headers            map[string]any  `json:"headers"`
		Host               looseHost       `json:"host"`
	}
	if err := unmarshal(body, &in); err != nil {
		return nil, err
	}
	if len(in.MessageType) == 0 {
		return nil, bankfeed.InvalidField("messageType", "missing: the body is no MassTransit envelope")
	}
	if len(in.Message) == 0 || in.Message[0] != '{' {
		return nil, bankfeed.InvalidField("message", "missing or no object")
	}
	return &Envelope{
		MessageID: bankfeed.UUID(in.MessageID), ConversationID: bankfeed.UUID(in.ConversationID), CorrelationID: bankfeed.UUID(in.CorrelationID),
		SourceAddress: in.SourceAddress, DestinationAddress: in.DestinationAddress, MessageType: in.MessageType, Message: in.Message,
		SentTime: in.SentTime.Time, Headers: in.Headers, Host: Host(in.Host),
	}, nil
}

// guid is an id in one of the forms of .NET; null and the empty text are zero.
type guid bankfeed.UUID

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *guid) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	u, err := parseGUID(string(b))
	*g = guid(u)
	return err
}

// parseGUID reads the forms D (with dashes), N (without), B and P (in brackets).
func parseGUID(s string) (bankfeed.UUID, error) {
	if n := len(s); n == 38 && (s[0] == '{' && s[n-1] == '}' || s[0] == '(' && s[n-1] == ')') {
		s = s[1 : n-1]
	}
	if len(s) != 32 {
		return bankfeed.ParseUUID(s)
	}
	var u bankfeed.UUID
	_, err := hex.Decode(u[:], []byte(s))
	return u, err
}

// looseHost reads what it can of a host block: it is never worth a message.
type looseHost Host

// UnmarshalJSON implements json.Unmarshaler.
func (h *looseHost) UnmarshalJSON(b []byte) error {
	var in struct {
		Host
		ProcessID json.RawMessage `json:"processId"`
	}
	if json.Unmarshal(b, &in) == nil {
		*h = looseHost(in.Host)
		_ = json.Unmarshal(in.ProcessID, &h.ProcessID) // some producers write a text
	}
	return nil
}
