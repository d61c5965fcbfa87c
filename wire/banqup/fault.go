package banqup

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
)

// Fault is what MassTransit publishes when a consumer threw, or when a message
// could not be read at all.
type Fault struct {
	ID      bankfeed.UUID
	Message bankfeed.UUID // id of the message; zero if the consumer did not know it
	// Kind of the message; empty for one that could not be read and for a message
	// that is none of the stream's.
	Kind       Kind
	At         time.Time // zero if it is missing
	Exceptions []Exception
	Host       Host // of the consumer
}

// Exception is one that was thrown. Its text may repeat what the message holds.
type Exception struct {
	Type string
	Text string
}

const (
	faultURN        = urnPrefix + "MassTransit:Fault"
	receiveFaultURN = urnPrefix + ReceiveFaultExchange
)

// Bounds of what is kept of a fault: its sender may be anybody on the broker.
const (
	maxExceptions    = 16
	maxExceptionText = 4 << 10
)

// ParseFault reads the envelope of a Fault<T> or a ReceiveFault. An error is
// Invalid or TooLarge and does not repeat what was sent.
func ParseFault(body []byte) (*Fault, error) {
	e, err := ParseEnvelope(body)
	if err != nil {
		return nil, err
	}
	var in struct {
		ID         guid `json:"faultId"`
		Message    guid `json:"faultedMessageId"`
		At         Time `json:"timestamp"`
		Exceptions []struct {
			Type string `json:"exceptionType"`
			Text string `json:"message"`
		} `json:"exceptions"`
		Host  looseHost `json:"host"`
		Types []string  `json:"faultMessageTypes"`
	}
	if !isFault(e.MessageType) {
		return nil, bankfeed.InvalidField("messageType", "not a fault")
	}
	if err := unmarshal(e.Message, &in); err != nil {
		return nil, err
	}
	f := &Fault{ID: bankfeed.UUID(in.ID), Message: bankfeed.UUID(in.Message), Kind: faultKind(e.MessageType, in.Types), At: in.At.Time, Host: Host(in.Host)}
	for i, x := range in.Exceptions {
		if i == maxExceptions {
			break
		}
		f.Exceptions = append(f.Exceptions, Exception{Type: cut(x.Type), Text: cut(x.Text)})
	}
	return f, nil
}

func isFault(urns []string) bool {
	for _, urn := range urns {
		base, _, _ := strings.Cut(urn, "[[")
		if strings.EqualFold(base, faultURN) || strings.EqualFold(base, receiveFaultURN) {
			return true
		}
	}
	return false
}

// faultKind is told by the type of the fault, Fault[[T]], and by the types of the message.
func faultKind(urns, types []string) Kind {
	for _, k := range Kinds {
		for _, urn := range urns {
			if strings.EqualFold(urn, faultURN+"[["+strings.TrimPrefix(k.URN(), urnPrefix)+"]]") {
				return k
			}
		}
		for _, t := range types {
			if strings.EqualFold(t, k.URN()) {
				return k
			}
		}
	}
	return ""
}

// cut shortens a text between two letters.
func cut(s string) string {
	if len(s) <= maxExceptionText {
		return s
	}
	n := maxExceptionText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
