package asyncapi

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// form is how the streams write messages, all settings taken together.
type form struct {
	numbers, texts bool // decimals
	omitted        bool // nulls may be left out
}

func (f *form) add(s banqup.Settings) {
	f.texts = f.texts || s.DecimalsAsText
	f.numbers = f.numbers || !s.DecimalsAsText
	f.omitted = f.omitted || s.OmitNulls
}

// types are the Go types of the messages.
var types = map[banqup.Kind]reflect.Type{
	banqup.Account:     reflect.TypeFor[banqup.AccountMessage](),
	banqup.Transaction: reflect.TypeFor[banqup.TransactionMessage](),
	banqup.Session:     reflect.TypeFor[banqup.SessionFinishedMessage](),
	banqup.Consent:     reflect.TypeFor[banqup.ConsentMessage](),
	banqup.Call:        reflect.TypeFor[banqup.AspspCall](),
}

// Forms of texts.
const (
	decimalPattern  = `^-?[0-9]+(\.[0-9]+)?$`
	timePattern     = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,7})?Z$`
	timeSpanPattern = `^-?([0-9]+\.)?[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{7})?$`

	date = "date-time"
	uuid = "uuid"
)

// message is the schema of a message, without its envelope.
func (f form) message(k banqup.Kind) *schema {
	return builder{f, k}.object(types[k], "")
}

// builder makes the schema of one kind of message. What Go's types do not tell,
// such as which texts may be null, is in members.
type builder struct {
	form
	kind banqup.Kind
}

func (b builder) object(t reflect.Type, path string) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		at := path + name
		about, known := b.member(at)
		if strings.Contains(options, "omitempty") && !known {
			continue // a member of other messages
		}
		s.Properties[name] = b.value(field.Type, at, about)
		if !b.omitted || !nullable(field.Type, about) {
			s.Required = append(s.Required, name)
		}
	}
	slices.Sort(s.Required)
	return s
}

func nullable(t reflect.Type, about member) bool { return about.null || t.Kind() == reflect.Pointer }

func (b builder) value(t reflect.Type, path string, about member) *schema {
	null := nullable(t, about)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := b.plain(t, path, about)
	s.Description = about.text
	if about.format != "" {
		s.Format = about.format
	}
	if null {
		switch kinds := s.Type.(type) {
		case string:
			s.Type = []string{kinds, "null"}
		case []string:
			s.Type = append(slices.Clone(kinds), "null")
		}
	}
	return s
}

func (b builder) plain(t reflect.Type, path string, about member) *schema {
	switch t {
	case reflect.TypeFor[banqup.Time]():
		return &schema{Type: "string", Format: date, Pattern: timePattern}
	case reflect.TypeFor[banqup.TimeSpan]():
		return &schema{Type: "string", Pattern: timeSpanPattern}
	case reflect.TypeFor[bankfeed.Amount]():
		return b.decimal()
	case reflect.TypeFor[bankfeed.UUID]():
		return &schema{Type: "string", Format: uuid}
	}
	switch t.Kind() {
	case reflect.Struct:
		return b.object(t, path+".")
	case reflect.Slice:
		element, _ := b.member(path + ".*")
		return &schema{Type: "array", Items: b.value(t.Elem(), path+".*", element)}
	case reflect.Map:
		element, _ := b.member(path + ".*")
		return &schema{Type: "object", PropertyNames: &schema{Enum: about.values}, AdditionalProperties: b.value(t.Elem(), path+".*", element)}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int32:
		return &schema{Type: "integer", Format: "int32", Minimum: new(int64), Maximum: maxInt32}
	default: // the messages have nothing else
		return &schema{Type: "string", Enum: about.values}
	}
}

// maxInt32: consumers on .NET read int.
var maxInt32 = func() *int64 {
	n := int64(math.MaxInt32)
	return &n
}()

func (b builder) decimal() *schema {
	switch {
	case b.numbers && b.texts:
		return &schema{Type: []string{"number", "string"}, Pattern: decimalPattern}
	case b.texts:
		return &schema{Type: "string", Pattern: decimalPattern}
	}
	return &schema{Type: "number"}
}

// envelope is MassTransit's, in its order.
type envelope struct {
	MessageID          bankfeed.UUID  `json:"messageId"`
	RequestID          *bankfeed.UUID `json:"requestId"`
	CorrelationID      *bankfeed.UUID `json:"correlationId"`
	ConversationID     bankfeed.UUID  `json:"conversationId"`
	InitiatorID        *bankfeed.UUID `json:"initiatorId"`
	SourceAddress      string         `json:"sourceAddress"`
	DestinationAddress string         `json:"destinationAddress"`
	ResponseAddress    *string        `json:"responseAddress"`
	FaultAddress       *string        `json:"faultAddress"`
	MessageType        []string       `json:"messageType"`
	Message            struct{}       `json:"message"`
	ExpirationTime     *banqup.Time   `json:"expirationTime"`
	SentTime           banqup.Time    `json:"sentTime"`
	Headers            struct{}       `json:"headers"`
	Host               banqup.Host    `json:"host"`
}

// envelope is the schema of the whole body; message is a reference.
func (f form) envelope(k banqup.Kind, message string) *schema {
	s := builder{f, "envelope"}.object(reflect.TypeFor[envelope](), "")
	s.Properties["message"] = &schema{Ref: message}
	s.Properties["messageType"].Contains = &schema{Const: k.URN()}
	s.Properties["headers"] = f.headers()
	return s
}

// headers are those of a replay, in the envelope and as AMQP headers alike.
func (form) headers() *schema {
	return &schema{Type: "object", Description: "Only a replay has any.", Properties: map[string]*schema{
		banqup.HeaderOriginalID: {Type: "string", Format: uuid, Description: "The messageId of the first delivery."},
		banqup.HeaderReplay:     {Type: "string", Enum: []string{"true"}},
	}}
}
