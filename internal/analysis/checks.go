package analysis

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Answers of the balances check, the best one first.
const (
	covered            = "COVERED"
	coveredByOverdraft = "COVERED_BY_OVERDRAFT"
	notCovered         = "NOT_COVERED"
	unknown            = "UNKNOWN"
)

var checkOrder = []string{covered, coveredByOverdraft, notCovered, unknown}

// CheckBalances answers whether an amount can be paid from one of the current
// accounts of data sources, and whether that would need the overdraft.
func (s *Service) CheckBalances(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sources []bankfeed.ConnectionID, amount bankfeed.Money) (finapi.BalancesCheck, error) {
	var out finapi.BalancesCheck
	if amount.Amount.Sign() <= 0 {
		return out, bankfeed.InvalidField("amount", "must be more than 0")
	}
	h, err := s.open(ctx, query{tenant: tenant, user: user, sources: sources, days: checkDays})
	if err != nil {
		return out, err
	}
	if err := s.catchUp(ctx, query{tenant: tenant, user: user}, h); err != nil {
		return out, err
	}
	held := map[bankfeed.AccountID]bankfeed.Amount{}
	for offset := 0; len(h.accounts) > 0; offset += pageSize {
		page, err := s.Store.Transactions(ctx, tenant, user, bankfeed.TransactionFilter{Accounts: h.ids(), Offset: offset, Limit: pageSize,
			Statuses: []bankfeed.TransactionStatus{bankfeed.TransactionPending, bankfeed.TransactionHold}})
		if err != nil {
			return out, err
		}
		for _, t := range page {
			if t.Money.Amount.Sign() < 0 && t.Money.Currency == amount.Currency {
				held[t.Account] = held[t.Account].Add(t.Money.Amount)
			}
		}
		if len(page) < pageSize {
			break
		}
	}
	out = finapi.BalancesCheck{Result: unknown, Amount: num(amount.Amount), Currency: amount.Currency, Accounts: []finapi.AccountBalancesCheck{}}
	for _, a := range h.accounts {
		if a.Type == bankfeed.AccountCurrent && a.Currency == amount.Currency {
			out.Accounts = append(out.Accounts, a.covers(amount.Amount, zero.Add(held[a.ID]), h.to))
		}
	}
	slices.SortStableFunc(out.Accounts, func(a, b finapi.AccountBalancesCheck) int {
		return cmp.Or(slices.Index(checkOrder, a.Result)-slices.Index(checkOrder, b.Result), a.Shortfall.Cmp(b.Shortfall.Amount))
	})
	if len(out.Accounts) > 0 {
		best := out.Accounts[0]
		out.Result, out.Payable, out.OverdraftRequired = best.Result, best.Payable, best.OverdraftRequired
	}
	return out, nil
}

// expected is a balance that has what is under way in it already, credits too.
const expected = "expected"

// covers judges one account. What is the holder's own is the booked balance less
// the debits under way; what is available, as the bank says, has those deducted
// already and may include an overdraft.
func (a *account) covers(amount, pending bankfeed.Amount, to bankfeed.Date) finapi.AccountBalancesCheck {
	x := finapi.AccountBalancesCheck{ReportAccount: a.ref, Result: unknown, Pending: num(pending), Shortfall: num(zero)}
	var own, available *bankfeed.Amount
	if a.available != nil {
		v := a.available.amount()
		available, x.Available = &v, numOf(v)
	}
	if a.booked != nil {
		v := a.booked.amount()
		x.Balance, x.BalanceDate = numOf(v), a.booked.date(to)
		if a.booked.Type != expected {
			v = v.Add(pending)
		}
		own = &v
	}
	switch {
	case own == nil || available == nil:
	case a.available.Type == expected: // booked and under way: it tells of no overdraft
		if available.Cmp(*own) < 0 {
			own = available
		}
		available = own
	default:
		overdraft := available.Sub(*own)
		if overdraft.Sign() < 0 {
			overdraft = zero // the bank holds back more than it lists
			own = available
		}
		x.Overdraft = numOf(overdraft)
	}
	switch {
	case own == nil && available == nil:
		return x
	case own == nil:
		own = available
	case available == nil:
		available = own
	}
	switch {
	case available.Cmp(amount) >= 0 && own.Cmp(amount) >= 0:
		x.Result, x.Payable = covered, true
	case available.Cmp(amount) >= 0:
		x.Result, x.Payable, x.OverdraftRequired = coveredByOverdraft, true, true
	default:
		x.Result, x.Shortfall = notCovered, num(amount.Sub(*available))
	}
	return x
}

// open makes sure that data sources are SUCCESSFUL and opens their history.
func (s *Service) open(ctx context.Context, q query) (*history, error) {
	var err error
	if q.sources, err = checkSources(q.sources); err != nil {
		return nil, err
	}
	if err := s.ready(ctx, q.tenant, q.user, q.sources); err != nil {
		return nil, err
	}
	return s.read(ctx, q)
}

// What a check looks at: it is answered at once.
const (
	checkDays         = 365
	checkTransactions = 5000
)

// Weights of evidence; the sign says for whom it speaks.
const (
	sure    = 100 // the bank says so
	strong  = 40
	weak    = 15
	enough  = 30 // less than this says nothing
	certain = 80
)

// Holder types.
const (
	person  = "PERSON"
	company = "COMPANY"
	mixed   = "MIXED"
)

// CheckHolderType answers whether the accounts of data sources belong to a person
// or a company, and why.
func (s *Service) CheckHolderType(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sources []bankfeed.ConnectionID) (finapi.HolderTypeCheck, error) {
	var out finapi.HolderTypeCheck
	q := query{tenant: tenant, user: user, sources: sources, days: checkDays, limit: checkTransactions}
	h, err := s.open(ctx, q)
	if err != nil {
		return out, err
	}
	seen := map[bankfeed.AccountID]map[*label]int{}
	err = s.each(ctx, q, h, func(e *entry) {
		if e.label != nil && e.label.Holder != "" {
			if seen[e.account.ID] == nil {
				seen[e.account.ID] = map[*label]int{}
			}
			seen[e.account.ID][e.label]++
		}
	})
	if err != nil {
		return out, err
	}
	out = finapi.HolderTypeCheck{HolderType: unknown, Accounts: []finapi.AccountHolderType{}}
	for _, a := range h.accounts {
		x := a.holderType(seen[a.ID])
		out.Accounts = append(out.Accounts, x)
		switch {
		case x.HolderType == unknown || x.HolderType == out.HolderType:
		case out.HolderType == unknown:
			out.HolderType = x.HolderType
		default:
			out.HolderType = mixed
		}
	}
	return out, nil
}

func (a *account) holderType(labels map[*label]int) finapi.AccountHolderType {
	x := finapi.AccountHolderType{ReportAccount: a.ref, HolderName: a.OwnerName, HolderType: unknown, Evidence: []finapi.HolderEvidence{}}
	score := 0
	say := func(kind, detail string, weight, count int) {
		says := person
		if weight < 0 {
			says = company
		}
		score += weight
		x.Evidence = append(x.Evidence, finapi.HolderEvidence{Kind: kind, Says: says, Weight: weight, Detail: detail, Count: count})
	}
	switch strings.ToLower(a.Account.HolderType) {
	case "individual", "person", "private":
		say("BANK_HOLDER_TYPE", a.Account.HolderType, sure, 0)
	case "corporation", "company", "business", "organisation", "organization":
		say("BANK_HOLDER_TYPE", a.Account.HolderType, -sure, 0)
	}
	switch a.Usage {
	case "PRIV":
		say("BANK_USAGE", a.Usage, strong, 0)
	case "ORGA":
		say("BANK_USAGE", a.Usage, -strong, 0)
	}
	if a.IsBusiness != nil {
		if *a.IsBusiness {
			say("BANK_PRODUCT", cmp.Or(a.Product, "business"), -strong, 0)
		} else {
			say("BANK_PRODUCT", cmp.Or(a.Product, "private"), weak, 0)
		}
	}
	if form := legalForm(a.OwnerName); form != "" {
		say("LEGAL_FORM", form, -sure, 0)
	} else if words := strings.Fields(fold(a.OwnerName)); len(words) >= 2 && len(words) <= 4 && !strings.ContainsAny(a.OwnerName, "0123456789&+") {
		say("PERSONAL_NAME", "two to four words without a legal form", weak, 0)
	}
	order := make([]*label, 0, len(labels))
	for l := range labels {
		order = append(order, l)
	}
	slices.SortFunc(order, func(a, b *label) int { return cmp.Compare(a.ID, b.ID) })
	for _, l := range order {
		weight := weak // once may be chance
		if labels[l] >= 3 {
			weight = strong
		}
		if l.Holder == "company" {
			weight = -weight
		}
		say("TRANSACTIONS", l.ID, weight, labels[l])
	}
	size := max(score, -score)
	if size < enough {
		return x
	}
	if x.HolderType = person; score < 0 {
		x.HolderType = company
	}
	switch {
	case size >= certain:
		x.Confidence = "HIGH"
	case size >= certain/2:
		x.Confidence = "MEDIUM"
	default:
		x.Confidence = "LOW"
	}
	return x
}
