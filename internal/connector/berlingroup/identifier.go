package berlingroup

import (
	"strings"

	"github.com/bankfeed/bankfeed"
)

// accountNames are the names under which an accountReference or an account
// may be known, bank and currency among them because some banks put them
// there.
type accountNames struct {
	iban, bban, pan, maskedPAN, msisdn, other string
	currency, bic                             string
}

// member reads the member called key if it is one of the names.
func (n *accountNames) member(r *reader, key []byte) (known bool, err error) {
	switch string(key) {
	case "iban":
		n.iban, err = r.word()
	case "bban":
		n.bban, err = r.word()
	case "pan":
		n.pan, err = r.word()
	case "maskedPan":
		n.maskedPAN, err = r.word()
	case "msisdn":
		n.msisdn, err = r.word()
	case "other":
		n.other, err = r.identification()
	case "currency":
		n.currency, err = r.currency()
	case "bic", "bicfi":
		n.bic, err = r.word()
	default:
		return false, nil
	}
	return true, err
}

// identification reads the "other" of an account: an object in the standard,
// a text at some banks.
func (r *reader) identification() (s string, err error) {
	if r.peek() != '{' {
		return r.text()
	}
	err = r.object(func(key []byte) (err error) {
		if string(key) == "identification" {
			s, err = r.text()
			return err
		}
		return r.skip()
	})
	return s, err
}

func (r *reader) currency() (string, error) {
	s, err := r.word()
	return strings.ToUpper(strings.TrimSpace(s)), err
}

// reference reads an accountReference; a bare text is an account number.
func (r *reader) reference() (n accountNames, err error) {
	if r.peek() == '"' {
		n.iban, err = r.word()
		return n, err
	}
	err = r.object(func(key []byte) error {
		if known, err := n.member(r, key); known {
			return err
		}
		return r.skip()
	})
	return n, err
}

// identifiers lists the names in the order in which they identify an account.
func (n *accountNames) identifiers() []bankfeed.Identifier {
	var list []bankfeed.Identifier
	for i := n.first(0); i < nameKinds; i = n.first(i + 1) {
		name := n.at(i)
		if name.Type == bankfeed.IdentIBAN && bankfeed.Masked(name.Value) {
			name.Type = bankfeed.IdentMaskedIBAN
		}
		list = append(list, name)
	}
	return list
}

// best is the name that identifies an account most, the zero value if there
// is none. A counterparty's IBAN may be masked: nobody is recognised by it.
func (n *accountNames) best() bankfeed.Identifier {
	if i := n.first(0); i < nameKinds {
		return n.at(i)
	}
	return bankfeed.Identifier{}
}

const nameKinds = 6

// first finds the first kind of name from i on that is set.
func (n *accountNames) first(i int) int {
	for ; i < nameKinds; i++ {
		if n.at(i).Value != "" {
			break
		}
	}
	return i
}

func (n *accountNames) at(i int) bankfeed.Identifier {
	switch i {
	case 0:
		return ibanOrBBAN(n.iban)
	case 1:
		return bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: compact(n.bban)}
	case 2:
		return bankfeed.Identifier{Type: bankfeed.IdentMaskedPAN, Value: compact(n.maskedPAN)}
	case 3:
		return bankfeed.Identifier{Type: bankfeed.IdentMaskedPAN, Value: maskPAN(compact(n.pan))}
	case 4:
		return bankfeed.Identifier{Type: bankfeed.IdentOther, Value: strings.TrimSpace(n.other)}
	default:
		return bankfeed.Identifier{Type: bankfeed.IdentOther, Value: compact(n.msisdn)}
	}
}

// ibanOrBBAN brings an IBAN into its electronic form (ISO 13616: no blanks,
// upper case). A masked one keeps its masking characters as the bank writes
// them: an upper-case X could be part of an account number. What does not
// begin with a country is an account number of that country.
func ibanOrBBAN(s string) bankfeed.Identifier {
	s = compact(s)
	if len(s) < 2 || !letter(s[0]) || !letter(s[1]) {
		return bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: s}
	}
	if masked(s) {
		s = strings.ToUpper(s[:2]) + s[2:]
	} else {
		s = strings.ToUpper(s)
	}
	return bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: s}
}

// masked reports whether part of an account number is hidden.
func masked(s string) bool {
	return strings.ContainsAny(s, "*•#") || strings.Contains(s, "xx") || strings.Contains(s, "XXX")
}

// maskPAN hides the middle of a card number: a full one must not be kept
// (PCI DSS 3.4: at most the first six and last four digits). A token that
// stands in for a number stays.
func maskPAN(s string) string {
	if len(s) < 12 || strings.Trim(s, "0123456789") != "" {
		return s
	}
	return s[:6] + strings.Repeat("x", len(s)-10) + s[len(s)-4:]
}

// compact takes out blanks. The usual case has none and allocates nothing.
func compact(s string) string {
	if strings.IndexFunc(s, blank) < 0 {
		return s
	}
	return strings.Map(func(c rune) rune {
		if blank(c) {
			return -1
		}
		return c
	}, s)
}

func blank(c rune) bool { return c == ' ' || c == '\u00a0' || c == '\t' || c == '\n' || c == '\r' }

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
