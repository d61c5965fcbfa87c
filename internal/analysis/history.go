package analysis

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// account is an account of the data sources that are looked at.
type account struct {
	bankfeed.Account
	ref finapi.ReportAccount

	booked    *standing // the booked balance, nil if its bank gives none
	available *standing
	holder    string // folded name, at least two words; else empty
}

// standing is a balance that is brought up to the last day that is known.
type standing struct {
	bankfeed.Balance
	since bankfeed.Date   // the first day whose bookings come on top; empty: there is none
	after bankfeed.Amount // of these bookings (catchUp)
	late  bool            // there are any
}

func (b *standing) amount() bankfeed.Amount { return b.Money.Amount.Add(b.after) }

// date is the day of the amount. to is the last one that is known.
func (b *standing) date(to bankfeed.Date) bankfeed.Date {
	if b.late {
		return to
	}
	return cmp.Or(b.ReferenceDate, to)
}

// standingOf says what comes on top of a balance: a closing one is of the end of
// its day, an opening one of its beginning, and every other one of the moment in
// which the bank gave it. What is expected has in it already what is booked later.
func (s *Service) standingOf(b *bankfeed.Balance) *standing {
	if b == nil {
		return nil
	}
	x := &standing{Balance: *b}
	switch {
	case b.Type == expected:
	case b.Type == "closingBooked" && b.ReferenceDate != "":
		x.since = b.ReferenceDate.AddDays(1)
	case b.Type == "openingBooked" && b.ReferenceDate != "":
		x.since = b.ReferenceDate
	case !b.FetchedAt.IsZero():
		x.since = bankfeed.DateOf(b.FetchedAt.In(s.Zone)).AddDays(1)
	}
	return x
}

// behind lists the balances that bookings up to a day may come on top of.
func (a *account) behind(to bankfeed.Date) (list []*standing) {
	for _, b := range []*standing{a.booked, a.available} {
		if b != nil && b.since != "" && b.since <= to {
			list = append(list, b)
		}
	}
	return list
}

// entry is a booked transaction, labelled. It is only valid during the call that
// it is handed to.
type entry struct {
	*bankfeed.Transaction
	account *account
	day     bankfeed.Date
	month   string // YYYY-MM
	amount  bankfeed.Amount
	label   *label // nil: no rule knows it
	rule    string
	// transfer: to or from an account of the same holder.
	transfer bool
	other    *bankfeed.Party // the other side; its members may be empty
}

// category is what the entry counts for.
func (e *entry) category() string {
	switch {
	case e.transfer:
		return categoryTransfers
	case e.label != nil:
		return e.label.Category
	case e.amount.Sign() < 0:
		return categoryOtherSpending
	}
	return categoryOtherIncome
}

func (e *entry) labelID() string {
	switch {
	case e.label != nil:
		return e.label.ID
	case e.transfer:
		return labelOwnTransfer
	}
	return ""
}

// counterpart is how the other side is called.
func (e *entry) counterpart() string {
	switch {
	case e.other.Name != "":
		return e.other.Name
	case e.amount.Sign() < 0 && e.UltimateCreditor != "":
		return e.UltimateCreditor
	case e.amount.Sign() > 0 && e.UltimateDebtor != "":
		return e.UltimateDebtor
	}
	return e.other.Account.Value
}

// purposeText is what the payment was for, on one line.
func (e *entry) purposeText() string {
	parts := append(slices.Clone(e.Remittance), e.Structured...)
	if len(parts) == 0 && e.AdditionalInfo != "" {
		parts = []string{e.AdditionalInfo}
	}
	return strings.Join(parts, " ")
}

// query says what to read.
type query struct {
	tenant  bankfeed.TenantID
	user    bankfeed.UserID
	sources []bankfeed.ConnectionID
	days    int
	limit   int // of transactions, the newest; 0: all
}

// history is what is known of data sources. Its transactions are read once, page
// by page, and handed on one after the other, newest first.
type history struct {
	accounts []*account
	byID     map[bankfeed.AccountID]*account
	to       bankfeed.Date // the day up to which the data is known
	floor    bankfeed.Date // the first day that was asked for
	from     bankfeed.Date // the first day that is covered: of the oldest transaction, or floor
	count    int
	ignored  int
	rules    *Rules
	used     map[string]bool // ids of categories and labels
	hasCard  bool
	own      map[string]bool // IBANs of the accounts
}

const pageSize = 1000

// read opens the history of a query, without its transactions.
func (s *Service) read(ctx context.Context, q query) (*history, error) {
	h := &history{byID: map[bankfeed.AccountID]*account{}, rules: s.Rules, used: map[string]bool{}, own: map[string]bool{}}
	var newest bankfeed.Date
	for _, source := range q.sources {
		list, err := s.Store.Accounts(ctx, q.tenant, q.user, bankfeed.AccountFilter{Connection: source})
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			x := s.account(q.tenant, a)
			h.accounts, h.byID[a.ID] = append(h.accounts, x), x
			h.hasCard = h.hasCard || a.Type == bankfeed.AccountCard
			if iban := a.IBAN(); iban != "" {
				h.own[iban] = true
			}
			switch {
			case !a.LastReadAt.IsZero() && a.Status != bankfeed.AccountImported:
				newest = max(newest, bankfeed.DateOf(a.LastReadAt.In(s.Zone)))
			case x.booked != nil: // what was handed in is as old as it says
				newest = max(newest, x.booked.ReferenceDate)
			}
		}
	}
	if len(h.accounts) > 0 {
		first, err := s.Store.Transactions(ctx, q.tenant, q.user, bankfeed.TransactionFilter{Accounts: h.ids(), Statuses: counted, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(first) > 0 {
			newest = max(newest, first[0].Day())
		}
	}
	today := bankfeed.DateOf(s.Now().In(s.Zone))
	if h.to = newest; newest == "" || newest > today {
		h.to = today // nothing is known of tomorrow, whatever a bank books ahead
	}
	h.floor = h.to.AddDays(1 - q.days)
	return h, nil
}

// catchUp adds up what was booked since the days of the balances, which may be
// older than what a report looks at.
func (s *Service) catchUp(ctx context.Context, q query, h *history) error {
	f := bankfeed.TransactionFilter{Statuses: counted, Limit: pageSize}
	for _, a := range h.accounts {
		list := a.behind(h.to)
		if len(list) > 0 {
			f.Accounts = append(f.Accounts, a.ID)
		}
		for _, b := range list {
			f.From = min(cmp.Or(f.From, b.since), b.since)
		}
	}
	for len(f.Accounts) > 0 {
		page, err := s.Store.Transactions(ctx, q.tenant, q.user, f)
		if err != nil {
			return err
		}
		for i := range page {
			t := &page[i]
			a := h.byID[t.Account]
			if a == nil || t.Money.Currency != a.Currency {
				continue
			}
			for _, b := range a.behind(min(t.Day(), h.to)) {
				b.after, b.late = b.after.Add(t.Money.Amount), true
			}
		}
		if len(page) < pageSize {
			return nil
		}
		last := &page[len(page)-1]
		f.Before = bankfeed.TransactionKey{Day: last.Day(), ID: last.ID}
	}
	return nil
}

// counted are the statuses of transactions that count: those that are final.
var counted = []bankfeed.TransactionStatus{bankfeed.TransactionBooked, bankfeed.TransactionDone}

func (h *history) ids() []bankfeed.AccountID {
	ids := make([]bankfeed.AccountID, len(h.accounts))
	for i, a := range h.accounts {
		ids[i] = a.ID
	}
	return ids
}

func (s *Service) account(tenant bankfeed.TenantID, a bankfeed.Account) *account {
	x := &account{Account: a, ref: finapi.ReportAccount{
		AccountID: s.Installation.UUID(bankfeed.KindAccount, tenant, int64(a.ID)).String(), DataSourceID: s.Installation.UUID(bankfeed.KindConnection, tenant, int64(a.Connection)).String(),
		Name: cmp.Or(a.Name, a.Product), IBAN: a.ShownIBAN(), Type: accountTypes[a.Type], Currency: a.Currency}}
	x.booked, x.available = s.standingOf(pick(&a, bookedTypes)), s.standingOf(pick(&a, availableTypes))
	if f := fold(a.OwnerName); strings.Count(f, " ") >= 3 {
		x.holder = f
	}
	return x
}

// accountTypes are finAPI's words.
var accountTypes = map[bankfeed.AccountType]string{bankfeed.AccountCurrent: "CHECKING", bankfeed.AccountSavings: "SAVINGS",
	bankfeed.AccountCard: "CREDIT_CARD", bankfeed.AccountLoan: "LOAN"}

// Types of balances, the best first. expected is booked plus what is pending, so
// it only stands in for a booked one.
var (
	bookedTypes    = []string{"interimBooked", "closingBooked", "openingBooked", "booked", "expected", "information"}
	availableTypes = []string{"interimAvailable", "closingAvailable", "forwardAvailable", "openingAvailable", "available", "expected"}
)

// pick finds the best balance in the account's currency, of equals the newest.
func pick(a *bankfeed.Account, types []string) (best *bankfeed.Balance) {
	rank := len(types)
	for i := range a.Balances {
		b := &a.Balances[i]
		n := slices.Index(types, b.Type)
		if n < 0 || b.Money.Currency != a.Currency || n > rank {
			continue
		}
		if n < rank || b.ReferenceDate > best.ReferenceDate || b.ReferenceDate == best.ReferenceDate && b.FetchedAt.After(best.FetchedAt) {
			best, rank = b, n
		}
	}
	if best == nil && len(a.Balances) == 1 && a.Balances[0].Money.Currency == a.Currency && &types[0] == &bookedTypes[0] {
		best = &a.Balances[0] // the only one, whatever its bank calls it
	}
	return best
}

// each hands on the transactions, newest first. It holds one page in memory.
func (s *Service) each(ctx context.Context, q query, h *history, f func(*entry)) error {
	if len(h.accounts) == 0 {
		return nil
	}
	var e entry
	var sub subject
	filter := bankfeed.TransactionFilter{Accounts: h.ids(), From: h.floor, Limit: pageSize}
	for {
		page, err := s.Store.Transactions(ctx, q.tenant, q.user, filter)
		if err != nil {
			return err
		}
		for i := range page {
			t := &page[i]
			a := h.byID[t.Account]
			if !slices.Contains(counted, t.Status) || a == nil {
				h.ignored++
				continue
			}
			h.entry(&e, &sub, t, a)
			h.count++
			h.from = min(cmp.Or(h.from, e.day), e.day)
			f(&e)
			if h.count == q.limit {
				return nil
			}
		}
		if len(page) < pageSize {
			return nil
		}
		last := &page[len(page)-1]
		filter.Before = bankfeed.TransactionKey{Day: last.Day(), ID: last.ID}
	}
}

// entry labels a transaction.
func (h *history) entry(e *entry, sub *subject, t *bankfeed.Transaction, a *account) {
	*e = entry{Transaction: t, account: a, day: min(t.Day(), h.to), amount: t.Money.Amount}
	e.month = string(e.day[:7])
	ultimate := t.UltimateCreditor
	if e.other = &t.Creditor; e.amount.Sign() > 0 {
		e.other, ultimate = &t.Debtor, t.UltimateDebtor
	}
	h.rules.subjectOf(sub, t, a.Type, *e.other, ultimate)
	if r := h.rules.match(sub); r != nil {
		e.label, e.rule = r.label, r.id
	}
	switch {
	case e.label != nil && e.label.Risk != "":
	case sub.iban != "" && h.own[sub.iban],
		a.holder != "" && fold(e.other.Name) == a.holder,
		e.label != nil && (e.label.Transfer == "own" || e.label.Transfer == "card" && h.hasCard):
		e.transfer = true
		if e.label != nil && e.label.Transfer == "" {
			e.label, e.rule = nil, ""
		}
	}
	h.use(e.category(), e.labelID())
}

func (h *history) use(ids ...string) {
	for _, id := range ids {
		if id != "" {
			h.used[id] = true
		}
	}
}

// basis says what was computed from; it comes last.
func (h *history) basis() finapi.Basis {
	b := finapi.Basis{From: h.from, To: h.to, TransactionCount: h.count, IgnoredCount: h.ignored, Rules: h.rules.Fingerprint, Texts: map[string]finapi.Text{}}
	for id := range h.used {
		b.Texts[id] = finapi.Text(h.rules.text(id))
	}
	return b
}

// full reports whether all days of a month are covered.
func (h *history) full(month string) bool {
	first := bankfeed.Date(month + "-01")
	last := bankfeed.DateOf(first.Time().AddDate(0, 1, -1))
	return h.from != "" && h.from <= first && last <= h.to
}

// months lists the months from the first to the last day that is covered.
func (h *history) months() (list []string) {
	if h.from == "" {
		return nil
	}
	for m := string(h.from[:7]); m <= string(h.to[:7]); {
		list = append(list, m)
		m = string(bankfeed.DateOf(bankfeed.Date(m+"-01").Time().AddDate(0, 1, 0))[:7])
	}
	return list
}
