package banqup

import (
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// noCurrency stands for accounts that hold several (ISO 4217).
const noCurrency = "XXX"

func (m *message) account() bool {
	a := m.s.Account
	if a == nil {
		return false
	}
	m.open("data")
	m.int("id", int64(a.ID))
	m.balances(a)
	m.bank()
	m.text("currency", a.Currency)
	m.open("holderInformation")
	m.textOrNull("nameAddress", a.OwnerName)
	m.raw("relations", "[]") // no bank of the hub tells them
	m.close()
	m.textOrNull("holderType", holderType(a))
	switch business, known := isBusiness(a); {
	case !known:
		m.null("isBusiness")
	default:
		m.raw("isBusiness", strconv.FormatBool(business))
	}
	m.text("iban", iban(a))
	m.textOrNull("name", a.Name)
	m.close()

	m.open("embedded")
	m.embeddedUser()
	m.close()

	m.open("meta")
	m.time("timestamp", m.e.At)
	var trace bankfeed.UUID
	if m.s.Session != nil {
		trace = m.s.Session.TraceID
	}
	m.uuid("traceId", trace)
	m.text("operation", operation(m.e.Type))
	m.initiator()
	m.text("buildId", m.s.Build)
	m.text("containerId", m.s.Node)
	m.close()
	return true
}

// Usages of an account (Berlin Group).
const (
	usagePrivate  = "PRIV"
	usageBusiness = "ORGA"
)

// holderType is the bank's word, else what the usage says.
func holderType(a *bankfeed.Account) string {
	switch {
	case a.HolderType != "":
		return a.HolderType
	case a.Usage == usageBusiness:
		return "corporation"
	case a.Usage == usagePrivate:
		return "individual"
	}
	return ""
}

func isBusiness(a *bankfeed.Account) (business, known bool) {
	if a.IsBusiness != nil {
		return *a.IsBusiness, true
	}
	return a.Usage == usageBusiness, a.Usage == usageBusiness || a.Usage == usagePrivate
}

// BalanceTypes are the keys of the dictionary of balances, in the order of the
// page: ISO 20022 names, and other for what is none of them.
var BalanceTypes = []string{
	"closingAvailable", "closingBooked", "expected", "forwardAvailable", "information", "interimAvailable", "interimBooked",
	"openingAvailable", "openingBooked", "previouslyClosedBooked", otherBalance,
}

const otherBalance = "other"

// balanceCodes are the same types as ISO 20022 codes (ExternalBalanceType1Code).
var balanceCodes = map[string]string{
	"CLAV": "closingAvailable", "CLBD": "closingBooked", "XPCD": "expected", "FWAV": "forwardAvailable", "INFO": "information",
	"ITAV": "interimAvailable", "ITBD": "interimBooked", "OPAV": "openingAvailable", "OPBD": "openingBooked", "PRCD": "previouslyClosedBooked",
}

func balanceType(bank string) string {
	if t, ok := balanceCodes[bank]; ok {
		return t
	}
	for _, t := range BalanceTypes {
		if strings.EqualFold(t, bank) {
			return t
		}
	}
	return otherBalance
}

// balances writes the newest balance of each type in the account's currency, and
// no type that the bank did not give.
func (m *message) balances(a *bankfeed.Account) {
	m.open("balances")
	for _, t := range BalanceTypes {
		var newest *bankfeed.Balance
		for i := range a.Balances {
			b := &a.Balances[i]
			if balanceType(b.Type) == t && inCurrency(a, b) && (newest == nil || newer(b, newest)) {
				newest = b
			}
		}
		if newest == nil {
			continue
		}
		m.open(t)
		m.text("currency", newest.Money.Currency)
		if !m.day("date", newest.ReferenceDate) {
			m.time("date", balanceTime(newest))
		}
		m.decimal("value", newest.Money.Amount, false)
		m.close()
	}
	m.close()
}

func inCurrency(a *bankfeed.Account, b *bankfeed.Balance) bool {
	return b.Money.Currency == a.Currency || a.Currency == "" || a.Currency == noCurrency
}

// newer compares what the message shows as the dates, then when the bank was asked.
func newer(a, b *bankfeed.Balance) bool {
	if c := balanceTime(a).Compare(balanceTime(b)); c != 0 {
		return c > 0
	}
	return a.FetchedAt.After(b.FetchedAt)
}

// balanceTime is the day of the balance, else when it last changed, else when
// the hub read it.
func balanceTime(b *bankfeed.Balance) time.Time {
	switch {
	case isDay(b.ReferenceDate):
		return b.ReferenceDate.Time()
	case b.LastChangeAt != nil:
		return *b.LastChangeAt
	}
	return b.FetchedAt
}
