package analysis

import (
	"regexp"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// Rules put labels on transactions. They never change once they were read.
type Rules struct {
	// Fingerprint tells rule sets apart; a report names the one it was made with.
	Fingerprint string

	categories map[string]text
	labels     map[string]*label
	contracts  map[string]text // names of types of contracts: of the first label that has the type
	rules      []*rule         // the winning one first
	name       words           // patterns of name and words
	purpose    words           // patterns of purpose and words
}

type text struct {
	EN string `yaml:"en"`
	DE string `yaml:"de"`
}

// label is what a transaction is about.
type label struct {
	ID       string `yaml:"id"`
	Category string `yaml:"category"`
	Text     text   `yaml:"text"`
	Income   string `yaml:"income"`
	Contract string `yaml:"contract"`
	Risk     string `yaml:"risk"`
	Holder   string `yaml:"holder"`
	Transfer string `yaml:"transfer"`
}

// rule is a ruleDoc, ready to be asked.
type rule struct {
	id       string
	label    *label
	priority int

	sign         int
	min, max     *bankfeed.Amount
	accounts     []bankfeed.AccountType
	codes        []string
	purposeCodes []string
	gvc          []string
	ibans        []string
	creditors    []string
	name         []int // patterns of Rules.name; nil: no condition
	purpose      []int // patterns of Rules.purpose
	anyName      []int // of words: one of these, or one of anyPurpose
	anyPurpose   []int
	regex        *regexp.Regexp
}

// subject is a transaction as rules see it. Slices are reused from one to the
// next.
type subject struct {
	sign      int
	abs       bankfeed.Amount
	account   bankfeed.AccountType
	code      string
	purpose   string // ISO 20022 purpose code
	gvc       string
	iban      string
	creditor  string
	text      string // as the bank wrote it, for regular expressions
	inName    []int
	inPurpose []int
}

// subjectOf reads a transaction; s is used again and again.
func (r *Rules) subjectOf(s *subject, t *bankfeed.Transaction, account bankfeed.AccountType, other bankfeed.Party, ultimate string) {
	s.sign, s.abs, s.account = t.Money.Amount.Sign(), t.Money.Amount.Abs(), account
	s.code, s.purpose, s.gvc = bankCode(t.BankCode), strings.ToUpper(t.PurposeCode), gvcOf(t.ProprietaryCode)
	s.iban, s.creditor = "", compact(t.CreditorID)
	if other.Account.Type == bankfeed.IdentIBAN {
		s.iban = compact(other.Account.Value)
	}
	parts := make([]string, 0, 8)
	parts = append(parts, t.Remittance...)
	parts = append(append(parts, t.Structured...), t.AdditionalInfo)
	s.text = strings.Join(parts, " ") + "\n" + other.Name + "\n" + ultimate
	s.inName = r.name.find(fold(other.Name, ultimate), s.inName)
	s.inPurpose = r.purpose.find(fold(parts...), s.inPurpose)
}

// match finds the rule that wins, nil if none holds.
func (r *Rules) match(s *subject) *rule {
	for _, x := range r.rules {
		if x.holds(s) {
			return x
		}
	}
	return nil
}

func (x *rule) holds(s *subject) bool {
	switch {
	case x.sign != 0 && x.sign != s.sign,
		x.name != nil && !meet(x.name, s.inName),
		x.purpose != nil && !meet(x.purpose, s.inPurpose),
		x.anyName != nil && !meet(x.anyName, s.inName) && !meet(x.anyPurpose, s.inPurpose),
		x.min != nil && s.abs.Cmp(*x.min) < 0,
		x.max != nil && s.abs.Cmp(*x.max) > 0,
		x.accounts != nil && !slices.Contains(x.accounts, s.account),
		x.codes != nil && !slices.ContainsFunc(x.codes, func(c string) bool { return begins(s.code, c) }),
		x.purposeCodes != nil && !slices.Contains(x.purposeCodes, s.purpose),
		x.gvc != nil && !slices.Contains(x.gvc, s.gvc),
		x.ibans != nil && (s.iban == "" || !slices.ContainsFunc(x.ibans, func(p string) bool { return strings.HasPrefix(s.iban, p) })),
		x.creditors != nil && !slices.Contains(x.creditors, s.creditor),
		x.regex != nil && !x.regex.MatchString(s.text):
		return false
	}
	return true
}

// begins compares bank transaction codes level by level: PMNT-RCDT covers
// PMNT-RCDT-SALA.
func begins(code, prefix string) bool {
	return strings.HasPrefix(code, prefix) && (len(code) == len(prefix) || code[len(prefix)] == '-')
}

// meet reports whether two rising lists share a number.
func meet(a, b []int) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			return true
		}
	}
	return false
}

// bankCode writes an ISO 20022 bank transaction code as domain-family-subfamily,
// whatever separates them.
func bankCode(s string) string {
	if s == "" {
		return ""
	}
	return strings.Join(strings.FieldsFunc(strings.ToUpper(s), func(r rune) bool { return r == '-' || r == '+' || r == '/' || r == ' ' || r == '.' }), "-")
}

// gvcOf finds a German Geschäftsvorfallcode, three digits by themselves or
// between the separators of the bank's own code: NTRF+153+8930.
func gvcOf(s string) string {
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r < '0' || r > 'z' }) {
		if len(part) == 3 && strings.Trim(part, "0123456789") == "" {
			return part
		}
	}
	return ""
}

// compact drops blanks and case.
func compact(s string) string {
	if !strings.ContainsAny(s, " \t") && s == strings.ToUpper(s) {
		return s
	}
	return strings.ToUpper(strings.Join(strings.Fields(s), ""))
}

// text is how a category, a label or a type of contract is called; the id where
// nobody named it.
func (r *Rules) text(id string) text {
	if t, ok := r.categories[id]; ok {
		return t
	}
	if l := r.labels[id]; l != nil {
		return l.Text
	}
	if t, ok := r.contracts[id]; ok {
		return t
	}
	return text{id, id}
}
