package banqup

import (
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
)

func (m *message) transaction(absolute bool) bool {
	t := m.s.Transaction
	if t == nil {
		return false
	}
	m.open("data")
	m.dayOrNull("accountingDate", t.BookingDate)
	if t.BalanceAfter != nil {
		m.decimal("afterTransactionBalance", t.BalanceAfter.Amount, false)
	} else {
		m.null("afterTransactionBalance")
	}
	m.decimal("amount", t.Money.Amount, absolute)
	m.textOrNull("currency", m.currency(t))
	if !m.day("effectiveDate", t.TransactionDate) {
		m.dayOrNull("effectiveDate", t.ValueDate)
	}
	m.textOrNull("endToEndId", t.EndToEndID)
	m.name("id")
	m.b = append(strconv.AppendInt(append(m.b, '"'), int64(t.ID), 10), '"')
	m.party("recipient", &t.Creditor)
	m.party("sender", &t.Debtor)
	m.text("status", status(m.e.Type, t.Status))
	m.title(t)
	m.close()

	m.open("embedded")
	m.embeddedAccount()
	m.embeddedUser()
	m.close()
	m.meta(operation(m.e.Type))
	return true
}

// currency is the account's, as the page says; that of the transaction where the
// account has none of its own.
func (m *message) currency(t *bankfeed.Transaction) string {
	if a := m.s.Account; a != nil && a.Currency != "" && a.Currency != noCurrency {
		return a.Currency
	}
	return t.Money.Currency
}

// status is the page's word. A transaction that its bank took back is cancelled.
func status(e bankfeed.EventType, s bankfeed.TransactionStatus) string {
	if e == bankfeed.EventTransactionRemoved {
		return string(bankfeed.TransactionCancelled)
	}
	switch s {
	case bankfeed.TransactionBooked, bankfeed.TransactionDone, bankfeed.TransactionPending, bankfeed.TransactionHold,
		bankfeed.TransactionRejected, bankfeed.TransactionCancelled, bankfeed.TransactionScheduled:
		return string(s)
	case bankfeed.TransactionOther:
	}
	return string(bankfeed.TransactionOther)
}

// title is what the payer wrote: the lines of the remittance information, else
// the structured reference, else what the bank adds.
func (m *message) title(t *bankfeed.Transaction) {
	lines := t.Remittance
	if len(lines) == 0 {
		lines = t.Structured
	}
	switch len(lines) {
	case 0:
		m.textOrNull("title", t.AdditionalInfo)
	case 1:
		m.textOrNull("title", lines[0])
	default:
		m.text("title", strings.Join(lines, " "))
	}
}

// party writes a counterparty: always an object, for a bank that names only one
// side too.
func (m *message) party(name string, p *bankfeed.Party) {
	m.open(name)
	if p.Account.Value != "" {
		m.open("accountIdentifier")
		m.text("type", identifierType(p.Account.Type))
		m.text("value", p.Account.Value)
		m.close()
	} else {
		m.null("accountIdentifier")
	}
	m.textOrNull("address", p.Address)
	m.textOrNull("name", p.Name)
	m.close()
}

func identifierType(t bankfeed.IdentifierType) string {
	switch t {
	case bankfeed.IdentIBAN, bankfeed.IdentBBAN, bankfeed.IdentMaskedPAN:
		return string(t)
	case bankfeed.IdentMaskedIBAN:
		return string(bankfeed.IdentIBAN)
	case bankfeed.IdentOther:
	}
	return string(bankfeed.IdentOther)
}
