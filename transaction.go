package bankfeed

import (
	"encoding/json"
	"time"
)

// Transaction is one movement on an account, booked or pending. A debit is
// negative.
type Transaction struct {
	ID     TransactionID     `json:"id"`
	Status TransactionStatus `json:"status"`
	Money  Money             `json:"money"`

	BookingDate     Date `json:"booking_date,omitempty"`
	ValueDate       Date `json:"value_date,omitempty"`
	TransactionDate Date `json:"transaction_date,omitempty"`

	BankID         string `json:"bank_id,omitempty"` // transactionId as the bank sends it
	EntryReference string `json:"entry_reference,omitempty"`
	EndToEndID     string `json:"end_to_end_id,omitempty"`
	MandateID      string `json:"mandate_id,omitempty"`
	CreditorID     string `json:"creditor_id,omitempty"`
	CheckID        string `json:"check_id,omitempty"`

	Creditor         Party    `json:"creditor,omitzero"`
	Debtor           Party    `json:"debtor,omitzero"`
	UltimateCreditor string   `json:"ultimate_creditor,omitempty"`
	UltimateDebtor   string   `json:"ultimate_debtor,omitempty"`
	Remittance       []string `json:"remittance,omitempty"`
	Structured       []string `json:"structured_remittance,omitempty"`
	AdditionalInfo   string   `json:"additional_information,omitempty"`
	PurposeCode      string   `json:"purpose_code,omitempty"`
	BankCode         string   `json:"bank_transaction_code,omitempty"`
	ProprietaryCode  string   `json:"proprietary_bank_transaction_code,omitempty"`

	BalanceAfter *Money     `json:"balance_after,omitempty"`
	Exchange     []Exchange `json:"exchange,omitempty"`

	CreatedAt time.Time `json:"created_at"` // when the hub first stored it

	Account AccountID       `json:"-"`
	User    UserID          `json:"-"`
	Raw     json.RawMessage `json:"-"` // the bank's own record, unknown fields included
}

// Day is the day under which a transaction is listed: its booking day, else
// the value day, else the day it was made, else the day it was first seen.
func (t Transaction) Day() Date {
	for _, d := range [...]Date{t.BookingDate, t.ValueDate, t.TransactionDate} {
		if d != "" {
			return d
		}
	}
	return DateOf(t.CreatedAt.UTC())
}

// Party is one side of a transaction.
type Party struct {
	Name    string     `json:"name,omitempty"`
	Address string     `json:"address,omitempty"`
	Account Identifier `json:"account,omitzero"`
	Agent   string     `json:"agent,omitempty"` // BIC
}

// Exchange is a currency conversion as the bank reports it; every value is the
// bank's own text.
type Exchange struct {
	SourceCurrency string `json:"source_currency,omitempty"`
	TargetCurrency string `json:"target_currency,omitempty"`
	UnitCurrency   string `json:"unit_currency,omitempty"`
	Rate           string `json:"rate,omitempty"`
	Date           Date   `json:"date,omitempty"`
}

// TransactionStatus is a closed list; a bank's other words become Other.
type TransactionStatus string

// Transaction statuses, as the stream writes them.
const (
	TransactionBooked    TransactionStatus = "booked"
	TransactionDone      TransactionStatus = "done"
	TransactionPending   TransactionStatus = "pending"
	TransactionHold      TransactionStatus = "hold"
	TransactionRejected  TransactionStatus = "rejected"
	TransactionCancelled TransactionStatus = "cancelled"
	TransactionScheduled TransactionStatus = "scheduled"
	TransactionOther     TransactionStatus = "other"
)

// Provisional reports whether the bank may still replace the transaction.
func (s TransactionStatus) Provisional() bool {
	return s == TransactionPending || s == TransactionHold
}
