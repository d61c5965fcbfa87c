package masstransit

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
)

// Verdict is what becomes of a message at a MassTransit endpoint.
type Verdict string

// Verdicts.
const (
	Consumed     Verdict = "consumed"
	Skipped      Verdict = "skipped"       // no consumer for its types: moved to _skipped
	ReceiveFault Verdict = "receive fault" // could not be read: ReceiveFault is published, moved to _error
	Faulted      Verdict = "fault"         // the consumer threw: Fault<T> is published, moved to _error
)

const (
	envelopeType = "application/vnd.masstransit+json"
	ids          = "messageId requestId correlationId conversationId initiatorId"
	addresses    = "sourceAddress destinationAddress responseAddress faultAddress"
	hostTexts    = "machineName processName assembly assemblyVersion frameworkVersion massTransitVersion operatingSystemVersion"
)

// Judge decides as an endpoint does. The zero value judges nothing: Version must
// be set.
type Judge struct {
	Version Version
	// Types that have a consumer, by exchange name; nil is all five.
	Types []string
	// Doubles: the client's classes declare amounts as double instead of decimal.
	Doubles bool
	// Lenient leaves it at what MassTransit itself checks. Otherwise the consumer
	// compares every message with the page and throws when the hub broke a promise.
	Lenient bool
}

// Judgement is a verdict and what it is based on.
type Judgement struct {
	Verdict Verdict
	Reason  string // unless consumed
	// Type of the message that matched, one of Types; empty if none did.
	Type string
	// ID is the messageId of the envelope; if that cannot be read, AMQP's.
	ID bankfeed.UUID
	// Breaches are promises of the page, or of the hub for a stream, that
	// MassTransit does not notice, as "path: what".
	Breaches []string
	// Missing are the nullable members that are left out instead of null.
	Missing []string
	// Producer is the process that sent it, by the envelope's host block.
	Producer string

	envelope value
}

// Text is a member of the payload by its path, "data.id": a string, a number as
// it is written, or empty.
func (j *Judgement) Text(path string) string {
	return j.envelope.get(append([]string{"message"}, strings.Split(path, ".")...)...).text
}

// Message judges one delivery.
func (j Judge) Message(d *amqp.Delivery) Judgement {
	out := Judgement{}
	if id, err := bankfeed.ParseUUID(d.MessageId); err == nil {
		out.ID = id
	}
	if err := j.readable(d, &out); err != nil {
		out.Verdict, out.Reason = ReceiveFault, err.Error()
		return out
	}
	types := out.envelope.get("messageType").items
	out.Type = j.match(types)
	if out.Type == "" {
		out.Verdict, out.Reason = Skipped, "no consumer for its message types"
		return out
	}
	payload := out.envelope.get("message")
	if payload.token == tokenMissing || payload.token == tokenNull {
		out.Verdict, out.Reason = ReceiveFault, "the envelope has no message"
		return out
	}
	b := binder{version: j.Version, doubles: j.Doubles}
	if err := b.bind(payload, contracts[out.Type], "message"); err != nil {
		out.Verdict, out.Reason = ReceiveFault, err.Error()
		return out
	}
	out.Breaches, out.Missing = append(out.Breaches, b.breaches...), b.missing
	out.Breaches = append(out.Breaches, promises(d, &out)...)
	out.Verdict = Consumed
	if len(out.Breaches) > 0 && !j.Lenient {
		out.Verdict, out.Reason = Faulted, "the page promised otherwise: "+strings.Join(out.Breaches, "; ")
	}
	return out
}

// match finds the type whose consumer takes the message.
func (j Judge) match(types []value) string {
	consumed := j.Types
	if consumed == nil {
		consumed = Types
	}
	for _, t := range types {
		for _, full := range consumed {
			if strings.EqualFold(t.text, urn+full) {
				return full
			}
		}
	}
	return ""
}

// readable reads the envelope. What is only checked when a consumer first looks
// at it, ids and addresses, is looked at here: every endpoint logs them.
func (j Judge) readable(d *amqp.Delivery, out *Judgement) error {
	if err := j.contentType(d); err != nil {
		return err
	}
	if name := repeatedHeader(d.Headers); name != "" && j.Version == V8 {
		return fmt.Errorf("an item with the same key has already been added: header %s", name)
	}
	v, err := parse(d.Body)
	if err != nil {
		return err
	}
	if v.token != tokenObject {
		return errors.New("the body is not an envelope")
	}
	out.envelope = v
	if err := j.members(v); err != nil {
		return err
	}
	if id := v.get("messageId").text; id != "" {
		out.ID = guid(id)
	}
	host := v.get("host")
	out.Producer = host.get("machineName").text + "/" + host.get("processName").text + "/" + host.get("processId").text
	return nil
}

func (j Judge) contentType(d *amqp.Delivery) error {
	name := d.ContentType
	for _, header := range []string{"Content-Type", "ContentType"} {
		if text, ok := d.Headers[header].(string); ok && name == "" {
			name = text
		}
	}
	if name == "" {
		return nil // the endpoint's default, which is the envelope
	}
	media, _, err := mime.ParseMediaType(name)
	if err != nil || !strings.Contains(media, "/") {
		return errors.New("the content type is not a media type")
	}
	if media != envelopeType && j.Version == V7 {
		return errors.New("no deserializer was registered for the message content type")
	}
	return nil
}

func (j Judge) members(v value) error {
	for _, name := range strings.Fields(ids) {
		id, err := j.text(v.get(name), name)
		if err != nil {
			return err
		}
		if strings.TrimSpace(id) != "" && !guidForm.MatchString(id) {
			return fmt.Errorf("the Id was not a Guid: %s", name)
		}
	}
	for _, name := range strings.Fields(addresses) {
		address, err := j.text(v.get(name), name)
		if err != nil {
			return err
		}
		if strings.TrimSpace(address) == "" {
			continue
		}
		if u, err := url.Parse(address); err != nil || !u.IsAbs() {
			return fmt.Errorf("invalid URI: %s is not absolute", name)
		}
	}
	for _, name := range []string{"sentTime", "expirationTime"} {
		if at := v.get(name); at.token > tokenNull && (at.token != tokenString || !dateTime(at.text)) {
			return cannot(at, kindDateTime, name)
		}
	}
	if err := j.types(v.get("messageType")); err != nil {
		return err
	}
	return j.headersAndHost(v)
}

func (j Judge) types(types value) error {
	switch types.token {
	case tokenMissing, tokenNull:
		if j.Version == V7 {
			return errors.New("value cannot be null: parameter 'source' (messageType)")
		}
		return nil // as []
	case tokenArray:
		for _, t := range types.items {
			if _, err := j.text(t, "messageType"); err != nil {
				return err
			}
		}
		return nil
	default:
		return cannot(types, kindList, "messageType")
	}
}

func (j Judge) headersAndHost(v value) error {
	headers := v.get("headers")
	if headers.token > tokenNull && headers.token != tokenObject {
		return cannot(headers, kindMap, "headers")
	}
	if name := headers.repeated(); name != "" && j.Version == V8 {
		return fmt.Errorf("an item with the same key has already been added: header %s", name)
	}
	host := v.get("host")
	if host.token > tokenNull && host.token != tokenObject {
		return cannot(host, kindObject, "host")
	}
	for _, name := range strings.Fields(hostTexts) {
		if _, err := j.text(host.get(name), "host."+name); err != nil {
			return err
		}
	}
	if pid := host.get("processId"); pid.token > tokenMissing {
		return (&binder{version: j.Version}).bind(pid, &node{kind: kindInt}, "host.processId")
	}
	return nil
}

// text reads a string of the envelope; missing and null are empty.
func (j Judge) text(v value, path string) (string, error) {
	switch {
	case v.token <= tokenNull:
		return "", nil
	case v.token == tokenString, j.Version == V7 && v.token < tokenArray:
		return v.text, nil
	default:
		return "", cannot(v, kindString, path)
	}
}

// promises are what a stream keeps beyond what a reader checks.
func promises(d *amqp.Delivery, out *Judgement) (breaches []string) {
	breach := func(ok bool, what string) {
		if !ok {
			breaches = append(breaches, what)
		}
	}
	v := out.envelope
	types := v.get("messageType").items
	breach(d.ContentType == envelopeType, "content_type: not MassTransit's")
	breach(d.DeliveryMode == amqp.Persistent, "delivery_mode: not persistent")
	breach(dashedForm.MatchString(d.MessageId) && d.MessageId == v.get("messageId").text, "message_id: not the envelope's messageId")
	breach(d.RoutingKey == "" || d.Exchange == "", "routing_key: not empty")
	breach(len(types) > 0 && types[0].text == urn+out.Type, "messageType: not its URN, in exact case, first")
	breach(v.repeated() == "", "envelope: a member twice")
	for _, name := range []string{"conversationId", "sourceAddress", "destinationAddress", "sentTime", "headers", "host"} {
		breach(v.get(name).token > tokenNull, name+": missing")
	}
	for _, name := range append(strings.Fields(hostTexts), "processId") {
		breach(v.get("host", name).token > tokenNull, "host."+name+": missing")
	}
	breach(strings.HasSuffix(v.get("sentTime").text, "Z"), "sentTime: not in UTC")
	return breaches
}

func repeatedHeader(headers amqp.Table) string {
	var names []string
	for name := range headers {
		if slices.ContainsFunc(names, func(other string) bool { return strings.EqualFold(name, other) }) {
			return name
		}
		names = append(names, name)
	}
	return ""
}

// guid reads any form of a GUID; the zero UUID if it is none.
func guid(s string) bankfeed.UUID {
	s = strings.Trim(s, "{}")
	if len(s) == 32 {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	u, _ := bankfeed.ParseUUID(s)
	return u
}
