package analysis

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

const (
	tenant bankfeed.TenantID = 1
	user   bankfeed.UserID   = 7
)

var (
	now   = time.Date(2026, 4, 10, 9, 0, 0, 0, time.UTC)
	today = bankfeed.Date("2026-04-10")
	born  = bankfeed.Installation{Born: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
)

// world is what is stored of one user, in memory. It answers as the store does.
type world struct {
	Store       // what a test does not need is not there
	connections []bankfeed.Connection
	syncing     map[bankfeed.ConnectionID]bool
	accounts    []bankfeed.Account
	list        []bankfeed.Transaction // newest first once sorted
	sorted      bool
	pages       int
	largest     int
}

func fixedNow() time.Time { return now }

func newWorld() *world {
	w := &world{syncing: map[bankfeed.ConnectionID]bool{}}
	w.connections = []bankfeed.Connection{{ID: 1, Status: bankfeed.ConnectionSuccess}}
	return w
}

func (w *world) User(context.Context, bankfeed.TenantID, bankfeed.UserID) (bankfeed.User, error) {
	return bankfeed.User{ID: user}, nil
}

func (w *world) Connections(_ context.Context, t bankfeed.TenantID, u bankfeed.UserID) ([]bankfeed.Connection, error) {
	if t != tenant || u != user {
		return nil, nil
	}
	return w.connections, nil
}

func (w *world) OpenSync(_ context.Context, _ bankfeed.TenantID, id bankfeed.ConnectionID) (bool, error) {
	return w.syncing[id], nil
}

func (w *world) Accounts(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, f bankfeed.AccountFilter) (list []bankfeed.Account, _ error) {
	for _, a := range w.accounts {
		if a.Connection == f.Connection {
			list = append(list, a)
		}
	}
	return list, nil
}

func (w *world) Transactions(_ context.Context, _ bankfeed.TenantID, _ bankfeed.UserID, f bankfeed.TransactionFilter) (page []bankfeed.Transaction, _ error) {
	if !w.sorted {
		slices.SortFunc(w.list, func(a, b bankfeed.Transaction) int {
			return cmp.Or(cmp.Compare(b.Day(), a.Day()), cmp.Compare(b.ID, a.ID))
		})
		w.sorted = true
	}
	skip, from := f.Offset, 0
	if k := f.Before; k.Day != "" {
		from, _ = slices.BinarySearchFunc(w.list, k, func(t bankfeed.Transaction, k bankfeed.TransactionKey) int {
			return cmp.Or(cmp.Compare(k.Day, t.Day()), cmp.Compare(k.ID, t.ID))
		})
		from++
	}
	for _, t := range w.list[from:] {
		if len(f.Accounts) > 0 && !slices.Contains(f.Accounts, t.Account) || len(f.Statuses) > 0 && !slices.Contains(f.Statuses, t.Status) || t.Day() < f.From {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(page) == f.Limit {
			break
		}
		page = append(page, t)
	}
	w.pages++
	w.largest = max(w.largest, len(page))
	return page, nil
}

// account adds a current account with a booked balance.
func (w *world) account(currency, balance string, change ...func(*bankfeed.Account)) bankfeed.AccountID {
	a := bankfeed.Account{ID: bankfeed.AccountID(len(w.accounts) + 1), Connection: 1, Type: bankfeed.AccountCurrent, Currency: currency, LastReadAt: now}
	if balance != "" {
		a.Balances = []bankfeed.Balance{{Type: "interimBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount(balance), Currency: currency}, FetchedAt: now}}
	}
	for _, c := range change {
		c(&a)
	}
	w.accounts = append(w.accounts, a)
	return a.ID
}

// pay adds a booked transaction: a payment to, or from, name.
func (w *world) pay(account bankfeed.AccountID, day bankfeed.Date, amount, name, purpose string, change ...func(*bankfeed.Transaction)) bankfeed.TransactionID {
	t := bankfeed.Transaction{ID: bankfeed.TransactionID(len(w.list) + 1), Account: account, Status: bankfeed.TransactionBooked, BookingDate: day,
		Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: w.accounts[account-1].Currency}}
	if purpose != "" {
		t.Remittance = []string{purpose}
	}
	party := bankfeed.Party{Name: name}
	if t.Money.Amount.Sign() < 0 {
		t.Creditor = party
	} else {
		t.Debtor = party
	}
	for _, c := range change {
		c(&t)
	}
	w.list, w.sorted = append(w.list, t), false
	return t.ID
}

// every repeats a payment on each of the days.
func (w *world) every(account bankfeed.AccountID, days []bankfeed.Date, amount, name, purpose string, change ...func(*bankfeed.Transaction)) {
	for _, d := range days {
		w.pay(account, d, amount, name, purpose, change...)
	}
}

func (w *world) service(t testing.TB) *Service {
	t.Helper()
	rules, err := LoadRules("")
	require.NoError(t, err)
	return New(Config{Store: w, Rules: rules, Installation: born, Now: fixedNow})
}

// report computes a report and reads it back as a client does.
func report[T any](t testing.TB, w *world, kind finapi.ReportType, days int) T {
	t.Helper()
	result, err := w.service(t).compute(context.Background(), query{tenant: tenant, user: user, sources: []bankfeed.ConnectionID{1}, days: days}, kind)
	require.NoError(t, err)
	text, err := json.Marshal(result)
	require.NoError(t, err)
	var out T
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

func iban(s string) func(*bankfeed.Transaction) {
	return func(t *bankfeed.Transaction) {
		id := bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: s}
		if t.Money.Amount.Sign() < 0 {
			t.Creditor.Account = id
		} else {
			t.Debtor.Account = id
		}
	}
}

func mandate(creditor, reference string) func(*bankfeed.Transaction) {
	return func(t *bankfeed.Transaction) { t.CreditorID, t.MandateID = creditor, reference }
}

func code(bank, purpose, gvc string) func(*bankfeed.Transaction) {
	return func(t *bankfeed.Transaction) { t.BankCode, t.PurposeCode, t.ProprietaryCode = bank, purpose, gvc }
}

func status(s bankfeed.TransactionStatus) func(*bankfeed.Transaction) {
	return func(t *bankfeed.Transaction) { t.Status = s }
}
