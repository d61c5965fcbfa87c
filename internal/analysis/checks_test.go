package analysis

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

var sources = []bankfeed.ConnectionID{1}

func balance(kind, amount, currency string) bankfeed.Balance {
	return bankfeed.Balance{Type: kind, Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: currency}}
}

func TestBalancesCheck(t *testing.T) {
	current := func(balances ...bankfeed.Balance) func(w *world) {
		return func(w *world) { w.account("EUR", "", func(a *bankfeed.Account) { a.Balances = balances }) }
	}
	for name, c := range map[string]struct {
		build  func(w *world)
		amount string
		want   string
	}{
		"own money":              {current(balance("interimBooked", "100.00", "EUR"), balance("interimAvailable", "600.00", "EUR")), "100.00", "COVERED payable true overdraft false short 0.00"},
		"one cent of overdraft":  {current(balance("interimBooked", "100.00", "EUR"), balance("interimAvailable", "600.00", "EUR")), "100.01", "COVERED_BY_OVERDRAFT payable true overdraft true short 0.00"},
		"all of the overdraft":   {current(balance("interimBooked", "100.00", "EUR"), balance("interimAvailable", "600.00", "EUR")), "600", "COVERED_BY_OVERDRAFT payable true overdraft true short 0.00"},
		"beyond the overdraft":   {current(balance("interimBooked", "100.00", "EUR"), balance("interimAvailable", "600.00", "EUR")), "600.01", "NOT_COVERED payable false overdraft false short 0.01"},
		"held back":              {current(balance("interimBooked", "100.00", "EUR"), balance("interimAvailable", "40.00", "EUR")), "60.00", "NOT_COVERED payable false overdraft false short 20.00"},
		"no word of overdraft":   {current(balance("closingBooked", "100.00", "EUR")), "100.01", "NOT_COVERED payable false overdraft false short 0.01"},
		"in debt":                {current(balance("closingBooked", "-100.00", "EUR"), balance("interimAvailable", "400.00", "EUR")), "1", "COVERED_BY_OVERDRAFT payable true overdraft true short 0.00"},
		"only what is available": {current(balance("interimAvailable", "50.00", "EUR")), "50", "COVERED payable true overdraft false short 0.00"},
		"another currency":       {current(balance("interimBooked", "100.00", "USD")), "1", "UNKNOWN payable false overdraft false short 0.00"},
		"no balance":             {current(), "1", "UNKNOWN payable false overdraft false short 0.00"},
		"no account":             {func(*world) {}, "1", "UNKNOWN payable false overdraft false short -"},
		"savings do not pay": {func(w *world) {
			w.account("EUR", "9000", func(a *bankfeed.Account) { a.Type = bankfeed.AccountSavings })
			w.account("EUR", "10.00")
		}, "20.00", "NOT_COVERED payable false overdraft false short 10.00"},
		"from one account, the best": {func(w *world) { w.account("EUR", "60.00"); w.account("EUR", "70.00"); w.account("EUR", "") }, "100.00", "NOT_COVERED payable false overdraft false short 30.00"},
		"booked since the closing balance": {func(w *world) {
			a := w.account("EUR", "1000.00", func(a *bankfeed.Account) {
				a.Balances[0].Type, a.Balances[0].ReferenceDate = "closingBooked", today.AddDays(-400)
			})
			w.pay(a, today.AddDays(-400), "-5.00", "Shop", "")
			w.pay(a, today.AddDays(-399), "-900.00", "Shop", "")
		}, "100.01", "NOT_COVERED payable false overdraft false short 0.01"},
		"booked since, and an overdraft": {func(w *world) {
			a := w.account("EUR", "1000.00", func(a *bankfeed.Account) {
				a.Balances[0].Type, a.Balances[0].ReferenceDate = "closingBooked", today.AddDays(-1)
				a.Balances = append(a.Balances, balance("interimAvailable", "600.00", "EUR"))
			})
			w.pay(a, today, "-900.00", "Shop", "")
		}, "500.00", "COVERED_BY_OVERDRAFT payable true overdraft true short 0.00"},
		"what is expected has what is under way": {func(w *world) {
			a := w.account("EUR", "", func(a *bankfeed.Account) { a.Balances = []bankfeed.Balance{balance("expected", "100.00", "EUR")} })
			w.pay(a, today, "-50.00", "Shop", "", status(bankfeed.TransactionPending))
		}, "80.00", "COVERED payable true overdraft false short 0.00"},
		"what is expected is no overdraft": {func(w *world) {
			a := w.account("EUR", "100.00", func(a *bankfeed.Account) { a.Balances = append(a.Balances, balance("expected", "150.00", "EUR")) })
			w.pay(a, today, "50.00", "Shop", "", status(bankfeed.TransactionPending))
		}, "120.00", "NOT_COVERED payable false overdraft false short 20.00"},
		"what is expected is less": {current(balance("interimBooked", "100.00", "EUR"), balance("expected", "60.00", "EUR")), "80.00", "NOT_COVERED payable false overdraft false short 20.00"},
		"what is under way counts": {func(w *world) {
			a := w.account("EUR", "100.00", func(a *bankfeed.Account) {
				a.Balances = append(a.Balances, balance("interimAvailable", "170.00", "EUR"))
			})
			w.pay(a, today, "-30.00", "Shop", "", status(bankfeed.TransactionPending))
			w.pay(a, today, "500.00", "Firma", "", status(bankfeed.TransactionPending))
		}, "80.00", "COVERED_BY_OVERDRAFT payable true overdraft true short 0.00"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.build(w)
			r, err := w.service(t).CheckBalances(context.Background(), tenant, user, sources, bankfeed.Money{Amount: bankfeed.MustAmount(c.amount), Currency: "EUR"})
			require.NoError(t, err)
			short := "-"
			if len(r.Accounts) > 0 {
				short = r.Accounts[0].Shortfall.String()
			}
			require.Equal(t, c.want, fmt.Sprintf("%s payable %v overdraft %v short %s", r.Result, r.Payable, r.OverdraftRequired, short))
		})
	}
	_, err := newWorld().service(t).CheckBalances(context.Background(), tenant, user, sources, bankfeed.Money{Currency: "EUR"})
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
}

func TestOverdraftIsWhatIsNotTheHolders(t *testing.T) {
	w := newWorld()
	a := w.account("EUR", "100.00", func(a *bankfeed.Account) {
		a.Balances = append(a.Balances, balance("interimAvailable", "570.00", "EUR"))
	})
	w.pay(a, today, "-30.00", "Shop", "", status(bankfeed.TransactionHold))
	r, err := w.service(t).CheckBalances(context.Background(), tenant, user, sources, bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "EUR"})
	require.NoError(t, err)
	x := r.Accounts[0]
	require.Equal(t, "100.00 -30.00 570.00 500.00", x.Balance.String()+" "+x.Pending.String()+" "+x.Available.String()+" "+x.Overdraft.String())
}

func TestHolderType(t *testing.T) {
	yes := true
	owner := func(s string) func(*bankfeed.Account) { return func(a *bankfeed.Account) { a.OwnerName = s } }
	for name, c := range map[string]struct {
		build func(w *world)
		want  string
	}{
		"the bank says person":     {func(w *world) { w.account("EUR", "", func(a *bankfeed.Account) { a.HolderType = "individual" }) }, "PERSON HIGH [BANK_HOLDER_TYPE]"},
		"the bank says company":    {func(w *world) { w.account("EUR", "", func(a *bankfeed.Account) { a.HolderType = "corporation" }) }, "COMPANY HIGH [BANK_HOLDER_TYPE]"},
		"usage":                    {func(w *world) { w.account("EUR", "", func(a *bankfeed.Account) { a.Usage = "ORGA" }) }, "COMPANY MEDIUM [BANK_USAGE]"},
		"product":                  {func(w *world) { w.account("EUR", "", func(a *bankfeed.Account) { a.IsBusiness = &yes }) }, "COMPANY MEDIUM [BANK_PRODUCT]"},
		"legal form":               {func(w *world) { w.account("EUR", "", owner("Druckhaus Lorenz GmbH & Co. KG")) }, "COMPANY HIGH [LEGAL_FORM]"},
		"Polish legal form":        {func(w *world) { w.account("PLN", "", owner("Kowalski Sp. z o.o.")) }, "COMPANY HIGH [LEGAL_FORM]"},
		"a name alone says little": {func(w *world) { w.account("EUR", "", owner("Anna Müller")) }, "UNKNOWN  [PERSONAL_NAME]"},
		"a name and a salary": {func(w *world) {
			a := w.account("EUR", "", owner("Anna Müller"))
			w.every(a, []bankfeed.Date{"2026-01-30", "2026-02-27", "2026-03-30"}, "2000", "Firma", "Gehalt")
		}, "PERSON MEDIUM [PERSONAL_NAME TRANSACTIONS]"},
		"salary once, pension often": {func(w *world) {
			a := w.account("EUR", "")
			w.pay(a, "2026-01-30", "2000", "Firma", "Gehalt")
			w.every(a, []bankfeed.Date{"2026-01-30", "2026-02-27", "2026-03-30"}, "1000", "Deutsche Rentenversicherung", "Rente")
		}, "PERSON MEDIUM [TRANSACTIONS TRANSACTIONS]"},
		"pays wages and VAT": {func(w *world) {
			a := w.account("EUR", "")
			w.every(a, []bankfeed.Date{"2026-01-25", "2026-02-25", "2026-03-25"}, "-13500", "Lohnsammler", "Gehälter")
			w.every(a, []bankfeed.Date{"2026-01-10", "2026-02-10", "2026-03-10"}, "-1800", "Finanzamt", "Umsatzsteuer")
		}, "COMPANY HIGH [TRANSACTIONS TRANSACTIONS]"},
		"nothing": {func(w *world) { w.account("EUR", "") }, "UNKNOWN  []"},
		"conflict": {func(w *world) {
			w.account("EUR", "", func(a *bankfeed.Account) { a.Usage = "PRIV"; a.IsBusiness = &yes })
		}, "UNKNOWN  [BANK_USAGE BANK_PRODUCT]"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.build(w)
			r, err := w.service(t).CheckHolderType(context.Background(), tenant, user, sources)
			require.NoError(t, err)
			kinds, sum := []string{}, 0
			for _, e := range r.Accounts[0].Evidence {
				kinds, sum = append(kinds, e.Kind), sum+e.Weight
				require.Equal(t, map[bool]string{true: person, false: company}[e.Weight > 0], e.Says)
			}
			x := r.Accounts[0]
			require.Equal(t, c.want, fmt.Sprintf("%s %s %v", x.HolderType, x.Confidence, kinds))
			require.Equal(t, x.HolderType, r.HolderType)
		})
	}
	w := newWorld()
	w.account("EUR", "", owner("Lorenz GmbH"))
	w.account("EUR", "", func(a *bankfeed.Account) { a.Usage = "PRIV" })
	w.account("EUR", "")
	r, err := w.service(t).CheckHolderType(context.Background(), tenant, user, sources)
	require.NoError(t, err)
	require.Equal(t, mixed, r.HolderType)
}

// Nothing is said about data that is not SUCCESSFUL, or not the caller's.
func TestTheGate(t *testing.T) {
	w := newWorld()
	w.account("EUR", "10")
	ok := []bankfeed.Channel{{Status: bankfeed.ChannelSuccess, LastSuccessAt: &now}}
	w.connections = []bankfeed.Connection{
		{ID: 1, Channels: ok}, {ID: 2, Channels: ok},
		{ID: 3, Channels: []bankfeed.Channel{{Status: bankfeed.ChannelRunning, LastSuccessAt: &now}}},
		{ID: 4, Channels: []bankfeed.Channel{{Status: bankfeed.ChannelTokenExpired, LastSuccessAt: &now}}},
		{ID: 5, Channels: []bankfeed.Channel{{Status: bankfeed.ChannelUnavailable, LastSuccessAt: &now}}},
		{ID: 6, Channels: ok, Status: bankfeed.ConnectionClosed},
		{ID: 7, Channels: []bankfeed.Channel{{Status: bankfeed.ChannelRunning}}},
		{ID: 8}, // handed in
	}
	w.syncing[2] = true
	s := w.service(t)
	for name, c := range map[string]struct {
		ids  []bankfeed.ConnectionID
		want error
	}{
		"successful":                      {[]bankfeed.ConnectionID{1}, nil},
		"named twice":                     {[]bankfeed.ConnectionID{1, 1}, nil},
		"the bank is down, there is data": {[]bankfeed.ConnectionID{5}, nil},
		"handed in":                       {[]bankfeed.ConnectionID{8}, nil},
		"a request is open":               {[]bankfeed.ConnectionID{1, 2}, ErrNotSuccessful},
		"running":                         {[]bankfeed.ConnectionID{3}, ErrNotSuccessful},
		"needs the user":                  {[]bankfeed.ConnectionID{4}, ErrNotSuccessful},
		"being removed":                   {[]bankfeed.ConnectionID{6}, bankfeed.ErrNotFound},
		"never connected":                 {[]bankfeed.ConnectionID{7}, bankfeed.ErrNotFound},
		"unknown, whatever the others":    {[]bankfeed.ConnectionID{3, 99}, bankfeed.ErrNotFound},
	} {
		_, check := s.CheckHolderType(context.Background(), tenant, user, c.ids)
		_, create := s.CreateCase(context.Background(), tenant+1, user, "", "", c.ids)
		if c.want == nil {
			require.NoError(t, check, name)
		} else {
			require.ErrorIs(t, check, c.want, name)
		}
		require.ErrorIs(t, create, bankfeed.ErrNotFound, "another tenant")
	}
	_, err := s.CheckHolderType(context.Background(), tenant, user, nil)
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	_, err = s.CheckHolderType(context.Background(), tenant, user, make([]bankfeed.ConnectionID, MaxSources+1))
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
}

func TestNextPayment(t *testing.T) {
	days := func(list ...bankfeed.Date) (out []payment) {
		for _, d := range list {
			out = append(out, newPayment(d, zero))
		}
		return out
	}
	at := func(name string) *rhythm {
		for i := range rhythms {
			if rhythms[i].name == name {
				return &rhythms[i]
			}
		}
		t.Fatal(name)
		return nil
	}
	for _, c := range []struct {
		rhythm string
		days   []payment
		want   bankfeed.Date
	}{
		{"MONTHLY", days("2026-01-31", "2026-02-28", "2026-03-31"), "2026-04-30"},
		{"MONTHLY", days("2026-01-01", "2026-02-01", "2026-03-01", "2026-03-31"), "2026-05-01"},
		{"MONTHLY", days("2026-01-15", "2026-02-16", "2026-03-15"), "2026-04-15"},
		{"MONTHLY", days("2025-10-30", "2025-11-28", "2025-12-30"), "2026-01-30"},
		{"QUARTERLY", days("2025-07-15", "2025-10-15", "2026-01-15"), "2026-04-15"},
		{"YEARLY", days("2024-02-29", "2025-02-28"), "2026-02-28"},
		{"WEEKLY", days("2026-03-02", "2026-03-09"), "2026-03-16"},
		{"HALF_YEARLY", days("2025-08-31", "2026-02-28"), "2026-08-28"},
	} {
		require.Equal(t, c.want, at(c.rhythm).after(c.days), "%s %v", c.rhythm, c.days)
	}
}

func TestMessages(t *testing.T) {
	require.Empty(t, (&Report{}).Message())
	require.NotEmpty(t, (&Report{Code: codeInternal}).Message())
	require.Len(t, collectors, len(finapi.ReportTypes))
	for _, k := range finapi.ReportTypes {
		require.NotNil(t, collectors[k], k)
	}
	require.Equal(t, time.UTC, New(Config{}).Zone)
}
