package analysis

import (
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// balances derives what the balance of each account was: from the booked balance
// of its bank backwards, day by day, by what was booked.
type balances struct {
	days map[bankfeed.AccountID]map[bankfeed.Date]bankfeed.Amount // booked on each day
}

func newBalances() *balances {
	return &balances{days: map[bankfeed.AccountID]map[bankfeed.Date]bankfeed.Amount{}}
}

func (b *balances) add(e *entry) {
	if e.Money.Currency != e.account.Currency {
		return // it cannot be part of the balance as it is
	}
	days := b.days[e.Transaction.Account]
	if days == nil {
		days = map[bankfeed.Date]bankfeed.Amount{}
		b.days[e.Transaction.Account] = days
	}
	days[e.day] = days[e.day].Add(e.amount)
}

func (b *balances) result(h *history) any {
	out := finapi.BalancesResult{Accounts: []finapi.AccountBalances{}, Totals: []finapi.CurrencyTotal{}}
	totals := map[string]bankfeed.Amount{}
	for _, a := range h.accounts {
		x := finapi.AccountBalances{ReportAccount: a.ref, Months: []finapi.BalanceMonth{}, History: []finapi.BalancePoint{}}
		if a.available != nil {
			x.Available = numOf(a.available.amount())
		}
		if a.booked != nil {
			b.account(h, a, &x)
			totals[a.Currency] = totals[a.Currency].Add(x.Balance.Amount)
		}
		out.Accounts = append(out.Accounts, x)
	}
	for _, currency := range sorted(totals) {
		out.Totals = append(out.Totals, finapi.CurrencyTotal{Currency: currency, Amount: num(totals[currency])})
	}
	out.Basis = h.basis()
	return out
}

// account walks from the day before the account's first transaction to the last
// day that is known.
func (b *balances) account(h *history, a *account, x *finapi.AccountBalances) {
	days := b.days[a.ID]
	order := sorted(days)
	now := a.booked.amount()
	x.Balance, x.BalanceDate = numOf(now), a.booked.date(h.to)
	if len(order) == 0 {
		return
	}
	opening := now
	for _, d := range order {
		opening = opening.Sub(days[d])
	}
	x.History = append(x.History, finapi.BalancePoint{Date: order[0].AddDays(-1), Balance: num(opening)})
	var all, month *tally
	var current string
	balance := opening
	for d := order[0]; d <= h.to; d = d.AddDays(1) {
		if m := string(d[:7]); m != current {
			if month != nil {
				x.Months = append(x.Months, finapi.BalanceMonth{Month: current, BalanceStatistics: month.statistics()})
			}
			current, month = m, newTally(balance)
		}
		if all == nil {
			all = newTally(opening)
		}
		if sum, booked := days[d]; booked {
			balance = balance.Add(sum)
			x.History = append(x.History, finapi.BalancePoint{Date: d, Balance: num(balance)})
		}
		all.add(balance)
		month.add(balance)
	}
	x.Months = append(x.Months, finapi.BalanceMonth{Month: current, BalanceStatistics: month.statistics()})
	stats := all.statistics()
	x.Statistics = &stats
}

// tally sums up balances at the ends of days.
type tally struct {
	opening, last, least, most, sum bankfeed.Amount
	days, below                     int
}

func newTally(opening bankfeed.Amount) *tally { return &tally{opening: opening} }

func (t *tally) add(balance bankfeed.Amount) {
	if t.days == 0 || balance.Cmp(t.least) < 0 {
		t.least = balance
	}
	if t.days == 0 || balance.Cmp(t.most) > 0 {
		t.most = balance
	}
	if balance.Sign() < 0 {
		t.below++
	}
	t.sum, t.last = t.sum.Add(balance), balance
	t.days++
}

func (t *tally) statistics() finapi.BalanceStatistics {
	return finapi.BalanceStatistics{Opening: num(t.opening), Closing: num(t.last), Minimum: num(t.least), Maximum: num(t.most),
		Average: num(average(t.sum, t.days)), Days: t.days, DaysBelowZero: t.below}
}

// sorted lists the keys of a map in order.
func sorted[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
