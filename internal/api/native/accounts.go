package native

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// AccountReader reads a user's accounts.
type AccountReader interface {
	Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error)
	Account(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error)
}

// AccountList is all accounts of a user or connection.
type AccountList struct {
	Items []wire.Account `json:"items" nullable:"false"`
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
		return &struct{ Body AccountList }{AccountList{wire.Each(list, a.renderer(c).Account)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getAccount", Method: http.MethodGet, Path: "/v1/accounts/{id}", Tags: []string{tagAccounts}, Summary: "Get an account",
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{ Body wire.Account }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		account, err := a.Reader.Account(ctx, c.Client.Tenant, user, number[bankfeed.AccountID](a, c, bankfeed.KindAccount, in.ID))
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Account }{a.renderer(c).Account(account)}, nil
	})

	register(a, huma.Operation{
		OperationID: "deleteAccount", Method: http.MethodDelete, Path: "/v1/accounts/{id}", Tags: []string{tagAccounts},
		Summary: "Delete an account",
		Description: "Removes the account with its transactions, in the background; account.removed follows in the event log. It stays away for as long as the present consents last, " +
			"although the bank goes on listing it; a consent that the user gives later brings it back as a new account. " +
			"A consent that has no other account goes too, as if it was deleted.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{}, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		return nil, a.Remover.DeleteAccount(ctx, c.Client.Tenant, user, number[bankfeed.AccountID](a, c, bankfeed.KindAccount, in.ID))
	})
}
