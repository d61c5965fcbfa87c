package identity

import (
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// identTypes in the order in which they identify an account. A masked IBAN is
// compared as the IBAN that it stands in for.
var identTypes = [...]bankfeed.IdentifierType{bankfeed.IdentIBAN, bankfeed.IdentBBAN, bankfeed.IdentMaskedPAN, bankfeed.IdentOther}

// named is an account's identifier of one of identTypes, compact.
func named(a *bankfeed.Account, t bankfeed.IdentifierType) string {
	if t == bankfeed.IdentIBAN {
		return compact(a.ShownIBAN())
	}
	return compact(a.Identifier(t))
}

// kindOf is which of identTypes an identifier is compared as.
func kindOf(t bankfeed.IdentifierType) bankfeed.IdentifierType {
	if t == bankfeed.IdentMaskedIBAN {
		return bankfeed.IdentIBAN
	}
	return t
}

// noCurrency is what a bank writes for the account over all currencies of a
// multi-currency account (Berlin Group 1.3, examples of the account list). It
// is an account of its own.
const noCurrency = "XXX"

// MatchAccount finds the stored account that a bank lists again. existing are
// all accounts of one connection, removed ones too; those of other connections
// must not be among them.
//
// Accounts are the same when the strongest kind of identifier that both have
// says so, and the currency too. A listing without a currency fits the one
// account that fits otherwise. A masked identifier fits a clear one, or another
// mask, if what both show agrees, the currencies are equal and no second
// account fits. The bank's resource id plays no part.
func MatchAccount(existing []bankfeed.Account, found bankfeed.Account) (index int, ok bool) {
	for _, way := range [...]struct {
		fits   func(a, b *bankfeed.Account) bool
		unique bool // a second account that fits leaves it open
	}{{sameNames, false}, {nearlySameNames, true}, {sameUnnamed, false}} {
		for _, live := range [...]bool{true, false} {
			var equal, near []int // by currency
			for i := range existing {
				a := &existing[i]
				if a.RemovedAt.IsZero() != live || !way.fits(a, &found) {
					continue
				}
				if a.Currency == found.Currency {
					equal = append(equal, i)
				} else if sameCurrency(a.Currency, found.Currency) {
					near = append(near, i)
				}
			}
			switch {
			case len(equal) == 1 || len(equal) > 1 && !way.unique:
				return equal[0], true
			case len(equal) > 1 || len(near) > 1:
				return 0, false
			case len(near) == 1:
				return near[0], true
			}
		}
	}
	return 0, false
}

// sameCurrency lets an unknown currency pass.
func sameCurrency(a, b string) bool {
	return a == b || (a == "" || b == "") && a != noCurrency && b != noCurrency
}

// sameNames compares identifiers as they are. The strongest kind that both have
// clear decides; equal masks do where no clear kind contradicts.
func sameNames(a, b *bankfeed.Account) bool {
	agreed := false
	for _, t := range identTypes {
		x, y := named(a, t), named(b, t)
		switch {
		case x == "" || y == "":
		case x == y && !masked(x):
			return true
		case x == y:
			agreed = true
		case !masked(x) && !masked(y):
			return false
		}
	}
	return agreed || ibanHolds(a, b) || ibanHolds(b, a)
}

// ibanHolds reports whether the IBAN of one is made of the other's BBAN.
func ibanHolds(a, b *bankfeed.Account) bool {
	iban, bban := compact(a.IBAN()), compact(b.Identifier(bankfeed.IdentBBAN))
	return len(iban) > 4 && bban != "" && b.IBAN() == "" && !masked(iban) && iban[4:] == bban
}

// nearlySameNames compares where at least one of the two is masked. A kind of
// identifier that both have clear must be equal.
func nearlySameNames(a, b *bankfeed.Account) bool {
	if a.Currency != b.Currency {
		return false
	}
	fits := false
	for _, t := range identTypes {
		x, y := named(a, t), named(b, t)
		if x == "" || y == "" || x == y {
			continue
		}
		if t == bankfeed.IdentOther || !masked(x) && !masked(y) || !masksAgree(x, y) {
			return false
		}
		fits = true
	}
	return fits
}

// sameUnnamed compares accounts that have no identifier at all.
func sameUnnamed(a, b *bankfeed.Account) bool {
	return len(a.Identifiers) == 0 && len(b.Identifiers) == 0 && a.Currency == b.Currency && a.Name == b.Name && a.Product == b.Product
}

// compact drops blanks and punctuation and the difference of case.
func compact(s string) string {
	s = strings.ReplaceAll(s, "..", "*")
	return strings.ToUpper(strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '.', '/', '\t', '\u00a0':
			return -1
		case '•', '…', '#':
			return '*'
		}
		return r
	}, s))
}

// masked reports whether part of a compact identifier is hidden.
func masked(s string) bool { return bankfeed.Masked(s) }

// visible cuts a compact identifier into what stands before and after its mask.
// Both are the whole of a clear one.
func visible(s string) (head, tail string) {
	if !masked(s) {
		return s, s
	}
	hidden := func(i int) bool {
		return s[i] == '*' || s[i] == 'X' && (i > 0 && s[i-1] == 'X' || i+1 < len(s) && s[i+1] == 'X')
	}
	first, last := 0, len(s)
	for first < len(s) && !hidden(first) {
		first++
	}
	for last > first && !hidden(last-1) {
		last--
	}
	return s[:first], s[last:]
}

// enoughVisible characters beside a country code make a mask worth comparing.
const enoughVisible = 4

// masksAgree compares two compact identifiers of which one at least is masked.
func masksAgree(x, y string) bool {
	xh, xt := visible(x)
	yh, yt := visible(y)
	head, tail := min(len(xh), len(yh)), min(len(xt), len(yt))
	if xh[:head] != yh[:head] || xt[len(xt)-tail:] != yt[len(yt)-tail:] {
		return false
	}
	if head >= 2 && !digit(xh[0]) {
		head -= 2 // the country says little
	}
	if !masked(x) && len(x) < len(yh)+len(yt) || !masked(y) && len(y) < len(xh)+len(xt) {
		return false // what is visible would overlap
	}
	return tail > 0 && head+tail >= enoughVisible
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// MergeAccount brings a stored account up to date with how a channel lists it.
// changed tells whether that is worth an event: a balance's dates and the raw
// record alone are not.
//
// The source is REDIRECT where that channel lists the account, else EMBEDDED.
// The source's word replaces what was known; the other channel only fills gaps.
// What a list leaves out stays, because banks tell details once per consent. A
// clear identifier never becomes a masked one.
func MergeAccount(old, found bankfeed.Account, mode bankfeed.Mode) (merged bankfeed.Account, changed bool) {
	m := old
	leads := mode == bankfeed.Redirect || old.Source != bankfeed.Redirect || !lists(&old, bankfeed.Redirect)
	if leads && m.Source != mode {
		m.Source, changed = mode, true
	}
	set := func(field *string, value string) {
		if value != "" && value != *field && (leads || *field == "") {
			*field, changed = value, true
		}
	}
	set(&m.Currency, found.Currency)
	set(&m.Name, found.Name)
	set(&m.Product, found.Product)
	set(&m.BIC, found.BIC)
	set(&m.OwnerName, found.OwnerName)
	set(&m.HolderType, found.HolderType)
	set(&m.Usage, found.Usage)
	set(&m.BankType, found.BankType)
	set(&m.BankStatus, found.BankStatus)
	if found.Type != m.Type && found.Type != "" && leads && (found.BankType != "" || found.Product != "" || m.Type == "") {
		m.Type, changed = found.Type, true // without type and product it is a guess
	}
	if b := found.IsBusiness; b != nil && (m.IsBusiness == nil || leads && *m.IsBusiness != *b) {
		v := *b
		m.IsBusiness, changed = &v, true
	}
	ids, idsChanged := mergeIdentifiers(old.Identifiers, found.Identifiers, leads)
	m.Identifiers, changed = ids, changed || idsChanged
	if leads {
		if found.Raw != nil {
			m.Raw = found.Raw
		}
		balances, balancesChanged := MergeBalances(old.Balances, found.Balances)
		m.Balances, changed = balances, changed || balancesChanged
	}
	return m, changed
}

func lists(a *bankfeed.Account, m bankfeed.Mode) bool {
	return slices.ContainsFunc(a.Access, func(x bankfeed.AccountAccess) bool { return x.Mode == m })
}

// mergeIdentifiers keeps one of each kind, in the order in which they identify.
func mergeIdentifiers(old, found []bankfeed.Identifier, leads bool) (merged []bankfeed.Identifier, changed bool) {
	merged = slices.Clone(old)
	for _, f := range found {
		if f.Value == "" {
			continue
		}
		i := slices.IndexFunc(merged, func(x bankfeed.Identifier) bool { return kindOf(x.Type) == kindOf(f.Type) })
		if i < 0 {
			merged, changed = append(merged, f), true
			continue
		}
		was, is := compact(merged[i].Value), compact(f.Value)
		if was == is || !masked(was) && masked(is) || !leads && (masked(is) || !masked(was)) {
			continue
		}
		merged[i], changed = f, true
	}
	if changed {
		slices.SortStableFunc(merged, func(a, b bankfeed.Identifier) int {
			return slices.Index(identTypes[:], kindOf(a.Type)) - slices.Index(identTypes[:], kindOf(b.Type))
		})
	}
	return merged, changed
}

// MergeBalances brings stored balances up to date: one for each type and
// currency, the one that was read last, and of several in one reading the one
// with the latest date. Balances that were not read stay. changed tells whether
// a figure differs or is new; a date alone is no change.
func MergeBalances(old, read []bankfeed.Balance) (merged []bankfeed.Balance, changed bool) {
	merged = slices.Clone(old)
	fresh := map[int]bool{} // by index
	for _, b := range read {
		i := slices.IndexFunc(merged, func(x bankfeed.Balance) bool { return x.Type == b.Type && x.Money.Currency == b.Money.Currency })
		switch {
		case i < 0:
			merged, fresh[len(merged)] = append(merged, b), true
		case !fresh[i] || later(&b, &merged[i]):
			merged[i], fresh[i] = b, true
		}
	}
	for i := range merged {
		if i >= len(old) || !merged[i].Money.Equal(old[i].Money) {
			changed = true
		}
	}
	return merged, changed
}

// later compares two balances of one reading.
func later(a, b *bankfeed.Balance) bool {
	if a.ReferenceDate != b.ReferenceDate {
		return a.ReferenceDate > b.ReferenceDate
	}
	return a.LastChangeAt != nil && (b.LastChangeAt == nil || a.LastChangeAt.After(*b.LastChangeAt))
}
