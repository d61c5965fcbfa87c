package finapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Processes make users that clients never name: access.Service.
type Processes interface {
	StartProcess(ctx context.Context, caller bankfeed.Caller) (access.NewProcess, error)
	ExchangeProcess(ctx context.Context, caller bankfeed.Caller, token bankfeed.Secret, end bool) (access.Exchanged, error)
}

var invalidate = dialect.Param{Name: "invalidate", Schema: &huma.Schema{Type: huma.TypeBoolean, Default: false},
	Doc: "true: this is the last exchange. Recommended, unless somebody is to resume the process later."}

func (a *API) processOperations() []*dialect.Operation {
	return []*dialect.Operation{
		{
			Method: "POST", Paths: []string{prefix + "/processes"}, ID: "createProcess", Tag: "processes", Token: dialect.ClientToken,
			Summary: "Begin a process", Status: http.StatusCreated, Answer: typeOf[finapi.Process](), Handle: a.createProcess,
			About: "It has a user of its own, whom the hub erases with all data when the process expires.",
		},
		{
			Method: "GET", Paths: []string{prefix + "/processes/{processToken}"}, ID: "exchangeProcessToken", Tag: "processes", Token: dialect.ClientToken,
			Summary: "Exchange a process's token for a token of its user", Params: []dialect.Param{invalidate}, Status: http.StatusOK,
			Answer: typeOf[finapi.ProcessUser](), Handle: a.exchangeProcess, About: "At most 10 times, until the process expires.",
		},
	}
}

func (a *API) createProcess(c *dialect.Call) error {
	p, err := a.Processes.StartProcess(c.Context(), c.Caller)
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, finapi.Process{ProcessToken: string(p.Token), CreationDate: finapi.TimeOf(a.Now(), a.Zone),
		ExpirationDate: finapi.TimeOf(p.ExpiresAt, a.Zone), ExchangesLeft: access.MaxExchanges})
}

func (a *API) exchangeProcess(c *dialect.Call) error {
	end, err := c.Bool(invalidate)
	if err != nil {
		return err
	}
	x, err := a.Processes.ExchangeProcess(c.Context(), c.Caller, bankfeed.Secret(c.R.PathValue("processToken")), end)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, finapi.ProcessUser{AccessToken: string(x.AccessToken), TokenType: "bearer", ExpiresIn: int64(x.ExpiresIn / time.Second),
		Scope: "all", ExpirationDate: finapi.TimeOf(x.ExpiresAt, a.Zone), ExchangesLeft: x.Left})
}
