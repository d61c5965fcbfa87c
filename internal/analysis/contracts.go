package analysis

import (
	"cmp"
	"slices"

	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Bounds of what a report lists.
const (
	maxContracts  = 500
	maxListed     = 500 // transactions of an indicator
	maxSources    = 50  // of income
	maxRecipients = 20
	lastDates     = 12
	newFor        = 90 // days for which a contract is new
	otherContract = "OTHER"
)

// contracts finds payments that recur.
type contracts struct {
	seriesSet
	category string // only of this one; empty: all
}

func newContracts(category string) *contracts { return &contracts{seriesSet{}, category} }

func (c *contracts) add(e *entry) {
	if e.amount.Sign() < 0 {
		c.seriesSet.add(e)
	}
}

func (c *contracts) result(h *history) any {
	out := finapi.ContractsResult{ContractsData: []finapi.Contract{}, MonthlyCosts: []finapi.ContractsPerPeriod{}}
	var found []recurring
	for _, s := range c.list() {
		if c.category == "" || s.category == c.category {
			found = append(found, s.find(h.to)...)
		}
	}
	// Active ones first, the dearest first.
	slices.SortStableFunc(found, func(a, b recurring) int {
		if a.active != b.active {
			return map[bool]int{true: -1, false: 1}[a.active]
		}
		return b.rhythm.monthly(b.average).Abs().Cmp(a.rhythm.monthly(a.average).Abs())
	})
	type bucket struct{ currency, kind string }
	costs := map[bucket]*sum{}
	for _, r := range found {
		k := contractOf(h, r)
		if r.active {
			b := bucket{k.Currency, k.ContractType}
			if costs[b] == nil {
				costs[b] = &sum{amount: zero}
			}
			costs[b].add(k.MonthlyAmount.Amount)
		}
		if len(out.ContractsData) == maxContracts {
			out.More++
			continue
		}
		out.ContractsData = append(out.ContractsData, k)
	}
	for b, s := range costs {
		out.MonthlyCosts = append(out.MonthlyCosts, finapi.ContractsPerPeriod{Currency: b.currency, ContractType: b.kind, Amount: num(s.amount), Count: s.count})
	}
	slices.SortFunc(out.MonthlyCosts, func(a, b finapi.ContractsPerPeriod) int {
		return cmp.Or(cmp.Compare(a.Currency, b.Currency), a.Amount.Cmp(b.Amount.Amount), cmp.Compare(a.ContractType, b.ContractType))
	})
	out.Basis = h.basis()
	return out
}

func contractOf(h *history, r recurring) finapi.Contract {
	last := r.last()
	k := finapi.Contract{ContractType: otherContract, Category: r.category, Counterpart: r.counterpart, IBAN: r.iban, CreditorID: r.creditor, MandateID: r.mandate,
		Currency: r.currency, Amount: num(last.amount), AverageAmount: num(r.average), Stability: r.stability, Rhythm: r.rhythm.name,
		MonthlyAmount: num(r.rhythm.monthly(r.average)), FirstDate: r.payments[0].day, LastDate: last.day, Active: r.active, Count: len(r.payments)}
	if r.label != nil {
		k.Label = r.label.ID
		k.ContractType = cmp.Or(r.label.Contract, otherContract)
	}
	if k.ContractType != otherContract {
		h.use(k.ContractType)
	}
	if r.active {
		k.NextDate = r.next
	}
	// What begins where the data begins may be older.
	k.NewContract = r.active && daysBetween(k.FirstDate, h.to) < newFor && daysBetween(h.from, k.FirstDate) > r.rhythm.high
	for _, p := range r.payments[max(0, len(r.payments)-lastDates):] {
		k.Dates = append(k.Dates, p.day)
	}
	return k
}
