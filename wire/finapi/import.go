package finapi

import "encoding/json"

// TransactionSource is accounts with their transactions, handed in as a data
// source of its own, or added to one. Members that are not here are kept with
// what they belong to.
type TransactionSource struct {
	Name           string          `json:"name,omitempty" maxLength:"255" doc:"Stands in where bankName is missing."`
	BIC            string          `json:"bic,omitempty" maxLength:"11"`
	BankName       string          `json:"bankName,omitempty" maxLength:"255"`
	CallbackURL    string          `json:"callbackUrl,omitempty" maxLength:"2048" doc:"Told when everything is stored, as of a synchronization."`
	CallbackHandle string          `json:"callbackHandle,omitempty" maxLength:"512" doc:"Your own name for the import, returned unchanged by the callback."`
	Accounts       []ImportAccount `json:"accounts" minItems:"1" maxItems:"500" nullable:"false"`
}

// ImportAccount is an account that is handed in. It needs an IBAN or a number.
type ImportAccount struct {
	IBAN          string              `json:"iban,omitempty" doc:"Identifies the account, with its currency. Its check digits must be right."`
	AccountNumber string              `json:"accountNumber,omitempty" maxLength:"64" doc:"Identifies an account that has no IBAN."`
	AccountName   string              `json:"accountName,omitempty" maxLength:"255"`
	HolderName    string              `json:"accountHolderName,omitempty" maxLength:"255"`
	AccountType   string              `json:"accountType,omitempty" doc:"CHECKING (the default), SAVINGS, CREDIT_CARD or LOAN; the words of Access, such as Checking, are understood."`
	Currency      string              `json:"accountCurrency,omitempty" minLength:"3" maxLength:"3" doc:"ISO 4217. Default EUR."`
	Balance       json.Number         `json:"balance,omitempty" doc:"A decimal number; the same as a text is accepted."`
	BalanceDate   string              `json:"balanceDate,omitempty" doc:"YYYY-MM-DD; a time after it is ignored."`
	Transactions  []ImportTransaction `json:"transactions,omitempty" nullable:"false"`
}

// ImportTransaction is a booked transaction that is handed in. It needs one of
// its two days.
type ImportTransaction struct {
	ID          string      `json:"id,omitempty" maxLength:"255" doc:"Your own id, once in an account. By it a transaction is recognised when it comes again; without one it is by day, amount, counterpart, purpose and reference, and by how many of the same there are."`
	Amount      json.Number `json:"amount" doc:"A decimal number, negative for a debit; the same as a text is accepted. Its digits are kept."`
	Currency    string      `json:"currency,omitempty" minLength:"3" maxLength:"3" doc:"ISO 4217. Default: the account's."`
	BookingDate string      `json:"bankBookingDate,omitempty" doc:"YYYY-MM-DD; a time after it is ignored."`
	ValueDate   string      `json:"valueDate,omitempty" doc:"YYYY-MM-DD; a time after it is ignored."`
	Purpose     string      `json:"purpose,omitempty" maxLength:"2000"`
	Name        string      `json:"counterpartName,omitempty" maxLength:"255"`
	IBAN        string      `json:"counterpartIban,omitempty" maxLength:"64"`
	BIC         string      `json:"counterpartBic,omitempty" maxLength:"64"`
	Number      string      `json:"counterpartAccountNumber,omitempty" maxLength:"64"`
	MandateRef  string      `json:"counterpartMandateReference,omitempty" maxLength:"255"`
	CreditorID  string      `json:"counterpartCreditorId,omitempty" maxLength:"255"`
	EndToEnd    string      `json:"endToEndReference,omitempty" maxLength:"255"`
	PurposeCode string      `json:"sepaPurposeCode,omitempty" maxLength:"255"`
	BankCode    string      `json:"bankTransactionCode,omitempty" maxLength:"255"`
}
