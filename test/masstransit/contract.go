package masstransit

import (
	"fmt"
	"strings"
)

// Namespaces of the producer's classes. A type's full name is also the name of
// its exchange; with urn:message: in front it is the message type.
const (
	namespace = "Psd2Hub.Services.PushService.Models"
	streaming = namespace + ".Finat.Streaming"

	// AccountMessage and the others name the five messages.
	AccountMessage         = streaming + ".Accounts:AccountMessage"
	TransactionMessage     = streaming + ".Transactions:TransactionMessage"
	SessionFinishedMessage = streaming + ".Session:SessionFinishedMessage"
	ConsentMessage         = streaming + ".Consents:ConsentMessage"
	AspspCall              = namespace + ":AspspCall"
)

const urn = "urn:message:"

// Types lists the five messages.
var Types = []string{AccountMessage, TransactionMessage, SessionFinishedMessage, ConsentMessage, AspspCall}

// The page's tables, a line per member: path, type as a .NET class declares it,
// values if the page lists them all. After the type, ! is required, ? may be
// null; the page leaves some without a mark, and draws those always. Where it
// says string for a date or a duration, the class has DateTime or TimeSpan, which
// is the stricter reading.
const (
	accountPage = `
data.id int!
data.balances map -
data.balances.* object! closingAvailable closingBooked expected forwardAvailable information interimAvailable interimBooked openingAvailable openingBooked previouslyClosedBooked other
data.balances.*.currency currency!
data.balances.*.date DateTime!
data.balances.*.value decimal!
data.bankSwiftCode text!
data.currency currency!
data.holderInformation object -
data.holderInformation.nameAddress string?
data.holderInformation.relations list!
data.holderInformation.relations.* string! owner borrower guarantor proxyOwnerGeneral proxyOwnerSpecial proxyOwnerAdministrator proxyOwnerUser beneficiary trustee other
data.holderType string? individual corporation
data.isBusiness bool?
data.iban text!
data.name string?
embedded.user.id text!
embedded.user.businessContext string! individual business
meta.timestamp DateTime!
meta.traceId Guid -
meta.operation string! created updated
meta.initiator string! user backgroundTask
meta.buildId text!
meta.containerId text!`

	transactionPage = `
data.accountingDate DateTime?
data.afterTransactionBalance decimal?
data.amount decimal!
data.currency currency?
data.effectiveDate DateTime?
data.endToEndId string?
data.id text!
data.recipient object -
data.recipient.accountIdentifier object?
data.recipient.accountIdentifier.type text!
data.recipient.accountIdentifier.value string?
data.recipient.address string?
data.recipient.name string?
data.sender object -
data.sender.accountIdentifier object?
data.sender.accountIdentifier.type text!
data.sender.accountIdentifier.value string?
data.sender.address string?
data.sender.name string?
data.status string! unauthorised confirmed added booked done pending rejected cancelled scheduled hold other
data.title string?
embedded.account.id int!
embedded.account.iban text!
embedded.user.id text!
embedded.user.businessContext string! individual business
meta.buildId text!
meta.containerId text!
meta.operation string! created updated
meta.initiator string! user backgroundTask
meta.timestamp DateTime!`

	// data.id is required, and empty for an account that never had a transaction.
	sessionPage = `
data.id string!
embedded.account.id int!
embedded.account.iban text!
embedded.user.id text!
embedded.user.businessContext string! individual business
embedded.session.id text!
embedded.session.externalId string?
meta.buildId text!
meta.containerId text!
meta.initiator string! user backgroundTask
meta.timestamp DateTime!`

	consentPage = `
data.id text!
data.externalId string?
data.bankSwiftCode text!
data.status text!
data.previousStatus text!
data.invalidationInfo object?
data.invalidationInfo.description string!
data.invalidationInfo.invalidated DateTime!
data.invalidationInfo.reason text!
data.scope string - Ais Pis
embedded.user.id text!
embedded.user.businessContext string! individual business
embedded.accounts list?
embedded.accounts.* object!
embedded.accounts.*.currencyCode currency?
embedded.accounts.*.iban string?
embedded.accounts.*.id int!
meta.buildId text!
meta.containerId text!
meta.operation string! created updated deleted
meta.initiator string! user backgroundTask
meta.timestamp DateTime!`

	callPage = `
bankSwiftCode text!
endpointUrl text!
errorResponseContent string?
exception string?
initiator string! user backgroundTask
requestContext text!
requestDuration TimeSpan -
session.externalId string?
session.id text!
statusCode int!
user.externalId string?
user.id text!
timestamp DateTime!
executionId text!
containerId text!
buildId text!`
)

// kind is a .NET type, or one of two kinds of string that the page means: text is
// never empty, currency an ISO 4217 code.
type kind string

const (
	kindObject   kind = "object"
	kindMap      kind = "map"
	kindList     kind = "list"
	kindString   kind = "string"
	kindText     kind = "text"
	kindCurrency kind = "currency"
	kindInt      kind = "int"
	kindBool     kind = "bool"
	kindDecimal  kind = "decimal"
	kindDateTime kind = "DateTime"
	kindTimeSpan kind = "TimeSpan"
	kindGUID     kind = "Guid"
)

var names = map[kind]string{
	kindObject: "an object", kindMap: "a dictionary", kindList: "an array",
	kindString: "System.String", kindText: "System.String", kindCurrency: "System.String",
	kindInt: "System.Int32", kindBool: "System.Boolean", kindDecimal: "System.Decimal",
	kindDateTime: "System.DateTime", kindTimeSpan: "System.TimeSpan", kindGUID: "System.Guid",
}

// valueType: null does not fit unless the class declares it nullable.
func (k kind) valueType() bool {
	switch k {
	case kindInt, kindBool, kindDecimal, kindDateTime, kindTimeSpan, kindGUID:
		return true
	default:
		return false
	}
}

// node is a member of a contract.
type node struct {
	kind     kind
	nullable bool
	values   []string // all that the page allows; of a dictionary's element: its keys
	members  []*member
	element  *node // of a list or dictionary
}

type member struct {
	name string
	*node
}

func (n *node) member(name string) *node {
	for _, m := range n.members {
		if strings.EqualFold(m.name, name) { // PropertyNameCaseInsensitive
			return m.node
		}
	}
	return nil
}

var contracts = map[string]*node{
	AccountMessage:         contract(accountPage),
	TransactionMessage:     contract(transactionPage),
	SessionFinishedMessage: contract(sessionPage),
	ConsentMessage:         contract(consentPage),
	AspspCall:              contract(callPage),
}

// contract reads a table. Objects on the way that have no line of their own are
// required.
func contract(page string) *node {
	root := &node{kind: kindObject}
	for line := range strings.Lines(strings.TrimSpace(page)) {
		fields := strings.Fields(line)
		leaf := root.at(fields[0])
		name := strings.TrimRight(fields[1], "!?")
		if names[kind(name)] == "" {
			panic(fmt.Sprintf("masstransit: no type %q", name))
		}
		leaf.kind, leaf.nullable = kind(name), strings.HasSuffix(fields[1], "?")
		values := fields[2:]
		if len(values) > 0 && values[0] == "-" {
			values = values[1:]
		}
		leaf.values = values
	}
	return root
}

func (n *node) at(path string) *node {
	for step := range strings.SplitSeq(path, ".") {
		var next *node
		if step == "*" {
			if n.element == nil {
				n.element = &node{kind: kindObject}
			}
			next = n.element
		} else if next = n.member(step); next == nil {
			next = &node{kind: kindObject}
			n.members = append(n.members, &member{step, next})
		}
		n = next
	}
	return n
}
