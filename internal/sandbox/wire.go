package sandbox

import (
	"fmt"
	"strconv"
	"strings"
)

// The JSON shapes of NextGenPSD2 1.3.12, as far as this bank fills them.

type link struct {
	Href string `json:"href"`
}

type accountReference struct {
	IBAN      string `json:"iban,omitempty"`
	BBAN      string `json:"bban,omitempty"`
	MaskedPAN string `json:"maskedPan,omitempty"`
	Currency  string `json:"currency,omitempty"`
}

type amount struct {
	Currency string `json:"currency"`
	Amount   string `json:"amount"`
}

type accountDetails struct {
	ResourceID      string          `json:"resourceId"`
	IBAN            string          `json:"iban,omitempty"`
	BBAN            string          `json:"bban,omitempty"`
	MaskedPAN       string          `json:"maskedPan,omitempty"`
	Currency        string          `json:"currency"`
	OwnerName       string          `json:"ownerName"`
	Name            string          `json:"name"`
	Product         string          `json:"product"`
	CashAccountType string          `json:"cashAccountType"`
	Status          string          `json:"status"`
	BIC             string          `json:"bic"`
	Usage           string          `json:"usage"`
	Balances        []balance       `json:"balances,omitempty"`
	Links           map[string]link `json:"_links,omitempty"`
}

type balance struct {
	BalanceAmount       amount `json:"balanceAmount"`
	BalanceType         string `json:"balanceType"`
	CreditLimitIncluded *bool  `json:"creditLimitIncluded,omitempty"`
	LastChangeDateTime  string `json:"lastChangeDateTime,omitempty"`
	ReferenceDate       string `json:"referenceDate,omitempty"`
}

type transaction struct {
	TransactionID   *string           `json:"transactionId,omitempty"`
	EntryReference  *string           `json:"entryReference,omitempty"`
	EndToEndID      string            `json:"endToEndId,omitempty"`
	MandateID       string            `json:"mandateId,omitempty"`
	CreditorID      string            `json:"creditorId,omitempty"`
	BookingDate     string            `json:"bookingDate,omitempty"`
	ValueDate       string            `json:"valueDate,omitempty"`
	Amount          amount            `json:"transactionAmount"`
	CreditorName    string            `json:"creditorName,omitempty"`
	CreditorAccount *accountReference `json:"creditorAccount,omitempty"`
	DebtorName      string            `json:"debtorName,omitempty"`
	DebtorAccount   *accountReference `json:"debtorAccount,omitempty"`
	Remittance      string            `json:"remittanceInformationUnstructured,omitempty"`
	AdditionalInfo  *standingInfo     `json:"additionalInformationStructured,omitempty"`
	PurposeCode     string            `json:"purposeCode,omitempty"`
	BankCode        string            `json:"bankTransactionCode,omitempty"`
	Links           map[string]link   `json:"_links,omitempty"`
}

type standingInfo struct {
	Details standingOrder `json:"standingOrderDetails"`
}

type standingOrder struct {
	StartDate      string `json:"startDate"`
	Frequency      string `json:"frequency"`
	ExecutionRule  string `json:"executionRule"`
	DayOfExecution string `json:"dayOfExecution"`
}

type report struct {
	Account      accountReference `json:"account"`
	Transactions *reportLists     `json:"transactions"`
	Balances     []balance        `json:"balances,omitempty"`
}

type reportLists struct {
	Booked      *[]transaction  `json:"booked,omitempty"`
	Pending     *[]transaction  `json:"pending,omitempty"`
	Information *[]transaction  `json:"information,omitempty"`
	Links       map[string]link `json:"_links"`
}

type scaMethod struct {
	Type string `json:"authenticationType"`
	ID   string `json:"authenticationMethodId"`
	Name string `json:"name"`
}

type challenge struct {
	Image                 string   `json:"image,omitempty"`
	Data                  []string `json:"data,omitempty"`
	OTPMaxLength          int      `json:"otpMaxLength"`
	OTPFormat             string   `json:"otpFormat"`
	AdditionalInformation string   `json:"additionalInformation"`
}

// details draws the account for one consent.
func (l *ledger) details(resourceID, base string, links []string, withBalance bool) accountDetails {
	d := accountDetails{
		ResourceID: resourceID, IBAN: l.iban, BBAN: l.bban, MaskedPAN: l.maskedPan, Currency: l.currency,
		OwnerName: l.owner, Name: l.label, Product: l.product, CashAccountType: l.cashType,
		Status: "enabled", BIC: BIC, Usage: l.usage,
	}
	if withBalance {
		d.Balances = l.balances()
	}
	if len(links) > 0 {
		d.Links = map[string]link{}
		for _, name := range links {
			d.Links[name] = link{base + "/v1/accounts/" + resourceID + "/" + name}
		}
	}
	return d
}

// balances as of today; amounts are in the account's currency.
func (l *ledger) balances() []balance {
	end, before := l.sum(l.today)
	draw := func(kind string, minor int64, day int) balance {
		return balance{
			BalanceAmount: amount{l.currency, formatMinor(minor, l.currency)},
			BalanceType:   kind, ReferenceDate: dayText(day),
			LastChangeDateTime: dayText(day) + "T00:00:00Z",
		}
	}
	available := end
	for _, e := range l.pending() {
		if held := e.shown(true); held < 0 {
			available += held
		}
	}
	credit := l.limit > 0
	avail := draw("interimAvailable", available+l.limit, l.today)
	avail.CreditLimitIncluded = &credit
	switch l.cashType {
	case "CARD":
		return []balance{draw("nonInvoiced", end, l.today), avail}
	case "LOAN", "SVGS":
		return []balance{draw("closingBooked", before, l.today-1), draw("interimBooked", end, l.today)}
	}
	return []balance{
		draw("closingBooked", before, l.today-1), draw("interimBooked", end, l.today),
		draw("expected", available, l.today), avail,
	}
}

// shown is the amount of an entry in the list it stands in.
func (e entry) shown(pending bool) int64 {
	if pending && e.held != 0 {
		return e.held
	}
	return e.minor
}

// draw writes an entry out. detailsURL is the transactions resource it lives under.
func (l *ledger) draw(e entry, pending bool, transactionsURL string) transaction {
	minor := e.shown(pending)
	t := transaction{Amount: amount{l.currency, formatMinor(minor, l.currency)}, ValueDate: dayText(e.day)}
	if !pending {
		t.BookingDate = dayText(e.booked)
	}
	var name, text, code string
	if e.fired != nil {
		name, text, code = e.fired.Name, e.fired.Purpose, codeOut
		if minor > 0 {
			code = codeIn
		}
	} else {
		s := e.from
		name, code, t.PurposeCode = s.name, s.code, s.purpose
		text = strings.Replace(s.text, "%s", dayTime(e.day).Format(s.layout), 1)
		if l.perDay > 0 {
			text += " " + strconv.Itoa(e.slot)
			if minor < 0 {
				code = codeOut
			}
		}
		if s.mandate {
			party := hash(s.name)
			t.MandateID = fmt.Sprintf("MNDT-%06d", (party^l.key)%1e6)
			t.CreditorID = fmt.Sprintf("DE98ZZZ%011d", party%1e11)
		}
		if e.held != 0 {
			text += " Trinkgeld inkl."
			if pending {
				text = "Vorgemerkt: " + s.name
			}
		}
	}
	t.Remittance, t.BankCode = text, code
	card := e.from != nil && e.from.card
	var counter *accountReference
	if !card {
		counter = &accountReference{IBAN: germanIBAN(otherBank, hash(name))}
		t.EndToEndID = fmt.Sprintf("E2E-%s-%06d", dayTime(e.day).Format("20060102"), e.slot)
	}
	if minor < 0 {
		t.CreditorName, t.CreditorAccount = name, counter
	} else {
		t.DebtorName, t.DebtorAccount = name, counter
	}
	id := l.id(e, pending)
	l.setIDs(&t, e, pending, id)
	if l.ids == flawNone {
		t.Links = map[string]link{"transactionDetails": {transactionsURL + "/" + id}}
	}
	return t
}

// setIDs gives a transaction its ids, spoilt in the way of this test user.
func (l *ledger) setIDs(t *transaction, e entry, pending bool, id string) {
	set := func(id, ref string) { t.TransactionID, t.EntryReference = &id, &ref }
	switch l.ids {
	case flawNoIDs:
		switch e.slot % 3 {
		case 1:
			set("", "")
		case 2:
			set(" ", " ")
		}
	case flawDuplicateIDs:
		if e.from != nil && e.from.card {
			set("NOTPROVIDED", "NOTPROVIDED")
		} else {
			set("DAY-"+dayText(e.day), "DAY-"+dayText(e.day))
		}
	case flawChangingIDs:
		set(fmt.Sprintf("S%06d-%s", l.fetch, id), fmt.Sprintf("%d-%s", l.fetch, strings.TrimLeft(id, "BbFf")))
	default:
		t.TransactionID = &id
		if !pending {
			ref := "R" + id
			t.EntryReference = &ref
		}
	}
}

func (l *ledger) drawAll(list []entry, pending bool, transactionsURL string) *[]transaction {
	out := make([]transaction, 0, len(list))
	for _, e := range list {
		out = append(out, l.draw(e, pending, transactionsURL))
	}
	return &out
}

// information draws the standing orders, the bank's list of what will be booked later.
func (l *ledger) information() *[]transaction {
	out := []transaction{}
	for _, r := range l.standingOrders() {
		out = append(out, transaction{
			Amount:       amount{l.currency, formatMinor(fromCents(r.cents, l.currency), l.currency)},
			CreditorName: r.source.name, CreditorAccount: &accountReference{IBAN: germanIBAN(otherBank, hash(r.source.name))},
			Remittance: strings.TrimSpace(strings.Replace(r.source.text, "%s", "", 1)), BankCode: codeStanding, PurposeCode: r.source.purpose,
			AdditionalInfo: &standingInfo{standingOrder{StartDate: dayText(l.opened + r.dom - 1), Frequency: "Monthly", ExecutionRule: "following", DayOfExecution: strconv.Itoa(r.dom)}},
		})
	}
	return &out
}
