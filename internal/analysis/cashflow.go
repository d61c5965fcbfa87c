package analysis

import (
	"cmp"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// sum is an amount made of a number of transactions.
type sum struct {
	amount bankfeed.Amount
	count  int
}

func (s *sum) add(a bankfeed.Amount) {
	s.amount = s.amount.Add(a)
	s.count++
}

// categories sums up by category and label.
type categories map[string]map[string]*sum

func (c categories) add(e *entry) {
	category, label := e.category(), e.labelID()
	labels := c[category]
	if labels == nil {
		labels = map[string]*sum{}
		c[category] = labels
	}
	s := labels[label]
	if s == nil {
		s = &sum{amount: zero}
		labels[label] = s
	}
	s.add(e.amount)
}

// list has the categories by the size of their amount, the largest first.
func (c categories) list(withLabels bool) []finapi.CategoryFlow {
	out := make([]finapi.CategoryFlow, 0, len(c))
	for _, category := range sorted(c) {
		f := finapi.CategoryFlow{Category: category, Amount: num(zero)}
		for _, label := range sorted(c[category]) {
			s := c[category][label]
			f.Amount, f.Count = num(f.Amount.Add(s.amount)), f.Count+s.count
			if withLabels {
				f.Labels = append(f.Labels, finapi.LabelFlow{Label: label, Amount: num(s.amount), Count: s.count})
			}
		}
		slices.SortStableFunc(f.Labels, func(a, b finapi.LabelFlow) int { return b.Amount.Abs().Cmp(a.Amount.Abs()) })
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b finapi.CategoryFlow) int {
		return cmp.Or(b.Amount.Abs().Cmp(a.Amount.Abs()), cmp.Compare(a.Category, b.Category))
	})
	return out
}

// flow is finapi.Flow in the making.
type flow struct{ income, spending, transfers bankfeed.Amount }

func newFlow() flow { return flow{zero, zero, zero} }

func (f *flow) add(e *entry) {
	switch {
	case e.transfer:
		f.transfers = f.transfers.Add(e.amount)
	case e.amount.Sign() < 0:
		f.spending = f.spending.Add(e.amount)
	default:
		f.income = f.income.Add(e.amount)
	}
}

func (f *flow) flow() finapi.Flow {
	return finapi.Flow{Income: num(f.income), Spending: num(f.spending), Transfers: num(f.transfers), Net: num(f.income.Add(f.spending).Add(f.transfers))}
}

type monthFlow struct {
	flow
	categories categories
}

type currencyFlow struct {
	months     map[string]*monthFlow
	categories categories
}

// cashFlow sums up by currency, month, category and label.
type cashFlow struct{ currencies map[string]*currencyFlow }

func newCashFlow() *cashFlow { return &cashFlow{map[string]*currencyFlow{}} }

func (c *cashFlow) add(e *entry) {
	f := c.currencies[e.Money.Currency]
	if f == nil {
		f = &currencyFlow{map[string]*monthFlow{}, categories{}}
		c.currencies[e.Money.Currency] = f
	}
	m := f.months[e.month]
	if m == nil {
		m = &monthFlow{newFlow(), categories{}}
		f.months[e.month] = m
	}
	m.add(e)
	m.categories.add(e)
	f.categories.add(e)
}

func (c *cashFlow) result(h *history) any {
	out := finapi.CashFlowResult{Currencies: []finapi.CurrencyCashFlow{}}
	for _, currency := range sorted(c.currencies) {
		f := c.currencies[currency]
		x := finapi.CurrencyCashFlow{Currency: currency, Categories: f.categories.list(true), Months: []finapi.MonthFlow{}}
		all, full := newFlow(), newFlow()
		for _, month := range h.months() {
			m := f.months[month]
			if m == nil {
				m = &monthFlow{newFlow(), categories{}}
			}
			x.Months = append(x.Months, finapi.MonthFlow{Month: month, Full: h.full(month), Flow: m.flow.flow(), Categories: m.categories.list(false)})
			all.plus(m.flow)
			if h.full(month) {
				full.plus(m.flow)
				x.FullMonths++
			}
		}
		x.Flow = all.flow()
		if n := x.FullMonths; n > 0 {
			mean := flow{average(full.income, n), average(full.spending, n), average(full.transfers, n)}
			a := mean.flow()
			x.MonthlyAverage = &a
		}
		out.Currencies = append(out.Currencies, x)
	}
	out.Basis = h.basis()
	return out
}

func (f *flow) plus(o flow) {
	f.income, f.spending, f.transfers = f.income.Add(o.income), f.spending.Add(o.spending), f.transfers.Add(o.transfers)
}
