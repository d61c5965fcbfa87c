package bankfeed

import (
	"encoding/json"
	"time"
)

// Account is one account at a bank, identified by what it is called there and
// never by the bank's resource id, which changes with every consent.
type Account struct {
	ID          AccountID     `json:"id"`
	Type        AccountType   `json:"type"`
	Status      AccountStatus `json:"status"`
	Identifiers []Identifier  `json:"identifiers"`
	Currency    string        `json:"currency"`
	Name        string        `json:"name,omitempty"`
	Product     string        `json:"product,omitempty"`
	BIC         string        `json:"bic,omitempty"`
	OwnerName   string        `json:"owner_name,omitempty"`
	HolderType  string        `json:"holder_type,omitempty"` // individual, corporation or the bank's own word
	Usage       string        `json:"usage,omitempty"`       // PRIV, ORGA
	IsBusiness  *bool         `json:"is_business,omitempty"`
	BankType    string        `json:"bank_type,omitempty"` // the bank's own type (ISO 20022 cash account type)
	BankStatus  string        `json:"bank_status,omitempty"`
	Source      Mode          `json:"source"` // the channel that feeds it
	Balances    []Balance     `json:"balances"`
	CreatedAt   time.Time     `json:"created_at"`

	User       UserID          `json:"-"`
	Connection ConnectionID    `json:"-"`
	RemovedAt  time.Time       `json:"-"`
	LastReadAt time.Time       `json:"-"` // when its transactions were last read to the end
	Failure    *Failure        `json:"-"` // why the last read failed
	Raw        json.RawMessage `json:"-"` // the bank's own record
	Access     []AccountAccess `json:"-"` // how each channel reaches it
	Trust      IDTrust         `json:"-"`
	// Withheld are the ways on which an account stays away that was removed by
	// request: their consents were given before, and the bank lists it on. Such
	// an account has AccountDeleted and what it is recognised by, nothing else.
	Withheld []AccountAccess `json:"-"`
}

// AccountAccess is how one channel reaches an account under its present
// consent.
type AccountAccess struct {
	Mode       Mode      `json:"mode"`
	ResourceID string    `json:"resource_id"` // valid for one consent only
	Consent    ConsentID `json:"consent"`
	// DeltaFrom is the booking day from which the next listing must start so
	// that nothing is missed; empty until a listing was read to its end.
	DeltaFrom Date `json:"delta_from,omitempty"`
	// Resume is where a listing stopped because the bank asked for patience or
	// went away; the next session goes on there.
	Resume *Progress `json:"resume,omitempty"`
}

// IDTrust tells whether the bank's transaction ids identify transactions of an
// account. The zero value trusts them.
type IDTrust struct {
	Withdrawn bool   `json:"withdrawn,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Recipe    int    `json:"recipe,omitempty"` // version of the identity recipe of the stored keys
}

// Identifier is one name of an account.
type Identifier struct {
	Type  IdentifierType `json:"type"`
	Value string         `json:"value"`
}

// IdentifierType is the kind of an account identifier.
type IdentifierType string

// Identifier types, in the order in which they identify an account. A masked
// IBAN (PLxxxx1234) stands in where the IBAN is not known; no account has both.
const (
	IdentIBAN       IdentifierType = "iban"
	IdentMaskedIBAN IdentifierType = "maskedIban"
	IdentBBAN       IdentifierType = "bban"
	IdentMaskedPAN  IdentifierType = "maskedPan"
	IdentOther      IdentifierType = "other"
)

// Identifier finds the value of a type, empty if there is none.
func (a Account) Identifier(t IdentifierType) string {
	for _, i := range a.Identifiers {
		if i.Type == t {
			return i.Value
		}
	}
	return ""
}

// IBAN is the account's IBAN in compact form, empty if it has none or only a
// masked one is known.
func (a Account) IBAN() string { return a.Identifier(IdentIBAN) }

// ShownIBAN is the account's IBAN as far as it is known: whole, else masked.
func (a Account) ShownIBAN() string {
	if s := a.IBAN(); s != "" {
		return s
	}
	return a.Identifier(IdentMaskedIBAN)
}

// AccountType groups accounts.
type AccountType string

// Account types.
const (
	AccountCurrent AccountType = "current"
	AccountSavings AccountType = "savings"
	AccountCard    AccountType = "card"
	AccountLoan    AccountType = "loan"
)

// AccountStatus is the state of an account in the hub.
type AccountStatus string

// Account statuses.
const (
	AccountOK             AccountStatus = "ok"
	AccountReading        AccountStatus = "reading"
	AccountFailed         AccountStatus = "failed"
	AccountGone           AccountStatus = "gone" // no longer listed by its bank
	AccountConsentPending AccountStatus = "consent_pending"
	AccountImported       AccountStatus = "imported"
	AccountDeleted        AccountStatus = "deleted" // removed by request; no reader ever sees it
)

// Balance is one figure of an account. A bank gives several that differ by
// Type; none of them is chosen, all are kept.
type Balance struct {
	Type          string     `json:"type"` // Berlin Group balanceType, or the bank's own word
	Money         Money      `json:"money"`
	ReferenceDate Date       `json:"reference_date,omitempty"`
	LastChangeAt  *time.Time `json:"last_change_at,omitempty"`
	FetchedAt     time.Time  `json:"fetched_at"`
}
