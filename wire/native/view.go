// Package native holds the shapes of the hub's own API, and the pure rendering of
// entities and events into them. They are apart from the tags of the vocabulary,
// which belong to stored snapshots: either can grow without the other. The same
// shapes stand in answers, in events of GET /v1/events and in callbacks.
package native

import "time"

// User is a PSU.
type User struct {
	ID              string    `json:"id" doc:"Number of the user." example:"12"`
	UUID            string    `json:"uuid" format:"uuid"`
	ExternalID      string    `json:"external_id,omitempty" doc:"Your own id of the user."`
	Email           string    `json:"email,omitempty"`
	BusinessContext string    `json:"business_context" enum:"individual,business"`
	CreatedAt       time.Time `json:"created_at"`
}

// Provider is a bank as users see it.
type Provider struct {
	ID               string            `json:"id" example:"200"`
	Name             string            `json:"name" example:"WBX Test Bank"`
	BIC              string            `json:"bic,omitempty"`
	Country          string            `json:"country" doc:"ISO 3166-1 alpha-2." example:"DE"`
	LogoURL          string            `json:"logo_url,omitempty"`
	Sandbox          bool              `json:"sandbox"`
	BusinessContexts []string          `json:"business_contexts" nullable:"false" doc:"In which capacity users can reach the bank: individual, business."`
	Channels         []ProviderChannel `json:"channels" nullable:"false"`
}

// ProviderChannel is one way to reach a bank.
type ProviderChannel struct {
	Mode         string            `json:"mode" enum:"REDIRECT,EMBEDDED" doc:"REDIRECT: the PSU visits the bank's own pages. EMBEDDED: credentials go through the hub."`
	AccountTypes []string          `json:"account_types" nullable:"false" doc:"current, savings, card, loan"`
	Credentials  []CredentialField `json:"credentials,omitempty" nullable:"false" doc:"What an EMBEDDED channel asks of its user."`
}

// CredentialField is one input of a login form.
type CredentialField struct {
	Key    string `json:"key" example:"login"`
	Label  string `json:"label" example:"User name"`
	Secret bool   `json:"secret"`
}

// Connection is a user's link to a bank.
type Connection struct {
	ID           string     `json:"id" doc:"Number of the connection." example:"7"`
	UUID         string     `json:"uuid" format:"uuid"`
	User         string     `json:"user" doc:"Number of its user."`
	ProviderID   string     `json:"provider_id"`
	ProviderName string     `json:"provider_name"`
	BIC          string     `json:"bic,omitempty"`
	Status       string     `json:"status" enum:"RUNNING,SUCCESS,PARTIAL_SUCCESS,FAILED,CLOSED,NONE" doc:"What its channels amount to."`
	AutoSync     bool       `json:"auto_sync" doc:"Whether it is synchronized every day without its user."`
	NextSyncAt   *time.Time `json:"next_sync_at,omitempty" doc:"When the next unattended session is due; absent while the user is needed."`
	CreatedAt    time.Time  `json:"created_at"`
	Channels     []Channel  `json:"channels" nullable:"false"`
}

// Channel is the state of one way to the bank.
type Channel struct {
	Mode          string     `json:"mode" enum:"REDIRECT,EMBEDDED"`
	Status        string     `json:"status" enum:"EMPTY,RUNNING,SUCCESS,PARTIAL_SUCCESS,AUTH_FAILED,TOKEN_EXPIRED,PASSWORD_CHANGE_REQUIRED,USER_ACTION_REQUIRED,CHALLENGE_REQUIRED,UNAVAILABLE,CLOSED"`
	LastStatus    string     `json:"last_status,omitempty" doc:"The last final status, while status is RUNNING or UNAVAILABLE."`
	ExpiresAt     *time.Time `json:"expires_at,omitempty" doc:"When the consent behind the channel ends."`
	LastSuccessAt *time.Time `json:"last_success_at,omitempty"`
	LastEndAt     *time.Time `json:"last_end_at,omitempty"`
	Action        string     `json:"action,omitempty" enum:"REDIRECT,CREDENTIALS,BANK_SITE,CHALLENGE" doc:"What the user must do: visit the bank's consent pages (renew), give new credentials (renew), do something on the bank's own site, answer the challenge."`
	Failure       *Failure   `json:"failure,omitempty"`
	NextTryAt     *time.Time `json:"next_try_at,omitempty"`
	Challenge     *Challenge `json:"challenge,omitempty"`
}

// Failure says why something ended without success.
type Failure struct {
	Reason string `json:"reason" example:"wrong_credentials"`
	Code   string `json:"code,omitempty" doc:"The bank's own error code."`
	Text   string `json:"text,omitempty"`
	Retry  bool   `json:"retry" doc:"Whether trying again without the user can help."`
}

// Challenge is a question of the bank that waits for its user.
type Challenge struct {
	Kind      string            `json:"kind" enum:"CREDENTIALS,METHOD,CODE,REDIRECT,APP" doc:"What is expected: login and password, the choice of a method, a code, a visit to the bank, a confirmation in the bank's app."`
	Methods   []ChallengeMethod `json:"methods,omitempty" nullable:"false" doc:"To choose from, when kind is METHOD."`
	Method    string            `json:"method,omitempty" doc:"The name of the chosen method."`
	Text      string            `json:"text,omitempty" doc:"The bank's words to its user."`
	Format    string            `json:"format,omitempty" doc:"integer or characters"`
	MaxLength int               `json:"max_length,omitempty"`
	Image     []byte            `json:"image,omitempty"`
	Deadline  time.Time         `json:"deadline" doc:"When the session stops waiting."`
}

// ChallengeMethod is one way in which a bank can challenge its user.
type ChallengeMethod struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty" example:"SMS_OTP"`
	Name string `json:"name,omitempty"`
}

// Step is what a channel needs next from its user.
type Step struct {
	Mode        string     `json:"mode" enum:"REDIRECT,EMBEDDED"`
	RedirectURL string     `json:"redirect_url,omitempty" doc:"Send the PSU's browser here."`
	Challenge   *Challenge `json:"challenge,omitempty" doc:"Ask the PSU and send the answer."`
}

// Session is one run for one connection.
type Session struct {
	ID         string     `json:"id" doc:"Number of the session." example:"31"`
	UUID       string     `json:"uuid" format:"uuid"`
	User       string     `json:"user" doc:"Number of its user."`
	Connection string     `json:"connection" doc:"Number of its connection."`
	ExternalID string     `json:"external_id,omitempty" doc:"Your own id of the session."`
	Type       string     `json:"type" enum:"ALL,LIST_ACCOUNTS"`
	Status     string     `json:"status" enum:"Initiated,InProgress,Finished,Failed"`
	Stage      string     `json:"stage" enum:"Authentication,Accounts,AccountBalances,Transactions"`
	Initiator  string     `json:"initiator" enum:"user,backgroundTask"`
	Attended   bool       `json:"attended" doc:"Whether the PSU was present."`
	CreatedAt  time.Time  `json:"created_at"`
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	Failure    *Failure   `json:"failure,omitempty"`
	Joined     bool       `json:"joined,omitempty" doc:"Only when a session was asked for: one was running already, this is it."`
}

// Consent is a PSU's permission for one channel.
type Consent struct {
	ID             string           `json:"id" doc:"Number of the consent." example:"9"`
	UUID           string           `json:"uuid" format:"uuid"`
	User           string           `json:"user" doc:"Number of its user."`
	Connection     string           `json:"connection" doc:"Number of its connection."`
	ExternalID     string           `json:"external_id,omitempty" doc:"Your own id of the consent."`
	Mode           string           `json:"mode" enum:"REDIRECT,EMBEDDED"`
	Status         string           `json:"status" enum:"received,rejected,confirmed,invalid,deleted"`
	PreviousStatus string           `json:"previous_status,omitempty"`
	ValidUntil     string           `json:"valid_until,omitempty" format:"date" doc:"Last day, as the bank granted it."`
	CreatedAt      time.Time        `json:"created_at"`
	ConfirmedAt    *time.Time       `json:"confirmed_at,omitempty"`
	Invalidation   *Invalidation    `json:"invalidation,omitempty"`
	Accounts       []ConsentAccount `json:"accounts" nullable:"false" doc:"The accounts it reaches, as far as they are known."`
}

// ConsentAccount names an account inside a consent.
type ConsentAccount struct {
	ID       string `json:"id"`
	IBAN     string `json:"iban,omitempty"`
	Currency string `json:"currency,omitempty"`
}

// Invalidation says when and why a consent stopped working.
type Invalidation struct {
	At          time.Time `json:"at"`
	Reason      string    `json:"reason" enum:"Expired,RevokedByPsu,TerminatedByTpp,Replaced"`
	Description string    `json:"description,omitempty"`
}

// Account is one account at a bank.
type Account struct {
	ID          string       `json:"id" doc:"Number of the account." example:"101"`
	UUID        string       `json:"uuid" format:"uuid"`
	User        string       `json:"user" doc:"Number of its user."`
	Connection  string       `json:"connection" doc:"Number of its connection."`
	Type        string       `json:"type" enum:"current,savings,card,loan"`
	Status      string       `json:"status" enum:"ok,reading,failed,gone,consent_pending,imported"`
	Identifiers []Identifier `json:"identifiers" nullable:"false"`
	Currency    string       `json:"currency" doc:"ISO 4217." example:"EUR"`
	Name        string       `json:"name,omitempty"`
	Product     string       `json:"product,omitempty"`
	BIC         string       `json:"bic,omitempty"`
	OwnerName   string       `json:"owner_name,omitempty"`
	HolderType  string       `json:"holder_type,omitempty" doc:"individual, corporation, or the bank's own word."`
	Usage       string       `json:"usage,omitempty" doc:"PRIV or ORGA"`
	IsBusiness  *bool        `json:"is_business,omitempty"`
	BankType    string       `json:"bank_type,omitempty" doc:"The bank's own type (ISO 20022 cash account type)."`
	BankStatus  string       `json:"bank_status,omitempty"`
	Source      string       `json:"source" doc:"The channel that feeds it: REDIRECT or EMBEDDED."`
	Balances    []Balance    `json:"balances" nullable:"false" doc:"All that the bank gives; none is chosen."`
	CreatedAt   time.Time    `json:"created_at"`
	LastReadAt  *time.Time   `json:"last_read_at,omitempty" doc:"When its transactions were last read to the end. Not in events."`
	RemovedAt   *time.Time   `json:"removed_at,omitempty" doc:"When the bank no longer listed it. Not in events."`
	Failure     *Failure     `json:"failure,omitempty" doc:"Why the last read failed. Not in events."`
}

// Identifier is one name of an account.
type Identifier struct {
	Type  string `json:"type" enum:"iban,maskedIban,bban,maskedPan,other" doc:"maskedIban where the bank hides part of the IBAN; it becomes iban once that is known."`
	Value string `json:"value"`
}

// Balance is one figure of an account.
type Balance struct {
	Type          string     `json:"type" doc:"Berlin Group balanceType, or the bank's own word." example:"interimAvailable"`
	Money         Money      `json:"money"`
	ReferenceDate string     `json:"reference_date,omitempty" format:"date"`
	LastChangeAt  *time.Time `json:"last_change_at,omitempty"`
	FetchedAt     time.Time  `json:"fetched_at"`
}

// Money is an amount in a currency.
type Money struct {
	Amount   string `json:"amount" doc:"Exact decimal with the bank's scale; a debit is negative." example:"-12.50" pattern:"^-?[0-9]+([.][0-9]+)?$"`
	Currency string `json:"currency" doc:"ISO 4217." example:"EUR"`
}

// Transaction is one movement on an account.
type Transaction struct {
	ID      string `json:"id" doc:"Number of the transaction." example:"100234"`
	User    string `json:"user" doc:"Number of its user."`
	Account string `json:"account" doc:"Number of its account."`
	Status  string `json:"status" enum:"booked,done,pending,hold,rejected,cancelled,scheduled,other"`
	Money   Money  `json:"money"`

	BookingDate     string `json:"booking_date,omitempty" format:"date"`
	ValueDate       string `json:"value_date,omitempty" format:"date"`
	TransactionDate string `json:"transaction_date,omitempty" format:"date"`

	BankID         string `json:"bank_id,omitempty" doc:"transactionId as the bank sends it."`
	EntryReference string `json:"entry_reference,omitempty"`
	EndToEndID     string `json:"end_to_end_id,omitempty"`
	MandateID      string `json:"mandate_id,omitempty"`
	CreditorID     string `json:"creditor_id,omitempty"`
	CheckID        string `json:"check_id,omitempty"`

	Creditor              *Party   `json:"creditor,omitempty"`
	Debtor                *Party   `json:"debtor,omitempty"`
	UltimateCreditor      string   `json:"ultimate_creditor,omitempty"`
	UltimateDebtor        string   `json:"ultimate_debtor,omitempty"`
	Remittance            []string `json:"remittance,omitempty" nullable:"false"`
	StructuredRemittance  []string `json:"structured_remittance,omitempty" nullable:"false"`
	AdditionalInformation string   `json:"additional_information,omitempty"`
	PurposeCode           string   `json:"purpose_code,omitempty"`
	BankTransactionCode   string   `json:"bank_transaction_code,omitempty"`
	ProprietaryCode       string   `json:"proprietary_bank_transaction_code,omitempty"`

	BalanceAfter *Money     `json:"balance_after,omitempty"`
	Exchange     []Exchange `json:"exchange,omitempty" nullable:"false"`

	CreatedAt time.Time `json:"created_at" doc:"When the hub first stored it."`
}

// Party is one side of a transaction.
type Party struct {
	Name    string      `json:"name,omitempty"`
	Address string      `json:"address,omitempty"`
	Account *Identifier `json:"account,omitempty"`
	Agent   string      `json:"agent,omitempty" doc:"BIC"`
}

// Exchange is a currency conversion in the bank's own words.
type Exchange struct {
	SourceCurrency string `json:"source_currency,omitempty"`
	TargetCurrency string `json:"target_currency,omitempty"`
	UnitCurrency   string `json:"unit_currency,omitempty"`
	Rate           string `json:"rate,omitempty"`
	Date           string `json:"date,omitempty" format:"date"`
}
