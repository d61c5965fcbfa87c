package asyncapi

import (
	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

var summaries = map[banqup.Kind]string{
	banqup.Account:     "An account was found, or read again.",
	banqup.Transaction: "A transaction was found, changed, or read again.",
	banqup.Session:     "All transactions that a session found on an account have been sent.",
	banqup.Consent:     "A consent was confirmed, stopped working, or was removed with its data.",
	banqup.Call:        "The hub called a bank.",
}

// member is what a Go type does not tell of a member.
type member struct {
	null   bool
	values []string // all that there are; of a dictionary its keys
	format string
	text   string
}

// member finds what is known of a path: of this kind of message, else of any.
func (b builder) member(path string) (m member, ok bool) {
	if m, ok = members[string(b.kind)+" "+path]; ok {
		return m, ok
	}
	m, ok = members["* "+path]
	return m, ok
}

var (
	contexts   = []string{string(bankfeed.Individual), string(bankfeed.Business)}
	initiators = []string{string(bankfeed.ByUser), string(bankfeed.ByBackground)}
	operations = []string{banqup.Created, banqup.Updated}
	statuses   = []string{string(bankfeed.ConsentReceived), string(bankfeed.ConsentRejected), string(bankfeed.ConsentConfirmed), string(bankfeed.ConsentInvalid)}

	masked = "The IBAN, masked (PLxxxx1234) as long as the bank does not tell it; another identifier where the account has none."
)

// members by kind of message, or * for all, and path; a dot and a star stand for
// an element. The vendor's page marks what may be null.
var members = map[string]member{
	"* embedded.user.id":              {format: uuid, text: "The hub's id of the user."},
	"* embedded.user.businessContext": {values: contexts},
	"* embedded.account.id":           {text: "The account, as in AccountMessage."},
	"* embedded.account.iban":         {text: masked},
	"* embedded.session.id":           {format: uuid, text: "Zero outside of a session."},
	"* embedded.session.externalId":   {null: true, text: "The client's id of the session."},
	"* meta.buildId":                  {text: "Build of the hub that noted the event, YYYYMMDD.n."},
	"* meta.containerId":              {text: "Node of the hub that noted the event."},
	"* meta.initiator":                {values: initiators, text: "user: a request or a person set it in motion; backgroundTask: the schedule did."},
	"* meta.timestamp":                {text: "When it happened."},

	"account data.id":                            {text: "Number of the account, the same in every message about it."},
	"account data.balances":                      {values: banqup.BalanceTypes, text: "The newest balance of each type that the bank gave, in the account's currency."},
	"account data.balances.*.date":               {text: "The day of the balance, else when it last changed, else when it was read."},
	"account data.bankSwiftCode":                 {text: "BIC of the bank."},
	"account data.currency":                      {text: "ISO 4217."},
	"account data.holderInformation.nameAddress": {null: true},
	"account data.holderInformation.relations":   {text: "What the user is to the account; empty if the bank does not tell."},
	"account data.holderInformation.relations.*": {values: []string{
		"owner", "borrower", "guarantor", "proxyOwnerGeneral", "proxyOwnerSpecial", "proxyOwnerAdministrator", "proxyOwnerUser", "beneficiary", "trustee", "other",
	}},
	"account data.holderType": {null: true, text: "individual or corporation; as the bank said it."},
	"account data.isBusiness": {text: "By the bank's product, else by the usage of the account."},
	"account data.iban":       {text: masked},
	"account data.name":       {null: true},
	"account meta.operation":  {values: operations},
	"account meta.traceId":    {format: uuid},

	"transaction data.accountingDate":                    {text: "Booking date."},
	"transaction data.amount":                            {text: "A debit is negative, unless the stream is set to absolute amounts."},
	"transaction data.currency":                          {null: true, text: "The account's."},
	"transaction data.effectiveDate":                     {text: "When the transaction was made."},
	"transaction data.endToEndId":                        {null: true},
	"transaction data.id":                                {text: "Number of the transaction, the same in every message about it."},
	"transaction data.recipient.address":                 {null: true},
	"transaction data.recipient.name":                    {null: true},
	"transaction data.sender.address":                    {null: true},
	"transaction data.sender.name":                       {null: true},
	"transaction data.title":                             {null: true},
	"transaction meta.operation":                         {values: operations},
	"transaction data.status":                            {values: []string{"unauthorised", "confirmed", "added", "booked", "done", "pending", "rejected", "cancelled", "scheduled", "hold", "other"}},
	"transaction data.sender.accountIdentifier.type":     {values: identifiers},
	"transaction data.sender.accountIdentifier.value":    {null: true},
	"transaction data.recipient.accountIdentifier.type":  {values: identifiers},
	"transaction data.recipient.accountIdentifier.value": {null: true},

	"session data.id": {text: "The account's newest transaction; empty if it never had one."},

	"consent data.id":                           {format: uuid},
	"consent data.externalId":                   {null: true, text: "The client's id of the consent."},
	"consent data.bankSwiftCode":                {text: "BIC of the bank."},
	"consent data.status":                       {values: statuses, text: "Of a removed consent, the last that it had."},
	"consent data.previousStatus":               {values: statuses},
	"consent data.scope":                        {values: []string{"Ais", "Pis"}},
	"consent data.invalidationInfo":             {text: "Null unless the consent is invalid."},
	"consent data.invalidationInfo.description": {text: "The bank's own word; empty if it gave none."},
	"consent data.invalidationInfo.reason":      {values: []string{string(bankfeed.InvalidExpired), string(bankfeed.InvalidRevokedByPSU), string(bankfeed.InvalidTerminated), string(bankfeed.InvalidReplaced)}},
	"consent embedded.user.id":                  {text: "The client's own id of the user, else the hub's."},
	"consent embedded.accounts":                 {null: true, text: "What the consent reaches."},
	"consent embedded.accounts.*.currencyCode":  {null: true},
	"consent embedded.accounts.*.iban":          {null: true},
	"consent meta.operation":                    {values: []string{banqup.Created, banqup.Updated, banqup.Deleted}},

	"call bankSwiftCode":        {text: "BIC of the bank."},
	"call endpointUrl":          {text: "Without secrets."},
	"call errorResponseContent": {null: true, text: "The bank's answer, if it was an error; without secrets."},
	"call exception":            {null: true, text: "Why there was no answer, or none that could be read."},
	"call initiator":            {values: initiators},
	"call requestContext": {text: "What the call was for.", values: []string{
		string(bankfeed.CallRetrieveScaURL), string(bankfeed.CallCreateConsent), string(bankfeed.CallGetConsentStatus), string(bankfeed.CallDeleteConsent),
		string(bankfeed.CallUpdatePsuData), string(bankfeed.CallGetToken), string(bankfeed.CallRefreshToken), string(bankfeed.CallGetAccounts),
		string(bankfeed.CallGetAccount), string(bankfeed.CallGetBalances), string(bankfeed.CallGetTransactions), string(bankfeed.CallGetHolds),
		string(bankfeed.CallDownloadStatement),
	}},
	"call session.id":         {format: uuid, text: "Zero outside of a session."},
	"call session.externalId": {null: true, text: "The client's id of the session."},
	"call statusCode":         {text: "HTTP status; 0 without an answer."},
	"call user.externalId":    {null: true, text: "The client's id of the user."},
	"call user.id":            {format: uuid, text: "The hub's id of the user."},
	"call executionId":        {format: uuid, text: "The same in the hub's log of this call."},
	"call containerId":        {text: "Node of the hub that made the call."},
	"call buildId":            {text: "Build of the hub that made the call, YYYYMMDD.n."},

	"envelope messageId":          {text: "The same for every copy of the message."},
	"envelope destinationAddress": {text: "The exchange; the queue of a replay to one."},
}

var identifiers = []string{string(bankfeed.IdentIBAN), string(bankfeed.IdentBBAN), string(bankfeed.IdentMaskedPAN), string(bankfeed.IdentOther)}
