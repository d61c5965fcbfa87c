package oxlin

import (
	"encoding/json"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// TransactionStatus is the state of a transaction.
type TransactionStatus string

// TransactionStatuses is the vendor's list. The hub never sends EXPIRED or
// REFUNDED.
var TransactionStatuses = []TransactionStatus{"BOOKED", "PENDING", "OTHER", "EXPIRED", "REJECTED", "CANCELLED", "REFUNDED"}

var transactionStatusOf = map[bankfeed.TransactionStatus]TransactionStatus{
	bankfeed.TransactionBooked:    "BOOKED",
	bankfeed.TransactionDone:      "BOOKED",
	bankfeed.TransactionPending:   "PENDING",
	bankfeed.TransactionHold:      "PENDING",
	bankfeed.TransactionRejected:  "REJECTED",
	bankfeed.TransactionCancelled: "CANCELLED",
	bankfeed.TransactionScheduled: "OTHER",
	bankfeed.TransactionOther:     "OTHER",
}

// HubStatuses are the hub's statuses that show as s; none for a status that
// the hub never sends.
func (s TransactionStatus) HubStatuses() []bankfeed.TransactionStatus {
	var hub []bankfeed.TransactionStatus
	for _, h := range [...]bankfeed.TransactionStatus{
		bankfeed.TransactionBooked, bankfeed.TransactionDone, bankfeed.TransactionPending, bankfeed.TransactionHold,
		bankfeed.TransactionRejected, bankfeed.TransactionCancelled, bankfeed.TransactionScheduled, bankfeed.TransactionOther,
	} {
		if transactionStatusOf[h] == s {
			hub = append(hub, h)
		}
	}
	return hub
}

// Origin says where a transaction comes from.
type Origin string

// Origins that the hub sends.
const (
	OriginOriginal  Origin = "ORIGINAL"  // the bank's own list
	OriginScheduled Origin = "SCHEDULED" // a standing or dated order that the bank has not carried out yet
)

// Origins is the vendor's list.
var Origins = []Origin{OriginOriginal, "UPCOMING", "TRANSACTION", "RECURRING", OriginScheduled}

// OriginOf is the origin of a transaction in a status of the hub.
func OriginOf(s bankfeed.TransactionStatus) Origin {
	if s == bankfeed.TransactionScheduled {
		return OriginScheduled
	}
	return OriginOriginal
}

// TransactionType is the vendor's guess at what a transaction is. The hub
// makes no guesses: CHECK when the bank gave a cheque number, else the sign.
type TransactionType string

// TransactionTypes that the hub sends, out of the vendor's eighteen.
var TransactionTypes = []TransactionType{"CREDIT", "DEBIT", "CHECK", "OTHER"}

// Transaction is one movement on an account. A debit is negative.
type Transaction struct {
	ID                    string            `json:"id"`
	AccountID             string            `json:"account_id"`
	Amount                json.Number       `json:"amount" doc:"Signed, with the bank's own digits: read it as a decimal."`
	Currency              string            `json:"currency"`
	OriginalTrxID         string            `json:"original_trx_id,omitempty" doc:"The bank's own id."`
	CheckNumber           string            `json:"check_number,omitempty"`
	Type                  TransactionType   `json:"type"`
	Origin                Origin            `json:"origin"`
	Date                  Seconds           `json:"date" doc:"The day it is listed under: booking, else value, else transaction day, else the day it was first seen."`
	ImportDate            Seconds           `json:"import_date" doc:"When the hub first stored it."`
	BookingDate           *Seconds          `json:"booking_date,omitempty"`
	TransactionDate       *Seconds          `json:"transaction_date,omitempty"`
	ValueDate             *Seconds          `json:"value_date,omitempty"`
	Label                 string            `json:"label" doc:"The counterparty's name, else what the bank wrote."`
	Source                Source            `json:"source"`
	RemittanceInformation []string          `json:"remittance_information" nullable:"false"`
	Status                TransactionStatus `json:"status"`
}

// Source is what the bank wrote.
type Source struct {
	Label string `json:"label"`
}

// RenderTransaction draws a transaction.
func RenderTransaction(t bankfeed.Transaction) Transaction {
	w := Transaction{
		ID: id(t.ID), AccountID: id(t.Account), Amount: number(t.Money.Amount), Currency: t.Money.Currency, OriginalTrxID: t.BankID,
		CheckNumber: t.CheckID, Type: transactionType(t), Origin: OriginOf(t.Status), Date: SecondsOf(t.Day().Time()), ImportDate: SecondsOf(t.CreatedAt),
		BookingDate: dayOrNil(t.BookingDate), TransactionDate: dayOrNil(t.TransactionDate), ValueDate: dayOrNil(t.ValueDate),
		Source: Source{sourceLabel(t)}, RemittanceInformation: append(append([]string{}, t.Remittance...), t.Structured...),
		Status: transactionStatusOf[t.Status],
	}
	w.Label = counterparty(t)
	if w.Label == "" {
		w.Label = w.Source.Label
	}
	return w
}

func transactionType(t bankfeed.Transaction) TransactionType {
	switch {
	case t.CheckID != "":
		return "CHECK"
	case t.Money.Amount.Sign() < 0:
		return "DEBIT"
	case t.Money.Amount.Sign() > 0:
		return "CREDIT"
	}
	return "OTHER"
}

// counterparty is the other side: who received a debit, who paid a credit.
// Some banks fill only the side of the account's own holder; its name is
// better than none.
func counterparty(t bankfeed.Transaction) string {
	other, own := t.Debtor.Name, t.Creditor.Name
	if t.Money.Amount.Sign() < 0 {
		other, own = own, other
	}
	if other == "" {
		return own
	}
	return other
}

func sourceLabel(t bankfeed.Transaction) string {
	for _, lines := range [...][]string{t.Remittance, {t.AdditionalInfo}, t.Structured} {
		if s := strings.TrimSpace(strings.Join(lines, " ")); s != "" {
			return s
		}
	}
	return ""
}
