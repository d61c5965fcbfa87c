package banqup

import "github.com/bankfeed/bankfeed"

// Kind is one of the five messages of the stream.
type Kind string

// Kinds.
const (
	Account     Kind = "account"     // AccountMessage
	Transaction Kind = "transaction" // TransactionMessage
	Session     Kind = "session"     // SessionFinishedMessage
	Consent     Kind = "consent"     // ConsentMessage
	Call        Kind = "call"        // AspspCall
)

// Kinds lists all kinds.
var Kinds = []Kind{Account, Transaction, Session, Consent, Call}

// types are the full names of the producer's classes, which also name the
// exchanges (page: "Wiadomości będą spływać na kolejkę podłączoną do exchange").
var types = map[Kind]string{
	Account:     "Psd2Hub.Services.PushService.Models.Finat.Streaming.Accounts:AccountMessage",
	Transaction: "Psd2Hub.Services.PushService.Models.Finat.Streaming.Transactions:TransactionMessage",
	Session:     "Psd2Hub.Services.PushService.Models.Finat.Streaming.Session:SessionFinishedMessage",
	Consent:     "Psd2Hub.Services.PushService.Models.Finat.Streaming.Consents:ConsentMessage",
	Call:        "Psd2Hub.Services.PushService.Models:AspspCall",
}

// Exchange is the durable fanout exchange that the messages are published to.
func (k Kind) Exchange() string { return types[k] }

// URN is the messageType of the envelope.
func (k Kind) URN() string { return urnPrefix + types[k] }

const urnPrefix = "urn:message:"

// FaultExchange is where MassTransit publishes Fault<T> when a consumer of the
// message threw and the envelope names no faultAddress.
func (k Kind) FaultExchange() string { return "MassTransit:Fault--" + types[k] + "--" }

// ReceiveFaultExchange is where MassTransit publishes that a message, of any
// type, could not be read.
const ReceiveFaultExchange = "MassTransit:ReceiveFault"

// faces says which message an event becomes.
var faces = map[bankfeed.EventType]Kind{
	bankfeed.EventAccountCreated:     Account,
	bankfeed.EventAccountUpdated:     Account,
	bankfeed.EventAccountSeen:        Account,
	bankfeed.EventTransactionCreated: Transaction,
	bankfeed.EventTransactionUpdated: Transaction,
	bankfeed.EventTransactionRemoved: Transaction,
	bankfeed.EventTransactionSeen:    Transaction,
	bankfeed.EventAccountFinished:    Session,
	bankfeed.EventConsentCreated:     Consent,
	bankfeed.EventConsentUpdated:     Consent,
	bankfeed.EventConsentDeleted:     Consent,
	bankfeed.EventBankCalled:         Call,
}

// KindOf is the message that an event becomes; ok is false for events that the
// stream does not carry.
func KindOf(t bankfeed.EventType) (k Kind, ok bool) {
	k, ok = faces[t]
	return k, ok
}

// Settings are how messages are written; the zero value is the default.
type Settings struct {
	// DecimalsAsText writes decimals as JSON strings, as a stock MassTransit
	// producer does; otherwise as numbers.
	DecimalsAsText bool `json:"decimals_as_text,omitempty"`
	// OmitNulls leaves members out that are null, as producers before version 8 do.
	OmitNulls bool `json:"omit_nulls,omitempty"`
	// AbsoluteAmounts drops the sign of transaction amounts.
	AbsoluteAmounts bool `json:"absolute_amounts,omitempty"`
}
