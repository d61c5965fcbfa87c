package banqup

import (
	"cmp"
	"strconv"

	"github.com/bankfeed/bankfeed"
)

// sessionFinished names the account's newest transaction, and none for an
// account that never had one: it is said all the same, since clients wait for it.
func (m *message) sessionFinished() {
	m.open("data")
	var last string
	if id := m.s.LastTransaction; id != 0 {
		last = strconv.FormatInt(int64(id), 10)
	}
	m.text("id", last)
	m.close()

	m.open("embedded")
	m.embeddedAccount()
	m.embeddedUser()
	m.open("session")
	id, external := m.session()
	m.uuid("id", id)
	m.textOrNull("externalId", external)
	m.close()
	m.close()
	m.meta("")
}

// session is the zero UUID outside of one.
func (m *message) session() (id bankfeed.UUID, external string) {
	if n := m.s.Session; n != nil {
		return n.UUID, n.ExternalID
	}
	return id, ""
}

// scope: the hub reads accounts, and orders no payments.
const scope = "Ais"

func (m *message) consent() bool {
	k := m.s.Consent
	if k == nil {
		return false
	}
	status, previous := consentStatus(k)
	m.open("data")
	m.uuid("id", m.s.User.UUID.Sibling(bankfeed.KindConsent, int64(k.ID)))
	m.textOrNull("externalId", k.ExternalID)
	m.bank()
	m.text("status", string(status))
	m.text("previousStatus", string(previous))
	if status == bankfeed.ConsentInvalid {
		m.invalidation(k)
	} else {
		m.null("invalidationInfo")
	}
	m.text("scope", scope)
	m.close()

	m.open("embedded")
	m.open("user")
	// Unlike everywhere else the client's own id, where it gave one.
	if id := m.s.User.ExternalID; id != "" {
		m.text("id", id)
	} else {
		m.uuid("id", m.s.User.UUID)
	}
	m.businessContext()
	m.close()
	m.name("accounts")
	m.b = append(m.b, '[')
	for _, a := range k.Accounts {
		m.next()
		m.b = append(m.b, '{')
		m.textOrNull("currencyCode", a.Currency)
		m.textOrNull("iban", a.IBAN)
		m.int("id", int64(a.ID))
		m.close()
	}
	m.b = append(m.b, ']')
	m.close()
	m.meta(operation(m.e.Type))
	return true
}

// consentStatus is the last status of a consent before it was deleted; deleted
// itself is an operation and never a status. A consent is asked for before it is
// anything else.
func consentStatus(k *bankfeed.Consent) (status, previous bankfeed.ConsentStatus) {
	status, previous = k.Status, k.Previous
	if status == bankfeed.ConsentDeleted {
		status, previous = cmp.Or(previous, bankfeed.ConsentConfirmed), ""
	}
	if previous == "" && status == bankfeed.ConsentInvalid {
		previous = bankfeed.ConsentConfirmed
	}
	return status, cmp.Or(previous, bankfeed.ConsentReceived)
}

func (m *message) invalidation(k *bankfeed.Consent) {
	i := bankfeed.Invalidation{At: m.e.At}
	if k.Invalidation != nil {
		i = *k.Invalidation
	}
	m.open("invalidationInfo")
	m.text("description", i.Description)
	m.time("invalidated", i.At)
	m.text("reason", string(cmp.Or(i.Reason, bankfeed.InvalidExpired)))
	m.close()
}

// noAnswer is the exception of a call without an HTTP answer whose reason is not known.
const noAnswer = "no answer from the bank"

// call writes the one message that is flat.
func (m *message) call() bool {
	c := m.s.Call
	if c == nil {
		return false
	}
	m.bank()
	m.text("endpointUrl", c.URL)
	m.textOrNull("errorResponseContent", c.ErrorBody)
	if c.Exception == "" && c.Status == 0 {
		m.text("exception", noAnswer)
	} else {
		m.textOrNull("exception", c.Exception)
	}
	m.initiator()
	m.text("requestContext", string(c.Context))
	m.timeSpan("requestDuration", c.Duration)
	m.open("session")
	id, external := m.session()
	m.textOrNull("externalId", external)
	m.uuid("id", id)
	m.close()
	m.int("statusCode", int64(c.Status))
	m.open("user")
	m.textOrNull("externalId", m.s.User.ExternalID)
	m.uuid("id", m.s.User.UUID)
	m.close()
	at := c.At
	if at.IsZero() {
		at = m.e.At
	}
	m.time("timestamp", at)
	m.uuid("executionId", c.ExecutionID)
	m.text("containerId", m.s.Node)
	m.text("buildId", m.s.Build)
	return true
}
