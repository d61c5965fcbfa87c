package native

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// TransactionReader reads a user's transactions, newest day first and within a
// day the newest number first.
type TransactionReader interface {
	Transactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error)
	Transaction(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.TransactionID) (bankfeed.Transaction, error)
}

// TransactionList is a page of transactions.
type TransactionList struct {
	Items []wire.Transaction `json:"items" nullable:"false"`
	Next  string             `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

// transactionQuery is what narrows a list of transactions.
type transactionQuery struct {
	Scope
	OfConnection
	Accounts     []string  `query:"account" nullable:"false" maxItems:"100" doc:"Only those of these accounts, by number or UUID, separated by commas."`
	Statuses     []string  `query:"status" nullable:"false" enum:"booked,done,pending,hold,rejected,cancelled,scheduled,other" doc:"Separated by commas."`
	From         string    `query:"from" format:"date" doc:"First day. The day of a transaction is its booking day, else value day, else the day it was made, else first seen."`
	To           string    `query:"to" format:"date" doc:"Last day."`
	Min          string    `query:"min_amount" maxLength:"60" doc:"Smallest amount; debits are negative." example:"-100.00"`
	Max          string    `query:"max_amount" maxLength:"60" doc:"Largest amount."`
	CreatedSince time.Time `query:"created_since" doc:"First stored by the hub at this time or later."`
	After        string    `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit        int       `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

func (a *API) routeTransactions() {
	register(a, huma.Operation{
		OperationID: "listTransactions", Method: http.MethodGet, Path: "/v1/transactions", Tags: []string{tagTransactions},
		Summary:     "List transactions",
		Description: "Newest day first. The pages hold still while transactions come and go: none that was there at the first page is shown twice or left out.",
	}, a.listTransactions)

	register(a, huma.Operation{
		OperationID: "getTransaction", Method: http.MethodGet, Path: "/v1/transactions/{id}", Tags: []string{tagTransactions}, Summary: "Get a transaction",
	}, func(ctx context.Context, c *call, in *struct {
		Scope
		ID string `path:"id" doc:"Number; a transaction has no UUID."`
	}) (*struct{ Body wire.Transaction }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		id, _ := bankfeed.ParseNumber(in.ID) // 0 names nothing
		t, err := a.Reader.Transaction(ctx, c.Client.Tenant, user, bankfeed.TransactionID(id))
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Transaction }{a.renderer(c).Transaction(t)}, nil
	})
}

func (a *API) listTransactions(ctx context.Context, c *call, in *transactionQuery) (*struct{ Body TransactionList }, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	user, err := a.user(ctx, c, in.User)
	if err != nil {
		return nil, err
	}
	f.Accounts, err = a.accountsOf(ctx, c, user, in)
	if err != nil {
		return nil, err
	}
	out := TransactionList{Items: []wire.Transaction{}}
	if in.Connection != "" && len(f.Accounts) == 0 { // without an account there is nothing, rather than everything
		return &struct{ Body TransactionList }{out}, nil
	}
	list, err := a.Reader.Transactions(ctx, c.Client.Tenant, user, f)
	if err != nil {
		return nil, err
	}
	out.Items = wire.Each(list, a.renderer(c).Transaction)
	if len(list) == f.Limit {
		out.Next = transactionCursor(list[len(list)-1])
	}
	return &struct{ Body TransactionList }{out}, nil
}

// filter reads all but the ids.
func (q *transactionQuery) filter() (bankfeed.TransactionFilter, error) {
	f := bankfeed.TransactionFilter{CreatedAt: q.CreatedSince, From: bankfeed.Date(q.From), To: bankfeed.Date(q.To), Limit: q.Limit}
	for _, s := range q.Statuses {
		f.Statuses = append(f.Statuses, bankfeed.TransactionStatus(s))
	}
	for _, b := range []struct {
		field, text string
		to          **bankfeed.Amount
	}{{"query.min_amount", q.Min, &f.Min}, {"query.max_amount", q.Max, &f.Max}} {
		if b.text == "" {
			continue
		}
		amount, err := bankfeed.ParseAmount(b.text)
		if err != nil {
			return f, bankfeed.InvalidField(b.field, "expected a decimal such as -12.50")
		}
		*b.to = &amount
	}
	var err error
	f.Before, err = readTransactionCursor(q.After)
	return f, err
}

// accountsOf are the accounts that a list is narrowed to, nil for all. They
// must be the user's; with a connection too, those of it that are named, or all
// of them.
func (a *API) accountsOf(ctx context.Context, c *call, user bankfeed.UserID, q *transactionQuery) ([]bankfeed.AccountID, error) {
	connection, err := a.ofConnection(ctx, c, user, q.OfConnection)
	if err != nil || connection == 0 && len(q.Accounts) == 0 {
		return nil, err
	}
	known, err := a.Reader.Accounts(ctx, c.Client.Tenant, user, bankfeed.AccountFilter{Connection: connection, Removed: true})
	if err != nil {
		return nil, err
	}
	mine := make(map[bankfeed.AccountID]bool, len(known))
	var all []bankfeed.AccountID
	for _, k := range known {
		mine[k.ID] = true
		all = append(all, k.ID)
	}
	if len(q.Accounts) == 0 {
		return all, nil
	}
	var named []bankfeed.AccountID
	for _, s := range q.Accounts {
		id := number[bankfeed.AccountID](a, c, bankfeed.KindAccount, s)
		if !mine[id] {
			return nil, bankfeed.ErrNotFound
		}
		named = append(named, id)
	}
	return named, nil
}
