package banqup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// The five messages as a consumer reads them. Texts that may be null are empty
// when they are; numbers and times that may be null are pointers. Decimals keep
// the digits that were sent, as a number or as a text.

// AccountMessage: an account was found, or read again.
type AccountMessage struct {
	Data     AccountData     `json:"data"`
	Embedded AccountEmbedded `json:"embedded"`
	Meta     Meta            `json:"meta"`
}

// AccountData is the account. ID is the same in every message about it; the IBAN
// may be masked (PLxxxx1234) until the bank tells it.
type AccountData struct {
	ID                int32              `json:"id"`
	Balances          map[string]Balance `json:"balances"` // by type, see BalanceTypes
	BankSwiftCode     string             `json:"bankSwiftCode"`
	Currency          string             `json:"currency"`
	HolderInformation HolderInformation  `json:"holderInformation"`
	HolderType        string             `json:"holderType"` // individual, corporation
	IsBusiness        *bool              `json:"isBusiness"`
	IBAN              string             `json:"iban"`
	Name              string             `json:"name"`
}

// Balance is the newest balance of its type.
type Balance struct {
	Currency string          `json:"currency"`
	Date     Time            `json:"date"`
	Value    bankfeed.Amount `json:"value"`
}

// HolderInformation is about who owns the account and what the user is to it.
type HolderInformation struct {
	NameAddress string   `json:"nameAddress"`
	Relations   []string `json:"relations"`
}

// AccountEmbedded is what an AccountMessage says beside the account.
type AccountEmbedded struct {
	User User `json:"user"`
}

// User is a user. ID is the hub's, but in a ConsentMessage the client's own id
// where it gave one.
type User struct {
	ID              string                   `json:"id"`
	BusinessContext bankfeed.BusinessContext `json:"businessContext"`
}

// AccountRef is the account that a message belongs to.
type AccountRef struct {
	ID   int32  `json:"id"`
	IBAN string `json:"iban"`
}

// Meta is about the event behind a message.
type Meta struct {
	BuildID     string             `json:"buildId"`
	ContainerID string             `json:"containerId"`
	Operation   string             `json:"operation,omitempty"` // Created, Updated, Deleted; none in a SessionFinishedMessage
	Initiator   bankfeed.Initiator `json:"initiator"`
	Timestamp   Time               `json:"timestamp"`
	TraceID     string             `json:"traceId,omitempty"` // of an AccountMessage
}

// TransactionMessage: a transaction was found, changed, or read again.
type TransactionMessage struct {
	Data     TransactionData     `json:"data"`
	Embedded TransactionEmbedded `json:"embedded"`
	Meta     Meta                `json:"meta"`
}

// TransactionData is the transaction. A debit is negative unless the stream
// sends absolute amounts.
type TransactionData struct {
	AccountingDate          *Time                      `json:"accountingDate"`
	AfterTransactionBalance *bankfeed.Amount           `json:"afterTransactionBalance"`
	Amount                  bankfeed.Amount            `json:"amount"`
	Currency                string                     `json:"currency"`
	EffectiveDate           *Time                      `json:"effectiveDate"`
	EndToEndID              string                     `json:"endToEndId"`
	ID                      string                     `json:"id"`
	Recipient               Party                      `json:"recipient"`
	Sender                  Party                      `json:"sender"`
	Status                  bankfeed.TransactionStatus `json:"status"`
	Title                   string                     `json:"title"`
}

// Party is one side of a transaction.
type Party struct {
	AccountIdentifier *AccountIdentifier `json:"accountIdentifier"`
	Address           string             `json:"address"`
	Name              string             `json:"name"`
}

// AccountIdentifier names an account: iban, bban, maskedPan or other.
type AccountIdentifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// TransactionEmbedded is what a TransactionMessage says beside the transaction.
type TransactionEmbedded struct {
	Account AccountRef `json:"account"`
	User    User       `json:"user"`
}

// SessionFinishedMessage: every transaction that a session found on an account
// was sent.
type SessionFinishedMessage struct {
	Data     SessionFinishedData     `json:"data"`
	Embedded SessionFinishedEmbedded `json:"embedded"`
	Meta     Meta                    `json:"meta"`
}

// SessionFinishedData names the account's newest transaction; empty if there
// never was one.
type SessionFinishedData struct {
	ID string `json:"id"`
}

// SessionFinishedEmbedded is what a SessionFinishedMessage belongs to.
type SessionFinishedEmbedded struct {
	Account AccountRef `json:"account"`
	User    User       `json:"user"`
	Session SessionRef `json:"session"`
}

// SessionRef names a session; the zero UUID outside of one.
type SessionRef struct {
	ID         string `json:"id"`
	ExternalID string `json:"externalId"`
}

// ConsentMessage: a consent was confirmed, stopped working, or was removed with
// its data.
type ConsentMessage struct {
	Data     ConsentData     `json:"data"`
	Embedded ConsentEmbedded `json:"embedded"`
	Meta     Meta            `json:"meta"`
}

// ConsentData is the consent; in a message with operation Deleted as it was last.
type ConsentData struct {
	ID               string                 `json:"id"`
	ExternalID       string                 `json:"externalId"`
	BankSwiftCode    string                 `json:"bankSwiftCode"`
	Status           bankfeed.ConsentStatus `json:"status"`
	PreviousStatus   bankfeed.ConsentStatus `json:"previousStatus"`
	InvalidationInfo *InvalidationInfo      `json:"invalidationInfo"`
	Scope            string                 `json:"scope"`
}

// InvalidationInfo is why a consent stopped working. Description is the bank's
// own word, if it gave one.
type InvalidationInfo struct {
	Description string                      `json:"description"`
	Invalidated Time                        `json:"invalidated"`
	Reason      bankfeed.InvalidationReason `json:"reason"`
}

// ConsentEmbedded is what a consent belongs to and reaches.
type ConsentEmbedded struct {
	User     User             `json:"user"`
	Accounts []ConsentAccount `json:"accounts"`
}

// ConsentAccount is an account that a consent reaches.
type ConsentAccount struct {
	CurrencyCode string `json:"currencyCode"`
	IBAN         string `json:"iban"`
	ID           int32  `json:"id"`
}

// AspspCall is one HTTP call to a bank. StatusCode is 0 when no answer came, and
// Exception then says why.
type AspspCall struct {
	BankSwiftCode        string               `json:"bankSwiftCode"`
	EndpointURL          string               `json:"endpointUrl"`
	ErrorResponseContent string               `json:"errorResponseContent"`
	Exception            string               `json:"exception"`
	Initiator            bankfeed.Initiator   `json:"initiator"`
	RequestContext       bankfeed.CallContext `json:"requestContext"`
	RequestDuration      TimeSpan             `json:"requestDuration"`
	Session              SessionRef           `json:"session"`
	StatusCode           int                  `json:"statusCode"`
	User                 UserRef              `json:"user"`
	Timestamp            Time                 `json:"timestamp"`
	ExecutionID          string               `json:"executionId"`
	ContainerID          string               `json:"containerId"`
	BuildID              string               `json:"buildId"`
}

// UserRef names a user by both ids.
type UserRef struct {
	ExternalID string `json:"externalId"`
	ID         string `json:"id"`
}

// Decode reads the message of an envelope: a pointer to one of the five types.
// Members that it does not know are ignored. An error is Invalid and does not
// repeat what was sent.
func Decode(k Kind, message []byte) (any, error) {
	var v any
	switch k {
	case Account:
		v = new(AccountMessage)
	case Transaction:
		v = new(TransactionMessage)
	case Session:
		v = new(SessionFinishedMessage)
	case Consent:
		v = new(ConsentMessage)
	case Call:
		v = new(AspspCall)
	default:
		return nil, fmt.Errorf("banqup: no kind of message is called %q", string(k))
	}
	if err := unmarshal(message, v); err != nil {
		return nil, err
	}
	return v, nil
}

// MaxBody is the largest body that is read, in bytes.
const MaxBody = 4 << 20

// unmarshal turns the errors of the decoder into one that names the place and
// not the value.
func unmarshal(b []byte, v any) error {
	if len(b) > MaxBody {
		return bankfeed.Errorf(bankfeed.TooLarge, "a message of more than %d bytes", MaxBody)
	}
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		found, _, _ := strings.Cut(t.Value, " ") // what follows is the value itself
		return bankfeed.InvalidField(t.Field, "%s where %s is expected", found, t.Type)
	}
	return bankfeed.Errorf(bankfeed.Invalid, "not JSON, or an amount, a time or an id in it cannot be read")
}
