package finapi

import (
	"time"

	"github.com/bankfeed/bankfeed"
)

// BankConnections is the answer to a synchronization, and a list of data
// sources.
type BankConnections struct {
	BankConnections []DataSource `json:"bankConnections" nullable:"false"`
}

// DataSource is a connection to a bank, or accounts that were handed in.
type DataSource struct {
	ID             bankfeed.UUID `json:"dataSourceId" format:"uuid"`
	CreationDate   Time          `json:"creationDate"`
	LastUpdate     Time          `json:"lastUpdate" doc:"When its bank was last read with success; the creation date before that."`
	ExternalID     int64         `json:"externalId" doc:"The number of the bank connection."`
	BIC            *string       `json:"bic" nullable:"true"`
	BankName       string        `json:"bankName"`
	BankStatus     Status        `json:"bankStatus"`
	UpdateRequired bool          `json:"updateRequired" doc:"Whether the user must update the bank connection, on a web form, before all of it can be read again."`
	Accounts       []Account     `json:"accounts" nullable:"false"`
}

// Account is an account of a data source.
type Account struct {
	ID           bankfeed.UUID `json:"accountId" format:"uuid"`
	CreationDate Time          `json:"creationDate"`
	LastUpdate   Time          `json:"lastUpdate"`
	ExternalID   int64         `json:"externalId" doc:"The number of the account."`
	IBAN         *string       `json:"iban" nullable:"true" doc:"null where there is none."`
	Type         AccountType   `json:"accountType"`
	Status       AccountStatus `json:"status"`
}

// SourceStatus is the answer to a poll.
type SourceStatus struct {
	Status Status `json:"status"`
	Code   Code   `json:"code"`
}

// Status is how a data source stands.
type Status string

// Statuses of a data source.
const (
	InProgress Status = "IN_PROGRESS"
	Successful Status = "SUCCESSFUL" // nothing but this lets a case be made of it
	Failed     Status = "FAILED"     // its user must act
	Errored    Status = "ERROR"
)

// Statuses lists them.
var Statuses = []Status{InProgress, Successful, Failed, Errored}

// Code says more about a status.
type Code string

// Codes of a status. Vendor's are the first and UPDATE_REQUIRED.
const (
	CodeSyncInProgress  Code = "SYNC_IN_PROGRESS"
	CodeSyncSuccessful  Code = "SYNC_SUCCESSFUL"
	CodeUpdateRequired  Code = "UPDATE_REQUIRED"
	CodeBankUnavailable Code = "BANK_UNAVAILABLE"
	CodeRateLimited     Code = "RATE_LIMITED"
	CodeInternalError   Code = "INTERNAL_ERROR"
	CodeNoDataSources   Code = "NO_DATA_SOURCES" // of a callback only
)

// Codes lists them.
var Codes = []Code{CodeSyncInProgress, CodeSyncSuccessful, CodeUpdateRequired, CodeBankUnavailable, CodeRateLimited, CodeInternalError, CodeNoDataSources}

// AccountType is the type of an account.
type AccountType string

// Account types.
const (
	Checking   AccountType = "CHECKING"
	Savings    AccountType = "SAVINGS"
	CreditCard AccountType = "CREDIT_CARD"
	Loan       AccountType = "LOAN"
)

// AccountTypes lists them.
var AccountTypes = []AccountType{Checking, Savings, CreditCard, Loan}

var accountTypes = map[bankfeed.AccountType]AccountType{
	bankfeed.AccountCurrent: Checking, bankfeed.AccountSavings: Savings, bankfeed.AccountCard: CreditCard, bankfeed.AccountLoan: Loan,
}

// ParseAccountType reads one.
func ParseAccountType(t AccountType) (bankfeed.AccountType, bool) {
	for hub, wire := range accountTypes {
		if wire == t {
			return hub, true
		}
	}
	return "", false
}

// AccountStatus is how the last read of an account went.
type AccountStatus string

// Account statuses.
const (
	Updated            AccountStatus = "UPDATED"
	DownloadInProgress AccountStatus = "DOWNLOAD_IN_PROGRESS"
	DownloadFailed     AccountStatus = "DOWNLOAD_FAILED"
	Deprecated         AccountStatus = "DEPRECATED" // its bank does not list it any more
)

// AccountStatuses lists them.
var AccountStatuses = []AccountStatus{Updated, DownloadInProgress, DownloadFailed, Deprecated}

var accountStatuses = map[bankfeed.AccountStatus]AccountStatus{
	bankfeed.AccountOK: Updated, bankfeed.AccountImported: Updated, bankfeed.AccountReading: DownloadInProgress,
	bankfeed.AccountConsentPending: DownloadInProgress, bankfeed.AccountFailed: DownloadFailed, bankfeed.AccountGone: Deprecated,
}

// Face is what an outcome looks like: status, code, and whether the user must
// update the bank connection.
func Face(o bankfeed.Outcome) (status SourceStatus, updateRequired bool) {
	switch o.Status {
	case bankfeed.OutcomeRunning:
		return SourceStatus{InProgress, CodeSyncInProgress}, false
	case bankfeed.OutcomeSucceeded:
		return SourceStatus{Successful, CodeSyncSuccessful}, o.UserNeeded
	case bankfeed.OutcomeUserNeeded:
		return SourceStatus{Failed, CodeUpdateRequired}, true
	}
	code := CodeInternalError
	if o.Failure != nil {
		switch o.Failure.Reason {
		case bankfeed.FailUnavailable:
			code = CodeBankUnavailable
		case bankfeed.FailRateLimited, bankfeed.FailQuota:
			code = CodeRateLimited
		}
	}
	return SourceStatus{Errored, code}, false
}

// DataSource draws a connection with its accounts. The outcome is the
// connection's own, or that it is running while a synchronization covers it.
func (r Renderer) DataSource(tenant bankfeed.TenantID, c *bankfeed.Connection, o bankfeed.Outcome, accounts []bankfeed.Account) DataSource {
	status, updateRequired := Face(o)
	d := DataSource{
		ID:           r.Installation.UUID(bankfeed.KindConnection, tenant, int64(c.ID)),
		CreationDate: r.time(c.CreatedAt), ExternalID: int64(c.ID), BIC: orNil(c.BIC), BankName: c.ProviderName,
		BankStatus: status.Status, UpdateRequired: updateRequired, Accounts: make([]Account, 0, len(accounts)),
	}
	last := c.CreatedAt
	for _, ch := range c.Channels {
		if ch.LastSuccessAt != nil {
			last = later(last, *ch.LastSuccessAt)
		}
	}
	for _, a := range accounts {
		if len(c.Channels) == 0 { // handed in: the data itself says when
			last = later(last, lastRead(a))
		}
		d.Accounts = append(d.Accounts, r.account(tenant, a))
	}
	d.LastUpdate = r.time(last)
	return d
}

func (r Renderer) account(tenant bankfeed.TenantID, a bankfeed.Account) Account {
	return Account{
		ID:           r.Installation.UUID(bankfeed.KindAccount, tenant, int64(a.ID)),
		CreationDate: r.time(a.CreatedAt), LastUpdate: r.time(lastRead(a)), ExternalID: int64(a.ID),
		IBAN: orNil(a.IBAN()), Type: accountTypes[a.Type], Status: accountStatuses[a.Status],
	}
}

// lastRead is when an account was last read, or first seen.
func lastRead(a bankfeed.Account) time.Time {
	last := later(a.CreatedAt, a.LastReadAt)
	for _, b := range a.Balances {
		last = later(last, b.FetchedAt)
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
