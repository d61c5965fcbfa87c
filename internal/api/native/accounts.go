package native

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
)

// AccountReader reads a user's accounts.
type AccountReader interface {
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	Account(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error)
}

// AccountList is all accounts of a user or connection.
type AccountList struct {
	Items []Account `json:"items" nullable:"false"`
}

func (a *API) routeAccounts() {
	register(a, huma.Operation{
		OperationID: "listAccounts", Method: http.MethodGet, Path: "/v1/accounts", Tags: []string{tagAccounts},
		Summary: "List accounts", Description: "In the order in which they were found.",
	}, func(ctx context.Context, c *call, in *struct {
		Scope
		OfConnection
		Removed bool `query:"removed" doc:"Also those that their bank no longer lists."`
	}) (*struct{ Body AccountList }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		connection, err := a.ofConnection(ctx, c, user, in.OfConnection)
		if err != nil {
			return nil, err
		}
		list, err := a.Reader.Accounts(ctx, c.Client.Tenant, user, bankfeed.AccountFilter{Connection: connection, Removed: in.Removed})
		if err != nil {
			return nil, err
		}
		return &struct{ Body AccountList }{AccountList{each(list, a.renderer(c).account)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getAccount", Method: http.MethodGet, Path: "/v1/accounts/{id}", Tags: []string{tagAccounts}, Summary: "Get an account",
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{ Body Account }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		account, err := a.Reader.Account(ctx, c.Client.Tenant, user, number[bankfeed.AccountID](a, c, bankfeed.KindAccount, in.ID))
		if err != nil {
			return nil, err
		}
		return &struct{ Body Account }{a.renderer(c).account(account)}, nil
	})
}
