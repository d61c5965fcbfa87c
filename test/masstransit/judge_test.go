package masstransit_test

import (
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/test/masstransit"
)

// Payloads as the page draws them.
var payloads = map[string]string{
	masstransit.AccountMessage: `{"data":{"id":1234,"balances":{"closingAvailable":{"currency":"PLN","date":"2021-01-05T12:05:19.876Z","value":1.0},"closingBooked":{"currency":"PLN","date":"2021-01-05T00:00:00Z","value":-12.50}},` +
		`"bankSwiftCode":"BREXPLPW","currency":"PLN","holderInformation":{"nameAddress":null,"relations":["owner","proxyOwnerGeneral"]},"holderType":null,"isBusiness":false,"iban":"PL27114020040000300201355387","name":"Konto <&> żółć"},` +
		`"embedded":{"user":{"id":"u-1","businessContext":"individual"}},` +
		`"meta":{"timestamp":"2021-12-01T13:22:51.1872686Z","traceId":"debf5d7c-91e1-4ae3-aadc-ce938c6b1df4","operation":"created","initiator":"user","buildId":"20201130.4","containerId":"e1f64b0a5f32"}}`,
	masstransit.TransactionMessage: `{"data":{"accountingDate":"2021-01-05T13:52:12.180Z","afterTransactionBalance":null,"amount":-1.15,"currency":"PLN","effectiveDate":null,"endToEndId":null,"id":"77",` +
		`"recipient":{"accountIdentifier":{"type":"iban","value":"PL27114020040000300201355387"},"address":null,"name":"A"},"sender":{"accountIdentifier":null,"address":null,"name":null},"status":"done","title":null},` +
		`"embedded":{"account":{"id":1234,"iban":"PL27114020040000300201355387"},"user":{"id":"u-1","businessContext":"business"}},` +
		`"meta":{"buildId":"20201130.4","containerId":"e1f64b0a5f32","operation":"updated","initiator":"backgroundTask","timestamp":"2021-01-05T12:05:19.876Z"}}`,
	masstransit.SessionFinishedMessage: `{"data":{"id":""},"embedded":{"account":{"id":1234,"iban":"PL27"},"user":{"id":"u-1","businessContext":"individual"},"session":{"id":"s-1","externalId":null}},` +
		`"meta":{"buildId":"20201130.4","containerId":"e1f64b0a5f32","initiator":"user","timestamp":"2021-01-05T12:05:19.876Z"}}`,
	masstransit.ConsentMessage: `{"data":{"id":"c-1","externalId":null,"bankSwiftCode":"BREXPLPW","status":"invalid","previousStatus":"confirmed","invalidationInfo":{"description":"","invalidated":"2021-01-05T12:05:19.876Z","reason":"Expired"},"scope":"Ais"},` +
		`"embedded":{"user":{"id":"client-7","businessContext":"individual"},"accounts":[{"currencyCode":"EUR","iban":null,"id":1234}]},` +
		`"meta":{"buildId":"20201130.4","containerId":"e1f64b0a5f32","operation":"updated","initiator":"user","timestamp":"2021-01-05T12:05:19.876Z"}}`,
	masstransit.AspspCall: `{"bankSwiftCode":"BREXPLPW","endpointUrl":"https://bank.example/v1","errorResponseContent":null,"exception":null,"initiator":"user","requestContext":"RetrieveScaUrl","requestDuration":"00:00:00.0143177",` +
		`"session":{"externalId":null,"id":"s-1"},"statusCode":200,"user":{"externalId":null,"id":"56b62fe5-9a2b-4927-aab1-e2a0f4da590d"},"timestamp":"2021-12-03T10:35:51.727948Z","executionId":"c3b8e8af-f468-462d-98ab-416e404ae5fe",` +
		`"containerId":"e1f64b0a5f32","buildId":"20201130.4"}`,
}

const messageID = "7a000000-9a3c-0005-1813-08d7e7027a0c"

// body is a payload in an envelope as MassTransit 8 writes it.
func body(full, payload, id string) string {
	return `{"messageId":"` + id + `","requestId":null,"correlationId":null,"conversationId":"7a000000-9a3c-0005-ed0b-08d7e7027a10","initiatorId":null,` +
		`"sourceAddress":"rabbitmq://broker/hub","destinationAddress":"rabbitmq://broker/` + full + `","responseAddress":null,"faultAddress":null,` +
		`"messageType":["urn:message:` + full + `"],"message":` + payload + `,"expirationTime":null,"sentTime":"2026-01-12T21:55:53.715882Z","headers":{},` +
		`"host":{"machineName":"m","processName":"hub","processId":1,"assembly":"hub","assemblyVersion":"1.0.0.0","frameworkVersion":"8.0.0","massTransitVersion":"8.5.8.0","operatingSystemVersion":"Unix"}}`
}

func delivery(full, text string) *amqp.Delivery {
	return &amqp.Delivery{Exchange: full, ContentType: "application/vnd.masstransit+json", DeliveryMode: amqp.Persistent, MessageId: messageID, Body: []byte(text)}
}

var versions = []masstransit.Version{masstransit.V7, masstransit.V8}

func TestGoodMessagesAreConsumed(t *testing.T) {
	for _, v := range versions {
		for full, payload := range payloads {
			j := masstransit.Judge{Version: v}.Message(delivery(full, body(full, payload, messageID)))
			require.Equal(t, masstransit.Consumed, j.Verdict, "%d %s: %s", v, full, j.Reason)
			require.Equal(t, full, j.Type)
			require.Equal(t, messageID, j.ID.String())
			require.Empty(t, j.Breaches)
			require.Empty(t, j.Missing)
			require.Equal(t, "m/hub/1", j.Producer)
		}
	}
}

// The least that MassTransit takes: what the hub promises beyond it is missing.
func TestMinimalMessage(t *testing.T) {
	text := `{"messageType":["urn:message:` + strings.ToUpper(masstransit.AspspCall) + `"],"message":{}}`
	for _, v := range versions {
		d := &amqp.Delivery{Body: []byte(text)}
		require.Equal(t, masstransit.Consumed, masstransit.Judge{Version: v, Lenient: true}.Message(d).Verdict, "the URN matches in any case")
		j := masstransit.Judge{Version: v}.Message(d)
		require.Equal(t, masstransit.Faulted, j.Verdict)
		for _, breach := range []string{"message.statusCode: missing", "messageType: not its URN, in exact case, first", "delivery_mode: not persistent", "message_id: not the envelope's messageId"} {
			require.Contains(t, j.Breaches, breach)
		}
		require.Contains(t, j.Missing, "message.exception")
	}
}

// Each case spoils a good message in one place.
func TestBadMessagesAreRejected(t *testing.T) {
	const consumed, fault, unread, skipped = masstransit.Consumed, masstransit.Faulted, masstransit.ReceiveFault, masstransit.Skipped
	account, transaction, call := masstransit.AccountMessage, masstransit.TransactionMessage, masstransit.AspspCall
	for _, c := range []struct {
		name, full, old, new string
		v7, v8               masstransit.Verdict
	}{
		{"string into int", account, `"id":1234,"bal`, `"id":"1234","bal`, fault, unread},
		{"text into int", account, `"id":1234,"bal`, `"id":"a1234","bal`, unread, unread},
		{"fraction into int", account, `"id":1234,"bal`, `"id":1234.0,"bal`, unread, unread},
		{"account id beyond int32", account, `"id":1234,"bal`, `"id":2147483648,"bal`, unread, unread},
		{"null into int", account, `"id":1234,"bal`, `"id":null,"bal`, fault, unread},
		{"number into string", transaction, `"id":"77"`, `"id":77`, fault, unread},
		{"number into text of the envelope", transaction, `"conversationId":"7a000000-9a3c-0005-ed0b-08d7e7027a10"`, `"conversationId":7`, unread, unread},
		{"eight digits of a second", account, `51.1872686Z`, `51.18726865Z`, unread, unread},
		{"seven digits of a second and no zone", account, `51.1872686Z`, `51.1872686`, fault, fault},
		{"an offset", account, `51.1872686Z`, `51.1872686+01:00`, fault, fault},
		{"a bare date", transaction, `"2021-01-05T13:52:12.180Z"`, `"2021-01-05"`, fault, fault},
		{"a day that is none", transaction, `"2021-01-05T13:52:12.180Z"`, `"2021-02-30T13:52:12Z"`, unread, unread},
		{"an empty date", transaction, `"effectiveDate":null`, `"effectiveDate":""`, unread, unread},
		{"a number for a date", transaction, `"effectiveDate":null`, `"effectiveDate":1609848732`, unread, unread},
		{"string into bool", account, `"isBusiness":false`, `"isBusiness":"false"`, fault, unread},
		{"word into bool", account, `"isBusiness":false`, `"isBusiness":"no"`, unread, unread},
		{"null where the page allows it", account, `"isBusiness":false`, `"isBusiness":null`, consumed, consumed},
		{"null for a required string", account, `"currency":"PLN","hold`, `"currency":null,"hold`, fault, fault},
		{"a required string is empty", account, `"iban":"PL27114020040000300201355387"`, `"iban":""`, fault, fault},
		{"a required member is missing", transaction, `"status":"done",`, ``, fault, fault},
		{"a member that the page does not know", transaction, `"status":"done",`, `"status":"done","sum":1,`, fault, fault},
		{"another case of a name", transaction, `"status":"done",`, `"Status":"done",`, fault, fault},
		{"twice the same name", transaction, `"status":"done",`, `"status":"done","status":"hold",`, fault, fault},
		{"a status of no list", transaction, `"status":"done",`, `"status":"Done",`, fault, fault},
		{"a balance of no list", account, `"closingBooked"`, `"nonInvoiced"`, fault, fault},
		{"a currency of no form", transaction, `"currency":"PLN"`, `"currency":"zł"`, fault, fault},
		{"array into object", transaction, `"sender":{"accountIdentifier":null,"address":null,"name":null}`, `"sender":[]`, unread, unread},
		{"object into array", account, `["owner","proxyOwnerGeneral"]`, `{}`, unread, unread},
		{"null for relations", account, `["owner","proxyOwnerGeneral"]`, `null`, fault, fault},
		{"no relations", account, `["owner","proxyOwnerGeneral"]`, `[]`, consumed, consumed},
		{"decimal as text", transaction, `"amount":-1.15`, `"amount":"-1.15"`, consumed, consumed},
		{"decimal in words", transaction, `"amount":-1.15`, `"amount":"one"`, unread, unread},
		{"decimal with a comma", transaction, `"amount":-1.15`, `"amount":"-1,15"`, unread, unread},
		{"decimal with an exponent", transaction, `"amount":-1.15`, `"amount":-1.15e2`, fault, fault},
		{"decimal too large", transaction, `"amount":-1.15`, `"amount":79228162514264337593543950336`, unread, unread},
		{"decimal too long", transaction, `"amount":-1.15`, `"amount":1.2345678901234567890123456789`, fault, fault},
		{"true for a decimal", transaction, `"amount":-1.15`, `"amount":true`, unread, unread},
		{"duration in seconds", call, `"00:00:00.0143177"`, `0.0143177`, unread, unread},
		{"duration in ISO 8601", call, `"00:00:00.0143177"`, `"PT0.0143177S"`, unread, unread},
		{"duration with too many digits", call, `"00:00:00.0143177"`, `"00:00:00.01431770"`, unread, unread},
		{"duration with three digits", call, `"00:00:00.0143177"`, `"00:00:00.014"`, fault, fault},
		{"duration of a day", call, `"00:00:00.0143177"`, `"1.02:03:04"`, consumed, consumed},
		{"trace that is no GUID", account, `debf5d7c-91e1-4ae3-aadc-ce938c6b1df4`, `debf5d7c91e1`, unread, unread},
		{"trace without dashes", account, `debf5d7c-91e1-4ae3-aadc-ce938c6b1df4`, `debf5d7c91e14ae3aadcce938c6b1df4`, fault, unread},

		{"a wrong namespace", call, `"urn:message:Psd2Hub.`, `"urn:message:Hub.`, skipped, skipped},
		{"no URN", call, `"urn:message:Psd2Hub.`, `"Psd2Hub.`, skipped, skipped},
		{"no message types", call, `["urn:message:` + call + `"]`, `[]`, skipped, skipped},
		{"null for message types", call, `["urn:message:` + call + `"]`, `null`, unread, skipped},
		{"its URN second", call, `["urn:message:`, `["urn:message:Some:Other","urn:message:`, fault, fault},
		{"an id that is no GUID", call, `"messageId":"` + messageID + `"`, `"messageId":"42"`, unread, unread},
		{"an id without dashes", call, `"messageId":"` + messageID + `"`, `"messageId":"7a0000009a3c0005181308d7e7027a0c"`, fault, fault},
		{"another id", call, `"messageId":"` + messageID + `"`, `"messageId":"7a000000-9a3c-0005-1813-08d7e7027a0d"`, fault, fault},
		{"a relative address", call, `"sourceAddress":"rabbitmq://broker/hub"`, `"sourceAddress":"hub"`, unread, unread},
		{"a short address", call, `"sourceAddress":"rabbitmq://broker/hub"`, `"sourceAddress":"exchange:hub"`, consumed, consumed},
		{"sent at a wrong time", call, `"sentTime":"2026-01-12T21:55:53.715882Z"`, `"sentTime":"12.01.2026"`, unread, unread},
		{"process id as text", call, `"processId":1`, `"processId":"1"`, consumed, unread},
		{"headers that differ in case", call, `"headers":{}`, `"headers":{"MT-Activity-Id":"a","mt-activity-id":"b"}`, consumed, unread},
		{"headers that are no object", call, `"headers":{}`, `"headers":[]`, unread, unread},
		{"no payload", call, payloads[call], `null`, unread, unread},
		{"an array as payload", call, payloads[call], `[]`, unread, unread},
		{"cut off", call, `"Unix"}}`, `"Unix"}`, unread, unread},
		{"two documents", call, `"Unix"}}`, `"Unix"}}{}`, unread, unread},
		{"no UTF-8", call, `"Unix"`, "\"Uni\xff\"", unread, unread},
	} {
		good := body(c.full, payloads[c.full], messageID)
		text := strings.Replace(good, c.old, c.new, 1)
		require.NotEqual(t, good, text, c.name)
		for v, want := range map[masstransit.Version]masstransit.Verdict{masstransit.V7: c.v7, masstransit.V8: c.v8} {
			j := masstransit.Judge{Version: v}.Message(delivery(c.full, text))
			require.Equal(t, want, j.Verdict, "%s, version %d: %s", c.name, v, j.Reason)
			if want != consumed {
				require.NotEmpty(t, j.Reason)
			}
		}
	}
}

func TestPropertiesAreJudged(t *testing.T) {
	full := masstransit.AspspCall
	for _, c := range []struct {
		name   string
		spoil  func(*amqp.Delivery)
		v7, v8 masstransit.Verdict
	}{
		{"another content type", func(d *amqp.Delivery) { d.ContentType = "application/json" }, masstransit.ReceiveFault, masstransit.Faulted},
		{"no media type", func(d *amqp.Delivery) { d.ContentType = "app" }, masstransit.ReceiveFault, masstransit.ReceiveFault},
		{"a parameter", func(d *amqp.Delivery) { d.ContentType += "; charset=utf-8" }, masstransit.Faulted, masstransit.Faulted},
		{"content type as a header", func(d *amqp.Delivery) {
			d.ContentType, d.Headers = "", amqp.Table{"Content-Type": "text/plain"}
		}, masstransit.ReceiveFault, masstransit.Faulted},
		{"transient", func(d *amqp.Delivery) { d.DeliveryMode = amqp.Transient }, masstransit.Faulted, masstransit.Faulted},
		{"no id", func(d *amqp.Delivery) { d.MessageId = "" }, masstransit.Faulted, masstransit.Faulted},
		{"a routing key", func(d *amqp.Delivery) { d.RoutingKey = "x" }, masstransit.Faulted, masstransit.Faulted},
		{"headers that differ in case", func(d *amqp.Delivery) { d.Headers = amqp.Table{"A": "1", "a": "2"} }, masstransit.Consumed, masstransit.ReceiveFault},
	} {
		for v, want := range map[masstransit.Version]masstransit.Verdict{masstransit.V7: c.v7, masstransit.V8: c.v8} {
			d := delivery(full, body(full, payloads[full], messageID))
			c.spoil(d)
			j := masstransit.Judge{Version: v}.Message(d)
			require.Equal(t, want, j.Verdict, "%s, version %d: %s", c.name, v, j.Reason)
		}
	}
}

func TestClassesWithDoubles(t *testing.T) {
	full := masstransit.TransactionMessage
	number := body(full, payloads[full], messageID)
	text := strings.Replace(number, `"amount":-1.15`, `"amount":"-1.15"`, 1)
	for _, v := range versions {
		require.Equal(t, masstransit.Consumed, masstransit.Judge{Version: v, Doubles: true}.Message(delivery(full, number)).Verdict)
	}
	require.Equal(t, masstransit.Consumed, masstransit.Judge{Version: masstransit.V7, Doubles: true}.Message(delivery(full, text)).Verdict)
	require.Equal(t, masstransit.ReceiveFault, masstransit.Judge{Version: masstransit.V8, Doubles: true}.Message(delivery(full, text)).Verdict)
}

func TestOnlySomeTypesHaveConsumers(t *testing.T) {
	full := masstransit.AspspCall
	j := masstransit.Judge{Version: masstransit.V8, Types: []string{masstransit.AccountMessage}}.Message(delivery(full, body(full, payloads[full], messageID)))
	require.Equal(t, masstransit.Skipped, j.Verdict)
}

// What came over the broker may be anything; the judge must answer.
func FuzzJudge(f *testing.F) {
	for full, payload := range payloads {
		f.Add([]byte(body(full, payload, messageID)))
	}
	f.Add([]byte(`{"messageType":[null],"message":[],"headers":{"a":1,"A":[{}]},"host":{}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range versions {
			d := &amqp.Delivery{Body: b}
			j := masstransit.Judge{Version: v}.Message(d)
			if j.Verdict == "" || j.Verdict != masstransit.Consumed && j.Reason == "" {
				t.Fatalf("no answer: %+v", j)
			}
		}
	})
}
