package finapi

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Importer stores what clients hand in: ingest.Engine.
type Importer interface {
	Import(ctx context.Context, o ingest.ImportOrder, body io.Reader) (ingest.Imported, error)
}

const (
	transactionSources = sources + "/transactions"
	// additions is where an addition is served. Its own path, transactions/{id},
	// would leave open beside {id}/status what transactions/status is.
	additions      = sources + "/{dataSourceId}/transactions"
	additionsShown = transactionSources + "/{dataSourceId}"
)

var importKey = dialect.Param{Name: "Idempotency-Key", Header: true, Schema: dialect.Text(255),
	Doc: "Your own name for the request: sent again, with the same body, it gives the same answer and changes nothing."}

func (a *API) importOperations() []*dialect.Operation {
	const whole = "The body is checked whole before anything is stored; what is wrong with it is told with its place, up to 20 faults at once. Up to 100,000 transactions in 500 accounts. " +
		"The answer comes when everything is stored. Without an answer, send the request again. "
	return []*dialect.Operation{
		{
			Method: "POST", Paths: []string{transactionSources}, ID: "createTransactionDataSource", Tag: "dataSources", Token: dialect.UserToken,
			Summary: "Hand accounts and transactions in as a data source of its own", Params: []dialect.Param{importKey}, Body: typeOf[finapi.TransactionSource](),
			Status: http.StatusCreated, Answer: typeOf[finapi.DataSource](), Handle: a.importTransactions,
			About: whole + "Without an Idempotency-Key, an equal body of the same user gives the same data source.",
		},
		{
			Method: "PUT", Paths: []string{additions}, ID: "addToTransactionDataSource", Tag: "dataSources", Token: dialect.UserToken,
			Summary: "Add later data to a data source that was handed in", Params: []dialect.Param{importKey}, Body: typeOf[finapi.TransactionSource](),
			Status: http.StatusCreated, Answer: typeOf[finapi.DataSource](), Handle: a.importTransactions,
			About: whole + "Transactions that are there already are recognised, and updated where they differ; nothing is removed. " +
				"Without ids, hand in whole days: what the first day has already is counted again.",
			Describe: func(o *huma.Operation) { o.Path = additionsShown },
		},
	}
}

// TakesDocuments reports whether a path takes bodies that are larger than any
// other, and take longer.
func TakesDocuments(path string) bool {
	return path == transactionSources || served(path) != path
}

// served is the path under which a request's path is served.
func served(path string) string {
	if id, ok := strings.CutPrefix(path, transactionSources+"/"); ok && id != "" && !strings.Contains(id, "/") {
		return strings.Replace(additions, "{dataSourceId}", id, 1)
	}
	return path
}

func (a *API) importTransactions(c *dialect.Call) error {
	o := ingest.ImportOrder{Tenant: c.Tenant(), User: c.Caller.User, Client: c.Caller.Client.ID, Sandbox: c.Caller.Client.Sandbox, Key: c.R.Header.Get(importKey.Name),
		Callback: func(url bankfeed.Secret) (*bankfeed.RequestCallback, error) {
			return a.callback(c, "callbackUrl", url, bankfeed.MomentFinished)
		}}
	if len(o.Key) > *importKey.Schema.MaxLength {
		return bankfeed.InvalidField(importKey.Name, "has more than %d characters", *importKey.Schema.MaxLength)
	}
	if c.R.PathValue("dataSourceId") != "" {
		var err error
		if o.Connection, err = pathID[bankfeed.ConnectionID](a, c, "dataSourceId", bankfeed.KindConnection); err != nil {
			return err
		}
	}
	if err := c.ReadsBody(); err != nil {
		return err
	}
	done, err := a.Importer.Import(c.Context(), o, c.R.Body)
	if err != nil {
		return err
	}
	drawn, err := a.drawn(c, done.Connection)
	if err != nil {
		return err
	}
	if err := c.Write(http.StatusCreated, drawn); err != nil || done.Request == nil {
		return err // a client that never got it is told a little later, or asks again
	}
	a.wasAnswered(c, *done.Request)
	return nil
}

// drawn shows one data source.
func (a *API) drawn(c *dialect.Call, id bankfeed.ConnectionID) (finapi.DataSource, error) {
	conn, err := a.Reader.Connection(c.Context(), c.Tenant(), c.Caller.User, id)
	if err != nil {
		return finapi.DataSource{}, err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), c.Caller.User, bankfeed.AccountFilter{Connection: id, Removed: true})
	return a.render.DataSource(c.Tenant(), &conn, conn.Outcome(), accounts), err
}
