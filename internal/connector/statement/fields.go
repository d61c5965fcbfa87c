package statement

import (
	"bytes"
	"encoding/json"
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// text is a member that holds a text or a number, as it was written. Clients
// write ids and amounts either way.
type text struct {
	s     string
	wrong bool // it is neither

	asItIs bool // blanks around it are part of it
}

// UnmarshalJSON implements json.Unmarshaler. It never fails, so that every
// member of a record that is wrong is named.
func (t *text) UnmarshalJSON(b []byte) error {
	switch c := b[0]; {
	case c == '"' && !utf8.Valid(b): // not put right: it would be another text
		t.wrong = true
	case c == '"' && bytes.IndexByte(b, '\\') < 0:
		t.s = string(b[1 : len(b)-1])
	case c == '"':
		t.wrong = json.Unmarshal(b, &t.s) != nil
	case c == '-' || '0' <= c && c <= '9':
		t.s = string(b)
	case c == 'n': // null is as good as absent
	default:
		t.wrong = true
	}
	return nil
}

func (t *text) set(v json.RawMessage) { _ = t.UnmarshalJSON(v) } // it never fails

// placed are the members of a document and of an account that the hub has a place
// for. Each is there once, however many others there are.
var placed = map[string]bool{"name": true, "bankName": true, "bic": true, "callbackUrl": true, "callbackHandle": true, "accounts": true,
	"iban": true, "accountNumber": true, "accountName": true, "accountType": true, "accountCurrency": true, "balance": true, "balanceDate": true,
	"accountHolderName": true, "transactions": true}

type headRecord struct{ name, bankName, bic, callbackURL, callbackHandle text }

func (h *headRecord) set(name string, v json.RawMessage) {
	for key, to := range map[string]*text{"name": &h.name, "bankName": &h.bankName, "bic": &h.bic,
		"callbackUrl": &h.callbackURL, "callbackHandle": &h.callbackHandle} {
		if key == name {
			to.set(v)
		}
	}
}

type accountRecord struct{ iban, number, name, kind, currency, balance, balanceDate, holder text }

func (a *accountRecord) set(name string, v json.RawMessage) {
	for key, to := range map[string]*text{"iban": &a.iban, "accountNumber": &a.number, "accountName": &a.name, "accountType": &a.kind,
		"accountCurrency": &a.currency, "balance": &a.balance, "balanceDate": &a.balanceDate, "accountHolderName": &a.holder} {
		if key == name {
			to.set(v)
		}
	}
}

// transactionRecord has what the hub knows a place for; everything else stays in
// the raw record.
type transactionRecord struct {
	ID, Amount, Currency, BookingDate, ValueDate, Purpose                                text
	Name, IBAN, BIC, AccountNumber, Mandate, CreditorID, EndToEnd, PurposeCode, BankCode text
}

// member is where a member belongs, nil if there is no place for it. Names are
// compared as they are, as in the rest of the document.
func (r *transactionRecord) member(name string) *text {
	switch name {
	case "id":
		return &r.ID
	case "amount":
		return &r.Amount
	case "currency":
		return &r.Currency
	case "bankBookingDate":
		return &r.BookingDate
	case "valueDate":
		return &r.ValueDate
	case "purpose":
		return &r.Purpose
	case "counterpartName":
		return &r.Name
	case "counterpartIban":
		return &r.IBAN
	case "counterpartBic":
		return &r.BIC
	case "counterpartAccountNumber":
		return &r.AccountNumber
	case "counterpartMandateReference":
		return &r.Mandate
	case "counterpartCreditorId":
		return &r.CreditorID
	case "endToEndReference":
		return &r.EndToEnd
	case "sepaPurposeCode":
		return &r.PurposeCode
	case "bankTransactionCode":
		return &r.BankCode
	}
	return nil
}

// Longest texts, in characters.
const (
	longHandle  = 512
	longURL     = 2048
	longName    = 255
	longPurpose = 2000
	longID      = 255
	longNumber  = 64
)

// text gives a member's text, trimmed, and notes what is wrong with it.
func (d *decoder) text(path, name string, t *text, limit int) string {
	s := t.s
	if !t.asItIs {
		s = strings.TrimSpace(s)
	}
	switch {
	case t.wrong:
		d.invalid(join(path, name), "must be a text in UTF-8")
	case utf8.RuneCountInString(s) > limit:
		d.invalid(join(path, name), "has more than %d characters", limit)
	case strings.IndexByte(s, 0) >= 0:
		d.invalid(join(path, name), "holds characters that are not allowed")
	default:
		return s
	}
	return ""
}

func (d *decoder) date(path, name string, t *text) bankfeed.Date {
	s := d.text(path, name, t, longID)
	if s == "" {
		return ""
	}
	day, err := bankfeed.ParseDate(s)
	if err != nil || day < "1900-01-01" || day > "2199-12-31" {
		d.invalid(join(path, name), "must be a date of the form YYYY-MM-DD")
		return ""
	}
	return day
}

// amount reads an amount that must be there.
func (d *decoder) amount(path, name string, t *text) (a bankfeed.Amount) {
	if t.s == "" && !t.wrong {
		d.missing(join(path, name))
		return a
	}
	a, err := bankfeed.ParseAmount(t.s)
	if err != nil || t.wrong {
		d.invalid(join(path, name), "must be a decimal amount")
	}
	return a
}

func (d *decoder) currency(path, name string, t *text, or string) string {
	s := strings.ToUpper(d.text(path, name, t, longID))
	if s == "" {
		return or
	}
	if len(s) != 3 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		d.invalid(join(path, name), "must be a currency of three letters (ISO 4217)")
		return or
	}
	return s
}

var bicForm = regexp.MustCompile(`^[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?$`)

func (d *decoder) bic(path, name string, t *text) string {
	s := strings.ToUpper(d.text(path, name, t, longID))
	if s != "" && !bicForm.MatchString(s) {
		d.invalid(join(path, name), "must be a BIC of 8 or 11 characters")
		return ""
	}
	return s
}

func (d *decoder) readHead(h *headRecord) {
	d.head = connector.StatementHead{
		Name: d.text("", "name", &h.name, longName), BankName: d.text("", "bankName", &h.bankName, longName), BIC: d.bic("", "bic", &h.bic),
		CallbackURL: bankfeed.Secret(d.text("", "callbackUrl", &h.callbackURL, longURL)),
	}
	h.callbackHandle.asItIs = true
	d.head.Handle = d.text("", "callbackHandle", &h.callbackHandle, longHandle)
}

// accountTypes are the words of finAPI's two products, without case and
// punctuation. Kinds that the hub has no word for are the nearest that it has.
var accountTypes = map[string]bankfeed.AccountType{
	"CHECKING": bankfeed.AccountCurrent, "CHECKINGS": bankfeed.AccountCurrent, "POCKET": bankfeed.AccountCurrent,
	"SAVINGS": bankfeed.AccountSavings, "BAUSPAREN": bankfeed.AccountSavings, "MEMBERSHIP": bankfeed.AccountSavings, "SECURITY": bankfeed.AccountSavings,
	"CREDITCARD": bankfeed.AccountCard, "LOAN": bankfeed.AccountLoan,
}

const defaultCurrency = "EUR"

// closingBooked is the balance that a statement ends with.
const closingBooked = "closingBooked"

var noPunctuation = strings.NewReplacer(" ", "", "-", "", "_", "")

func (d *decoder) readAccount(i int, r *accountRecord, raw []byte) {
	path := accountPath(i)
	a := bankfeed.Account{Type: bankfeed.AccountCurrent, Status: bankfeed.AccountImported, Raw: raw,
		Name: d.text(path, "accountName", &r.name, longName), OwnerName: d.text(path, "accountHolderName", &r.holder, longName),
		Currency: d.currency(path, "accountCurrency", &r.currency, defaultCurrency)}
	if word := d.text(path, "accountType", &r.kind, longName); word != "" {
		kind, ok := accountTypes[strings.ToUpper(noPunctuation.Replace(word))]
		if !ok {
			d.invalid(path+".accountType", "must be one of CHECKING, SAVINGS, CREDIT_CARD, LOAN")
		}
		a.Type, a.BankType = kind, word
	}
	if iban := compactIBAN(d.text(path, "iban", &r.iban, longNumber)); iban != "" {
		if !bankfeed.ValidIBAN(iban) {
			d.invalid(path+".iban", "must be a valid IBAN")
		}
		a.Identifiers = append(a.Identifiers, bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: iban})
	}
	if number := d.text(path, "accountNumber", &r.number, longNumber); number != "" {
		kind := bankfeed.IdentBBAN
		if bankfeed.Masked(number) {
			kind = bankfeed.IdentMaskedPAN
		}
		a.Identifiers = append(a.Identifiers, bankfeed.Identifier{Type: kind, Value: number})
	}
	if r.iban.s == "" && r.number.s == "" && !r.iban.wrong && !r.number.wrong {
		d.fault(path+".iban", "is missing: an account needs an iban or an accountNumber")
	}
	if r.balance.s != "" || r.balance.wrong {
		a.Balances = []bankfeed.Balance{{Type: closingBooked, ReferenceDate: d.date(path, "balanceDate", &r.balanceDate),
			Money: bankfeed.Money{Amount: d.amount(path, "balance", &r.balance), Currency: a.Currency}}}
	}
	name := naming{currency: a.Currency}
	for _, id := range a.Identifiers {
		if value := strings.ToUpper(noPunctuation.Replace(id.Value)); id.Type == bankfeed.IdentIBAN {
			name.iban = value
		} else {
			name.number = value
		}
	}
	if before := slices.IndexFunc(d.names, name.same); before >= 0 {
		d.invalid(path, "is the account of accounts[%d]", before)
	}
	d.names, d.accounts = append(d.names, name), append(d.accounts, a)
}

// naming is what identifies an account in a document.
type naming struct{ iban, number, currency string }

// same reports whether two are one account: their IBANs decide where both have
// one, since two banks may have the same number.
func (n naming) same(o naming) bool {
	switch {
	case n.currency != o.currency:
		return false
	case n.iban != "" && o.iban != "":
		return n.iban == o.iban
	}
	return n.number != "" && n.number == o.number
}

var noBlanks = strings.NewReplacer(" ", "", "\u00a0", "", "-", "")

func compactIBAN(s string) string { return strings.ToUpper(noBlanks.Replace(s)) }

// transactionMembers sorts the members of a transaction; false when one is there
// twice, since nobody can tell which was meant.
func (d *decoder) transactionMembers(path string, raw json.RawMessage, r *transactionRecord) bool {
	before := len(d.faults)
	var room [24]string
	names := room[:0]
	for name, v := range membersOf(raw) {
		to := r.member(name)
		if to != nil {
			to.set(v)
		}
		if to != nil || len(names) < maxMembers {
			if slices.Contains(names, name) {
				d.invalid(join(path, name), "was given twice")
			}
			names = append(names, name)
		}
	}
	return len(d.faults) == before
}

// membersOf goes through the members of an object that is known to be valid JSON.
// The library would fold the case of names and keep the last of two equal ones
// silently; its tokens cost three times as much, a hundred thousand times over.
func membersOf(object json.RawMessage) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		for at := 1; ; {
			begin := bytes.IndexByte(object[at:], '"')
			if begin < 0 { // only the end is left
				return
			}
			begin += at
			end := valueEnd(object, begin)
			name := string(object[begin+1 : end-1])
			if strings.IndexByte(name, '\\') >= 0 {
				_ = json.Unmarshal(object[begin:end], &name) // it is valid
			}
			begin = end
			for object[begin] == ':' || object[begin] <= ' ' {
				begin++
			}
			if at = valueEnd(object, begin); !yield(name, object[begin:at]) {
				return
			}
		}
	}
}

// valueEnd is behind the value that begins at a place.
func valueEnd(b []byte, at int) int {
	for depth := 0; ; at++ {
		switch b[at] {
		case '"':
			for at++; b[at] != '"'; at++ {
				if b[at] == '\\' {
					at++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default: // of a number or a word, or between values
			if depth > 0 || at+1 < len(b) && strings.IndexByte(",}] \t\r\n", b[at+1]) < 0 {
				continue
			}
		}
		if depth == 0 {
			return at + 1
		}
	}
}

// readTransaction reads one transaction; ok reports whether nothing is wrong
// with it.
func (d *decoder) readTransaction(account int, path string, raw json.RawMessage) (t bankfeed.Transaction, ok bool) {
	before := len(d.faults)
	if raw[0] != '{' {
		d.invalid(path, "must be an object")
		return t, false
	}
	var r transactionRecord
	if !d.transactionMembers(path, raw, &r) {
		return t, false
	}
	currency := defaultCurrency
	if d.known != nil {
		currency = d.known[account].Currency
	}
	t = bankfeed.Transaction{Status: bankfeed.TransactionBooked, Raw: raw,
		Money:       bankfeed.Money{Amount: d.amount(path, "amount", &r.Amount), Currency: d.currency(path, "currency", &r.Currency, currency)},
		BookingDate: d.date(path, "bankBookingDate", &r.BookingDate), ValueDate: d.date(path, "valueDate", &r.ValueDate),
		BankID: d.text(path, "id", &r.ID, longID), EndToEndID: d.text(path, "endToEndReference", &r.EndToEnd, longID),
		MandateID:  d.text(path, "counterpartMandateReference", &r.Mandate, longID),
		CreditorID: d.text(path, "counterpartCreditorId", &r.CreditorID, longID),
		BankCode:   d.text(path, "bankTransactionCode", &r.BankCode, longID), PurposeCode: d.text(path, "sepaPurposeCode", &r.PurposeCode, longID)}
	if purpose := d.text(path, "purpose", &r.Purpose, longPurpose); purpose != "" {
		t.Remittance = []string{purpose}
	}
	if t.BookingDate == "" && t.ValueDate == "" && len(d.faults) == before {
		d.missing(path + ".bankBookingDate")
	}
	other := bankfeed.Party{Name: d.text(path, "counterpartName", &r.Name, longName), Agent: d.text(path, "counterpartBic", &r.BIC, longNumber)}
	number := d.text(path, "counterpartAccountNumber", &r.AccountNumber, longNumber)
	// The other side's number is not the client's own: a wrong check digit is
	// kept as it was handed in.
	switch iban := compactIBAN(d.text(path, "counterpartIban", &r.IBAN, longNumber)); {
	case bankfeed.ValidIBAN(iban):
		other.Account = bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: iban}
	case iban != "":
		other.Account = bankfeed.Identifier{Type: bankfeed.IdentOther, Value: iban}
	case number != "":
		other.Account = bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: number}
	}
	if t.Money.Amount.Sign() < 0 {
		t.Creditor = other
	} else {
		t.Debtor = other
	}
	return t, len(d.faults) == before
}
