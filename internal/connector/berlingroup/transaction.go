package berlingroup

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
)

var errNoAmount = errors.New("no amount")

// report is the answer to a transactions request.
type report struct {
	transactions []bankfeed.Transaction
	balances     []bankfeed.Balance
	next         string // link to the next page as the bank wrote it
	first        string // link to the first page of this listing
	listed       bool   // the answer has a list, be it empty
	null         bool   // the list is an explicit null
	download     bool   // the answer has a link to a file instead
}

// decodeReport reads a page of transactions. currency is the account's, for
// amounts that come without one. The records share memory with data.
func decodeReport(data []byte, currency string) (rep report, err error) {
	r := newReader(data)
	var outer, inner links
	err = r.object(func(key []byte) error {
		switch string(key) {
		case "transactions":
			switch r.peek() {
			case 'n':
				rep.null = true
			case '[': // not the standard, but clear enough
				rep.listed = true
				return rep.items(r, bankfeed.TransactionBooked, currency)
			default:
				rep.listed = true
			}
			return r.object(func(key []byte) error {
				status := bankfeed.TransactionBooked
				switch string(key) {
				case "booked":
				case "pending":
					status = bankfeed.TransactionPending
				case "information": // standing orders and the like (1.3.9 on)
					status = bankfeed.TransactionScheduled
				case "info": // ING
					status = bankfeed.TransactionOther
				case "_links":
					return r.links(inner.note)
				default:
					return r.skip()
				}
				return rep.items(r, status, currency)
			})
		case "balances":
			return r.balances(&rep.balances, currency)
		case "_links":
			return r.links(func(name, href string) {
				outer.note(name, href)
				rep.download = rep.download || name == "download" && href != ""
			})
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return report{}, rooted(err)
	}
	rep.next, rep.first = cmp.Or(inner.next, outer.next), cmp.Or(inner.first, outer.first)
	return rep, nil
}

// links are those of a page that lead to other pages.
type links struct{ next, first string }

func (l *links) note(name, href string) {
	switch name {
	case "next":
		l.next = href
	case "first":
		l.first = href
	}
}

// items reads a list of transactions of one status.
func (rep *report) items(r *reader, status bankfeed.TransactionStatus, currency string) error {
	const most = 2000 // bounds the guess, not the list
	first := true
	return r.array(func() error {
		from := r.pos
		t, err := r.transaction(status, currency)
		if err != nil {
			return err
		}
		if first {
			first = false
			rep.transactions = slices.Grow(rep.transactions, min(most, 1+(len(r.data)-r.pos)/(r.pos-from)))
		}
		rep.transactions = append(rep.transactions, t)
		return nil
	})
}

func (r *reader) transaction(status bankfeed.TransactionStatus, currency string) (t bankfeed.Transaction, err error) {
	var (
		line                           string
		lines                          []string
		valueTime                      bankfeed.Date
		creditorAccount, debtorAccount accountNames
		hasAmount                      bool
	)
	t.Status = status
	if r.peek() != '{' {
		return t, errObject
	}
	from := r.pos
	err = r.object(func(key []byte) (err error) {
		switch string(key) {
		case "transactionId":
			t.BankID, err = r.text()
		case "entryReference":
			t.EntryReference, err = r.text()
		case "endToEndId":
			t.EndToEndID, err = r.text()
		case "mandateId":
			t.MandateID, err = r.text()
		case "checkId":
			t.CheckID, err = r.text()
		case "creditorId":
			t.CreditorID, err = r.text()
		case "bookingDate":
			t.BookingDate, err = r.date()
		case "valueDate":
			t.ValueDate, err = r.date()
		case "valueDateTime": // ABN AMRO fills no other
			valueTime, err = r.date()
		case "transactionDate":
			t.TransactionDate, err = r.date()
		case "transactionAmount":
			t.Money, hasAmount, err = r.money(currency)
		case "currencyExchange":
			err = r.list(func() error {
				x, err := r.exchange()
				if err == nil && x != (bankfeed.Exchange{}) {
					t.Exchange = append(t.Exchange, x)
				}
				return err
			})
		case "creditorName":
			t.Creditor.Name, err = r.text()
		case "creditorAccount":
			creditorAccount, err = r.reference()
		case "creditorAgent":
			t.Creditor.Agent, err = r.word()
		case "ultimateCreditor":
			t.UltimateCreditor, err = r.text()
		case "debtorName":
			t.Debtor.Name, err = r.text()
		case "debtorAccount":
			debtorAccount, err = r.reference()
		case "debtorAgent":
			t.Debtor.Agent, err = r.word()
		case "ultimateDebtor":
			t.UltimateDebtor, err = r.text()
		case "remittanceInformationUnstructured":
			if r.peek() == '[' {
				err = r.texts(&lines)
			} else {
				line, err = r.text()
			}
		case "remittanceInformationUnstructuredArray":
			err = r.texts(&lines)
		case "remittanceInformationStructured", "remittanceInformationStructuredArray":
			err = r.list(func() error {
				s, err := r.creditorReference()
				if s != "" && !slices.Contains(t.Structured, s) {
					t.Structured = append(t.Structured, s)
				}
				return err
			})
		case "additionalInformation":
			t.AdditionalInfo, err = r.text()
		case "purposeCode":
			t.PurposeCode, err = r.word()
		case "bankTransactionCode":
			t.BankCode, err = r.word()
		case "proprietaryBankTransactionCode":
			t.ProprietaryCode, err = r.word()
		case "balanceAfterTransaction":
			t.BalanceAfter, err = r.balanceAfter(currency)
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return t, err
	}
	if !hasAmount {
		return t, within(errNoAmount, ".transactionAmount.amount")
	}
	if t.ValueDate == "" {
		t.ValueDate = valueTime
	}
	t.Creditor.Account, t.Debtor.Account = creditorAccount.best(), debtorAccount.best()
	if t.Creditor.Agent == "" {
		t.Creditor.Agent = creditorAccount.bic
	}
	if t.Debtor.Agent == "" {
		t.Debtor.Agent = debtorAccount.bic
	}
	t.Remittance = remittance(line, lines)
	t.Raw = r.data[from:r.pos:r.pos]
	return t, nil
}

// remittance joins the two forms of unstructured remittance information; the
// single line is usually the array once more, joined or its first line.
func remittance(line string, lines []string) []string {
	if line == "" || len(lines) > 0 && (slices.Contains(lines, line) || strings.Join(lines, "") == line || strings.Join(lines, " ") == line) {
		return lines
	}
	return append([]string{line}, lines...)
}

// texts appends the non-empty texts of an array.
func (r *reader) texts(to *[]string) error {
	return r.list(func() error {
		s, err := r.text()
		if s != "" {
			*to = append(*to, s)
		}
		return err
	})
}

// creditorReference reads structured remittance information, a text up to
// 1.3.8 and an object in arrays since.
func (r *reader) creditorReference() (s string, err error) {
	if r.peek() != '{' {
		return r.text()
	}
	err = r.object(func(key []byte) (err error) {
		if string(key) == "reference" {
			s, err = r.text()
			return err
		}
		return r.skip()
	})
	return s, err
}

// date reads a day. What is none is left out: a transaction is worth more than
// its date, and the record keeps the bank's text.
func (r *reader) date() (bankfeed.Date, error) {
	s, err := r.word()
	if err != nil || s == "" {
		return "", err
	}
	d, _ := bankfeed.ParseDate(s)
	return d, nil
}

// money reads an amount object. ok is false if it holds no amount or null; an
// amount that is there and cannot be read is an error.
func (r *reader) money(currency string) (m bankfeed.Money, ok bool, err error) {
	m.Currency = currency
	err = r.object(func(key []byte) error {
		switch string(key) {
		case "amount":
			s, err := r.text()
			if err != nil || s == "" {
				return err
			}
			ok = true
			m.Amount, err = bankfeed.ParseAmount(s)
			return err
		case "currency":
			s, err := r.currency()
			if s != "" {
				m.Currency = s
			}
			return err
		}
		return r.skip()
	})
	return m, ok, err
}

// balanceAfter reads balanceAfterTransaction: a balance in the standard, a
// bare amount at some banks.
func (r *reader) balanceAfter(currency string) (*bankfeed.Money, error) {
	from := r.pos
	m, ok, err := r.money(currency)
	if err != nil {
		return nil, err
	}
	if !ok {
		r.pos = from
		err = r.object(func(key []byte) (err error) {
			if string(key) == "balanceAmount" {
				m, ok, err = r.money(currency)
				return err
			}
			return r.skip()
		})
	}
	if err != nil || !ok {
		return nil, err
	}
	return &m, nil
}

func (r *reader) exchange() (x bankfeed.Exchange, err error) {
	err = r.object(func(key []byte) (err error) {
		switch string(key) {
		case "sourceCurrency":
			x.SourceCurrency, err = r.currency()
		case "targetCurrency":
			x.TargetCurrency, err = r.currency()
		case "unitCurrency":
			x.UnitCurrency, err = r.currency()
		case "exchangeRate", "rate":
			x.Rate, err = r.text()
		case "quotationDate", "rateDate":
			x.Date, err = r.date()
		default:
			err = r.skip()
		}
		return err
	})
	return x, err
}

// links reads a _links object. A link is an object with href in the standard,
// a bare text at some banks.
func (r *reader) links(f func(name, href string)) error {
	return r.object(func(key []byte) error {
		href := ""
		var err error
		if r.peek() == '{' {
			err = r.object(func(k []byte) (err error) {
				if string(k) == "href" {
					href, err = r.text()
					return err
				}
				return r.skip()
			})
		} else {
			href, err = r.text()
		}
		if err == nil && href != "" {
			f(string(key), href)
		}
		return err
	})
}

// rooted gives an error its place in the document even if it is the document
// itself.
func rooted(err error) error {
	var p *pathError
	if errors.As(err, &p) {
		return err
	}
	return &pathError{err: err}
}
