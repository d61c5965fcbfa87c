package banqup_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// The sample on the vendor's page for an account, with its marks taken out.
const pageAccount = `{"data":{"id":1,"balances":{"closingAvailable":{"currency":"PLN","date":"2021-01-05T12:05:19.876Z","value":1.0},
	"closingBooked":{"currency":"PLN","date":"2021-01-05T12:05:19.876Z","value":"1.0"}},"bankSwiftCode":"BREXPLPW","currency":"PLN",
	"holderInformation":{"nameAddress":null,"relations":["owner","proxyOwnerGeneral"]},"holderType":"individual","isBusiness":false,"iban":"PLxxxx1234","name":null},
	"embedded":{"user":{"id":"u","businessContext":"individual"}},
	"meta":{"timestamp":"2021-12-01T13:22:51.1872686Z","traceId":"debf5d7c-91e1-4ae3-aadc-ce938c6b1df4","operation":"created","initiator":"user","buildId":"20201130.4","containerId":"e1f64b0a5f32"}}`

func TestDecodeAccount(t *testing.T) {
	v, err := banqup.Decode(banqup.Account, []byte(pageAccount))
	require.NoError(t, err)
	no := false
	at := banqup.Time{Time: time.Date(2021, 1, 5, 12, 5, 19, 876e6, time.UTC)}
	require.Equal(t, &banqup.AccountMessage{
		Data: banqup.AccountData{
			ID: 1, BankSwiftCode: "BREXPLPW", Currency: "PLN", HolderType: "individual", IsBusiness: &no, IBAN: "PLxxxx1234",
			HolderInformation: banqup.HolderInformation{Relations: []string{"owner", "proxyOwnerGeneral"}},
			Balances: map[string]banqup.Balance{
				"closingAvailable": {Currency: "PLN", Date: at, Value: bankfeed.MustAmount("1.0")},
				"closingBooked":    {Currency: "PLN", Date: at, Value: bankfeed.MustAmount("1.0")},
			},
		},
		Embedded: banqup.AccountEmbedded{User: banqup.User{ID: "u", BusinessContext: bankfeed.Individual}},
		Meta: banqup.Meta{
			Timestamp: banqup.Time{Time: time.Date(2021, 12, 1, 13, 22, 51, 187268600, time.UTC)}, TraceID: "debf5d7c-91e1-4ae3-aadc-ce938c6b1df4",
			Operation: banqup.Created, Initiator: bankfeed.ByUser, BuildID: "20201130.4", ContainerID: "e1f64b0a5f32",
		},
	}, v)
}

// Each golden message is read back whole: written again by encoding/json it has
// the same members, but for nulls.
func TestDecodeGoldens(t *testing.T) {
	for name, g := range goldens(t) {
		g.Delivery = nil
		raw := g.render(t)
		if string(raw) == "null" {
			continue
		}
		k, _ := banqup.KindOf(g.Event.Type)
		v, err := banqup.Decode(k, raw)
		require.NoError(t, err, name)
		again, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, plain(t, raw), plain(t, again), name)
	}
}

// plain drops what a consumer cannot tell apart: null, "" and absent, and a
// decimal as text or as number.
func plain(t *testing.T, raw []byte) any {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v))
	return strip(v)
}

func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for n, m := range v {
			if m = strip(m); m == nil || m == "" {
				delete(v, n)
			} else {
				v[n] = m
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	case json.Number:
		return v.String()
	}
	return v
}

func TestDecodeErrorsNameThePlaceOnly(t *testing.T) {
	for body, field := range map[string]string{
		`{"data":{"id":"secret-17"}}`:                        "data.id",
		`{"data":{"id":4294967296}}`:                         "data.id",
		`{"data":{"isBusiness":"secret-17"}}`:                "data.isBusiness",
		`{"data":{"balances":{"other":{"value":"secret"}}}}`: "",
		`{"meta":{"timestamp":"secret"}}`:                    "",
		`{"data":secret`:                                     "",
	} {
		_, err := banqup.Decode(banqup.Account, []byte(body))
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "4294967296")
		require.ErrorContains(t, err, field)
	}
	_, err := banqup.Decode(banqup.Account, make([]byte, banqup.MaxBody+1))
	require.Equal(t, bankfeed.TooLarge, bankfeed.ErrorKindOf(err))
	_, err = banqup.Decode("payment", []byte("{}"))
	require.Error(t, err)
}

// As producers of all versions write it: names in any case, ids without dashes,
// a process id as text, times without a zone.
func TestParseEnvelope(t *testing.T) {
	e, err := banqup.ParseEnvelope([]byte(`{"MessageId":"7a0000009a3c0005181308d7e7027a0c","conversationid":"{7A000000-9A3C-0005-ED0B-08D7E7027A10}","correlationId":null,
		"MessageType":["urn:message:Other:Thing","URN:message:psd2hub.Services.PushService.Models:AspspCall"],"Message":{"statusCode":200,"RequestDuration":"1.02:03:04.5"},
		"sentTime":"2020-04-22T21:16:51.977832","headers":{"MT-Activity-Id":"x","n":1},"host":{"machineName":"m","processId":"17"},"extra":[1]}`))
	require.NoError(t, err)
	require.Equal(t, "7a000000-9a3c-0005-1813-08d7e7027a0c", e.MessageID.String())
	require.Equal(t, "7a000000-9a3c-0005-ed0b-08d7e7027a10", e.ConversationID.String())
	require.Zero(t, e.CorrelationID)
	require.Equal(t, time.Date(2020, 4, 22, 21, 16, 51, 977832e3, time.UTC), e.SentTime)
	require.Equal(t, "m", e.Host.MachineName)
	require.Equal(t, "x", e.Header("mt-activity-id"))
	require.Empty(t, e.Header("n"))
	k, ok := e.Kind()
	require.True(t, ok)
	require.Equal(t, banqup.Call, k)
	v, err := e.Decode()
	require.NoError(t, err)
	require.Equal(t, &banqup.AspspCall{StatusCode: 200, RequestDuration: banqup.TimeSpan(26*time.Hour + 3*time.Minute + 4500*time.Millisecond)}, v)

	e, err = banqup.ParseEnvelope([]byte(`{"messageType":["urn:message:Other:Thing"],"message":{}}`)) // the least that a consumer takes
	require.NoError(t, err)
	_, ok = e.Kind()
	require.False(t, ok)
	_, err = e.Decode()
	require.Error(t, err)

	for _, bad := range []string{
		``, `[]`, `null`, `{}`, `{"messageType":[],"message":{}}`, `{"messageType":["x"]}`, `{"messageType":["x"],"message":null}`, `{"messageType":["x"],"message":[]}`,
		`{"messageType":"x","message":{}}`, `{"messageId":"secret","messageType":["x"],"message":{}}`, `{"sentTime":"secret","messageType":["x"],"message":{}}`,
	} {
		_, err := banqup.ParseEnvelope([]byte(bad))
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), bad)
		require.NotContains(t, err.Error(), "secret")
	}
}

const fault = `{"messageId":"11111111-9a3c-0005-1813-08d7e7027a0c","messageType":["urn:message:MassTransit:Fault[[Psd2Hub.Services.PushService.Models.Finat.Streaming.Consents:ConsentMessage]]","urn:message:MassTransit:Fault"],
	"message":{"faultId":"22222222-9a3c-0005-1813-08d7e7027a0c","faultedMessageId":"019b76da-a801-8000-8000-010000001267","timestamp":"2026-03-02T09:30:15.1872686Z",
	"exceptions":[{"exceptionType":"System.InvalidOperationException","innerException":{"exceptionType":"x"},"stackTrace":"at A.B()","message":"no such customer","source":"Consumer","data":{"a":1}},{"exceptionType":"T","message":null}],
	"host":{"machineName":"consumer-1","processName":"dotnet","processId":1,"assembly":"c","massTransitVersion":"8.5.8.0"},
	"faultMessageTypes":["urn:message:Psd2Hub.Services.PushService.Models.Finat.Streaming.Consents:ConsentMessage"],"message":{"data":{}}}}`

const receiveFault = `{"messageType":["urn:message:MassTransit:ReceiveFault","urn:message:MassTransit:Fault"],
	"message":{"faultId":"22222222-9a3c-0005-1813-08d7e7027a0c","faultedMessageId":"019b76da-a801-8000-8000-010000001267","timestamp":"2026-03-02T09:30:15Z",
	"exceptions":[{"exceptionType":"System.Text.Json.JsonException","message":"The JSON value could not be converted"}],"host":{"machineName":"consumer-1"},"faultMessageTypes":null,"contentType":"application/vnd.masstransit+json"}}`

func TestParseFault(t *testing.T) {
	f, err := banqup.ParseFault([]byte(fault))
	require.NoError(t, err)
	require.Equal(t, &banqup.Fault{
		ID: mustUUID(t, "22222222-9a3c-0005-1813-08d7e7027a0c"), Message: mustUUID(t, "019b76da-a801-8000-8000-010000001267"), Kind: banqup.Consent,
		At:         time.Date(2026, 3, 2, 9, 30, 15, 187268600, time.UTC),
		Exceptions: []banqup.Exception{{Type: "System.InvalidOperationException", Text: "no such customer"}, {Type: "T"}},
		Host:       banqup.Host{MachineName: "consumer-1", ProcessName: "dotnet", ProcessID: 1, Assembly: "c", MassTransitVersion: "8.5.8.0"},
	}, f)

	f, err = banqup.ParseFault([]byte(receiveFault))
	require.NoError(t, err)
	require.Empty(t, f.Kind)
	require.Equal(t, mustUUID(t, "019b76da-a801-8000-8000-010000001267"), f.Message)
	require.Equal(t, "System.Text.Json.JsonException", f.Exceptions[0].Type)

	// By one of both signs alone, without an id, and of somebody else's message.
	only := strings.NewReplacer(`"faultMessageTypes":["urn:message:Psd2Hub.Services.PushService.Models.Finat.Streaming.Consents:ConsentMessage"],`, "")
	f, err = banqup.ParseFault([]byte(only.Replace(fault)))
	require.NoError(t, err)
	require.Equal(t, banqup.Consent, f.Kind)
	f, err = banqup.ParseFault([]byte(`{"messageType":["urn:message:MassTransit:Fault"],"message":{"faultedMessageId":null,"faultMessageTypes":["urn:message:Psd2Hub.Services.PushService.Models:AspspCall"]}}`))
	require.NoError(t, err)
	require.Equal(t, &banqup.Fault{Kind: banqup.Call}, f)
	f, err = banqup.ParseFault([]byte(`{"messageType":["urn:message:MassTransit:Fault[[Orders:Order]]"],"message":{"faultMessageTypes":["urn:message:Orders:Order"]}}`))
	require.NoError(t, err)
	require.Empty(t, f.Kind)

	for _, bad := range []string{`{}`, strings.ReplaceAll(fault, "MassTransit:Fault", "MassTransit:Fau"), strings.Replace(fault, "019b76da", "secret", 1)} {
		_, err := banqup.ParseFault([]byte(bad))
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		require.NotContains(t, err.Error(), "secret")
	}
}

// Whoever may write to the broker may write a fault of any size.
func TestFaultsAreCut(t *testing.T) {
	one := `{"exceptionType":"T","message":"` + strings.Repeat("ż", 5000) + `"}`
	f, err := banqup.ParseFault([]byte(`{"messageType":["urn:message:MassTransit:ReceiveFault"],"message":{"exceptions":[` + strings.TrimSuffix(strings.Repeat(one+",", 100), ",") + `]}}`))
	require.NoError(t, err)
	require.Len(t, f.Exceptions, 16)
	require.Equal(t, strings.Repeat("ż", 2048), f.Exceptions[0].Text)
	_, err = banqup.ParseFault(make([]byte, banqup.MaxBody+1))
	require.Equal(t, bankfeed.TooLarge, bankfeed.ErrorKindOf(err))
}

func mustUUID(t *testing.T, s string) bankfeed.UUID {
	u, err := bankfeed.ParseUUID(s)
	require.NoError(t, err)
	return u
}

func TestTimeSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "00:00:00", 99: "00:00:00", 100: "00:00:00.0000001", 14317700: "00:00:00.0143177", time.Second: "00:00:01",
		90*time.Minute + 500*time.Millisecond: "01:30:00.5000000", 24 * time.Hour: "1.00:00:00", -time.Minute: "-00:01:00",
		1<<63 - 1: "106751.23:47:16.8547758", -1 << 63: "-106751.23:47:16.8547758",
	} {
		require.Equal(t, want, banqup.TimeSpan(d).String())
		var back banqup.TimeSpan
		require.NoError(t, back.UnmarshalText([]byte(want)))
		require.Equal(t, d/100*100, time.Duration(back))
	}
	for _, bad := range []string{"", "1", "00:00", "24:00:00", "00:60:00", "00:00:60", "00:00:00.12345678", "-", "a:b:c", "1.2.3:00:00", "999999.00:00:00", "00:00:00:00", "--00:00:01", "+1:00:00"} {
		require.Error(t, new(banqup.TimeSpan).UnmarshalText([]byte(bad)), bad)
	}
}

func TestTime(t *testing.T) {
	for want, at := range map[string]time.Time{
		`"2026-03-02T09:30:15Z"`:         time.Date(2026, 3, 2, 9, 30, 15, 99, time.UTC),
		`"2026-03-02T09:30:15.0000001Z"`: time.Date(2026, 3, 2, 9, 30, 15, 199, time.UTC),
		`"2026-03-02T09:30:15.5Z"`:       time.Date(2026, 3, 2, 10, 30, 15, 5e8, time.FixedZone("", 3600)),
		`"0001-01-01T00:00:00Z"`:         {},
		`"9999-12-31T23:59:59.9999999Z"`: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		b, err := json.Marshal(banqup.Time{Time: at})
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	b, err := json.Marshal(banqup.Time{Time: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	require.JSONEq(t, `"0001-01-01T00:00:00Z"`, string(b))
	var back banqup.Time
	for _, bad := range []string{`"yesterday"`, `5`, `"2026-03-02"`, `{}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &back), bad)
	}
	require.NoError(t, json.Unmarshal([]byte("null"), &back))
	require.Zero(t, back)
}

func FuzzParseEnvelope(f *testing.F) {
	e := transactionEvent()
	m, _ := banqup.AppendMessage(nil, e, banqup.Settings{})
	f.Add(bus.AppendEnvelope(nil, banqup.Transaction, banqup.Delivery{MessageID: e.ID(), SentTime: e.At}, m))
	for _, k := range banqup.Kinds {
		f.Add([]byte(`{"messageType":["` + k.URN() + `"],"message":` + pageAccount + `}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := banqup.ParseEnvelope(body)
		if err != nil {
			if k := bankfeed.ErrorKindOf(err); k != bankfeed.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		k, ok := e.Kind()
		v, err := e.Decode()
		if !ok && err == nil || err == nil && v == nil {
			t.Fatalf("%q was read as %v", k, v)
		}
		e.Original()
	})
}

func FuzzParseFault(f *testing.F) {
	f.Add([]byte(fault))
	f.Add([]byte(receiveFault))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := banqup.ParseFault(body)
		if err == nil && len(v.Exceptions) > 16 {
			t.Fatal("unbounded")
		}
	})
}

func FuzzTimeSpan(f *testing.F) {
	f.Add("1.02:03:04.0000005")
	f.Add("-00:00:00")
	f.Fuzz(func(t *testing.T, s string) {
		var d, back banqup.TimeSpan
		if d.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := back.UnmarshalText([]byte(d.String())); err != nil || back != d {
			t.Fatalf("%q became %s and then %s (%v)", s, d, back, err)
		}
	})
}
