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

// message renders an event and reads it back.
func message[T any](t *testing.T, e *bankfeed.Event, s banqup.Settings) *T {
	b, err := banqup.AppendMessage([]byte("before"), e, s)
	require.NoError(t, err)
	require.Equal(t, "before", string(b[:6]), "what was there stays")
	k, ok := banqup.KindOf(e.Type)
	require.True(t, ok)
	v, err := banqup.Decode(k, b[6:])
	require.NoError(t, err)
	m, ok := v.(*T)
	require.True(t, ok)
	return m
}

func event(typ bankfeed.EventType, change func(s *bankfeed.Snapshot)) *bankfeed.Event {
	e := transactionEvent()
	e.Type = typ
	e.Snapshot.Consent = &bankfeed.Consent{ID: 4, Status: bankfeed.ConsentConfirmed, Previous: bankfeed.ConsentReceived}
	e.Snapshot.Call = &bankfeed.BankCall{Status: 200, At: e.At}
	if change != nil {
		change(e.Snapshot)
	}
	return e
}

func TestErased(t *testing.T) {
	for typ := range kinds() {
		b, err := banqup.AppendMessage([]byte("before"), &bankfeed.Event{Type: typ}, banqup.Settings{})
		require.ErrorIs(t, err, banqup.ErrErased)
		require.Equal(t, "before", string(b))
	}
}

func kinds() map[bankfeed.EventType]banqup.Kind {
	all := map[bankfeed.EventType]banqup.Kind{}
	for _, i := range bankfeed.EventTypes {
		if k, ok := banqup.KindOf(i.Type); ok {
			all[i.Type] = k
		}
	}
	return all
}

func TestWhatHasNoMessageFails(t *testing.T) {
	_, err := banqup.AppendMessage(nil, event(bankfeed.EventSyncStarted, nil), banqup.Settings{})
	require.Error(t, err)
	require.NotErrorIs(t, err, banqup.ErrErased)
	for typ, k := range kinds() {
		b, err := banqup.AppendMessage(nil, &bankfeed.Event{Type: typ, Account: 12, Snapshot: &bankfeed.Snapshot{}}, banqup.Settings{})
		if k == banqup.Session { // says all it must by the event alone
			require.NoError(t, err)
			require.True(t, json.Valid(b))
			continue
		}
		require.ErrorContains(t, err, string(typ))
		require.NotErrorIs(t, err, banqup.ErrErased)
	}
}

func TestOperations(t *testing.T) {
	for typ, want := range map[bankfeed.EventType]string{
		"account.created": "created", "account.updated": "updated", "account.seen": "updated",
		"transaction.created": "created", "transaction.updated": "updated", "transaction.seen": "updated", "transaction.removed": "updated",
		"consent.created": "created", "consent.updated": "updated", "consent.deleted": "deleted", "session.account_finished": "",
	} {
		b, err := banqup.AppendMessage(nil, event(typ, nil), banqup.Settings{})
		require.NoError(t, err)
		var m struct {
			Meta struct {
				Operation string `json:"operation"`
			} `json:"meta"`
		}
		require.NoError(t, json.Unmarshal(b, &m))
		require.Equal(t, want, m.Meta.Operation, typ)
	}
	_, ok := banqup.KindOf(bankfeed.EventAccountRemoved)
	require.False(t, ok, "a removed account has no message")
	_, ok = banqup.KindOf(bankfeed.EventConsentExpiring)
	require.False(t, ok, "a warning is no message")
}

func TestIBANIsNeverNull(t *testing.T) {
	id := func(pairs ...string) (list []bankfeed.Identifier) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, bankfeed.Identifier{Type: bankfeed.IdentifierType(pairs[i]), Value: pairs[i+1]})
		}
		return list
	}
	for want, list := range map[string][]bankfeed.Identifier{
		"PL1":    id("maskedPan", "4xx1", "bban", "11", "iban", "PL1"),
		"PLxx1":  id("bban", "11", "maskedIban", "PLxx1"),
		"11":     id("maskedPan", "4xx1", "bban", "11"),
		"4xx1":   id("other", "o", "maskedPan", "4xx1"),
		"o":      id("other", "o"),
		"":       nil,
		"PLxx22": id("iban", "", "maskedIban", "PLxx22"),
	} {
		e := event(bankfeed.EventAccountUpdated, func(s *bankfeed.Snapshot) { s.Account.Identifiers = list })
		require.Equal(t, want, message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.IBAN)
		e.Type = bankfeed.EventTransactionCreated
		require.Equal(t, banqup.AccountRef{ID: 12, IBAN: want}, message[banqup.TransactionMessage](t, e, banqup.Settings{}).Embedded.Account)
		e.Type = bankfeed.EventAccountFinished
		require.Equal(t, want, message[banqup.SessionFinishedMessage](t, e, banqup.Settings{}).Embedded.Account.IBAN)
	}
}

func TestBank(t *testing.T) {
	e := event(bankfeed.EventAccountCreated, func(s *bankfeed.Snapshot) { s.Account.BIC = "BREXPLPWMBK" })
	require.Equal(t, "BREXPLPW", message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.BankSwiftCode, "the bank's profile, not the account's branch")
	e.Snapshot.Connection.BIC = ""
	require.Equal(t, "BREXPLPWMBK", message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.BankSwiftCode)
	e.Snapshot.Account.BIC = ""
	require.Empty(t, message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.BankSwiftCode)
}

func TestHolder(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		account  bankfeed.Account
		holder   string
		business *bool
	}{
		{bankfeed.Account{}, "", nil},
		{bankfeed.Account{Usage: "ORGA"}, "corporation", &yes},
		{bankfeed.Account{Usage: "PRIV"}, "individual", &no},
		{bankfeed.Account{Usage: "PRIV", IsBusiness: &yes}, "individual", &yes}, // the profile's rule on the product
		{bankfeed.Account{HolderType: "corporation"}, "corporation", nil},
		{bankfeed.Account{HolderType: "corporation", Usage: "PRIV"}, "corporation", &no},
		{bankfeed.Account{Usage: "other"}, "", nil},
	} {
		e := event(bankfeed.EventAccountCreated, func(s *bankfeed.Snapshot) {
			s.Account, s.User.BusinessContext = &c.account, bankfeed.Business // which says nothing about the account
		})
		d := message[banqup.AccountMessage](t, e, banqup.Settings{}).Data
		require.Equal(t, c.holder, d.HolderType)
		require.Equal(t, c.business, d.IsBusiness)
		require.NotNil(t, d.HolderInformation.Relations)
		require.Empty(t, d.HolderInformation.Relations)
	}
}

func TestBalances(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 30, 14, 876e6, time.UTC)
	earlier := at.Add(-time.Hour)
	balance := func(typ, amount, currency string, day bankfeed.Date, changed *time.Time) bankfeed.Balance {
		return bankfeed.Balance{Type: typ, Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: currency}, ReferenceDate: day, LastChangeAt: changed, FetchedAt: at}
	}
	e := event(bankfeed.EventAccountCreated, func(s *bankfeed.Snapshot) {
		s.Account.Balances = []bankfeed.Balance{
			balance("closingBooked", "1", "PLN", "2026-02-27", nil),
			balance("closingBooked", "2", "PLN", "2026-02-28", &at),
			balance("closingBooked", "3", "EUR", "2026-03-02", nil),
			balance("interimAvailable", "4", "PLN", "", &earlier),
			balance("InterimAvailable", "5", "PLN", "2026-03-01", nil),
			balance("nonInvoiced", "6", "PLN", "2026-03-01", nil),
			balance("authorised", "7", "PLN", "", nil),
			balance("PRCD", "8.10", "PLN", "2026-02-30", nil), // no such day
		}
	})
	type shown struct{ date, value string }
	got := map[string]shown{}
	for k, b := range message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.Balances {
		require.Equal(t, "PLN", b.Currency)
		got[k] = shown{b.Date.Format(time.RFC3339Nano), b.Value.String()}
	}
	require.Equal(t, map[string]shown{
		"closingBooked":          {"2026-02-28T00:00:00Z", "2"},
		"interimAvailable":       {"2026-03-02T08:30:14.876Z", "4"},
		"other":                  {"2026-03-02T09:30:14.876Z", "7"},
		"previouslyClosedBooked": {"2026-03-02T09:30:14.876Z", "8.10"},
	}, got)

	e.Snapshot.Account.Currency = "XXX" // several: the newest of all of them
	got = map[string]shown{}
	for k, b := range message[banqup.AccountMessage](t, e, banqup.Settings{}).Data.Balances {
		got[k] = shown{b.Currency, b.Value.String()}
	}
	require.Equal(t, shown{"EUR", "3"}, got["closingBooked"])
}

func TestTransactionCurrencyIsTheAccounts(t *testing.T) {
	e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) { s.Transaction.Money.Currency = "EUR" })
	require.Equal(t, "PLN", message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.Currency)
	for _, none := range []string{"", "XXX"} {
		e.Snapshot.Account.Currency = none
		require.Equal(t, "EUR", message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.Currency)
	}
}

func TestTransactionStatus(t *testing.T) {
	for in, want := range map[bankfeed.TransactionStatus]bankfeed.TransactionStatus{
		"booked": "booked", "done": "done", "pending": "pending", "hold": "hold", "rejected": "rejected", "cancelled": "cancelled",
		"scheduled": "scheduled", "other": "other", "": "other", "new": "other",
	} {
		e := event(bankfeed.EventTransactionUpdated, func(s *bankfeed.Snapshot) { s.Transaction.Status = in })
		require.Equal(t, want, message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.Status)
		e.Type = bankfeed.EventTransactionRemoved
		require.EqualValues(t, "cancelled", message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.Status)
	}
}

func TestAmounts(t *testing.T) {
	for _, text := range []string{"-0.10", "1.15", "0.00", "12", "999999999999.99", "-123456789012345678901234567.890"} {
		e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) { s.Transaction.Money.Amount = bankfeed.MustAmount(text) })
		for s, want := range map[banqup.Settings]string{
			{}: text, {DecimalsAsText: true}: `"` + text + `"`, {AbsoluteAmounts: true}: strings.TrimPrefix(text, "-"),
			{DecimalsAsText: true, AbsoluteAmounts: true}: `"` + strings.TrimPrefix(text, "-") + `"`,
		} {
			b, err := banqup.AppendMessage(nil, e, s)
			require.NoError(t, err)
			require.Contains(t, string(b), `"amount":`+want+`,`)
			require.Equal(t, strings.Trim(want, `"`), message[banqup.TransactionMessage](t, e, s).Data.Amount.String())
		}
	}
}

func TestDaysAreNotShifted(t *testing.T) {
	warsaw := time.FixedZone("", 3600)
	for day, want := range map[bankfeed.Date]string{
		"2026-03-01": `"2026-03-01T00:00:00Z"`, "2024-02-29": `"2024-02-29T00:00:00Z"`, "2026-12-31": `"2026-12-31T00:00:00Z"`, "0001-01-01": `"0001-01-01T00:00:00Z"`,
		"": "null", "2025-02-29": "null", "2026-13-01": "null", "2026-00-10": "null", "0000-01-01": "null", "yesterday!": "null", "2026-03-1\"": "null",
	} {
		e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) { s.Transaction.BookingDate = day })
		e.At = e.At.In(warsaw)
		b, err := banqup.AppendMessage(nil, e, banqup.Settings{})
		require.NoError(t, err)
		require.Contains(t, string(b), `{"accountingDate":`+want+`,`)
		require.Contains(t, string(b), `"timestamp":"2026-03-02T09:30:15.1872686Z"`)
	}
}

func TestEffectiveDate(t *testing.T) {
	for _, c := range [][3]bankfeed.Date{
		{"2026-01-01", "2026-01-02", "2026-01-01"}, {"", "2026-01-02", "2026-01-02"}, {"never", "2026-01-02", "2026-01-02"}, {"", "", ""},
	} {
		e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) { s.Transaction.TransactionDate, s.Transaction.ValueDate = c[0], c[1] })
		got := message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.EffectiveDate
		if c[2] == "" {
			require.Nil(t, got)
		} else {
			require.Equal(t, c[2], bankfeed.DateOf(got.Time))
		}
	}
}

func TestTitle(t *testing.T) {
	for _, c := range []struct {
		remittance, structured []string
		additional, want       string
	}{
		{[]string{"one"}, []string{"RF1"}, "more", "one"},
		{[]string{"one", "two"}, nil, "more", "one two"},
		{nil, []string{"RF1"}, "more", "RF1"},
		{nil, nil, "more", "more"},
		{nil, nil, "", ""},
	} {
		e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) {
			s.Transaction.Remittance, s.Transaction.Structured, s.Transaction.AdditionalInfo = c.remittance, c.structured, c.additional
		})
		require.Equal(t, c.want, message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data.Title)
	}
}

func TestIdentifierTypes(t *testing.T) {
	for in, want := range map[bankfeed.IdentifierType]string{
		"iban": "iban", "maskedIban": "iban", "bban": "bban", "maskedPan": "maskedPan", "other": "other", "": "other", "msisdn": "other",
	} {
		e := event(bankfeed.EventTransactionCreated, func(s *bankfeed.Snapshot) {
			s.Transaction.Debtor.Account = bankfeed.Identifier{Type: in, Value: "1"}
		})
		d := message[banqup.TransactionMessage](t, e, banqup.Settings{}).Data
		require.Equal(t, &banqup.AccountIdentifier{Type: want, Value: "1"}, d.Sender.AccountIdentifier)
	}
}

func TestWhoTheUserIs(t *testing.T) {
	id := uuid(bankfeed.KindUser, 3).String()
	for _, external := range []string{"anna", ""} {
		set := func(s *bankfeed.Snapshot) { s.User.ExternalID, s.User.BusinessContext = external, "" }
		user := banqup.User{ID: id, BusinessContext: bankfeed.Individual}
		require.Equal(t, user, message[banqup.AccountMessage](t, event(bankfeed.EventAccountCreated, set), banqup.Settings{}).Embedded.User)
		require.Equal(t, user, message[banqup.TransactionMessage](t, event(bankfeed.EventTransactionSeen, set), banqup.Settings{}).Embedded.User)
		require.Equal(t, user, message[banqup.SessionFinishedMessage](t, event(bankfeed.EventAccountFinished, set), banqup.Settings{}).Embedded.User)
		require.Equal(t, banqup.UserRef{ID: id, ExternalID: external}, message[banqup.AspspCall](t, event(bankfeed.EventBankCalled, set), banqup.Settings{}).User)
		if external != "" {
			user.ID = external
		}
		require.Equal(t, user, message[banqup.ConsentMessage](t, event(bankfeed.EventConsentCreated, set), banqup.Settings{}).Embedded.User)
	}
}

func TestOutsideOfASession(t *testing.T) {
	const zero = "00000000-0000-0000-0000-000000000000"
	none := func(s *bankfeed.Snapshot) {
		s.Session, s.User, s.Connection, s.Initiator = nil, bankfeed.UserRef{}, nil, ""
	}
	a := message[banqup.AccountMessage](t, event(bankfeed.EventAccountUpdated, none), banqup.Settings{})
	require.Equal(t, []string{zero, zero, "backgroundTask"}, []string{a.Meta.TraceID, a.Embedded.User.ID, string(a.Meta.Initiator)})
	f := message[banqup.SessionFinishedMessage](t, event(bankfeed.EventAccountFinished, none), banqup.Settings{})
	require.Equal(t, banqup.SessionRef{ID: zero}, f.Embedded.Session)
	c := message[banqup.AspspCall](t, event(bankfeed.EventBankCalled, none), banqup.Settings{})
	require.Equal(t, []string{zero, zero}, []string{c.Session.ID, c.User.ID})
	k := message[banqup.ConsentMessage](t, event(bankfeed.EventConsentUpdated, none), banqup.Settings{})
	require.Equal(t, []string{zero, zero}, []string{k.Data.ID, k.Embedded.User.ID})
}

func TestConsentStatus(t *testing.T) {
	for _, c := range []struct{ status, previous, want, before bankfeed.ConsentStatus }{
		{"confirmed", "received", "confirmed", "received"},
		{"confirmed", "", "confirmed", "received"},
		{"invalid", "confirmed", "invalid", "confirmed"},
		{"invalid", "", "invalid", "confirmed"},
		{"deleted", "invalid", "invalid", "confirmed"}, // as older snapshots may have it
		{"deleted", "confirmed", "confirmed", "received"},
		{"deleted", "", "confirmed", "received"},
	} {
		e := event(bankfeed.EventConsentDeleted, func(s *bankfeed.Snapshot) {
			s.Consent.Status, s.Consent.Previous = c.status, c.previous
			s.Consent.Invalidation = &bankfeed.Invalidation{At: time.Date(2026, 5, 1, 0, 0, 5, 0, time.UTC)}
		})
		d := message[banqup.ConsentMessage](t, e, banqup.Settings{}).Data
		require.Equal(t, c.want, d.Status)
		require.Equal(t, c.before, d.PreviousStatus)
		require.Equal(t, uuid(bankfeed.KindConsent, 4).String(), d.ID, "the id under which the API knows it")
		require.Equal(t, "Ais", d.Scope)
		require.Equal(t, c.want == bankfeed.ConsentInvalid, d.InvalidationInfo != nil)
		if i := d.InvalidationInfo; i != nil {
			require.Equal(t, banqup.InvalidationInfo{Reason: bankfeed.InvalidExpired, Invalidated: i.Invalidated}, *i)
			require.Equal(t, "2026-05-01", i.Invalidated.Format(time.DateOnly))
		}
	}
	// Not known why or when: as of now.
	e := event(bankfeed.EventConsentUpdated, func(s *bankfeed.Snapshot) { s.Consent.Status = bankfeed.ConsentInvalid })
	require.Equal(t, e.At.Truncate(100), message[banqup.ConsentMessage](t, e, banqup.Settings{}).Data.InvalidationInfo.Invalidated.Time)
}

func TestCallWithoutAnswer(t *testing.T) {
	e := event(bankfeed.EventBankCalled, func(s *bankfeed.Snapshot) { s.Call.Status, s.Call.Exception = 0, "connection refused" })
	c := message[banqup.AspspCall](t, e, banqup.Settings{})
	require.Zero(t, c.StatusCode)
	require.Equal(t, "connection refused", c.Exception)
	e.Snapshot.Call.Exception = ""
	require.NotEmpty(t, message[banqup.AspspCall](t, e, banqup.Settings{}).Exception, "0 without a reason explains nothing")
	e.Snapshot.Call.Status = 500
	require.Empty(t, message[banqup.AspspCall](t, e, banqup.Settings{}).Exception)
}

// Everything that the stream can say twice is said in the same bytes.
func TestPure(t *testing.T) {
	for typ, k := range kinds() {
		e := event(typ, nil)
		one, err := banqup.AppendMessage(nil, e, banqup.Settings{})
		require.NoError(t, err)
		two, err := banqup.AppendMessage(make([]byte, 0, 4096), event(typ, nil), banqup.Settings{})
		require.NoError(t, err)
		require.Equal(t, string(one), string(two))
		first := banqup.Delivery{MessageID: e.ID(), SentTime: e.At}
		require.Equal(t, bus.AppendEnvelope(nil, k, first, one), bus.AppendEnvelope(nil, k, first, two))

		replay := banqup.Delivery{MessageID: bankfeed.EventID(installation.Epoch+1, 1, 0, 4711), Original: e.ID(), SentTime: e.At.Add(time.Hour)}
		a, err := banqup.ParseEnvelope(bus.AppendEnvelope(nil, k, first, one))
		require.NoError(t, err)
		b, err := banqup.ParseEnvelope(bus.AppendEnvelope(nil, k, replay, one))
		require.NoError(t, err)
		require.Equal(t, string(a.Message), string(b.Message))
		require.NotEqual(t, a.MessageID, b.MessageID)
		require.NotEqual(t, a.ConversationID, b.ConversationID)
		require.Equal(t, a.MessageID, a.Original())
		require.Equal(t, a.MessageID, b.Original())
		require.Empty(t, a.Headers)
		require.Nil(t, first.Headers())
		require.Equal(t, replay.Headers(), b.Headers, "the same in the envelope as in AMQP")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("Zażółć <&> \"x\"", "\x00\x1f\x7f\u2028", "\xff\xfe", int64(-1), int64(1e15), uint8(0))
	f.Add("\ufffd", "\\", "a\xc3", int64(1<<62), int64(-1<<62), uint8(7))
	f.Fuzz(func(t *testing.T, a, b, c string, n, at int64, set uint8) {
		s := banqup.Settings{DecimalsAsText: set&1 != 0, OmitNulls: set&2 != 0, AbsoluteAmounts: set&4 != 0}
		for typ, k := range kinds() {
			e := event(typ, func(s *bankfeed.Snapshot) {
				s.User.ExternalID, s.Build, s.Node, s.Initiator, s.Connection.BIC = a, b, c, bankfeed.Initiator(a), c
				s.Account.Name, s.Account.OwnerName, s.Account.Currency, s.Account.HolderType = a, b, c, a
				s.Account.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentOther, Value: b}}
				s.Account.Balances = []bankfeed.Balance{{Type: a, Money: bankfeed.Money{Currency: c}, ReferenceDate: bankfeed.Date(b), FetchedAt: time.Unix(at, n)}}
				s.Transaction.Remittance, s.Transaction.EndToEndID, s.Transaction.BookingDate = []string{a, b}, c, bankfeed.Date(b)
				s.Transaction.Creditor = bankfeed.Party{Name: a, Address: b, Account: bankfeed.Identifier{Type: bankfeed.IdentifierType(c), Value: a}}
				s.Session.ExternalID = c
				s.Consent.ExternalID, s.Consent.Accounts = a, []bankfeed.ConsentAccount{{ID: 1, IBAN: b, Currency: c}}
				s.Consent.Status, s.Consent.Invalidation = bankfeed.ConsentInvalid, &bankfeed.Invalidation{At: time.Unix(at, 0), Description: a}
				s.Call.URL, s.Call.ErrorBody, s.Call.Exception, s.Call.Duration = a, b, c, time.Duration(n)
			})
			e.At = time.Unix(at, n)
			m, err := banqup.AppendMessage(nil, e, s)
			if err != nil {
				t.Fatal(err)
			}
			bus := banqup.Bus{Address: a, Source: b, Host: banqup.Host{MachineName: c}, OmitNulls: s.OmitNulls}
			envelope := bus.AppendEnvelope(nil, k, banqup.Delivery{MessageID: e.ID(), SentTime: e.At, Queue: a}, m)
			if !json.Valid(envelope) {
				t.Fatalf("%s", envelope)
			}
			p, err := banqup.ParseEnvelope(envelope)
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.Decode()
			if err != nil {
				t.Fatalf("%v: %s", err, m)
			}
			var got, want string
			switch v := v.(type) {
			case *banqup.AccountMessage:
				got, want = v.Data.Name, a
			case *banqup.TransactionMessage:
				got, want = v.Data.Recipient.Address, b
			case *banqup.SessionFinishedMessage:
				got, want = v.Embedded.Session.ExternalID, c
			case *banqup.ConsentMessage:
				got, want = v.Embedded.Accounts[0].IBAN, b
			case *banqup.AspspCall:
				got, want = v.EndpointURL, a
				if d := time.Duration(v.RequestDuration); d != time.Duration(n)/100*100 {
					t.Fatalf("%d ns came back as %d", n, d)
				}
			}
			if want = strings.ToValidUTF8(replaceEach(want), "\uFFFD"); got != want {
				t.Fatalf("%q came back as %q", want, got)
			}
		}
	})
}

// replaceEach replaces every byte that is not UTF-8, not every run of them.
func replaceEach(s string) string { return string([]rune(s)) }
