package oxlin

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// AccountType groups accounts.
type AccountType string

// AccountTypes is the vendor's list.
var AccountTypes = []AccountType{"CHECKINGS", "SAVINGS", "LOAN", "CREDIT_CARD"}

var accountTypeOf = map[bankfeed.AccountType]AccountType{
	bankfeed.AccountCurrent: "CHECKINGS",
	bankfeed.AccountSavings: "SAVINGS",
	bankfeed.AccountLoan:    "LOAN",
	bankfeed.AccountCard:    "CREDIT_CARD",
}

// AccountTypeOf is what a type of the hub is called here.
func AccountTypeOf(t bankfeed.AccountType) AccountType { return accountTypeOf[t] }

func accountTypes(types []bankfeed.AccountType) []AccountType {
	w := make([]AccountType, 0, len(types))
	for _, t := range types {
		w = append(w, accountTypeOf[t])
	}
	return w
}

// AccountStatus is the state of an account.
type AccountStatus string

// Account statuses that the hub sends. The vendor's SUSPENDED means a check by
// its own staff, which nobody makes here.
const (
	AccountActive         AccountStatus = "ACTIVE"
	AccountError          AccountStatus = "ERROR" // the last read failed
	AccountNotFound       AccountStatus = "NOT_FOUND"
	AccountPendingConsent AccountStatus = "PENDING_CONSENT"
	AccountManual         AccountStatus = "MANUAL" // imported
	AccountClosed         AccountStatus = "CLOSED"
)

// AccountStatuses is the vendor's list.
var AccountStatuses = []AccountStatus{
	AccountActive, AccountError, AccountNotFound, AccountPendingConsent, AccountManual, AccountClosed, "SUSPENDED",
}

var accountStatusOf = map[bankfeed.AccountStatus]AccountStatus{
	bankfeed.AccountOK:             AccountActive,
	bankfeed.AccountReading:        AccountActive,
	bankfeed.AccountFailed:         AccountError,
	bankfeed.AccountGone:           AccountNotFound,
	bankfeed.AccountConsentPending: AccountPendingConsent,
	bankfeed.AccountImported:       AccountManual,
}

// Usage says in which capacity an account is held.
type Usage string

// Usages.
const (
	UsagePersonal     Usage = "PERSONAL"
	UsageProfessional Usage = "PROFESSIONAL"
)

// Usages lists them.
var Usages = []Usage{UsagePersonal, UsageProfessional}

// Account is one account at a bank.
type Account struct {
	ID                      string        `json:"id"`
	ConnectionID            string        `json:"connection_id"`
	Name                    string        `json:"name"`
	AccountNumber           string        `json:"account_number,omitempty" doc:"The number as the bank writes it: BBAN, masked card number, another number, else the IBAN."`
	IBAN                    string        `json:"iban,omitempty"`
	Balance                 json.Number   `json:"balance,omitempty" doc:"In the account's currency; absent until the bank gave one. The booked balance if there is one."`
	Currency                string        `json:"currency"`
	BalanceDate             *Seconds      `json:"balance_date,omitempty"`
	Type                    AccountType   `json:"type"`
	Status                  AccountStatus `json:"status"`
	CreationDate            Seconds       `json:"creation_date"`
	Owner                   *Owner        `json:"owner,omitempty"`
	Usage                   Usage         `json:"usage,omitempty"`
	LastChannelDefinitionID string        `json:"last_channel_definition_id" doc:"The channel that feeds the account."`
	Failure                 *Failure      `json:"failure,omitempty" doc:"Why the last read failed. Extra."`
}

// RenderAccount draws an account of a connection.
func RenderAccount(a bankfeed.Account, c bankfeed.Connection) Account {
	w := Account{
		ID: id(a.ID), ConnectionID: id(c.ID), Name: accountName(a), AccountNumber: accountNumber(a), IBAN: a.IBAN(), Currency: a.Currency,
		Type: accountTypeOf[a.Type], Status: accountStatus(a, c), CreationDate: SecondsOf(a.CreatedAt), Usage: usage(a),
		LastChannelDefinitionID: bankfeed.ChannelDefinitionID(c.ProviderID, a.Source), Failure: renderFailure(a.Failure),
	}
	if b, ok := shownBalance(a); ok {
		w.Balance, w.BalanceDate = number(b.Money.Amount), balanceDate(b)
	}
	if a.OwnerName != "" {
		w.Owner = &Owner{a.OwnerName}
	}
	return w
}

func accountName(a bankfeed.Account) string {
	for _, s := range [...]string{a.Name, a.Product, a.OwnerName} {
		if s != "" {
			return s
		}
	}
	return accountNumber(a)
}

func accountNumber(a bankfeed.Account) string {
	for _, t := range [...]bankfeed.IdentifierType{bankfeed.IdentBBAN, bankfeed.IdentMaskedIBAN, bankfeed.IdentMaskedPAN, bankfeed.IdentOther} {
		if s := a.Identifier(t); s != "" {
			return s
		}
	}
	return a.IBAN()
}

func accountStatus(a bankfeed.Account, c bankfeed.Connection) AccountStatus {
	// "deleted" is Berlin Group's word for an account that was closed at the bank.
	if c.Status == bankfeed.ConnectionClosed || a.Status == bankfeed.AccountOK && strings.EqualFold(a.BankStatus, "deleted") {
		return AccountClosed
	}
	return accountStatusOf[a.Status]
}

func usage(a bankfeed.Account) Usage {
	switch {
	case a.Usage == "PRIV":
		return UsagePersonal
	case a.Usage == "ORGA":
		return UsageProfessional
	case a.IsBusiness != nil && *a.IsBusiness:
		return UsageProfessional
	case a.IsBusiness != nil:
		return UsagePersonal
	}
	return ""
}

// balanceRanks orders the kinds of balance by how well they answer "what is on
// the account": booked before expected before available before the morning's.
// Inside a rank the newest day wins, then the order here. Names are Berlin
// Group's and the ISO 20022 codes that some banks send instead.
var balanceRanks = [][]string{
	{"closingBooked", "interimBooked", "CLBD", "ITBD"},
	{"expected", "XPCD"},
	{"interimAvailable", "closingAvailable", "forwardAvailable", "ITAV", "CLAV", "FWAV"},
	{"openingBooked", "OPBD"},
}

var balanceOrder = func() map[string][2]int {
	m := make(map[string][2]int)
	for rank, types := range balanceRanks {
		for place, t := range types {
			m[t] = [2]int{rank, place}
		}
	}
	return m
}()

// shownBalance picks the one balance that this wire has room for, among those
// in the account's currency.
func shownBalance(a bankfeed.Account) (best bankfeed.Balance, ok bool) {
	for _, b := range a.Balances {
		if b.Money.Currency != a.Currency {
			continue
		}
		if !ok || preferred(b, best) {
			best, ok = b, true
		}
	}
	return best, ok
}

func preferred(a, b bankfeed.Balance) bool {
	orderA, orderB := orderOf(a), orderOf(b)
	if orderA[0] != orderB[0] {
		return orderA[0] < orderB[0]
	}
	if dayA, dayB := bankfeed.DateOf(balanceTime(a)), bankfeed.DateOf(balanceTime(b)); dayA != dayB {
		return dayA > dayB
	}
	return orderA[1] < orderB[1]
}

func orderOf(b bankfeed.Balance) [2]int {
	if o, ok := balanceOrder[b.Type]; ok {
		return o
	}
	return [2]int{len(balanceRanks), 0} // nonInvoiced, and words of the bank's own
}

// balanceTime is the reference day, else the last change, else when it was
// fetched.
func balanceTime(b bankfeed.Balance) time.Time {
	switch {
	case b.ReferenceDate != "":
		return b.ReferenceDate.Time()
	case b.LastChangeAt != nil:
		return b.LastChangeAt.UTC()
	}
	return b.FetchedAt.UTC()
}

func balanceDate(b bankfeed.Balance) *Seconds {
	t := balanceTime(b)
	return secondsOrNil(&t)
}
