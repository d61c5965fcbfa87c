package analysis

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// payment is what a series keeps of a transaction.
type payment struct {
	day    bankfeed.Date
	number int // of the day
	amount bankfeed.Amount
	size   int64 // of the amount: what it is compared by
}

func newPayment(day bankfeed.Date, amount bankfeed.Amount) payment {
	return payment{bankfeed.Date(strings.Clone(string(day))), dayNumber(day), amount, size(amount)}
}

func dayNumber(d bankfeed.Date) int { return int(d.Time().Unix() / (24 * 60 * 60)) }

func (p payment) month() string { return string(p.day[:7]) }

// series are the payments from or to one counterpart.
type series struct {
	currency    string
	sign        int
	label       *label // of the newest payment that has one
	category    string
	counterpart string
	iban        string
	creditor    string
	mandate     string
	payments    []payment // newest first
}

func (s *series) total() bankfeed.Amount {
	t := zero
	for _, p := range s.payments {
		t = t.Add(p.amount)
	}
	return t
}

// seriesSet groups transactions by counterpart; transfers between own accounts
// stay out.
type seriesSet map[string]*series

func (set seriesSet) add(e *entry) {
	if e.transfer || e.amount.Sign() == 0 {
		return
	}
	key := seriesKey(e)
	if key == "" {
		return
	}
	s := set[key]
	if s == nil {
		s = &series{currency: e.Money.Currency, sign: e.amount.Sign(), category: e.category(), counterpart: strings.Clone(e.counterpart()),
			creditor: e.CreditorID, mandate: e.MandateID}
		if e.other.Account.Type == bankfeed.IdentIBAN {
			s.iban = e.other.Account.Value
		}
		set[key] = s
	}
	if s.label == nil && e.label != nil {
		s.label, s.category = e.label, e.label.Category
	}
	s.payments = append(s.payments, newPayment(e.day, e.amount))
}

// seriesKey says what belongs together: a mandate, else the other side's account,
// else its name, and what it is about; empty if nothing is known.
func seriesKey(e *entry) string {
	sign := "-"
	if e.amount.Sign() > 0 {
		sign = "+"
	}
	head := e.Money.Currency + sign
	if e.CreditorID != "" && e.MandateID != "" {
		return head + "m" + compact(e.CreditorID) + "|" + compact(e.MandateID)
	}
	head += e.labelID() + "|"
	switch {
	case e.CreditorID != "":
		return head + "c" + compact(e.CreditorID)
	case e.other.Account.Value != "":
		return head + "a" + compact(e.other.Account.Value)
	}
	if name := fold(e.counterpart()); name != "" {
		return head + "n" + name
	}
	if e.label != nil {
		return head + "l"
	}
	return ""
}

// list has the series in an order that does not change, largest first.
func (set seriesSet) list() []*series {
	keys := sorted(set)
	totals := make(map[string]bankfeed.Amount, len(keys))
	for _, k := range keys {
		totals[k] = set[k].total().Abs()
	}
	slices.SortStableFunc(keys, func(a, b string) int { return totals[b].Cmp(totals[a]) })
	out := make([]*series, len(keys))
	for i, k := range keys {
		out[i] = set[k]
	}
	return out
}

// rhythm is how often something recurs.
type rhythm struct {
	name      string
	low, high int // days between two payments
	months    int // the period, in months or in days
	days      int
	perYear   int
	least     int // payments that it takes to see it
	late      int // days after which a payment that did not come means the end
}

var rhythms = []rhythm{
	{"WEEKLY", 5, 9, 0, 7, 52, 4, 10},
	{"BIWEEKLY", 12, 16, 0, 14, 26, 4, 14},
	{"MONTHLY", 24, 37, 1, 0, 12, 3, 20},
	{"BIMONTHLY", 54, 68, 2, 0, 6, 3, 30},
	{"QUARTERLY", 82, 100, 3, 0, 4, 3, 40},
	{"HALF_YEARLY", 170, 195, 6, 0, 2, 2, 45},
	{"YEARLY", 345, 385, 12, 0, 1, 2, 60},
}

func rhythmOf(name string) *rhythm {
	return &rhythms[slices.IndexFunc(rhythms, func(r rhythm) bool { return r.name == name })]
}

// Stability of amounts.
const (
	fixed    = "FIXED"    // all the same
	stable   = "STABLE"   // within 20 % of the median
	variable = "VARIABLE" // three of four within 50 % of it
)

// recurring is a series, or a part of one, that comes in a rhythm.
type recurring struct {
	*series
	payments  []payment // oldest first; those of one day are one
	rhythm    *rhythm
	stability string
	average   bankfeed.Amount
	next      bankfeed.Date
	active    bool
}

func (r *recurring) last() payment { return r.payments[len(r.payments)-1] }

// find looks for a rhythm in a series as a whole, and if there is none, in those
// of its payments that are about the same. to is the last day that is known.
func (s *series) find(to bankfeed.Date) []recurring {
	byDay := slices.Clone(s.payments)
	slices.SortStableFunc(byDay, func(a, b payment) int { return cmp.Compare(a.number, b.number) })
	if r, ok := s.recurs(byDay, to, s.vouched()); ok {
		return []recurring{r}
	}
	byAmount := slices.Clone(byDay)
	slices.SortStableFunc(byAmount, func(a, b payment) int { return cmp.Compare(a.size, b.size) })
	var out []recurring
	for len(byAmount) > 0 {
		n := 1
		for n < len(byAmount) && within(byAmount[n].size, byAmount[0].size, 10) {
			n++
		}
		if n < len(byDay) {
			part := slices.SortedStableFunc(slices.Values(byAmount[:n]), func(a, b payment) int { return cmp.Compare(a.number, b.number) })
			if r, ok := s.recurs(part, to, false); ok {
				out = append(out, r)
			}
		}
		byAmount = byAmount[n:]
	}
	return out
}

// vouched: there is a mandate, or a label that says that it recurs.
func (s *series) vouched() bool {
	return s.mandate != "" || s.label != nil && (s.label.Contract != "" || s.label.Income != "")
}

// recurs judges payments, oldest first.
func (s *series) recurs(list []payment, to bankfeed.Date, vouched bool) (recurring, bool) {
	days := make([]payment, 0, len(list))
	for _, p := range list {
		if n := len(days); n > 0 && days[n-1].day == p.day {
			days[n-1].amount = days[n-1].amount.Add(p.amount)
			days[n-1].size += p.size
		} else {
			days = append(days, p)
		}
	}
	if len(days) < 2 {
		return recurring{}, false
	}
	gaps := make([]int, len(days)-1)
	for i := range gaps {
		gaps[i] = days[i+1].number - days[i].number
	}
	slices.Sort(gaps)
	middle := gaps[(len(gaps)-1)/2]
	for i := range rhythms {
		r := &rhythms[i]
		if middle < r.low || middle > r.high || len(days) < r.least {
			continue
		}
		good := 0
		for _, g := range gaps {
			if g >= r.low && g <= r.high {
				good++
			}
		}
		if good*4 < len(gaps)*3 {
			continue
		}
		x := recurring{series: s, payments: days, rhythm: r}
		x.stability = stability(days)
		switch {
		case x.stability == "", x.stability == variable && !vouched,
			// By chance amounts are alike three times more easily than four.
			x.stability != fixed && !s.vouched() && len(days) < 4,
			// Two payments are a rhythm only if there is another sign of it.
			len(days) == 2 && !s.vouched():
			return recurring{}, false
		}
		total := zero
		for _, p := range days {
			total = total.Add(p.amount)
		}
		x.average = average(total, len(days))
		x.next = r.after(days)
		x.active = to <= x.next.AddDays(r.late)
		return x, true
	}
	return recurring{}, false
}

func stability(days []payment) string {
	sizes := make([]int64, len(days))
	for i, p := range days {
		sizes[i] = p.size
	}
	slices.Sort(sizes)
	m := sizes[(len(sizes)-1)/2]
	near, about := 0, 0
	for _, n := range sizes {
		if within(n, m, 20) {
			near++
		}
		if within(n, m, 50) {
			about++
		}
	}
	switch n := len(sizes); {
	case sizes[0] == sizes[n-1]:
		return fixed
	case near == n:
		return stable
	case about*4 >= n*3:
		return variable
	}
	return ""
}

// after is when the next payment is due: a period after the last one, on the day
// of the month on which most were, so that a weekend moves nothing.
func (r *rhythm) after(days []payment) bankfeed.Date {
	last := days[len(days)-1].day.Time()
	if r.months == 0 {
		return bankfeed.DateOf(last.AddDate(0, 0, r.days))
	}
	count, day := map[int]int{}, 0
	for _, p := range days {
		d := p.day.Time().Day()
		if count[d]++; day == 0 || count[d] >= count[day] {
			day = d
		}
	}
	target := monthDay(last, r.months, last.Day())
	best := monthDay(last, r.months, day)
	for _, n := range []int{r.months - 1, r.months + 1} {
		if t := monthDay(last, n, day); distance(t, target) < distance(best, target) {
			best = t
		}
	}
	return bankfeed.DateOf(best)
}

// monthDay is a day n months after t's month, the last one if it has no such.
func monthDay(t time.Time, n, day int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return first.AddDate(0, 0, min(day, first.AddDate(0, 1, -1).Day())-1)
}

func distance(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

func daysBetween(a, b bankfeed.Date) int { return dayNumber(b) - dayNumber(a) }

// monthly is an amount by the month.
func (r *rhythm) monthly(a bankfeed.Amount) bankfeed.Amount { return scaled(a, r.perYear, 12) }
