package banqup_test

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// contract has a row for each property of the vendor's page: its path, its type
// as a strict reader (MassTransit 8 on System.Text.Json) binds it, and ! for what
// is never null.
var contract = map[banqup.Kind]string{
	banqup.Account: `
		data.id int !
		data.balances.*.currency string !
		data.balances.*.date time !
		data.balances.*.value decimal !
		data.bankSwiftCode string !
		data.currency string !
		data.holderInformation.nameAddress string ?
		data.holderInformation.relations strings !
		data.holderType string ?
		data.isBusiness bool ?
		data.iban string !
		data.name string ?
		embedded.user.id string !
		embedded.user.businessContext individual|business !
		meta.timestamp time !
		meta.traceId uuid !
		meta.operation created|updated !
		meta.initiator user|backgroundTask !
		meta.buildId string !
		meta.containerId string !`,
	banqup.Transaction: `
		data.accountingDate time ?
		data.afterTransactionBalance decimal ?
		data.amount decimal !
		data.currency string ?
		data.effectiveDate time ?
		data.endToEndId string ?
		data.id string !
		data.recipient.accountIdentifier.type iban|bban|maskedPan|other !
		data.recipient.accountIdentifier.value string ?
		data.recipient.address string ?
		data.recipient.name string ?
		data.sender.accountIdentifier.type iban|bban|maskedPan|other !
		data.sender.accountIdentifier.value string ?
		data.sender.address string ?
		data.sender.name string ?
		data.status unauthorised|confirmed|added|booked|done|pending|rejected|cancelled|scheduled|hold|other !
		data.title string ?
		embedded.account.id int !
		embedded.account.iban string !
		embedded.user.id string !
		embedded.user.businessContext individual|business !
		meta.buildId string !
		meta.containerId string !
		meta.operation created|updated !
		meta.initiator user|backgroundTask !
		meta.timestamp time !`,
	banqup.Session: `
		data.id string !
		embedded.account.id int !
		embedded.account.iban string !
		embedded.user.id string !
		embedded.user.businessContext individual|business !
		embedded.session.id string !
		embedded.session.externalId string ?
		meta.buildId string !
		meta.containerId string !
		meta.initiator user|backgroundTask !
		meta.timestamp time !`,
	banqup.Consent: `
		data.id string !
		data.externalId string ?
		data.bankSwiftCode string !
		data.status received|rejected|confirmed|invalid !
		data.previousStatus received|rejected|confirmed|invalid !
		data.invalidationInfo.description string !
		data.invalidationInfo.invalidated time !
		data.invalidationInfo.reason Expired|RevokedByPsu|TerminatedByTpp|Replaced !
		data.scope Ais|Pis !
		embedded.user.id string !
		embedded.user.businessContext individual|business !
		embedded.accounts.[].currencyCode string ?
		embedded.accounts.[].iban string ?
		embedded.accounts.[].id int !
		meta.buildId string !
		meta.containerId string !
		meta.operation created|updated|deleted !
		meta.initiator user|backgroundTask !
		meta.timestamp time !`,
	banqup.Call: `
		bankSwiftCode string !
		endpointUrl string !
		errorResponseContent string ?
		exception string ?
		initiator user|backgroundTask !
		requestContext string !
		requestDuration timespan !
		session.externalId string ?
		session.id string !
		statusCode int !
		user.externalId string ?
		user.id string !
		timestamp time !
		executionId uuid !
		containerId string !
		buildId string !`,
}

// Objects that may be null as a whole.
var nullableObjects = []string{"data.recipient.accountIdentifier", "data.sender.accountIdentifier", "data.invalidationInfo"}

// strict reads one value as a strict reader binds it.
var strict = map[string]func(s banqup.Settings, raw string) bool{
	"string": func(_ banqup.Settings, raw string) bool { return raw[0] == '"' },
	"strings": func(_ banqup.Settings, raw string) bool {
		var list []string
		return raw[0] == '[' && json.Unmarshal([]byte(raw), &list) == nil
	},
	"bool": func(_ banqup.Settings, raw string) bool { return raw == "true" || raw == "false" },
	"int": func(_ banqup.Settings, raw string) bool {
		n, err := strconv.ParseInt(raw, 10, 64)
		return err == nil && n >= 0 && n <= math.MaxInt32
	},
	"decimal": func(s banqup.Settings, raw string) bool {
		if s.DecimalsAsText {
			return regexp.MustCompile(`^"-?(0|[1-9]\d*)(\.\d+)?"$`).MatchString(raw)
		}
		return regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?$`).MatchString(raw)
	},
	"time": func(_ banqup.Settings, raw string) bool {
		if !regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z"$`).MatchString(raw) {
			return false
		}
		_, err := time.Parse(time.RFC3339Nano, strings.Trim(raw, `"`))
		return err == nil
	},
	"timespan": func(_ banqup.Settings, raw string) bool {
		return regexp.MustCompile(`^"(\d+\.)?[0-2]\d:[0-5]\d:[0-5]\d(\.\d{7})?"$`).MatchString(raw)
	},
	"uuid": func(_ banqup.Settings, raw string) bool {
		_, err := bankfeed.ParseUUID(strings.Trim(raw, `"`))
		return err == nil && raw == strings.ToLower(raw)
	},
}

// obey checks a message against the contract, both ways: every property is there
// with the right type, and nothing else is.
func obey(t *testing.T, k banqup.Kind, s banqup.Settings, message []byte) {
	rows := strings.Split(strings.TrimSpace(contract[k]), "\n")
	props := make(map[string]bool, len(rows))
	for _, row := range rows {
		f := strings.Fields(row)
		require.Len(t, f, 3)
		props[f[0]] = true
		check, known := strict[f[1]]
		if !known {
			words := strings.Split(f[1], "|")
			check = func(_ banqup.Settings, raw string) bool { return slices.Contains(words, strings.Trim(raw, `"`)) }
		}
		each(t, s, message, "", strings.Split(f[0], "."), func(raw string, present bool) {
			switch {
			case !present:
				require.True(t, s.OmitNulls && f[2] == "?", "%s is missing", f[0])
			case raw == "null":
				require.True(t, f[2] == "?" && !s.OmitNulls, "%s is null", f[0])
			default:
				require.True(t, check(s, raw), "%s is no %s: %s", f[0], f[1], raw)
			}
		})
	}
	members(t, message, "", func(path string) {
		require.True(t, props[path] || slices.ContainsFunc(rows, func(r string) bool { return strings.HasPrefix(strings.TrimSpace(r), path+".") }),
			"%s is not on the page", path)
	})
}

// each visits the values at a path; * stands for any member, [] for any element.
func each(t *testing.T, s banqup.Settings, raw []byte, at string, path []string, visit func(raw string, present bool)) {
	if len(path) == 0 {
		visit(string(raw), true)
		return
	}
	if string(raw) == "null" {
		require.Contains(t, nullableObjects, at, "an object is null")
		require.False(t, s.OmitNulls, "%s is null", at)
		return
	}
	next := strings.TrimPrefix(at+"."+path[0], ".")
	if path[0] == "[]" {
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &list), at)
		require.Equal(t, byte('['), raw[0], at)
		for _, e := range list {
			each(t, s, e, next, path[1:], visit)
		}
		return
	}
	var object map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &object), at)
	if path[0] == "*" {
		for name, v := range object {
			require.Contains(t, banqup.BalanceTypes, name)
			each(t, s, v, next, path[1:], visit)
		}
		return
	}
	v, ok := object[path[0]]
	switch {
	case ok:
		each(t, s, v, next, path[1:], visit)
	case slices.Contains(nullableObjects, next):
		require.True(t, s.OmitNulls, "%s is missing", next)
	default:
		require.Len(t, path, 1, "%s is missing", next)
		visit("", false)
	}
}

// members visits the path of every member.
func members(t *testing.T, raw []byte, at string, visit func(path string)) {
	switch raw[0] {
	case '[':
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &list))
		for _, e := range list {
			if e[0] == '{' {
				members(t, e, at+".[]", visit)
			}
		}
	case '{':
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &object))
		for name, v := range object {
			if at == "data.balances" {
				name = "*"
			}
			path := strings.TrimPrefix(at+"."+name, ".")
			visit(path)
			members(t, v, path, visit)
		}
	}
}

func TestContract(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			g.Delivery = nil
			got := g.render(t)
			if string(got) == "null" {
				return
			}
			k, _ := banqup.KindOf(g.Event.Type)
			obey(t, k, g.Settings, got)
			for _, s := range []banqup.Settings{{}, {DecimalsAsText: true, OmitNulls: true}, {OmitNulls: true, AbsoluteAmounts: true}} {
				g.Settings = s
				obey(t, k, s, g.render(t))
			}
		})
	}
}

// The members of an envelope, in MassTransit's order.
func TestEnvelopeContract(t *testing.T) {
	all := []string{
		"messageId", "requestId", "correlationId", "conversationId", "initiatorId", "sourceAddress", "destinationAddress", "responseAddress", "faultAddress",
		"messageType", "message", "expirationTime", "sentTime", "headers", "host",
	}
	nulls := []string{"requestId", "correlationId", "initiatorId", "responseAddress", "faultAddress", "expirationTime"}
	for name, g := range goldens(t) {
		if g.Delivery == nil {
			continue
		}
		raw := g.render(t)
		d := json.NewDecoder(strings.NewReader(string(raw)))
		var names []string
		_, err := d.Token()
		require.NoError(t, err)
		for d.More() {
			n, err := d.Token()
			require.NoError(t, err)
			names = append(names, n.(string))
			var v json.RawMessage
			require.NoError(t, d.Decode(&v))
			require.Equal(t, slices.Contains(nulls, n.(string)), string(v) == "null", "%s: %s", name, n)
			if n == "message" {
				k, _ := banqup.KindOf(g.Event.Type)
				obey(t, k, g.Settings, v)
			}
		}
		want := all
		if g.Settings.OmitNulls {
			want = slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(nulls, n) })
		}
		require.Equal(t, want, names, name)
		var sent struct {
			Time json.RawMessage `json:"sentTime"`
		}
		require.NoError(t, json.Unmarshal(raw, &sent))
		require.True(t, strict["time"](g.Settings, string(sent.Time)))
		e, err := banqup.ParseEnvelope(raw)
		require.NoError(t, err)
		k, _ := banqup.KindOf(g.Event.Type)
		require.Equal(t, []string{k.URN()}, e.MessageType)
		require.NotEqual(t, e.MessageID, e.ConversationID)
		require.NotZero(t, e.ConversationID)
		require.Equal(t, bus.Host, e.Host)
		require.True(t, strings.HasPrefix(e.DestinationAddress, bus.Address+"/"))
	}
}

// The samples of the reference are messages, too.
func TestReferenceSamples(t *testing.T) {
	raw, err := os.ReadFile("../../docs/banqup.md")
	require.NoError(t, err)
	names := map[banqup.Kind]string{
		banqup.Account: "AccountMessage", banqup.Transaction: "TransactionMessage", banqup.Session: "SessionFinishedMessage",
		banqup.Consent: "ConsentMessage", banqup.Call: "AspspCall",
	}
	for k, name := range names {
		require.Contains(t, string(raw), "`"+k.Exchange()+"`")
		_, section, ok := strings.Cut(string(raw), "\n### "+name+"\n")
		require.True(t, ok, name)
		_, sample, _ := strings.Cut(section, "```json\n")
		sample, _, _ = strings.Cut(sample, "```")
		obey(t, k, banqup.Settings{}, []byte(sample))
	}
}
