package analysis

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// incomeSpending tells what comes in and goes out regularly from what does not.
type incomeSpending struct {
	income, spending bool
	only             []string // categories of spending; nil: all

	series     seriesSet
	categories map[string]categories             // of spending, by currency
	totals     map[string]map[string]*incomeFlow // by currency and month
}

type incomeFlow struct{ income, spending bankfeed.Amount }

func newIncomeSpending(income, spending bool, only ...string) *incomeSpending {
	return &incomeSpending{income, spending, only, seriesSet{}, map[string]categories{}, map[string]map[string]*incomeFlow{}}
}

func (x *incomeSpending) add(e *entry) {
	credit := e.amount.Sign() > 0
	switch {
	case e.transfer, credit && !x.income, !credit && !x.spending,
		!credit && x.only != nil && !slices.Contains(x.only, e.category()):
		return
	}
	x.series.add(e)
	currency := e.Money.Currency
	if x.totals[currency] == nil {
		x.totals[currency], x.categories[currency] = map[string]*incomeFlow{}, categories{}
	}
	f := x.totals[currency][e.month]
	if f == nil {
		f = &incomeFlow{zero, zero}
		x.totals[currency][e.month] = f
	}
	if credit {
		f.income = f.income.Add(e.amount)
		return
	}
	f.spending = f.spending.Add(e.amount)
	x.categories[currency].add(e)
}

func (x *incomeSpending) result(h *history) any {
	out := finapi.IncomeSpendingResult{Currencies: []finapi.CurrencyIncomeSpending{}}
	byCurrency := map[string][]*series{}
	for _, s := range x.series.list() {
		byCurrency[s.currency] = append(byCurrency[s.currency], s)
	}
	for _, currency := range sorted(x.totals) {
		c := finapi.CurrencyIncomeSpending{Currency: currency}
		for _, m := range h.months() {
			if h.full(m) {
				c.FullMonths++
			}
		}
		if x.income {
			c.Income = x.incomes(h, x.totals[currency], byCurrency[currency])
		}
		if x.spending {
			c.Spending = x.spendings(h, x.totals[currency], byCurrency[currency])
			c.Spending.Categories = x.categories[currency].list(true)
		}
		out.Currencies = append(out.Currencies, c)
	}
	out.Basis = h.basis()
	return out
}

// months splits the sums of the months into what is regular and what is not.
func months(h *history, sums, regular map[string]bankfeed.Amount) (list []finapi.MonthAmount, all finapi.MonthAmount, mean *finapi.Decimal) {
	all = finapi.MonthAmount{Total: num(zero), Regular: num(zero), Other: num(zero)}
	list = []finapi.MonthAmount{}
	whole, n := zero, 0
	for _, m := range h.months() {
		a := finapi.MonthAmount{Month: m, Full: h.full(m), Total: num(zero.Add(sums[m])), Regular: num(zero.Add(regular[m]))}
		a.Other = num(a.Total.Sub(a.Regular.Amount))
		list = append(list, a)
		all.Total, all.Regular, all.Other = num(all.Total.Add(a.Total.Amount)), num(all.Regular.Add(a.Regular.Amount)), num(all.Other.Add(a.Other.Amount))
		if a.Full {
			whole = whole.Add(a.Total.Amount)
			n++
		}
	}
	if n > 0 {
		mean = numOf(average(whole, n))
	}
	return list, all, mean
}

// Kinds of income.
const (
	incomeSalary  = "SALARY"
	incomeRegular = "REGULAR"
	incomeOther   = "OTHER"
)

var incomeKinds = map[string]string{"salary": incomeSalary, "pension": "PENSION", "benefit": "BENEFIT"}

// leastSalary is what a salary that only its payer and rhythm speak for amounts
// to at least, in whole units of any currency.
var leastSalary = bankfeed.MustAmount("300")

func (x *incomeSpending) incomes(h *history, totals map[string]*incomeFlow, list []*series) *finapi.Income {
	sums, regular := map[string]bankfeed.Amount{}, map[string]bankfeed.Amount{}
	for m, f := range totals {
		sums[m] = f.income
	}
	in := &finapi.Income{Sources: []finapi.IncomeSource{}}
	for _, s := range list {
		if s.sign < 0 {
			continue
		}
		found := s.find(h.to)
		src := incomeSource(s, found)
		counts := found
		if src.Kind == incomeSalary || src.Kind == "PENSION" || src.Kind == "BENEFIT" {
			counts = []recurring{{payments: s.payments}} // all of it, however it comes
		}
		for _, r := range counts {
			for _, p := range r.payments {
				regular[p.month()] = regular[p.month()].Add(p.amount)
			}
		}
		if len(in.Sources) == maxSources {
			in.OtherSources++
		} else {
			in.Sources = append(in.Sources, src)
		}
		if src.Kind == incomeSalary && (in.Salary == nil || takesOver(&src, in.Salary)) {
			in.Salary = &src
		}
	}
	var all finapi.MonthAmount
	in.Months, all, in.MonthlyAverage = months(h, sums, regular)
	in.Total, in.Regular, in.Other = all.Total, all.Regular, all.Other
	return in
}

// takesOver tells of two salaries, of which the first is the smaller in all,
// whether it is the one that counts today: it still comes while the other has
// ended, or it began after that and has no rhythm yet.
func takesOver(a, b *finapi.IncomeSource) bool {
	return !b.Active && (a.Active || daysBetween(b.LastDate, a.LastDate) > rhythmOf("MONTHLY").high)
}

func incomeSource(s *series, found []recurring) finapi.IncomeSource {
	total, newest, oldest := s.total(), s.payments[0], s.payments[len(s.payments)-1]
	src := finapi.IncomeSource{Counterpart: s.counterpart, Kind: incomeOther, Total: num(total), Count: len(s.payments), AverageAmount: num(average(total, len(s.payments))),
		LastAmount: num(newest.amount), FirstDate: oldest.day, LastDate: newest.day}
	if len(found) > 0 {
		r := slices.MaxFunc(found, prevails)
		src.Kind, src.Rhythm, src.Active = incomeRegular, r.rhythm.name, r.active
		if r.active {
			src.NextDate = r.next
		}
		if s.label == nil && r.rhythm.name == "MONTHLY" && r.average.Cmp(leastSalary) >= 0 && legalForm(s.counterpart) != "" {
			src.Kind = incomeSalary
		}
	}
	if s.label != nil {
		src.Label = s.label.ID
		if kind := incomeKinds[s.label.Income]; kind != "" {
			src.Kind = kind
		}
	}
	return src
}

// prevails compares two rhythms of one payer by which of them says more of it
// today: the one that goes on, as after a raise, and of two that do the larger one,
// as of salary and allowance.
func prevails(a, b recurring) int {
	switch {
	case a.active && !b.active:
		return 1
	case b.active && !a.active:
		return -1
	case a.active:
		return a.average.Cmp(b.average)
	}
	return cmp.Compare(a.last().day, b.last().day)
}

func (x *incomeSpending) spendings(h *history, totals map[string]*incomeFlow, list []*series) *finapi.Spending {
	sums, regular := map[string]bankfeed.Amount{}, map[string]bankfeed.Amount{}
	for m, f := range totals {
		sums[m] = f.spending
	}
	out := &finapi.Spending{Recipients: []finapi.Recipient{}}
	for _, s := range list {
		if s.sign > 0 {
			continue
		}
		found := s.find(h.to)
		for _, r := range found {
			for _, p := range r.payments {
				regular[p.month()] = regular[p.month()].Add(p.amount)
			}
		}
		if len(out.Recipients) < maxRecipients {
			out.Recipients = append(out.Recipients, finapi.Recipient{Counterpart: s.counterpart, Category: s.category, Total: num(s.total()), Count: len(s.payments), Regular: len(found) > 0})
		}
	}
	var all finapi.MonthAmount
	out.Months, all, out.MonthlyAverage = months(h, sums, regular)
	out.Total, out.Regular, out.Other = all.Total, all.Regular, all.Other
	return out
}

// legalForms end or begin the names of companies; folded.
var legalForms = []string{"gmbh", "mbh", "ggmbh", "ag", "se", "kg", "kgaa", "ohg", "ug", "gbr", "e k", "ek", "e g", "eg", "e v", "ev", "partg", "stiftung", "genossenschaft",
	"ltd", "limited", "llc", "llp", "plc", "inc", "corp", "sp z o o", "spolka z o o", "sp j", "sp k", "spolka akcyjna", "s a", "sarl", "s a r l", "sas", "s a s", "eurl", "bv", "b v", "nv", "n v",
	"srl", "s r l", "spa", "s p a", "s l", "oy", "oyj", "ab", "a s", "aps", "s r o", "kft", "d o o"}

// legalForm finds the legal form in a company's name: at its end, or before "co"
// as in GmbH & Co. KG; empty if there is none.
func legalForm(name string) string {
	f := strings.TrimSpace(fold(name))
	for _, form := range legalForms {
		if strings.HasSuffix(f, " "+form) || strings.Contains(f, " "+form+" co ") || len(form) > 3 && strings.Contains(" "+f+" ", " "+form+" ") {
			return form
		}
	}
	return ""
}
