package analysis

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/bankfeed/bankfeed"
)

//go:embed rules.yaml
var defaultRules []byte

// Bounds of a rule file.
const (
	maxRuleFile = 1 << 20
	maxRules    = 5000
	maxPatterns = 50_000
	maxRegex    = 1000
)

// ownPriority is what a rule of an own file has unless it says otherwise: above
// everything that is built in.
const ownPriority = 1000

type ruleFile struct {
	Version    int           `yaml:"version"`
	Mode       string        `yaml:"mode"`
	Disable    []string      `yaml:"disable"`
	Categories []categoryDoc `yaml:"categories"`
	Labels     []label       `yaml:"labels"`
	Rules      []ruleDoc     `yaml:"rules"`
}

type categoryDoc struct {
	ID   string `yaml:"id"`
	Text text   `yaml:"text"`
}

type ruleDoc struct {
	ID          string   `yaml:"id"`
	Label       string   `yaml:"label"`
	Priority    *int     `yaml:"priority"`
	Sign        string   `yaml:"sign"`
	Min         string   `yaml:"min"`
	Max         string   `yaml:"max"`
	Account     []string `yaml:"account"`
	Codes       []string `yaml:"codes"`
	PurposeCode []string `yaml:"purpose_code"`
	GVC         []string `yaml:"gvc"`
	IBAN        []string `yaml:"iban"`
	CreditorID  []string `yaml:"creditor_id"`
	Name        []string `yaml:"name"`
	Purpose     []string `yaml:"purpose"`
	Words       []string `yaml:"words"`
	Regex       string   `yaml:"regex"`
}

// Categories that the hub itself uses; a file may rename them, not lose them.
const (
	categoryTransfers     = "TRANSFERS"
	categoryOtherIncome   = "OTHER_INCOME"
	categoryOtherSpending = "OTHER_SPENDING"
	categoryHousing       = "HOUSING"
	categoryLiving        = "LIVING"
	categoryInsurance     = "INSURANCE"
	labelOwnTransfer      = "OWN_TRANSFER"
)

// LoadRules reads the built-in rules and, unless path is empty, a file that
// extends or replaces them. The error names every fault.
func LoadRules(path string) (*Rules, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readRules(path); err != nil {
			return nil, err
		}
	}
	return parseRules(defaultRules, data)
}

func readRules(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer func() { _ = f.Close() }() // it was only read
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, maxRuleFile+1)); err == nil {
			if len(data) > maxRuleFile {
				return nil, fmt.Errorf("rules file: is larger than %d bytes", maxRuleFile)
			}
			return data, nil
		}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return nil, fmt.Errorf("rules file: cannot be read: %w", err)
}

// reader builds rules and collects what is wrong.
type reader struct {
	rules    *Rules
	where    string
	faults   []error
	ruleIDs  map[string]bool
	patterns int
}

func (r *reader) fail(place, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s, %s: %s", r.where, place, fmt.Sprintf(format, args...)))
}

// parseRules reads the built-in rules and, unless own is nil, those of a file.
func parseRules(builtIn, own []byte) (*Rules, error) {
	h := sha256.New()
	r := &reader{rules: &Rules{categories: map[string]text{}, labels: map[string]*label{}, contracts: map[string]text{}}, where: "built-in rules", ruleIDs: map[string]bool{}}
	base, err := decodeRules(builtIn)
	if err != nil {
		return nil, fmt.Errorf("built-in rules: %w", err)
	}
	h.Write(builtIn)
	if own == nil {
		r.read(base, 0)
		return r.done(h.Sum(nil))
	}
	h.Write(own)
	extra, err := decodeRules(own)
	if err != nil {
		return nil, fmt.Errorf("rules file: %w", err)
	}
	r.where = "rules file"
	switch extra.Mode {
	case "", "extend":
		base.Rules = r.disable(base.Rules, extra)
		r.where = "built-in rules"
		r.read(base, 0)
		r.ruleIDs = map[string]bool{}
		r.where = "rules file"
	case "replace":
		base.Rules, base.Labels = nil, slices.DeleteFunc(base.Labels, func(l label) bool { return l.ID != labelOwnTransfer })
		r.read(base, 0)
		if len(extra.Disable) > 0 {
			r.fail("disable", "there is nothing to disable with mode replace")
		}
	default:
		r.fail("mode", "must be extend or replace")
	}
	r.read(extra, ownPriority)
	return r.done(h.Sum(nil))
}

// decodeRules reads a file strictly: an unknown key is a fault.
func decodeRules(data []byte) (*ruleFile, error) {
	f := new(ruleFile)
	if err := yaml.UnmarshalWithOptions(data, f, yaml.Strict(), yaml.DisallowUnknownField()); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.Join(strings.Fields(yaml.FormatError(err, false, false)), " "))
	}
	return f, nil
}

// disable leaves out the rules that a file disables, or has anew.
func (r *reader) disable(rules []ruleDoc, extra *ruleFile) []ruleDoc {
	drop := map[string]bool{}
	for i, id := range extra.Disable {
		if !slices.ContainsFunc(rules, func(x ruleDoc) bool { return x.ID == id }) {
			r.fail(fmt.Sprintf("disable[%d]", i), "there is no built-in rule %q", id)
		}
		drop[id] = true
	}
	for _, x := range extra.Rules {
		drop[x.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(rules), func(x ruleDoc) bool { return drop[x.ID] })
}

func (r *reader) done(sum []byte) (*Rules, error) {
	if len(r.faults) > 0 {
		return nil, errors.Join(r.faults...)
	}
	for _, x := range r.rules.rules { // a file may have a built-in label anew
		x.label = r.rules.labels[x.label.ID]
	}
	slices.SortStableFunc(r.rules.rules, func(a, b *rule) int { return cmp.Compare(b.priority, a.priority) })
	r.rules.Fingerprint = hex.EncodeToString(sum[:8])
	return r.rules, nil
}

func (r *reader) read(f *ruleFile, priority int) {
	if f.Version != 1 {
		r.fail("version", "must be 1")
	}
	if len(f.Rules) > maxRules {
		r.fail("rules", "there are more than %d", maxRules)
		return
	}
	seen := map[string]bool{}
	for i, c := range f.Categories {
		place := fmt.Sprintf("categories[%d]", i)
		if !identifier(c.ID) {
			r.fail(place+".id", "must be 1 to 40 letters, digits, - and _")
			continue
		}
		if seen[c.ID] {
			r.fail(place, "%s is there twice", c.ID)
		}
		seen[c.ID] = true
		r.rules.categories[c.ID] = named(c.Text, c.ID)
	}
	seen = map[string]bool{}
	for i := range f.Labels {
		r.label(fmt.Sprintf("labels[%d]", i), f.Labels[i], seen)
	}
	for i := range f.Rules {
		r.rule(fmt.Sprintf("rules[%d]", i), &f.Rules[i], priority)
	}
}

// Values of a label's traits.
var (
	incomes   = []string{"", "salary", "pension", "benefit"}
	risks     = []string{"", "chargebacks", "debtCollection", "gambling", "seizure"}
	holders   = []string{"", "person", "company"}
	transfers = []string{"", "own", "card"}
)

func (r *reader) label(place string, l label, seen map[string]bool) {
	if !identifier(l.ID) {
		r.fail(place+".id", "must be 1 to 40 letters, digits, - and _")
		return
	}
	place += " (" + l.ID + ")"
	if seen[l.ID] {
		r.fail(place, "is there twice")
	}
	seen[l.ID] = true
	if _, ok := r.rules.categories[l.Category]; !ok {
		r.fail(place+".category", "there is no category %q", l.Category)
	}
	for key, trait := range map[string]struct {
		value  string
		values []string
	}{"income": {l.Income, incomes}, "risk": {l.Risk, risks}, "holder": {l.Holder, holders}, "transfer": {l.Transfer, transfers}} {
		if !slices.Contains(trait.values, trait.value) {
			r.fail(place+"."+key, "must be one of %s", strings.Join(trait.values[1:], ", "))
		}
	}
	if l.Contract != "" && !identifier(l.Contract) {
		r.fail(place+".contract", "must be letters, digits, - and _")
	}
	l.Text = named(l.Text, l.ID)
	if _, known := r.rules.contracts[l.Contract]; !known && l.Contract != "" {
		r.rules.contracts[l.Contract] = l.Text
	}
	r.rules.labels[l.ID] = &l
}

// named fills in what a text leaves out.
func named(t text, id string) text {
	return text{cmp.Or(t.EN, t.DE, id), cmp.Or(t.DE, t.EN, id)}
}

var identifierForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

func identifier(s string) bool { return identifierForm.MatchString(s) }

// Forms of what lists hold.
var (
	codeForm     = regexp.MustCompile(`^[A-Z]{4}(-[A-Z]{4}){0,2}$`)
	purposeForm  = regexp.MustCompile(`^[A-Z0-9]{1,4}$`)
	gvcForm      = regexp.MustCompile(`^\d{3}$`)
	ibanForm     = regexp.MustCompile(`^[A-Z]{2}[A-Z0-9]{0,32}$`)
	creditorForm = regexp.MustCompile(`^[A-Z0-9+?/:().,'-]{4,35}$`)
)

func (r *reader) rule(place string, d *ruleDoc, priority int) {
	if !identifier(d.ID) {
		r.fail(place+".id", "must be 1 to 40 letters, digits, - and _")
		return
	}
	place += " (" + d.ID + ")"
	if r.ruleIDs[d.ID] {
		r.fail(place, "is there twice")
	}
	r.ruleIDs[d.ID] = true
	x := &rule{id: d.ID, label: r.rules.labels[d.Label], priority: priority}
	if d.Priority != nil {
		x.priority = *d.Priority
	}
	if x.label == nil {
		r.fail(place+".label", "there is no label %q", d.Label)
	}
	switch d.Sign {
	case "":
	case "credit":
		x.sign = 1
	case "debit":
		x.sign = -1
	default:
		r.fail(place+".sign", "must be credit or debit")
	}
	x.min, x.max = r.amount(place+".min", d.Min), r.amount(place+".max", d.Max)
	if x.min != nil && x.max != nil && x.min.Cmp(*x.max) > 0 {
		r.fail(place, "min is more than max")
	}
	for i, a := range d.Account {
		switch t := bankfeed.AccountType(a); t {
		case bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountCard, bankfeed.AccountLoan:
			x.accounts = append(x.accounts, t)
		default:
			r.fail(fmt.Sprintf("%s.account[%d]", place, i), "must be current, savings, card or loan")
		}
	}
	x.codes = r.list(place+".codes", d.Codes, bankCode, codeForm, "an ISO 20022 code such as PMNT-RCDT-SALA, or its beginning")
	x.purposeCodes = r.list(place+".purpose_code", d.PurposeCode, strings.ToUpper, purposeForm, "an ISO 20022 purpose code such as SALA")
	x.gvc = r.list(place+".gvc", d.GVC, strings.TrimSpace, gvcForm, "three digits such as \"153\"")
	x.ibans = r.list(place+".iban", d.IBAN, compact, ibanForm, "an IBAN or its beginning")
	x.creditors = r.list(place+".creditor_id", d.CreditorID, compact, creditorForm, "a SEPA creditor identifier")
	x.name = r.words(place+".name", d.Name, &r.rules.name)
	x.purpose = r.words(place+".purpose", d.Purpose, &r.rules.purpose)
	x.anyName, x.anyPurpose = r.words(place+".words", d.Words, &r.rules.name), r.words("", d.Words, &r.rules.purpose)
	x.regex = r.regex(place+".regex", d.Regex)
	if len(d.Codes)+len(d.PurposeCode)+len(d.GVC)+len(d.IBAN)+len(d.CreditorID)+len(d.Name)+len(d.Purpose)+len(d.Words) == 0 && d.Regex == "" {
		r.fail(place, "has no condition on what the transaction is: one of name, purpose, words, regex, iban, creditor_id, codes, purpose_code, gvc")
	}
	r.rules.rules = append(r.rules.rules, x)
}

func (r *reader) amount(place, s string) *bankfeed.Amount {
	if s == "" {
		return nil
	}
	a, err := bankfeed.ParseAmount(s)
	if err != nil || a.Sign() < 0 {
		r.fail(place, "must be an amount without sign, such as \"100.00\"")
		return nil
	}
	return &a
}

func (r *reader) list(place string, values []string, clean func(string) string, form *regexp.Regexp, what string) []string {
	var out []string
	for i, v := range values {
		if v = clean(v); !form.MatchString(v) {
			r.fail(fmt.Sprintf("%s[%d]", place, i), "must be %s", what)
			continue
		}
		out = append(out, v)
	}
	return out
}

// words takes patterns into a set; an empty place is for those that were taken
// into another already, and reports nothing.
func (r *reader) words(place string, values []string, into *words) []int {
	var out []int
	for i, v := range values {
		id, ok := into.add(v)
		switch r.patterns++; {
		case !ok && place != "":
			r.fail(fmt.Sprintf("%s[%d]", place, i), "holds neither a letter nor a digit")
		case r.patterns == maxPatterns+1:
			r.fail(cmp.Or(place, "words"), "there are more than %d patterns", maxPatterns)
		case ok:
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *reader) regex(place, s string) *regexp.Regexp {
	if s == "" {
		return nil
	}
	if len(s) > maxRegex {
		r.fail(place, "is longer than %d characters", maxRegex)
		return nil
	}
	x, err := regexp.Compile(s)
	if err != nil {
		r.fail(place, "is not a regular expression (RE2): %v", err)
	}
	return x
}
