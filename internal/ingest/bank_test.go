package ingest_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// bank is a connector and the bank behind it, as a test wants it to be.
type bank struct {
	profile connector.Profile

	mu           sync.Mutex
	accounts     []string // IBANs
	transactions map[string][]bankfeed.Transaction
	balance      map[string]string
	pageSize     int
	consent      connector.ConsentState
	links        bool   // gives a link back to the first page
	masks        bool   // hides IBANs in the list of accounts
	resources    string // what ids of accounts end with, another with each consent
	details      func(iban string) connector.Account
	// refuse is asked before each call: "accounts", "balances IBAN",
	// "details IBAN", "transactions IBAN PAGE".
	refuse func(call string) error
	calls  []string
	psu    []*bankfeed.PSU
}

func newBank(accounts ...string) *bank {
	return &bank{
		profile: connector.Profile{
			Provider: bankfeed.Provider{ID: "200", Name: "Scripted Bank", BIC: "SCRPDEFFXXX", Sandbox: true,
				Channels: []bankfeed.ChannelDefinition{{Mode: bankfeed.Redirect}, {Mode: bankfeed.Embedded}}},
			HistoryDays: 730, RecentDays: 90, OverlapDays: 7, ConsentDays: 180, FrequencyPerDay: 4, MaxConcurrent: 8,
		},
		accounts: accounts, transactions: map[string][]bankfeed.Transaction{}, balance: map[string]string{}, pageSize: 10,
		consent: connector.ConsentValid,
	}
}

// Lookup makes the bank the only one of its registry.
func (b *bank) Lookup(id string) (*connector.Profile, connector.Connector, error) {
	if id != b.profile.Provider.ID {
		return nil, nil, bankfeed.ErrNotFound
	}
	return &b.profile, b, nil
}

func (b *bank) call(a connector.Access, context bankfeed.CallContext, name string) error {
	b.calls = append(b.calls, name)
	b.psu = append(b.psu, a.PSU)
	var err error
	if b.refuse != nil {
		err = b.refuse(name)
	}
	status := 200
	if err != nil {
		status = connector.AsError(err).Status
	}
	a.Record(bankfeed.BankCall{Context: context, Method: "GET", URL: "https://bank.example/" + string(context), Status: status, Attended: a.PSU != nil, At: time.Unix(0, 0).UTC()})
	return err
}

func (b *bank) Accounts(_ context.Context, a connector.Access, _ string) (connector.AccountPage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call(a, bankfeed.CallGetAccounts, "accounts"); err != nil {
		return connector.AccountPage{}, err
	}
	var p connector.AccountPage
	for _, iban := range b.accounts {
		found := b.account(iban)
		if b.masks {
			found.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentMaskedIBAN, Value: bankfeed.MaskIBAN(iban)}}
		}
		if b.profile.MaskedIBAN != connector.AsListed {
			found.Balances = b.balances(iban)
		}
		p.Accounts = append(p.Accounts, found)
	}
	return p, nil
}

func (b *bank) account(iban string) connector.Account {
	return connector.Account{ResourceID: "r-" + iban + b.resources, Account: bankfeed.Account{
		Type: bankfeed.AccountCurrent, Currency: "EUR", Product: "Giro", Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: iban}}}}
}

func (b *bank) iban(acc connector.AccountRef) string {
	return strings.TrimSuffix(strings.TrimPrefix(acc.ResourceID, "r-"), b.resources)
}

// Account implements connector.Details.
func (b *bank) Account(_ context.Context, a connector.Access, acc connector.AccountRef) (connector.Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	iban := b.iban(acc)
	if err := b.call(a, bankfeed.CallGetAccount, "details "+iban); err != nil {
		return connector.Account{}, err
	}
	if b.details != nil {
		return b.details(iban), nil
	}
	return b.account(iban), nil
}

func (b *bank) Balances(_ context.Context, a connector.Access, acc connector.AccountRef) ([]bankfeed.Balance, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	iban := b.iban(acc)
	if err := b.call(a, bankfeed.CallGetBalances, "balances "+iban); err != nil {
		return nil, err
	}
	return b.balances(iban), nil
}

func (b *bank) balances(iban string) []bankfeed.Balance {
	amount := b.balance[iban]
	if amount == "" {
		amount = "100.00"
	}
	return []bankfeed.Balance{{Type: "closingBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}}}
}

func (b *bank) Transactions(ctx context.Context, a connector.Access, acc connector.AccountRef, q connector.TransactionQuery) (connector.TransactionPage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		return connector.TransactionPage{}, ctx.Err()
	}
	iban, offset := b.iban(acc), 0
	if q.Cursor != "" {
		offset, _ = strconv.Atoi(q.Cursor)
	}
	if err := b.call(a, bankfeed.CallGetTransactions, fmt.Sprintf("transactions %s %d", iban, offset/b.pageSize)); err != nil {
		return connector.TransactionPage{}, err
	}
	var window []bankfeed.Transaction
	for _, t := range b.transactions[iban] {
		if t.BookingDate >= q.From || t.BookingDate == "" {
			window = append(window, t)
		}
	}
	end := min(offset+b.pageSize, len(window))
	p := connector.TransactionPage{Transactions: window[min(offset, end):end], More: end < len(window)}
	if p.More {
		p.Next = strconv.Itoa(end)
	}
	if b.links {
		p.First = "0"
	}
	return p, nil
}

func (b *bank) CreateConsent(context.Context, connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
	panic("a session creates no consent")
}

func (b *bank) Continue(context.Context, connector.Access, connector.Input) (connector.ConsentStep, error) {
	panic("a session continues no consent")
}

func (b *bank) ConsentStatus(_ context.Context, a connector.Access) (connector.ConsentInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.call(a, bankfeed.CallGetConsentStatus, "consent")
	return connector.ConsentInfo{State: b.consent}, err
}

func (b *bank) DeleteConsent(context.Context, connector.Access) error {
	panic("a session deletes no consent")
}

// booked makes a booked transaction.
func booked(id, day, amount, text string) bankfeed.Transaction {
	return bankfeed.Transaction{BankID: id, Status: bankfeed.TransactionBooked, BookingDate: bankfeed.Date(day),
		Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}, Remittance: []string{text}, Raw: []byte(`{"transactionId":"` + id + `"}`)}
}

// months of transactions, one a day back from a day.
func history(n int, last bankfeed.Date) []bankfeed.Transaction {
	var list []bankfeed.Transaction
	for i := range n {
		list = append(list, booked(fmt.Sprintf("t%d", n-i), string(last.AddDays(-i/20)), fmt.Sprintf("-%d.50", n-i), "purchase"))
	}
	return list
}
