package sandbox

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

const (
	bankCode  = "20020099" // the bank's own sort code inside its IBANs
	otherBank = "70040055" // where counterparties bank
)

// account is one account of a test user; everything in it follows from seed, login and name.
type account struct {
	name      string // how events name it
	key       uint64 // seeds its entries
	owner     string
	iban      string
	bban      string
	maskedPan string
	currency  string
	label     string
	product   string
	cashType  string // ISO 20022 cash account type
	usage     string // PRIV or ORGA
	plan      plan
	opening   int64 // minor units at opened
	limit     int64 // credit line in minor units
	opened    int   // first day with entries
	perDay    int   // of the index-based account, else 0
	payment   bool  // a payment account: the redirect API lists no others
}

// exponent is the number of decimals the bank writes for a currency.
func exponent(currency string) int {
	switch currency {
	case "JPY":
		return 0
	case "KWD":
		return 3
	}
	return 2
}

// fromCents turns euro cents into minor units of another currency, at made-up rates.
func fromCents(cents int64, currency string) int64 {
	switch currency {
	case "JPY":
		return cents * 16 / 10
	case "KWD":
		return cents * 33 / 10
	}
	return cents
}

// formatMinor writes minor units with the currency's decimals.
func formatMinor(minor int64, currency string) string {
	exp := exponent(currency)
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	digits := strconv.FormatInt(minor, 10)
	if exp == 0 {
		return sign + digits
	}
	if pad := exp + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	return sign + digits[:len(digits)-exp] + "." + digits[len(digits)-exp:]
}

// dice is splitmix64: small, and the same on every machine and Go version.
type dice uint64

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (d *dice) below(n int) int { return int(d.next() % uint64(n)) }

func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	d := dice(h.Sum64())
	return d.next()
}

// germanIBAN builds a DE IBAN with valid ISO 7064 mod 97-10 check digits.
func germanIBAN(sortCode string, number uint64) string {
	bban := fmt.Sprintf("%s%010d", sortCode, number%1e10)
	rem := 0
	for _, digit := range bban + "131400" { // "DE00" in the standard's letter values
		rem = (rem*10 + int(digit-'0')) % 97
	}
	return fmt.Sprintf("DE%02d%s", 98-rem, bban)
}

// accountsOf lists a user's accounts, closed ones left out. The result does
// not depend on the channel; visible filters by it.
func accountsOf(seed int64, u testUser, us *userState) []account {
	s := strconv.FormatInt(seed, 10)
	mk := func(a account) account {
		a.key = hash(s, u.Login, a.name)
		a.owner = u.owner
		a.usage = "PRIV"
		if u.Segment == business {
			a.usage = "ORGA"
		}
		if a.opened == 0 {
			a.opened = firstDay
		}
		return a
	}
	iban := func(name string) string { return germanIBAN(bankCode, hash(s, u.Login, name, "iban")) }

	var all []account
	added := func() {
		for _, add := range us.Added {
			all = append(all, mk(account{name: add.Name, iban: iban(add.Name), currency: add.Currency, label: "Zusatzkonto", product: "WBX Giro",
				cashType: "CACC", plan: planTravel, opened: add.Day, payment: true}))
		}
	}
	if u.flaw == flawBig {
		all = append(all, mk(account{name: "current", iban: iban("current"), currency: "EUR", label: "Girokonto", product: "WBX Giro Max",
			cashType: "CACC", opening: 1_000_000, perDay: u.total / bulkDays, payment: true}))
		added()
		return removeClosed(all, us)
	}
	if u.Segment == business {
		all = append(all,
			mk(account{name: "current", iban: iban("current"), currency: "EUR", label: "Geschäftskonto", product: "WBX Business",
				cashType: "CACC", plan: planBusiness, opening: 4_000_000, limit: 2_500_000, payment: true}),
			mk(account{name: "tax", iban: iban("tax"), currency: "EUR", label: "Steuerrücklage", product: "WBX Business Plus",
				cashType: "CACC", plan: planSavings, opening: 1_200_000, payment: true}),
		)
	} else {
		p := planPersonal
		switch u.flaw {
		case flawPending:
			p = planPending
		case flawNoIDs:
			p = planTwins
		}
		all = append(all, mk(account{name: "current", iban: iban("current"), currency: "EUR", label: "Girokonto", product: "WBX Giro",
			cashType: "CACC", plan: p, opening: 150_000, limit: 100_000, payment: true}))
	}
	if u.flaw == flawMultiCurrency {
		all = append(all,
			mk(account{name: "usd", iban: iban("current"), currency: "USD", label: "Währungskonto USD", product: "WBX Multi",
				cashType: "CACC", plan: planTravel, opening: 200_000, payment: true}),
			mk(account{name: "jpy", iban: iban("jpy"), currency: "JPY", label: "Währungskonto JPY", product: "WBX Multi",
				cashType: "CACC", plan: planTravel, opening: 350_000, payment: true}),
			mk(account{name: "kwd", iban: iban("kwd"), currency: "KWD", label: "Währungskonto KWD", product: "WBX Multi",
				cashType: "CACC", plan: planTravel, opening: 750_000, payment: true}),
		)
	}
	pan := hash(s, u.Login, "card", "pan")
	all = append(all,
		mk(account{name: "card", maskedPan: fmt.Sprintf("545454xxxxxx%04d", pan%10000), currency: "EUR", label: "Kreditkarte", product: "WBX Card Gold",
			cashType: "CARD", plan: planCard, limit: 500_000, payment: true}),
		mk(account{name: "savings", iban: iban("savings"), currency: "EUR", label: "Tagesgeld", product: "WBX Spar",
			cashType: "SVGS", plan: planSavings, opening: 800_000}),
		mk(account{name: "loan", bban: fmt.Sprintf("%s%010d", bankCode, hash(s, u.Login, "loan", "bban")%1e10), currency: "EUR", label: "Ratenkredit", product: "WBX Kredit",
			cashType: "LOAN", plan: planLoan, opening: -1_800_000}),
	)
	added()
	return removeClosed(all, us)
}

func removeClosed(all []account, us *userState) []account {
	open := all[:0]
	for _, a := range all {
		if !us.Closed[a.name] {
			open = append(open, a)
		}
	}
	return open
}

// visible are the accounts a channel lists: PSD2 obliges a bank to open payment
// accounts only, while a PSU who logs in sees all of them.
func visible(all []account, channel string) []account {
	if channel == embedded {
		return all
	}
	var out []account
	for _, a := range all {
		if a.payment {
			out = append(out, a)
		}
	}
	return out
}

func (a account) reference() accountReference {
	return accountReference{IBAN: a.iban, BBAN: a.bban, MaskedPAN: a.maskedPan, Currency: a.currency}
}

// matches reports whether a TPP's reference means this account; a reference
// without currency means every account behind the number.
func (a account) matches(ref accountReference) bool {
	if ref.Currency != "" && ref.Currency != a.currency {
		return false
	}
	switch {
	case ref.IBAN != "":
		return strings.EqualFold(strings.ReplaceAll(ref.IBAN, " ", ""), a.iban)
	case ref.BBAN != "":
		return ref.BBAN == a.bban
	case ref.MaskedPAN != "":
		return ref.MaskedPAN == a.maskedPan
	}
	return false
}
