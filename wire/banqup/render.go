package banqup

import (
	"errors"
	"fmt"

	"github.com/bankfeed/bankfeed"
)

// ErrErased: the event says nothing any more, because its user was erased or
// what it told of was removed.
var ErrErased = errors.New("banqup: what the event told of was erased")

// AppendMessage appends the member `message` of an event's envelope. It is a
// pure function of event and settings, so a replay is equal byte for byte. It
// fails only for an event that was erased, that the stream does not carry, or
// whose snapshot lacks what the message is about; b is then returned as it was.
func AppendMessage(b []byte, e *bankfeed.Event, s Settings) ([]byte, error) {
	k, ok := KindOf(e.Type)
	if !ok {
		return b, fmt.Errorf("banqup: the stream has no message for %s", e.Type)
	}
	if e.Snapshot == nil {
		return b, ErrErased
	}
	m := message{writer: writer{b: append(b, '{'), omitNulls: s.OmitNulls, asText: s.DecimalsAsText}, e: e, s: e.Snapshot}
	switch k {
	case Account:
		ok = m.account()
	case Transaction:
		ok = m.transaction(s.AbsoluteAmounts)
	case Session:
		m.sessionFinished()
	case Consent:
		ok = m.consent()
	case Call:
		ok = m.call()
	}
	if !ok {
		return b, fmt.Errorf("banqup: the snapshot of %s lacks what it is about", e.Type)
	}
	m.close()
	return m.b, nil
}

// message writes one message. Its parts are in the order of the vendor's page.
type message struct {
	writer
	e *bankfeed.Event
	s *bankfeed.Snapshot
}

// Operations of meta.
const (
	Created = "created"
	Updated = "updated"
	Deleted = "deleted"
)

func operation(t bankfeed.EventType) string {
	switch t {
	case bankfeed.EventAccountCreated, bankfeed.EventTransactionCreated, bankfeed.EventConsentCreated:
		return Created
	case bankfeed.EventConsentDeleted:
		return Deleted
	}
	return Updated
}

// initiator: what does not say that a user set it in motion is background work.
func (m *message) initiator() {
	if m.s.Initiator == bankfeed.ByUser {
		m.text("initiator", string(bankfeed.ByUser))
		return
	}
	m.text("initiator", string(bankfeed.ByBackground))
}

// meta writes the member of all messages but the one about an account and the
// flat one. An empty operation is left out.
func (m *message) meta(operation string) {
	m.open("meta")
	m.text("buildId", m.s.Build)
	m.text("containerId", m.s.Node)
	if operation != "" {
		m.text("operation", operation)
	}
	m.initiator()
	m.time("timestamp", m.e.At)
	m.close()
}

func (m *message) bank() {
	var bic string
	if c := m.s.Connection; c != nil {
		bic = c.BIC
	}
	if a := m.s.Account; bic == "" && a != nil {
		bic = a.BIC
	}
	m.text("bankSwiftCode", bic)
}

func (m *message) businessContext() {
	c := m.s.User.BusinessContext
	if c == "" {
		c = bankfeed.Individual
	}
	m.text("businessContext", string(c))
}

// embeddedUser names the user by the hub's id.
func (m *message) embeddedUser() {
	m.open("user")
	m.uuid("id", m.s.User.UUID)
	m.businessContext()
	m.close()
}

func (m *message) embeddedAccount() {
	m.open("account")
	id, shown := m.e.Account, ""
	if a := m.s.Account; a != nil {
		id, shown = a.ID, iban(a)
	}
	m.int("id", int64(id))
	m.text("iban", shown)
	m.close()
}

// iban is what names an account where the page wants an IBAN: the IBAN as far as
// it is known, else what the bank calls the account instead. It is empty only if
// the bank gives the account no name at all.
func iban(a *bankfeed.Account) string {
	for _, t := range [...]bankfeed.IdentifierType{
		bankfeed.IdentIBAN, bankfeed.IdentMaskedIBAN, bankfeed.IdentBBAN, bankfeed.IdentMaskedPAN, bankfeed.IdentOther,
	} {
		if s := a.Identifier(t); s != "" {
			return s
		}
	}
	return ""
}
