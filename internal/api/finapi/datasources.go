package finapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

const sources = prefix + "/dataSources"

func (a *API) dataSourceOperations() []*dialect.Operation {
	one := []string{sources + "/{dataSourceId}"}
	return []*dialect.Operation{
		{
			Method: "POST", Paths: []string{sources + "/bankConnections/synchronization"}, ID: "synchronize", Tag: "dataSources", Token: dialect.UserToken,
			Summary: "Synchronize data sources", Params: []dialect.Param{dialect.PSUAddress, dialect.PSUAgent}, Body: typeOf[syncRequest](), Optional: true,
			Status: http.StatusOK, Answer: typeOf[finapi.BankConnections](), Handle: a.synchronize,
			About: "All data sources of the user, or those that the body names. A bank is asked only if the stored data is older than an hour and the bank's daily limit allows it. " +
				"When the last data source has ended, the callback is called, once for each request.",
		},
		{
			Method: "GET", Paths: []string{sources}, ID: "listDataSources", Tag: "dataSources", Token: dialect.UserToken, Summary: "List the user's data sources",
			Status: http.StatusOK, Answer: typeOf[finapi.BankConnections](), Handle: a.listDataSources,
		},
		{
			Method: "GET", Paths: one, ID: "getDataSource", Tag: "dataSources", Token: dialect.UserToken, Summary: "Read a data source",
			Status: http.StatusOK, Answer: typeOf[finapi.DataSource](), Handle: a.getDataSource,
		},
		{
			Method: "DELETE", Paths: one, ID: "deleteDataSource", Tag: "dataSources", Token: dialect.UserToken, Summary: "Remove a data source with its data",
			Status: http.StatusNoContent, Handle: a.deleteDataSource,
			About: "It is unknown at once; its data goes and its consents are ended at the bank in the background.",
		},
		{
			Method: "GET", Paths: []string{sources + "/{dataSourceId}/status"}, ID: "getDataSourceStatus", Tag: "dataSources", Token: dialect.UserToken,
			Summary: "Ask how the synchronization of a data source stands", Status: http.StatusOK, Answer: typeOf[finapi.SourceStatus](), Handle: a.getStatus,
			About: "At most 5 times a second for each data source, 10 at once; more are answered 429. A callback is better.",
		},
	}
}

type syncRequest struct {
	CallbackURL       bankfeed.Secret `json:"callbackUrl,omitempty" maxLength:"2048" doc:"Told when the synchronization has ended: absolute, any port; https for live clients."`
	CallbackHandle    string          `json:"callbackHandle,omitempty" maxLength:"512" doc:"Your own name for the synchronization, returned unchanged by the callback."`
	DataSourceIDs     []string        `json:"dataSourceIds,omitempty" minItems:"1" maxItems:"1000" nullable:"false" doc:"Only these."`
	BankConnectionIDs []int64         `json:"bankConnectionIds,omitempty" minItems:"1" maxItems:"1000" nullable:"false" doc:"Only these, by the numbers that externalId shows."`
}

func (a *API) synchronize(c *dialect.Call) error {
	var body syncRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	order := ingest.RequestOrder{Tenant: c.Tenant(), User: c.Caller.User, Client: c.Caller.Client.ID, Sandbox: c.Caller.Client.Sandbox, Handle: body.CallbackHandle}
	var err error
	if order.PSU, err = c.PSU(); err != nil {
		return err
	}
	if order.Callback, err = a.callback(c, "callbackUrl", body.CallbackURL, bankfeed.MomentFinished); err != nil {
		return err
	}
	if order.Connections, err = a.chosen(c.Tenant(), body); err != nil {
		return err
	}
	r, err := a.Syncer.Request(c.Context(), order)
	if err != nil {
		return err
	}
	members := func(id bankfeed.ConnectionID) bool {
		return slices.ContainsFunc(r.Members, func(m bankfeed.RequestMember) bool { return m.Connection == id })
	}
	drawn, err := a.draw(c, func(conn *bankfeed.Connection) (bool, bankfeed.Outcome, error) {
		// Whatever is known already, the request has not ended yet.
		return members(conn.ID), bankfeed.Outcome{Status: bankfeed.OutcomeRunning}, nil
	})
	if err != nil {
		return err
	}
	if err := c.Write(http.StatusOK, drawn); err != nil {
		return err // the client never got it: the request ends a little later by itself
	}
	a.wasAnswered(c, r)
	return nil
}

// wasAnswered begins the moment that a caller gets to store the answer to its
// request. Where that cannot be written down, the request takes a little longer.
func (a *API) wasAnswered(c *dialect.Call, r bankfeed.Request) {
	if err := a.Syncer.Answered(c.Context(), c.Tenant(), r); err != nil {
		a.Log.WarnContext(c.Context(), "a callback comes later than it could", "request", r.ID, "error", err)
	}
}

// callback checks a URL that a client wants to be called; nil if it names none.
func (a *API) callback(c *dialect.Call, field string, url bankfeed.Secret, moment bankfeed.CallbackMoment) (*bankfeed.RequestCallback, error) {
	if url == "" {
		return nil, nil
	}
	if err := a.CheckCallback(c.Context(), field, string(url), !c.Caller.Client.Sandbox); err != nil {
		return nil, err
	}
	return &bankfeed.RequestCallback{Moment: moment, URL: url, Once: c.Caller.Client.CallbacksOnce}, nil
}

// chosen are the data sources that a request names; nil means all.
func (a *API) chosen(tenant bankfeed.TenantID, r syncRequest) (ids []bankfeed.ConnectionID, err error) {
	if len(r.DataSourceIDs) > 0 && len(r.BankConnectionIDs) > 0 {
		return nil, bankfeed.InvalidField("bankConnectionIds", "cannot be given together with dataSourceIds")
	}
	for _, s := range r.DataSourceIDs {
		n, ok := a.Installation.ParseID(s, bankfeed.KindConnection, tenant)
		if !ok {
			return nil, bankfeed.ErrNotFound
		}
		ids = append(ids, bankfeed.ConnectionID(n))
	}
	for _, n := range r.BankConnectionIDs {
		ids = append(ids, bankfeed.ConnectionID(n))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// draw shows those of the user's connections that pick selects, as it sees them.
func (a *API) draw(c *dialect.Call, pick func(*bankfeed.Connection) (bool, bankfeed.Outcome, error)) (finapi.BankConnections, error) {
	drawn := finapi.BankConnections{BankConnections: []finapi.DataSource{}}
	connections, err := a.Reader.Connections(c.Context(), c.Tenant(), c.Caller.User)
	if err != nil || len(connections) == 0 {
		return drawn, err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), c.Caller.User, bankfeed.AccountFilter{Removed: true})
	if err != nil {
		return drawn, err
	}
	of := map[bankfeed.ConnectionID][]bankfeed.Account{}
	for _, acc := range accounts {
		of[acc.Connection] = append(of[acc.Connection], acc)
	}
	for i := range connections {
		conn := &connections[i]
		ok, outcome, err := pick(conn)
		if err != nil {
			return drawn, err
		}
		if ok {
			drawn.BankConnections = append(drawn.BankConnections, a.render.DataSource(c.Tenant(), conn, outcome, of[conn.ID]))
		}
	}
	return drawn, nil
}

// outcome is how a data source stands: running also while a request for its
// data has not ended.
func (a *API) outcome(ctx context.Context, tenant bankfeed.TenantID, conn *bankfeed.Connection) (bankfeed.Outcome, error) {
	open, err := a.Reader.OpenSync(ctx, tenant, conn.ID)
	if open {
		return bankfeed.Outcome{Status: bankfeed.OutcomeRunning}, err
	}
	return conn.Outcome(), err
}

func (a *API) listDataSources(c *dialect.Call) error {
	drawn, err := a.draw(c, func(conn *bankfeed.Connection) (bool, bankfeed.Outcome, error) {
		if !conn.Imported() {
			return false, bankfeed.Outcome{}, nil
		}
		o, err := a.outcome(c.Context(), c.Tenant(), conn)
		return true, o, err
	})
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, drawn)
}

// source reads the data source of the path. A connection that its bank has not
// let the hub into yet is none.
func (a *API) source(c *dialect.Call) (bankfeed.Connection, error) {
	id, err := pathID[bankfeed.ConnectionID](a, c, "dataSourceId", bankfeed.KindConnection)
	if err != nil {
		return bankfeed.Connection{}, err
	}
	conn, err := a.Reader.Connection(c.Context(), c.Tenant(), c.Caller.User, id)
	if err == nil && !conn.Imported() {
		err = bankfeed.ErrNotFound
	}
	return conn, err
}

func (a *API) getDataSource(c *dialect.Call) error {
	conn, err := a.source(c)
	if err != nil {
		return err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), c.Caller.User, bankfeed.AccountFilter{Connection: conn.ID, Removed: true})
	if err != nil {
		return err
	}
	o, err := a.outcome(c.Context(), c.Tenant(), &conn)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, a.render.DataSource(c.Tenant(), &conn, o, accounts))
}

func (a *API) deleteDataSource(c *dialect.Call) error {
	conn, err := a.source(c)
	if err != nil {
		return err
	}
	if err := a.Remover.DeleteConnection(c.Context(), c.Tenant(), c.Caller.User, conn.ID); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

// poll is what polls are counted by: the vendor's guide asks for a pause of
// 200 ms between two of one data source.
type poll struct {
	tenant bankfeed.TenantID
	id     bankfeed.ConnectionID
}

const (
	pollRate   = 5
	pollBurst  = 10
	pollsKnown = 100_000
)

func (a *API) getStatus(c *dialect.Call) error {
	conn, err := a.source(c)
	if err != nil {
		return err
	}
	if a.polls.Allow(poll{c.Tenant(), conn.ID}) > 0 {
		return &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "a data source may be polled 5 times a second; use a callback", RetryAfter: time.Second}
	}
	o, err := a.outcome(c.Context(), c.Tenant(), &conn)
	if err != nil {
		return err
	}
	status, _ := finapi.Face(o)
	return c.Write(http.StatusOK, status)
}
