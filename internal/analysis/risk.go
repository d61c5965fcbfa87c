package analysis

import (
	"strconv"

	"github.com/bankfeed/bankfeed/wire/finapi"
)

// risk counts signs of risk and lists the transactions.
type risk struct {
	types []string // that are asked for
	found map[string]*riskFound
}

type riskFound struct {
	finapi.RiskIndicator
	sums map[string]*finapi.RiskSum
}

// riskTypes are the words of the dialect, by those of the rules.
var riskTypes = map[string]string{"chargebacks": "CHARGEBACKS", "debtCollection": "DEBT_COLLECTION", "gambling": "GAMBLING", "seizure": "SEIZURE"}

var allRisks = []string{"chargebacks", "debtCollection", "gambling", "seizure"}

func newRisk(types ...string) *risk {
	r := &risk{types: types, found: map[string]*riskFound{}}
	for _, t := range types {
		r.found[t] = &riskFound{finapi.RiskIndicator{Type: riskTypes[t], Sums: []finapi.RiskSum{}, Transactions: []finapi.RiskTransaction{}}, map[string]*finapi.RiskSum{}}
	}
	return r
}

func (r *risk) add(e *entry) {
	if e.label == nil || r.found[e.label.Risk] == nil {
		return
	}
	f := r.found[e.label.Risk]
	f.Count++
	f.FirstDate = e.day // newest first
	f.LastDate = max(f.LastDate, e.day)
	s := f.sums[e.Money.Currency]
	if s == nil {
		s = &finapi.RiskSum{Currency: e.Money.Currency, Credits: num(zero), Debits: num(zero)}
		f.sums[e.Money.Currency] = s
	}
	if e.amount.Sign() < 0 {
		s.Debits = num(s.Debits.Add(e.amount))
	} else {
		s.Credits = num(s.Credits.Add(e.amount))
	}
	if len(f.Transactions) == maxListed {
		f.More++
		return
	}
	f.Transactions = append(f.Transactions, finapi.RiskTransaction{TransactionID: strconv.FormatInt(int64(e.ID), 10), AccountID: e.account.ref.AccountID, Date: e.day,
		Amount: num(e.amount), Currency: e.Money.Currency, Counterpart: e.counterpart(), Purpose: e.purposeText(), Label: e.label.ID, Rule: e.rule})
}

func (r *risk) result(h *history) any {
	out := finapi.RiskResult{}
	for _, t := range r.types {
		f := r.found[t]
		for _, currency := range sorted(f.sums) {
			f.Sums = append(f.Sums, *f.sums[currency])
		}
		out.Indicators = append(out.Indicators, f.RiskIndicator)
	}
	out.Basis = h.basis()
	return out
}
