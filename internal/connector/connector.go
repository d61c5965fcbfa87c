// Package connector is the contract between the hub and a bank. A connector
// turns one step of work into calls of one bank's interface and gives back
// what the bank said, in the hub's words. It keeps no state, runs no loop and
// knows no database: where to go on is a cursor in its answer.
package connector

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Bank reads accounts. Every method is one step that may take several HTTP
// calls; each is reported to Access.Record as it ends. A method returns an
// *Error when the bank refuses or cannot be understood.
type Bank interface {
	// Accounts reads one page of the account list.
	Accounts(ctx context.Context, a Access, cursor string) (AccountPage, error)
	// Balances reads the balances of one account, all its types at once.
	Balances(ctx context.Context, a Access, acc AccountRef) ([]bankfeed.Balance, error)
	// Transactions reads one page of the transactions of one account.
	Transactions(ctx context.Context, a Access, acc AccountRef, q TransactionQuery) (TransactionPage, error)
}

// Details is an optional ability of a connector: one account by itself, where a
// bank shows more of it than in its list. Profiles with MaskedIBAN Unmask need
// it.
type Details interface {
	Account(ctx context.Context, a Access, acc AccountRef) (Account, error)
}

// Consenter obtains and ends consents.
type Consenter interface {
	// CreateConsent asks the bank for a consent. Access.PSU must be set: a
	// consent is always attended.
	CreateConsent(ctx context.Context, a Access, r ConsentRequest) (ConsentStep, error)
	// Continue answers what the last step asked for.
	Continue(ctx context.Context, a Access, in Input) (ConsentStep, error)
	// ConsentStatus asks for the present state, after a redirect or when in
	// doubt.
	ConsentStatus(ctx context.Context, a Access) (ConsentInfo, error)
	// DeleteConsent ends the consent at the bank. An unknown consent is a
	// success: it is gone.
	DeleteConsent(ctx context.Context, a Access) error
}

// Connector is what a provider's interface offers.
type Connector interface {
	Bank
	Consenter
}

// Access is everything a step needs to speak to a bank for one user.
type Access struct {
	Profile         *Profile
	Mode            bankfeed.Mode
	BusinessContext bankfeed.BusinessContext
	// PSU is the person present, nil when unattended. Its address goes to the
	// bank if and only if it is set.
	PSU   *bankfeed.PSU
	Grant bankfeed.Grant
	// Record is called once for each HTTP exchange, in order, also when it
	// failed.
	Record func(bankfeed.BankCall)
}

// AccountRef names an account to the bank.
type AccountRef struct {
	ResourceID string
	Currency   string
}

// AccountPage is one page of accounts.
type AccountPage struct {
	Accounts []Account
	Next     string // cursor of the next page
	More     bool
}

// Account is an account as the bank describes it. ID, Status, Source and
// CreatedAt are the hub's and stay empty.
type Account struct {
	bankfeed.Account
	ResourceID string
}

// TransactionQuery asks for a page.
type TransactionQuery struct {
	From   bankfeed.Date // first booking day, inclusive
	Cursor string        // of the page before; empty for the first
}

// TransactionPage is one page of a listing. Booked and pending items may come
// on the same page; Status tells them apart. ID, Account and CreatedAt stay
// empty.
type TransactionPage struct {
	Transactions []bankfeed.Transaction
	Balances     []bankfeed.Balance // some banks send them along
	Next         string
	More         bool
	// First reads the first page again within the same listing, where the bank
	// gives a link to it; without one the first page costs another access.
	First string
	// BookedOnly: the bank was not asked for pending items, so that their
	// absence means nothing.
	BookedOnly bool
}

// ConsentRequest says what to ask for.
type ConsentRequest struct {
	ValidUntil      bankfeed.Date
	FrequencyPerDay int
	Recurring       bool
	// RedirectURI and NokRedirectURI bring the PSU back after consent or
	// refusal; each carries the state parameter already.
	RedirectURI    string
	NokRedirectURI string
	PSUID          bankfeed.Secret // the PSU's login, where the bank wants it up front
}

// Input is a PSU's answer; the field that the last step asked for is set.
type Input struct {
	PSUID    bankfeed.Secret
	Password bankfeed.Secret
	MethodID string
	Code     bankfeed.Secret
}

// ConsentStep is where a consent stands after a step.
type ConsentStep struct {
	// Grant replaces the stored one.
	Grant bankfeed.Grant
	// RedirectURL is where the PSU must go now, if the bank wants a redirect.
	RedirectURL string
	// Challenge is what the PSU must answer now, if the bank asks; Deadline is
	// left to the caller.
	Challenge *bankfeed.Challenge
	// Done: nothing more is asked; ConsentStatus tells the result.
	Done bool
}

// ConsentInfo is the state of a consent at the bank.
type ConsentInfo struct {
	State           ConsentState
	Raw             string // the bank's own word
	ValidUntil      bankfeed.Date
	FrequencyPerDay int
}

// ConsentState is the bank's view of a consent, reduced to what matters here.
type ConsentState uint8

// Consent states. Unknown words of a bank become ConsentPending: only a clear
// word ends or confirms a consent.
const (
	ConsentPending ConsentState = iota
	ConsentValid
	ConsentRejected
	ConsentExpired
	ConsentRevoked
	ConsentTerminated
)

// Profile describes one bank: where it is and how it differs from its
// standard. Profiles are data; a bank that speaks a known standard needs
// nothing else.
type Profile struct {
	Provider  bankfeed.Provider
	Standard  string // name of the connector that speaks to it
	Endpoints []Endpoint

	// HistoryDays is how far back the first listing under a fresh consent
	// reaches; RecentDays how far the SCA-free scope does (90 by law).
	HistoryDays int
	RecentDays  int
	// OverlapDays are read again in every listing, because banks book late.
	OverlapDays int
	// ConsentDays is the longest consent to ask for (180 by law).
	ConsentDays int
	// FrequencyPerDay is the number of unattended accesses to ask for (4 by
	// law without another agreement).
	FrequencyPerDay int
	// MaxConcurrent sessions at this bank, over all nodes.
	MaxConcurrent int
	// DistrustIDs: the bank's transaction ids are known not to identify.
	DistrustIDs bool
	// BookedOnly: the bank does not serve pending transactions.
	BookedOnly bool
	// MaskedIBAN is about banks whose account list hides part of the IBANs.
	MaskedIBAN MaskedIBAN
	// BusinessProducts are words in the name of a product that make its account
	// a business account, compared without case.
	BusinessProducts []string
	// PageSize asks for pages of this size where the bank lets us; 0 leaves it
	// to the bank.
	PageSize int
	// Timeout bounds one HTTP exchange.
	Timeout time.Duration
	// Rules read the bank's errors where codes alone do not tell.
	Rules []ErrorRule
}

// MaskedIBAN is what to do about IBANs that a bank's account list masks
// (banqUP: Citi Handlowy, with and without unmasking).
type MaskedIBAN string

const (
	// AsListed takes IBANs as the list has them.
	AsListed MaskedIBAN = ""
	// Unmask asks for the details of an account whose whole IBAN is not known,
	// after its masked one was told.
	Unmask MaskedIBAN = "unmask"
	// KeepMasked never asks, and masks what the bank shows whole.
	KeepMasked MaskedIBAN = "keep"
)

// Business reports whether a product is one for businesses; false says nothing.
func (p *Profile) Business(product string) bool {
	product = strings.ToLower(product)
	return slices.ContainsFunc(p.BusinessProducts, func(w string) bool { return strings.Contains(product, strings.ToLower(w)) })
}

// Endpoint is a base URL for a channel, and a business context if the bank
// tells them apart (empty serves both).
type Endpoint struct {
	Mode            bankfeed.Mode
	BusinessContext bankfeed.BusinessContext
	BaseURL         string // without the /v1
}

// Endpoint finds the base URL for a channel and context.
func (p *Profile) Endpoint(m bankfeed.Mode, c bankfeed.BusinessContext) (string, bool) {
	var fallback string
	for _, e := range p.Endpoints {
		if e.Mode != m {
			continue
		}
		if e.BusinessContext == c {
			return e.BaseURL, true
		}
		if e.BusinessContext == "" {
			fallback = e.BaseURL
		}
	}
	return fallback, fallback != ""
}

// ErrorRule maps a bank's answer to a reason. Empty parts match anything.
type ErrorRule struct {
	Status   int
	Code     string
	Contains string // part of the text, compared without case
	Reason   bankfeed.FailureReason
}
