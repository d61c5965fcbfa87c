package berlingroup

import (
	"errors"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// decodeAccounts reads an account list and the link to its next page.
func decodeAccounts(data []byte) (list []connector.Account, next string, err error) {
	r := newReader(data)
	err = r.object(func(key []byte) error {
		switch string(key) {
		case "accounts":
			return r.array(func() error {
				a, err := r.account()
				if err == nil {
					list = append(list, a)
				}
				return err
			})
		case "_links":
			return r.links(func(name, href string) {
				if name == "next" {
					next = href
				}
			})
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, "", rooted(err)
	}
	return list, next, nil
}

var errNoAccount = errors.New("the answer has no account")

// decodeAccount reads the answer to a request for one account: the account in a
// member of that name or, at some banks, by itself.
func decodeAccount(data []byte) (a connector.Account, err error) {
	r := newReader(data)
	found := false
	err = r.object(func(key []byte) (err error) {
		if string(key) == "account" && r.peek() == '{' {
			found = true
			a, err = r.account()
			return err
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && !found {
		if a, err = newReader(data).account(); err == nil && len(a.Identifiers) == 0 {
			err = errNoAccount
		}
	}
	if err != nil {
		return connector.Account{}, rooted(err)
	}
	return a, nil
}

func (r *reader) account() (a connector.Account, err error) {
	var names accountNames
	var displayName string
	var owners []string
	if r.peek() != '{' {
		return a, errObject
	}
	from := r.pos
	err = r.object(func(key []byte) (err error) {
		if known, err := names.member(r, key); known {
			return err
		}
		switch string(key) {
		case "resourceId":
			a.ResourceID, err = r.text()
		case "name":
			a.Name, err = r.text()
		case "displayName":
			displayName, err = r.text()
		case "product":
			a.Product, err = r.text()
		case "cashAccountType":
			a.BankType, err = r.text()
		case "status":
			a.BankStatus, err = r.text()
		case "usage":
			a.Usage, err = r.text()
		case "ownerName":
			a.OwnerName, err = r.text()
		case "ownerNames":
			err = r.list(func() error {
				name, err := r.ownerName()
				if name != "" {
					owners = append(owners, name)
				}
				return err
			})
		case "balances":
			err = r.balances(&a.Balances, "")
		case "_links":
			err = r.links(func(name, href string) {
				if a.ResourceID == "" && (name == "balances" || name == "transactions" || name == "account") {
					a.ResourceID = segmentAfter(href, "accounts")
				}
			})
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return a, err
	}
	a.Identifiers = names.identifiers()
	a.Currency, a.BIC = names.currency, names.bic
	if a.Name == "" {
		a.Name = displayName
	}
	if a.OwnerName == "" {
		a.OwnerName = strings.Join(owners, ", ")
	}
	for i := range a.Balances {
		if a.Balances[i].Money.Currency == "" {
			a.Balances[i].Money.Currency = a.Currency
		}
	}
	a.Type = accountType(&a.Account)
	a.HolderType, a.IsBusiness = holder(a.Usage)
	a.Raw = r.data[from:r.pos:r.pos]
	return a, nil
}

func (r *reader) ownerName() (s string, err error) {
	if r.peek() != '{' {
		return r.text()
	}
	err = r.object(func(key []byte) (err error) {
		if string(key) == "name" {
			s, err = r.text()
			return err
		}
		return r.skip()
	})
	return s, err
}

func holder(usage string) (holderType string, isBusiness *bool) {
	business := usage == "ORGA"
	switch usage {
	case "ORGA":
		return "corporation", &business
	case "PRIV":
		return "individual", &business
	}
	return "", nil
}

// cashAccountTypes maps ISO 20022 ExternalCashAccountType1Code. Codes that
// are not here are kinds of current accounts.
var cashAccountTypes = map[string]bankfeed.AccountType{
	"CARD": bankfeed.AccountCard,
	"LOAN": bankfeed.AccountLoan,
	"MORT": bankfeed.AccountLoan, // not in the list, but in use
	"MGLD": bankfeed.AccountLoan, // marginal lending
	"LLSV": bankfeed.AccountSavings,
	"MOMA": bankfeed.AccountSavings, // money market
	"ONDP": bankfeed.AccountSavings, // overnight deposit
	"SVGS": bankfeed.AccountSavings,
}

// productWords tell the type of an account whose bank sends no code.
var productWords = []struct {
	word string
	is   bankfeed.AccountType
}{
	{"kreditkart", bankfeed.AccountCard},
	{"card", bankfeed.AccountCard},
	{"saving", bankfeed.AccountSavings},
	{"sparkonto", bankfeed.AccountSavings},
	{"sparbuch", bankfeed.AccountSavings},
	{"tagesgeld", bankfeed.AccountSavings},
	{"oszcz", bankfeed.AccountSavings},
	{"livret", bankfeed.AccountSavings},
	{"darlehen", bankfeed.AccountLoan},
	{"mortgage", bankfeed.AccountLoan},
	{"hypothek", bankfeed.AccountLoan},
	{"loan", bankfeed.AccountLoan},
}

func accountType(a *bankfeed.Account) bankfeed.AccountType {
	if code := strings.ToUpper(strings.TrimSpace(a.BankType)); code != "" {
		if t, ok := cashAccountTypes[code]; ok {
			return t
		}
		return bankfeed.AccountCurrent
	}
	product := strings.ToLower(a.Product)
	for _, w := range productWords {
		if strings.Contains(product, w.word) {
			return w.is
		}
	}
	if a.Identifier(bankfeed.IdentMaskedPAN) != "" && a.ShownIBAN() == "" && a.Identifier(bankfeed.IdentBBAN) == "" {
		return bankfeed.AccountCard
	}
	return bankfeed.AccountCurrent
}

// decodeBalances reads the answer to a balances request.
func decodeBalances(data []byte, currency string) (list []bankfeed.Balance, err error) {
	r := newReader(data)
	err = r.object(func(key []byte) error {
		if string(key) == "balances" {
			return r.balances(&list, currency)
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, rooted(err)
	}
	return list, nil
}

// balances appends the elements of a list of balances. One that has no amount
// says nothing and is left out.
func (r *reader) balances(to *[]bankfeed.Balance, currency string) error {
	return r.list(func() error {
		var b bankfeed.Balance
		found := false
		err := r.object(func(key []byte) (err error) {
			switch string(key) {
			case "balanceAmount", "amount":
				b.Money, found, err = r.money(currency)
			case "balanceType":
				b.Type, err = r.text()
			case "referenceDate":
				b.ReferenceDate, err = r.date()
			case "lastChangeDateTime":
				b.LastChangeAt, err = r.time()
			default:
				err = r.skip()
			}
			return err
		})
		if err == nil && found {
			*to = append(*to, b)
		}
		return err
	})
}

// timeLayouts are the forms of a date-time that banks send; one without a zone
// is taken as UTC.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999-0700",
	"2006-01-02 15:04:05.999999999", "2006-01-02T15:04Z07:00", time.DateOnly}

// time reads a date-time; what is none is left out.
func (r *reader) time() (*time.Time, error) {
	s, err := r.text()
	if err != nil || s == "" {
		return nil, err
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			t = t.UTC()
			return &t, nil
		}
	}
	return nil, nil
}
