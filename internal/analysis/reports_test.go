package analysis

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// The expected values of this file are computed by hand.

func stats(s finapi.BalanceStatistics) string {
	return fmt.Sprintf("%s→%s min %s max %s avg %s, %d of %d below", s.Opening, s.Closing, s.Minimum, s.Maximum, s.Average, s.DaysBelowZero, s.Days)
}

func TestBalancesGoBackwardsFromTheBookedOne(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "120.00", func(a *bankfeed.Account) {
		a.Name = "Giro"
		a.Balances = append(a.Balances, bankfeed.Balance{Type: "interimAvailable", Money: bankfeed.Money{Amount: bankfeed.MustAmount("620.00"), Currency: "EUR"}})
	})
	w.account("USD", "5.5")
	w.account("EUR", "") // its bank says nothing
	// 30 before; 03-30: -50 → -20; 03-31: +10 → -10; 04-02: +200 → 190; 04-09: -70 → 120
	w.pay(a, "2026-03-30", "-50.00", "Shop", "")
	w.pay(a, "2026-03-31", "4.00", "Anna", "")
	w.pay(a, "2026-03-31", "6.00", "Ben", "")
	w.pay(a, "2026-04-02", "200.00", "Firma", "")
	w.pay(a, "2026-04-09", "-70.00", "Shop", "")
	w.pay(a, "2026-04-10", "-999.00", "Shop", "", status(bankfeed.TransactionPending))
	r := report[finapi.BalancesResult](t, w, finapi.ReportBalances, 90)
	require.Equal(t, bankfeed.Date("2026-03-30"), r.From)
	require.Equal(t, today, r.To)
	require.Equal(t, 5, r.TransactionCount)
	require.Equal(t, 1, r.IgnoredCount)
	require.Len(t, r.Accounts, 3)
	x := r.Accounts[0]
	require.Equal(t, "Giro", x.Name)
	require.Equal(t, "120.00", x.Balance.String())
	require.Equal(t, "620.00", x.Available.String())
	var points []string
	for _, p := range x.History {
		points = append(points, string(p.Date)+" "+p.Balance.String())
	}
	require.Equal(t, []string{"2026-03-29 30.00", "2026-03-30 -20.00", "2026-03-31 -10.00", "2026-04-02 190.00", "2026-04-09 120.00"}, points)
	// Days: -20, -10, -10 (04-01), 190 × 7 (04-02 … 04-08), 120 × 2 = 1530 / 12 days.
	require.Equal(t, "30.00→120.00 min -20.00 max 190.00 avg 127.50, 3 of 12 below", stats(*x.Statistics))
	require.Len(t, x.Months, 2)
	require.Equal(t, "2026-03", x.Months[0].Month)
	require.Equal(t, "30.00→-10.00 min -20.00 max -10.00 avg -15.00, 2 of 2 below", stats(x.Months[0].BalanceStatistics))
	// (-10 + 1330 + 240) / 10
	require.Equal(t, "-10.00→120.00 min -10.00 max 190.00 avg 156.00, 1 of 10 below", stats(x.Months[1].BalanceStatistics))
	require.Equal(t, "5.5", r.Accounts[1].Balance.String(), "the bank's own scale")
	require.Nil(t, r.Accounts[1].Statistics)
	require.Nil(t, r.Accounts[2].Balance)
	require.Equal(t, []finapi.CurrencyTotal{{Currency: "EUR", Amount: num(bankfeed.MustAmount("120.00"))}, {Currency: "USD", Amount: num(bankfeed.MustAmount("5.5"))}}, r.Totals)

	// A shorter report covers fewer days of the same history.
	r = report[finapi.BalancesResult](t, w, finapi.ReportBalances, 10)
	require.Equal(t, "2026-04-01 -10.00", string(r.Accounts[0].History[0].Date)+" "+r.Accounts[0].History[0].Balance.String())
}

func TestClosingBalanceIsOfItsDay(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "100.00", func(a *bankfeed.Account) {
		a.Balances[0].Type, a.Balances[0].ReferenceDate = "closingBooked", "2026-04-09"
		a.Balances = append(a.Balances, bankfeed.Balance{Type: "closingBooked", ReferenceDate: "2026-04-08", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1.00"), Currency: "EUR"}})
	})
	w.pay(a, "2026-04-09", "40.00", "A", "")
	w.pay(a, "2026-04-10", "-30.00", "B", "")
	x := report[finapi.BalancesResult](t, w, finapi.ReportBalances, 90).Accounts[0]
	require.Equal(t, "70.00", x.Balance.String(), "what was booked today comes on top")
	require.Equal(t, today, x.BalanceDate, "and the balance is of today then")
	require.Equal(t, "60.00→70.00 min 70.00 max 100.00 avg 85.00, 0 of 2 below", stats(*x.Statistics))
}

// An opening balance is of the beginning of its day, and a balance that is older
// than what the report looks at is caught up with all the same.
func TestBalancesOfOtherDaysAreCaughtUp(t *testing.T) {
	of := func(kind string, day bankfeed.Date) func(*bankfeed.Account) {
		return func(a *bankfeed.Account) { a.Balances[0].Type, a.Balances[0].ReferenceDate = kind, day }
	}
	w := newWorld()
	a := w.account("EUR", "100.00", of("openingBooked", today))
	w.pay(a, today.AddDays(-1), "-5.00", "A", "")
	w.pay(a, today, "-30.00", "B", "")
	b := w.account("EUR", "1000.00", of("closingBooked", "2026-01-31"))
	w.pay(b, "2026-01-31", "-1.00", "C", "")
	for i := range 2 * pageSize {
		w.pay(b, bankfeed.Date("2026-02-01").AddDays(i%28), "-0.25", "C", "")
	}
	w.pay(b, "2026-02-03", "7.00", "C", "", func(t *bankfeed.Transaction) { t.Money.Currency = "USD" })
	w.pay(b, "2026-02-03", "-7.00", "C", "", status(bankfeed.TransactionPending))
	r := report[finapi.BalancesResult](t, w, finapi.ReportBalances, 10)
	require.Equal(t, "70.00", r.Accounts[0].Balance.String())
	require.Equal(t, "2026-04-08 105.00", string(r.Accounts[0].History[0].Date)+" "+r.Accounts[0].History[0].Balance.String())
	require.Equal(t, "500.00", r.Accounts[1].Balance.String())
}

// A balance without a day is of the moment in which it was given, and so is one
// that changes within the day: what is booked on later days comes on top.
func TestBalancesOfAMomentAreCaughtUp(t *testing.T) {
	given := func(kind string, day bankfeed.Date) func(*bankfeed.Account) {
		return func(a *bankfeed.Account) {
			a.Status = bankfeed.AccountImported
			a.Balances[0].Type, a.Balances[0].ReferenceDate, a.Balances[0].FetchedAt = kind, day, now.AddDate(0, 0, -9) // 04-01
		}
	}
	w := newWorld()
	a := w.account("EUR", "1000.00", given("closingBooked", ""))
	b := w.account("EUR", "1000.00", given("interimBooked", "2026-03-31"))
	for _, x := range []bankfeed.AccountID{a, b} {
		w.pay(x, "2026-03-31", "-1.00", "Shop", "")
		w.pay(x, "2026-04-01", "-20.00", "Shop", "")
		w.pay(x, "2026-04-09", "-300.00", "Shop", "")
	}
	for _, x := range report[finapi.BalancesResult](t, w, finapi.ReportBalances, 90).Accounts {
		require.Equal(t, "700.00 2026-04-09", x.Balance.String()+" "+string(x.BalanceDate))
		require.Equal(t, "1021.00→700.00 min 700.00 max 1020.00 avg 972.00, 0 of 10 below", stats(*x.Statistics))
	}
	check, err := w.service(t).CheckBalances(t.Context(), tenant, user, sources, bankfeed.Money{Amount: bankfeed.MustAmount("700.01"), Currency: "EUR"})
	require.NoError(t, err)
	require.Equal(t, "NOT_COVERED 2026-04-09", check.Result+" "+string(check.Accounts[0].BalanceDate))

	// What was available at that moment is less by the same; what was expected had
	// what was under way in it, so nobody knows.
	w.accounts[1].Balances = append(w.accounts[1].Balances, bankfeed.Balance{Type: "interimAvailable", FetchedAt: now.AddDate(0, 0, -9),
		Money: bankfeed.Money{Amount: bankfeed.MustAmount("1500.00"), Currency: "EUR"}})
	w.accounts[0].Balances[0].Type = "expected"
	check, err = w.service(t).CheckBalances(t.Context(), tenant, user, sources, bankfeed.Money{Amount: bankfeed.MustAmount("1100"), Currency: "EUR"})
	require.NoError(t, err)
	require.Equal(t, "COVERED_BY_OVERDRAFT 700.00 1200.00 500.00", check.Result+" "+check.Accounts[0].Balance.String()+" "+check.Accounts[0].Available.String()+" "+check.Accounts[0].Overdraft.String())
	require.Equal(t, "NOT_COVERED 1000.00", check.Accounts[1].Result+" "+check.Accounts[1].Balance.String())
}

// What was handed in is known up to its own last day, not to that of the import.
func TestHandedInDataEndsWhereItEnds(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "10.00", func(a *bankfeed.Account) {
		a.Status, a.Balances[0].Type, a.Balances[0].ReferenceDate = bankfeed.AccountImported, "closingBooked", "2025-12-31"
	})
	w.every(a, []bankfeed.Date{"2025-09-05", "2025-10-06", "2025-11-05", "2025-12-05"}, "-9.99", "Netflix", "")
	r := report[finapi.ContractsResult](t, w, finapi.ReportContracts, 365)
	require.Equal(t, bankfeed.Date("2025-12-31"), r.To)
	require.True(t, r.ContractsData[0].Active)
	require.Equal(t, bankfeed.Date("2026-01-05"), r.ContractsData[0].NextDate)
	w.pay(a, "2026-01-02", "-1.00", "Later", "")
	require.Equal(t, bankfeed.Date("2026-01-02"), report[finapi.BalancesResult](t, w, finapi.ReportBalances, 365).To)
	w.pay(a, "2027-01-02", "-1.00", "Ahead", "")
	require.Equal(t, today, report[finapi.BalancesResult](t, w, finapi.ReportBalances, 365).To, "nothing is known of tomorrow")
}

func flowText(f finapi.Flow) string {
	return fmt.Sprintf("in %s out %s own %s net %s", f.Income, f.Spending, f.Transfers, f.Net)
}

func TestCashFlowByMonthAndCategory(t *testing.T) {
	w := newWorld()
	giro := w.account("EUR", "0", func(a *bankfeed.Account) {
		a.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}
	})
	saving := w.account("EUR", "0", func(a *bankfeed.Account) { a.Type = bankfeed.AccountSavings })
	dollar := w.account("USD", "0")
	w.pay(giro, "2026-02-10", "-20.00", "REWE Markt GmbH", "Einkauf")
	w.pay(giro, "2026-03-01", "-800.00", "Max Muster", "Miete März Whg. 3")
	w.pay(giro, "2026-03-27", "2500.00", "Werft AG", "Gehalt 03/2026")
	w.pay(giro, "2026-03-28", "-100.00", "Sparkonto", "Übertrag", iban("DE02120300000000202051"))
	w.pay(saving, "2026-03-28", "100.00", "Giro", "Übertrag", iban("DE89370400440532013000"))
	w.pay(giro, "2026-03-29", "-12.34", "Unbekannt", "")
	w.pay(giro, "2026-04-05", "-30.00", "LIDL DIENSTLEISTUNG", "Kartenzahlung")
	w.pay(dollar, "2026-03-05", "-9.99", "Somebody", "")
	r := report[finapi.CashFlowResult](t, w, finapi.ReportCashFlow, 365)
	require.Len(t, r.Currencies, 2, "currencies are never mixed")
	c := r.Currencies[0]
	require.Equal(t, "EUR", c.Currency)
	require.Equal(t, "in 2500.00 out -962.34 own 100.00 net 1637.66", flowText(c.Flow), "one side of the transfer names the other account")
	var months []string
	for _, m := range c.Months {
		months = append(months, fmt.Sprintf("%s %v %s", m.Month, m.Full, flowText(m.Flow)))
	}
	require.Equal(t, []string{
		"2026-02 false in 0.00 out -20.00 own 0.00 net -20.00",
		"2026-03 true in 2500.00 out -912.34 own 100.00 net 1687.66",
		"2026-04 false in 0.00 out -30.00 own 0.00 net -30.00",
	}, months)
	require.Equal(t, 1, c.FullMonths)
	require.Equal(t, "in 2500.00 out -912.34 own 100.00 net 1687.66", flowText(*c.MonthlyAverage))
	got := map[string]string{}
	for _, k := range c.Categories {
		got[k.Category] = fmt.Sprintf("%s ×%d", k.Amount, k.Count)
	}
	require.Equal(t, map[string]string{"INCOME": "2500.00 ×1", "HOUSING": "-800.00 ×1", "LIVING": "-50.00 ×2", "OTHER_SPENDING": "-112.34 ×2", "TRANSFERS": "100.00 ×1"}, got)
	require.Equal(t, finapi.Text{EN: "Housing", DE: "Wohnen"}, r.Texts["HOUSING"])
	require.Equal(t, finapi.Text{EN: "Rent", DE: "Miete"}, r.Texts["RENT"])
	require.Equal(t, "in 0.00 out -9.99 own 0.00 net -9.99", flowText(r.Currencies[1].Flow))
}

// The same holder's name is a transfer too, and a card bill is one only if the
// card's own account is there.
func TestOwnTransfers(t *testing.T) {
	holder := func(a *bankfeed.Account) { a.OwnerName = "Dr. Anna Müller" }
	w := newWorld()
	a := w.account("EUR", "0", holder)
	w.pay(a, "2026-04-01", "-300.00", "DR ANNA MUELLER", "irgendwas")
	w.pay(a, "2026-04-02", "-200.00", "Bank", "Kreditkartenabrechnung 03/26")
	w.pay(a, "2026-04-03", "-5.00", "Anna Meier", "")
	require.Equal(t, "in 0.00 out -205.00 own -300.00 net -505.00", flowText(report[finapi.CashFlowResult](t, w, finapi.ReportCashFlow, 90).Currencies[0].Flow))
	w.account("EUR", "0", func(a *bankfeed.Account) { a.Type = bankfeed.AccountCard })
	require.Equal(t, "in 0.00 out -5.00 own -500.00 net -505.00", flowText(report[finapi.CashFlowResult](t, w, finapi.ReportCashFlow, 90).Currencies[0].Flow))
}

func contractText(k finapi.Contract) string {
	return fmt.Sprintf("%s %s %s %s %s ×%d next %s active %v new %v monthly %s", k.Counterpart, k.ContractType, k.Rhythm, k.Stability, k.Amount, k.Count, k.NextDate, k.Active, k.NewContract, k.MonthlyAmount)
}

func contractsOf(r finapi.ContractsResult) (list []string) {
	for _, k := range r.ContractsData {
		list = append(list, contractText(k))
	}
	return list
}

func TestContracts(t *testing.T) {
	monthly := []bankfeed.Date{"2025-11-03", "2025-12-01", "2026-01-02", "2026-02-02", "2026-03-02", "2026-04-01"}
	for name, c := range map[string]struct {
		build func(w *world, a bankfeed.AccountID)
		want  []string
	}{
		"rent moved by weekends": {func(w *world, a bankfeed.AccountID) {
			w.every(a, monthly, "-950.00", "Hausverwaltung Elbblick", "Miete")
		}, []string{"Hausverwaltung Elbblick RENT MONTHLY FIXED -950.00 ×6 next 2026-05-02 active true new false monthly -950.00"}},
		"a mandate with varying amounts": {func(w *world, a bankfeed.AccountID) {
			for i, d := range monthly {
				w.pay(a, d, []string{"-40.00", "-45.50", "-39.99", "-70.00", "-41.00", "-42.00"}[i], "Telenova Mobilfunk", "Rechnung", mandate("DE98ZZZ09999999999", "M1"))
			}
		}, []string{"Telenova Mobilfunk TELECOMMUNICATION MONTHLY VARIABLE -42.00 ×6 next 2026-05-02 active true new false monthly -46.42"}},
		"quarterly insurance that has ended": {func(w *world, a bankfeed.AccountID) {
			w.every(a, []bankfeed.Date{"2025-01-15", "2025-04-15", "2025-07-15"}, "-134.50", "Hanse Versicherung AG", "Haftpflicht und Hausrat", mandate("DE11ZZZ1", "H"))
		}, []string{"Hanse Versicherung AG LIABILITYINSURANCE QUARTERLY FIXED -134.50 ×3 next  active false new false monthly -44.83"}},
		"yearly with a mandate": {func(w *world, a bankfeed.AccountID) {
			w.pay(a, "2025-03-01", "-89.00", "ADAC e.V.", "Mitgliedsbeitrag", mandate("DE22ZZZ2", "A"))
			w.pay(a, "2026-03-02", "-94.00", "ADAC e.V.", "Mitgliedsbeitrag", mandate("DE22ZZZ2", "A"))
		}, []string{"ADAC e.V. MEMBERSHIP YEARLY STABLE -94.00 ×2 next 2027-03-02 active true new false monthly -7.63"}},
		"weekly": {func(w *world, a bankfeed.AccountID) {
			w.every(a, []bankfeed.Date{"2026-03-16", "2026-03-23", "2026-03-30", "2026-04-06"}, "-15.00", "Gemüsekiste", "")
		}, []string{"Gemüsekiste OTHER WEEKLY FIXED -15.00 ×4 next 2026-04-13 active true new true monthly -65.00"}},
		"rent and garage to one landlord": {func(w *world, a bankfeed.AccountID) {
			for _, d := range monthly {
				w.pay(a, d, "-800.00", "Herr Vogt", "", iban("DE1"))
				w.pay(a, d.AddDays(-14), "-60.00", "Herr Vogt", "", iban("DE1"))
			}
		}, []string{
			"Herr Vogt OTHER MONTHLY FIXED -800.00 ×6 next 2026-05-02 active true new false monthly -800.00",
			"Herr Vogt OTHER MONTHLY FIXED -60.00 ×6 next 2026-04-19 active true new false monthly -60.00"}},
		"two mandates of one creditor": {func(w *world, a bankfeed.AccountID) {
			w.every(a, monthly, "-10.00", "Versicherung AG", "KFZ", mandate("DE1", "A"))
			w.every(a, monthly, "-20.00", "Versicherung AG", "Leben", mandate("DE1", "B"))
		}, []string{
			"Versicherung AG INSURANCE MONTHLY FIXED -20.00 ×6 next 2026-05-02 active true new false monthly -20.00",
			"Versicherung AG INSURANCE MONTHLY FIXED -10.00 ×6 next 2026-05-02 active true new false monthly -10.00"}},
		"one month is missing": {func(w *world, a bankfeed.AccountID) {
			w.every(a, []bankfeed.Date{"2025-10-05", "2025-11-05", "2026-01-05", "2026-02-05", "2026-03-05", "2026-04-07"}, "-9.99", "Netflix", "")
		}, []string{"Netflix STREAMING MONTHLY FIXED -9.99 ×6 next 2026-05-05 active true new false monthly -9.99"}},
		"shopping is no contract": {func(w *world, a bankfeed.AccountID) {
			for i, d := range []bankfeed.Date{"2026-01-02", "2026-01-09", "2026-01-11", "2026-02-03", "2026-02-10", "2026-02-28", "2026-03-03", "2026-03-20", "2026-04-01"} {
				w.pay(a, d, fmt.Sprintf("-%d.%02d", 11+i*i*3, i*7), "REWE", "Kartenzahlung")
			}
		}, nil},
		"twice alike is chance": {func(w *world, a bankfeed.AccountID) {
			w.every(a, []bankfeed.Date{"2026-02-05", "2026-03-05"}, "-50.00", "Schuhhaus", "")
		}, nil},
		"own transfers are none": {func(w *world, a bankfeed.AccountID) { w.every(a, monthly, "-200.00", "Own transfer", "Sparplan") }, nil},
		"income is none":         {func(w *world, a bankfeed.AccountID) { w.every(a, monthly, "2000.00", "Werft AG", "Gehalt") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			a := w.account("EUR", "0")
			w.pay(a, "2025-01-02", "-1.00", "Anfang", "")
			c.build(w, a)
			require.Equal(t, c.want, contractsOf(report[finapi.ContractsResult](t, w, finapi.ReportContracts, 730)))
		})
	}
}

func TestInsuranceReportIsAPart(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "0")
	days := []bankfeed.Date{"2026-01-05", "2026-02-05", "2026-03-05", "2026-04-05"}
	w.every(a, days, "-50.00", "Allianz", "Beitrag")
	w.every(a, days, "-500.00", "Vermieter", "Miete")
	r := report[finapi.ContractsResult](t, w, finapi.ReportInsurance, 365)
	require.Len(t, r.ContractsData, 1)
	require.Equal(t, "INSURANCE", r.ContractsData[0].ContractType)
	require.Equal(t, days, r.ContractsData[0].Dates)
	require.Equal(t, []finapi.ContractsPerPeriod{{Currency: "EUR", ContractType: "INSURANCE", Amount: num(bankfeed.MustAmount("-50.00")), Count: 1}}, r.MonthlyCosts)
}

func TestIncomeAndSpending(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "0")
	// Full months: January to March.
	w.pay(a, "2026-01-01", "-700.00", "Vermieter", "Miete")
	for _, d := range []bankfeed.Date{"2026-02-02", "2026-03-02", "2026-04-01"} {
		w.pay(a, d, "-700.00", "Vermieter", "Miete")
	}
	w.every(a, []bankfeed.Date{"2026-01-30", "2026-02-27", "2026-03-30"}, "2000.00", "Werft & Söhne AG", "Lohn und Gehalt", code("PMNT-RCDT-SALA", "", ""))
	w.every(a, []bankfeed.Date{"2026-01-05", "2026-02-05", "2026-03-05", "2026-04-07"}, "250.00", "Familienkasse", "Kindergeld")
	w.pay(a, "2026-02-14", "60.00", "Oma", "Geburtstag")
	w.pay(a, "2026-02-20", "-90.00", "Elektro Brandt", "")
	r := report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncomeAndSpending, 365)
	require.Len(t, r.Currencies, 1)
	c := r.Currencies[0]
	require.Equal(t, 3, c.FullMonths)
	in := c.Income
	require.Equal(t, "7060.00 7000.00 60.00", in.Total.String()+" "+in.Regular.String()+" "+in.Other.String())
	require.Equal(t, "2270.00", in.MonthlyAverage.String(), "(2250 + 2310 + 2250) / 3")
	require.Equal(t, "Werft & Söhne AG", in.Salary.Counterpart)
	require.Equal(t, "2000.00 MONTHLY 2026-04-30", in.Salary.LastAmount.String()+" "+in.Salary.Rhythm+" "+string(in.Salary.NextDate))
	require.Equal(t, "BENEFIT CHILD_BENEFIT", in.Sources[1].Kind+" "+in.Sources[1].Label)
	require.Equal(t, incomeOther, in.Sources[2].Kind)
	out := c.Spending
	require.Equal(t, "-2890.00 -2800.00 -90.00", out.Total.String()+" "+out.Regular.String()+" "+out.Other.String())
	require.Equal(t, "-730.00", out.MonthlyAverage.String())
	require.Equal(t, "HOUSING -2800.00 ×4, LIVING -90.00 ×1", fmt.Sprintf("%s %s ×%d, %s %s ×%d", out.Categories[0].Category, out.Categories[0].Amount, out.Categories[0].Count,
		out.Categories[1].Category, out.Categories[1].Amount, out.Categories[1].Count))
	require.True(t, out.Recipients[0].Regular)
	require.False(t, out.Recipients[1].Regular)
	require.Equal(t, []finapi.MonthAmount{{Month: "2026-02", Full: true, Total: num(bankfeed.MustAmount("2310.00")), Regular: num(bankfeed.MustAmount("2250.00")), Other: num(bankfeed.MustAmount("60.00"))}}, in.Months[1:2])

	only := report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncome, 365).Currencies[0]
	require.Nil(t, only.Spending)
	require.Equal(t, in, only.Income)
	living := report[finapi.IncomeSpendingResult](t, w, finapi.ReportRentAndLiving, 365).Currencies[0]
	require.Nil(t, living.Income)
	require.Equal(t, "-2890.00", living.Spending.Total.String())
}

// A payer that is a company, a monthly rhythm and a size are a salary even if no
// word says so; a friend's allowance is not.
func TestSalaryWithoutAWord(t *testing.T) {
	days := []bankfeed.Date{"2026-01-30", "2026-02-27", "2026-03-30"}
	w := newWorld()
	a := w.account("EUR", "0")
	w.every(a, days, "1850.00", "Bäckerei Holm GmbH & Co. KG", "03/26 PN 4711")
	w.every(a, days, "3000.00", "Tante Erna", "für dich")
	in := report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncome, 365).Currencies[0].Income
	require.Equal(t, "Bäckerei Holm GmbH & Co. KG", in.Salary.Counterpart)
	require.Equal(t, "Tante Erna REGULAR", in.Sources[0].Counterpart+" "+in.Sources[0].Kind)
}

// The salary is that of today's employer, although the former one paid more in all
// and two payments are no rhythm yet; of two at the same time it is the larger.
func TestSalaryAfterAChangeOfJob(t *testing.T) {
	salary := func(first, second []bankfeed.Date) string {
		w := newWorld()
		a := w.account("EUR", "0")
		w.every(a, first, "3000.00", "Alt GmbH", "Gehalt")
		w.every(a, second, "2500.00", "Neu AG", "Gehalt")
		return report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncome, 365).Currencies[0].Income.Salary.Counterpart
	}
	ended := []bankfeed.Date{"2025-10-01", "2025-11-03", "2025-12-01", "2026-01-02"}
	require.Equal(t, "Neu AG", salary(ended, []bankfeed.Date{"2026-03-02", "2026-04-01"}))
	require.Equal(t, "Alt GmbH", salary(ended, []bankfeed.Date{"2025-12-15", "2026-01-15"}))
	require.Equal(t, "Alt GmbH", salary([]bankfeed.Date{"2026-01-02", "2026-02-02", "2026-03-02", "2026-04-01"}, []bankfeed.Date{"2026-04-08"}))
}

// A raise makes two series of one payer: what the source says is of the one that
// goes on, not of the one that has ended. Of two that go on it is of the larger.
func TestSalaryAfterARaise(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "0")
	w.every(a, []bankfeed.Date{"2025-08-01", "2025-09-01", "2025-10-01", "2025-11-03"}, "2000.00", "Holm GmbH", "PN 4711")
	w.every(a, []bankfeed.Date{"2025-12-01", "2026-01-02", "2026-02-02", "2026-03-02", "2026-04-01"}, "3000.00", "Holm GmbH", "PN 4711")
	in := report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncome, 365).Currencies[0].Income
	require.Equal(t, "23000.00", in.Regular.String())
	require.NotNil(t, in.Salary)
	require.Equal(t, "MONTHLY true 3000.00 2026-04-01 2026-05-02",
		fmt.Sprintf("%s %v %s %s %s", in.Salary.Rhythm, in.Salary.Active, in.Salary.LastAmount, in.Salary.LastDate, in.Salary.NextDate))

	w = newWorld()
	a = w.account("EUR", "0")
	w.every(a, []bankfeed.Date{"2025-12-30", "2026-01-30", "2026-02-27", "2026-03-30"}, "2500.00", "Holm GmbH", "PN 4711")
	w.every(a, []bankfeed.Date{"2025-12-15", "2026-01-15", "2026-02-16", "2026-03-16"}, "40.00", "Holm GmbH", "PN 4711")
	in = report[finapi.IncomeSpendingResult](t, w, finapi.ReportIncome, 365).Currencies[0].Income
	require.NotNil(t, in.Salary)
	require.Equal(t, "MONTHLY true", fmt.Sprintf("%s %v", in.Salary.Rhythm, in.Salary.Active))
}

func TestRiskIndicators(t *testing.T) {
	w := newWorld()
	a, usd := w.account("EUR", "0"), w.account("USD", "0")
	w.pay(a, "2026-01-05", "-89.00", "Telenova", "Rechnung")
	back := w.pay(a, "2026-01-09", "89.00", "Telenova", "SEPA Rücklastschrift mangels Deckung")
	fee := w.pay(a, "2026-01-09", "-4.50", "Sparkasse", "Rücklastschriftgebühr")
	coded := w.pay(a, "2026-02-01", "20.00", "X", "", code("PMNT-RDDT-UPDD", "", ""))
	gvc := w.pay(a, "2026-02-02", "30.00", "X", "", code("", "", "NDDT+109+0931"))
	bet := w.pay(a, "2026-03-01", "-50.00", "Tipico Co. Ltd.", "")
	win := w.pay(usd, "2026-03-02", "10.00", "PokerStars", "payout")
	lotto := w.pay(a, "2026-03-03", "-12.00", "WestLotto", "Spielschein")
	w.pay(a, "2026-03-04", "-75.00", "EOS Deutscher Inkasso-Dienst GmbH", "Az 123")
	w.pay(a, "2026-03-05", "-300.00", "Amtsgericht", "Pfändungs- und Überweisungsbeschluss")
	w.pay(a, "2026-03-06", "-20.00", "Lotte Meier", "Kuchen")
	w.pay(a, "2026-03-07", "-5.00", "Tipico", "", status(bankfeed.TransactionPending))
	r := report[finapi.RiskResult](t, w, finapi.ReportRisk, 365)
	got := map[string]string{}
	for _, i := range r.Indicators {
		text := fmt.Sprintf("×%d %s…%s", i.Count, i.FirstDate, i.LastDate)
		for _, s := range i.Sums {
			text += fmt.Sprintf(" %s +%s %s", s.Currency, s.Credits, s.Debits)
		}
		for _, x := range i.Transactions {
			text += " #" + x.TransactionID + ":" + x.Rule
		}
		got[i.Type] = text
	}
	require.Equal(t, map[string]string{
		"CHARGEBACKS":     fmt.Sprintf("×4 2026-01-09…2026-02-02 EUR +139.00 -4.50 #%d:chargeback-gvc #%d:chargeback-codes #%d:chargeback-fee #%d:chargeback-words", gvc, coded, fee, back),
		"DEBT_COLLECTION": "×1 2026-03-04…2026-03-04 EUR +0.00 -75.00 #9:debt-collection-names",
		"GAMBLING":        fmt.Sprintf("×3 2026-03-01…2026-03-03 EUR +0.00 -62.00 USD +10.00 0.00 #%d:lottery-names #%d:gambling-names #%d:gambling-names", lotto, win, bet),
		"SEIZURE":         "×1 2026-03-05…2026-03-05 EUR +0.00 -300.00 #10:seizure-words",
	}, got)
	one := report[finapi.RiskResult](t, w, finapi.ReportSeizure, 365)
	require.Len(t, one.Indicators, 1)
	require.Equal(t, 1, one.Indicators[0].Count)
	none := report[finapi.RiskResult](t, newWorld(), finapi.ReportGambling, 365)
	require.Equal(t, 0, none.Indicators[0].Count, "that nothing was found is a result")
	require.Empty(t, none.From)
	require.Equal(t, today, none.To)
}

func TestRiskListsAreBounded(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "0")
	for i := range maxListed + 3 {
		w.pay(a, today.AddDays(-i%300), "-1.00", "Tipico", "")
	}
	i := report[finapi.RiskResult](t, w, finapi.ReportGambling, 365).Indicators[0]
	require.Equal(t, maxListed+3, i.Count)
	require.Len(t, i.Transactions, maxListed)
	require.Equal(t, 3, i.More)
	require.Equal(t, fmt.Sprintf("-%d.00", maxListed+3), i.Sums[0].Debits.String(), "the sum is of all")
}
