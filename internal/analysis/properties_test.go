package analysis

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// anyWorld is a history that nobody thought of.
func anyWorld(t *rapid.T) *world {
	w := newWorld()
	for range rapid.IntRange(1, 3).Draw(t, "accounts") {
		w.account(rapid.SampledFrom([]string{"EUR", "USD"}).Draw(t, "currency"), fmt.Sprintf("%d.%02d", rapid.IntRange(-5000, 5000).Draw(t, "balance"), rapid.IntRange(0, 99).Draw(t, "cents")),
			func(a *bankfeed.Account) {
				a.Type = rapid.SampledFrom([]bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountCard}).Draw(t, "type")
				a.Balances[0].Type = rapid.SampledFrom([]string{"interimBooked", "closingBooked", "expected"}).Draw(t, "balance type")
			})
	}
	names := []string{"REWE", "Werft AG", "Own transfer", "Tipico", "Vermieter", "Anna", "", "Netflix"}
	for range rapid.IntRange(0, 60).Draw(t, "transactions") {
		sign := rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign")
		w.pay(bankfeed.AccountID(rapid.IntRange(1, len(w.accounts)).Draw(t, "account")), today.AddDays(-rapid.IntRange(-2, 400).Draw(t, "age")),
			fmt.Sprintf("%s%d.%0*d", sign, rapid.IntRange(0, 3000).Draw(t, "whole"), 1+rapid.IntRange(1, 2).Draw(t, "scale"), rapid.IntRange(0, 99).Draw(t, "fraction")),
			rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom([]string{"", "Miete", "Gehalt", "Rücklastschrift"}).Draw(t, "purpose"),
			status(rapid.SampledFrom([]bankfeed.TransactionStatus{bankfeed.TransactionBooked, bankfeed.TransactionDone, bankfeed.TransactionPending}).Draw(t, "status")))
	}
	return w
}

// total adds up what is stored, without the code under test.
func (w *world) total(currency string, days int, of func(t bankfeed.Transaction) bool) bankfeed.Amount {
	sum := zero
	for _, t := range w.list {
		if t.Money.Currency == currency && slices.Contains(counted, t.Status) && t.Day() > today.AddDays(-days) && of(t) {
			sum = sum.Add(t.Money.Amount)
		}
	}
	return sum
}

func compute[T any](t *rapid.T, s *Service, kind finapi.ReportType, days int) T {
	r, err := s.compute(context.Background(), query{tenant: tenant, user: user, sources: []bankfeed.ConnectionID{1}, days: days}, kind)
	if err != nil {
		t.Fatal(err)
	}
	return r.(T)
}

func equal(t *rapid.T, want, got bankfeed.Amount, what string) {
	if !want.Equal(got) {
		t.Fatalf("%s: want %s, got %s", what, want, got)
	}
}

// Whatever the history: the parts of a cash flow add up to what is stored.
func TestPartsAddUp(t *testing.T) {
	rules, err := LoadRules("")
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		s := New(Config{Store: w, Rules: rules, Installation: born, Now: fixedNow})
		days := rapid.IntRange(1, 500).Draw(t, "days")
		flow := compute[finapi.CashFlowResult](t, s, finapi.ReportCashFlow, days)
		for _, c := range flow.Currencies {
			all := w.total(c.Currency, days, func(bankfeed.Transaction) bool { return true })
			equal(t, all, c.Net.Amount, "net")
			equal(t, c.Net.Amount, c.Income.Add(c.Spending.Amount).Add(c.Transfers.Amount), "the parts of the flow")
			byCategory, byMonth, count := zero, zero, 0
			for _, k := range c.Categories {
				byLabel, n := zero, 0
				for _, l := range k.Labels {
					byLabel, n = byLabel.Add(l.Amount.Amount), n+l.Count
				}
				equal(t, k.Amount.Amount, byLabel, "labels of "+k.Category)
				byCategory, count = byCategory.Add(k.Amount.Amount), count+k.Count
				if n != k.Count {
					t.Fatalf("count of %s: %d in labels, %d in all", k.Category, n, k.Count)
				}
			}
			equal(t, all, byCategory, "categories")
			for _, m := range c.Months {
				inMonth := zero
				for _, k := range m.Categories {
					inMonth = inMonth.Add(k.Amount.Amount)
				}
				equal(t, m.Net.Amount, inMonth, "categories of "+m.Month)
				byMonth = byMonth.Add(m.Net.Amount)
			}
			equal(t, all, byMonth, "months")
		}
		money := compute[finapi.IncomeSpendingResult](t, s, finapi.ReportIncomeAndSpending, days)
		for _, c := range money.Currencies {
			for _, f := range flow.Currencies {
				if f.Currency == c.Currency {
					equal(t, f.Income.Amount, c.Income.Total.Amount, "income")
					equal(t, f.Spending.Amount, c.Spending.Total.Amount, "spending")
				}
			}
			equal(t, c.Income.Total.Amount, c.Income.Regular.Add(c.Income.Other.Amount), "regular and other income")
			equal(t, c.Spending.Total.Amount, c.Spending.Regular.Add(c.Spending.Other.Amount), "regular and other spending")
			if c.Income.Other.Sign() < 0 || c.Spending.Other.Sign() > 0 {
				t.Fatalf("more is regular than there is: income %s, spending %s", c.Income.Other, c.Spending.Other)
			}
		}
	})
}

// A history ends at the balance of the bank, and begins where its transactions
// take it away.
func TestHistoryEndsAtTheBalance(t *testing.T) {
	rules, err := LoadRules("")
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		s := New(Config{Store: w, Rules: rules, Installation: born, Now: fixedNow})
		r := compute[finapi.BalancesResult](t, s, finapi.ReportBalances, rapid.IntRange(1, 500).Draw(t, "days"))
		for i, a := range r.Accounts {
			equal(t, w.accounts[i].Balances[0].Money.Amount, a.Balance.Amount, "the balance of the bank")
			if a.Statistics == nil {
				continue
			}
			equal(t, a.Balance.Amount, a.Statistics.Closing.Amount, "closing")
			equal(t, a.Balance.Amount, a.History[len(a.History)-1].Balance.Amount, "the last point")
			equal(t, a.History[0].Balance.Amount, a.Statistics.Opening.Amount, "opening")
			days, below := 0, 0
			for j, m := range a.Months {
				days, below = days+m.Days, below+m.DaysBelowZero
				if j > 0 {
					equal(t, a.Months[j-1].Closing.Amount, m.Opening.Amount, "a month begins where the last one ended")
				}
				if m.Minimum.Cmp(m.Average.Amount) > 0 || m.Average.Cmp(m.Maximum.Amount) > 0 {
					t.Fatalf("the average %s is not between %s and %s", m.Average, m.Minimum, m.Maximum)
				}
			}
			if days != a.Statistics.Days || below != a.Statistics.DaysBelowZero {
				t.Fatalf("days: %d of %d, %d of %d", days, a.Statistics.Days, below, a.Statistics.DaysBelowZero)
			}
		}
	})
}

// The set finds what looking for one after the other finds.
func TestWordsFindsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.StringMatching(`[ab]{1,5}( [ab]{1,3})?`)
		var w words
		for range rapid.IntRange(1, 12).Draw(t, "patterns") {
			w.add(rapid.SampledFrom([]string{"", "*"}).Draw(t, "begin") + piece.Draw(t, "pattern") + rapid.SampledFrom([]string{"", "*"}).Draw(t, "end"))
		}
		text := fold(strings.Join(rapid.SliceOfN(rapid.StringMatching(`[ab]{1,6}`), 0, 6).Draw(t, "text"), " "))
		var want []int
		for id, p := range w.texts {
			if strings.Contains(text, p) {
				want = append(want, id)
			}
		}
		if got := w.find(text, nil); !slices.Equal(want, slices.Clone(got)) {
			t.Fatalf("%q in %q: want %v, got %v", w.texts, text, want, got)
		}
	})
}

// big is a history of many transactions, over two years.
func big(n int) *world {
	w := newWorld()
	a := w.account("EUR", "1000.00")
	names := []string{"REWE Markt", "Werft & Söhne AG", "Hausverwaltung Elbblick", "Telenova Mobilfunk", "Café Speicher", "Tipico", "Bäckerei Holm", "Onlinehandel Kunde"}
	for i := range n {
		w.pay(a, today.AddDays(-i*700/n), fmt.Sprintf("-%d.%02d", 1+i%97, i%100), fmt.Sprintf("%s %d", names[i%len(names)], i%500), "Kartenzahlung 4711 Vorgang 0815 Danke für den Einkauf und bis bald")
	}
	return w
}

// A long history is read page by page, and little of it is kept.
func TestBulkMemoryStaysBounded(t *testing.T) {
	backingtest.Bulk(t)
	w := big(100_000)
	s := w.service(t)
	_, err := w.Transactions(context.Background(), tenant, user, bankfeed.TransactionFilter{Limit: 1}) // sorts
	require.NoError(t, err)
	for _, kind := range []finapi.ReportType{finapi.ReportBalances, finapi.ReportCashFlow, finapi.ReportRisk, finapi.ReportContracts} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		h, err := s.read(context.Background(), query{tenant: tenant, user: user, sources: []bankfeed.ConnectionID{1}, days: 800})
		require.NoError(t, err)
		c := collectors[kind]()
		require.NoError(t, s.each(context.Background(), query{tenant: tenant, user: user}, h, c.add))
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.Equal(t, 100_000, h.count)
		kept := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%s keeps %d kB", kind, kept/1024)
		require.Less(t, kept, int64(24<<20), kind)
		runtime.KeepAlive(c)
	}
	require.Equal(t, pageSize, w.largest)
}

func BenchmarkReports(b *testing.B) {
	w := big(100_000)
	s := w.service(b)
	for _, kind := range finapi.ReportTypes {
		b.Run(kind.String(), func(b *testing.B) {
			for b.Loop() {
				_, err := s.compute(context.Background(), query{tenant: tenant, user: user, sources: []bankfeed.ConnectionID{1}, days: 800}, kind)
				require.NoError(b, err)
			}
		})
	}
}
