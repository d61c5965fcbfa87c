package native

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// DeliveryFilter selects deliveries.
type DeliveryFilter struct {
	States     []string  `query:"states" nullable:"false" maxItems:"6" enum:"waiting,delivered,given_up,erased,expired,skipped" doc:"Only in these states, separated by commas."`
	Causes     []string  `query:"causes" nullable:"false" maxItems:"12" enum:"dns,forbidden,refused,reset,tls,timeout,redirect,gone,limited,status,invalid,render" doc:"Only those whose last attempt failed so, separated by commas."`
	Types      []string  `query:"types" nullable:"false" maxItems:"100" maxLength:"64" doc:"Only of these types of event, separated by commas; transaction.* stands for all of a group."`
	Event      string    `query:"event" maxLength:"36" doc:"Only of this event: its id, or the webhook-id of a delivery."`
	User       string    `query:"user" maxLength:"64" doc:"Only of this user, by number or UUID. Likewise connection. They need not exist any more."`
	Connection string    `query:"connection" maxLength:"64"`
	From       time.Time `query:"from" doc:"Only those made at this time or later."`
	To         time.Time `query:"to" doc:"Only those made before this time."`
	After      string    `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit      int       `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

// DeliverySelection says which deliveries are redriven; all that is set must fit.
type DeliverySelection struct {
	States     []string   `json:"states,omitempty" nullable:"false" maxItems:"2" enum:"given_up,skipped" doc:"Only in these states; without it both."`
	Causes     []string   `json:"causes,omitempty" nullable:"false" maxItems:"12" enum:"dns,forbidden,refused,reset,tls,timeout,redirect,gone,limited,status,invalid,render" doc:"Only those whose last attempt failed so."`
	Types      []string   `json:"types,omitempty" nullable:"false" maxItems:"100" doc:"Only of these types of event, or groups such as transaction.*."`
	User       string     `json:"user,omitempty" maxLength:"64" doc:"Only of this user, by number or UUID. Likewise connection."`
	Connection string     `json:"connection,omitempty" maxLength:"64"`
	From       *time.Time `json:"from,omitempty" doc:"Only those made at this time or later."`
	To         *time.Time `json:"to,omitempty" doc:"Only those made before this time."`
	DryRun     bool       `json:"dry_run,omitempty" doc:"Only count them."`
}

// EventSelection says which events are replayed; all that is set must fit, and
// what the subscription itself is narrowed to.
type EventSelection struct {
	Types      []string   `json:"types,omitempty" nullable:"false" maxItems:"100" doc:"Only these types of event, or groups such as transaction.*."`
	User       string     `json:"user,omitempty" maxLength:"64" doc:"Only events of this user, by number or UUID. Likewise connection and account."`
	Connection string     `json:"connection,omitempty" maxLength:"64"`
	Account    string     `json:"account,omitempty" maxLength:"64"`
	From       *time.Time `json:"from,omitempty" doc:"Only events from this time on."`
	To         *time.Time `json:"to,omitempty" doc:"Only events before this time."`
	First      int64      `json:"first,omitempty" minimum:"1" doc:"Only from this position on."`
	Last       int64      `json:"last,omitempty" minimum:"1" doc:"Only up to this position, inclusive."`
	DryRun     bool       `json:"dry_run,omitempty" doc:"Only count them."`
}

// CallbackCount is how many were found.
type CallbackCount struct {
	Count  int    `json:"count"`
	More   bool   `json:"more,omitempty" doc:"There are more: ask again. Of a replay that was only callbackCounted: it would be refused, so narrow it."`
	Replay string `json:"replay,omitempty" doc:"Number of the replay: its deliveries carry it."`
}

type callbackCounted struct {
	Status int
	Body   CallbackCount
}

// DeliveryPath names a delivery of a callback.
type DeliveryPath struct {
	CallbackPath
	Delivery string `path:"delivery" maxLength:"64" doc:"Number of the delivery."`
}

type deliveryList struct{ Body CallbackDeliveryList }

// shownAttempts is how many attempts of a delivery are shown.
const shownAttempts = 100

func (a *API) routeCallbackDeliveries() {
	const about = "Newest first. A delivery that succeeds at once is listed within a second; one that does not, as soon as it was tried."
	register(a, huma.Operation{
		OperationID: "listAllCallbackDeliveries", Method: http.MethodGet, Path: "/v1/callbacks/deliveries", Tags: []string{tagCallbacks},
		Summary: "List deliveries of all callbacks", Description: about + " Those of requests' callbacks too." + needsClient,
	}, func(ctx context.Context, c *call, in *struct{ DeliveryFilter }) (*deliveryList, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		return a.deliveries(ctx, c, 0, &in.DeliveryFilter)
	})

	register(a, huma.Operation{
		OperationID: "listCallbackDeliveries", Method: http.MethodGet, Path: "/v1/callbacks/{id}/deliveries", Tags: []string{tagCallbacks},
		Summary: "List deliveries of a callback", Description: about,
	}, func(ctx context.Context, c *call, in *struct {
		CallbackPath
		DeliveryFilter
	}) (*deliveryList, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		t, err := a.Callbacks.Target(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox)
		if err != nil {
			return nil, err
		}
		return a.deliveries(ctx, c, t.ID, &in.DeliveryFilter)
	})

	register(a, huma.Operation{
		OperationID: "getCallbackDelivery", Method: http.MethodGet, Path: "/v1/callbacks/{id}/deliveries/{delivery}", Tags: []string{tagCallbacks},
		Summary: "Get a delivery", Description: "With its attempts.",
	}, func(ctx context.Context, c *call, in *DeliveryPath) (*struct{ Body CallbackDelivery }, error) {
		d, attempts, err := a.delivery(ctx, c, in)
		if err != nil {
			return nil, err
		}
		v := callbackDelivery(d)
		v.Log = wire.Each(attempts, callbackAttempt)
		return &struct{ Body CallbackDelivery }{v}, nil
	})

	register(a, huma.Operation{
		OperationID: "redriveCallbackDelivery", Method: http.MethodPost, Path: "/v1/callbacks/{id}/deliveries/{delivery}/redrive", Tags: []string{tagCallbacks},
		Summary: "Redrive a delivery", Description: "One that was given up or skipped waits again, under the same webhook-id. 409 in any other state.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *DeliveryPath) (*struct{}, error) {
		d, _, err := a.delivery(ctx, c, in)
		if err != nil {
			return nil, err
		}
		// It and no other: numbers of deliveries follow each other.
		n, _, err := a.Callbacks.Redrive(ctx, callback.DeliveryQuery{
			Tenant: d.Tenant, Sandbox: c.Client.Sandbox, Target: d.Target, After: d.ID - 1, Before: d.ID + 1,
		}, false)
		if err == nil && n == 0 {
			err = bankfeed.Errorf(bankfeed.Conflict, "it is %s", d.State)
		}
		return nil, err
	})

	register(a, huma.Operation{
		OperationID: "redriveCallback", Method: http.MethodPost, Path: "/v1/callbacks/{id}/redrive", Tags: []string{tagCallbacks},
		Summary: "Redrive deliveries", Description: "All that were given up or skipped wait again, under the same webhook-id, or those that fit the filter.",
		DefaultStatus: http.StatusAccepted, Responses: dryRunResponse(),
	}, a.redriveCallback)

	register(a, huma.Operation{
		OperationID: "replayCallback", Method: http.MethodPost, Path: "/v1/callbacks/{id}/replay", Tags: []string{tagCallbacks},
		Summary: "Replay events to a subscription",
		Description: "Sends events of the log again, delivered before or not, each under a new webhook-id and with the first one as Bankfeed-Original-Id. " +
			"At most 100,000 at once.",
		DefaultStatus: http.StatusAccepted, Responses: dryRunResponse(),
	}, a.replayCallback)
}

func dryRunResponse() map[string]*huma.Response {
	return map[string]*huma.Response{
		"200": {Description: "OK: the answer to a dry run", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/CallbackCount"}}}},
	}
}

// delivery finds a delivery of the callback that is named with it.
func (a *API) delivery(ctx context.Context, c *call, in *DeliveryPath) (callback.Delivery, []callback.Attempt, error) {
	var none callback.Delivery
	if err := ofClient(c); err != nil {
		return none, nil, err
	}
	id := number[callback.DeliveryID](a, c, bankfeed.KindDelivery, in.Delivery)
	d, attempts, err := a.Callbacks.Delivery(ctx, c.Client.Tenant, c.Client.Sandbox, id, shownAttempts)
	if err == nil && d.Target != a.callbackKey(c, in.ID).ID {
		err = bankfeed.ErrNotFound
	}
	if err != nil {
		return none, nil, err
	}
	return d, attempts, nil
}

// deliveries lists what a filter selects.
func (a *API) deliveries(ctx context.Context, c *call, target callback.TargetID, f *DeliveryFilter) (*deliveryList, error) {
	q := callback.DeliveryQuery{Tenant: c.Client.Tenant, Sandbox: c.Client.Sandbox, Target: target, From: f.From, To: f.To, Limit: f.Limit}
	before, err := readNumberCursor[callback.DeliveryID](f.After)
	if err != nil {
		return nil, err
	}
	q.Before = before
	some, err := a.deliveryFilter(c, "query", &q, f.States, f.Causes, f.Types, f.User, f.Connection)
	if err != nil {
		return nil, err
	}
	var event bankfeed.UUID
	if f.Event != "" {
		if event, err = bankfeed.ParseUUID(f.Event); err != nil {
			return nil, bankfeed.InvalidField("query.event", "expected a UUID")
		}
		_, tenant, lane, position, ok := bankfeed.ParseEventID(event)
		some = some && ok && tenant == q.Tenant && position > 0
		q.Lane, q.Position = lane, position
	}
	out := CallbackDeliveryList{Items: []CallbackDelivery{}}
	if !some {
		return &deliveryList{out}, nil
	}
	list, err := a.Callbacks.Deliveries(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		// A position means something only together with its epoch, or replay.
		if f.Event == "" || d.EventID() == event || d.MessageID() == event {
			out.Items = append(out.Items, callbackDelivery(d))
		}
	}
	if len(list) == f.Limit {
		out.Next = numberCursor(list[len(list)-1].ID)
	}
	return &deliveryList{out}, nil
}

// deliveryFilter reads what lists and redrives have in common. some is false if it
// names something of somebody else: then nothing is found.
func (a *API) deliveryFilter(c *call, place string, q *callback.DeliveryQuery, states, causes, types []string, user, connection string) (some bool, err error) {
	for _, s := range states {
		q.States = append(q.States, callback.State(s))
	}
	for _, x := range causes {
		q.Causes = append(q.Causes, callback.Cause(x))
	}
	if q.Types, err = eventTypes(types); err != nil {
		return false, bankfeed.InvalidField(place+".types", "expected event types or groups such as transaction.*")
	}
	u, err := a.eventID(c, bankfeed.KindUser, place+".user", user)
	if err != nil {
		return false, err
	}
	k, err := a.eventID(c, bankfeed.KindConnection, place+".connection", connection)
	q.User, q.Connection = bankfeed.UserID(u), bankfeed.ConnectionID(k)
	return u >= 0 && k >= 0, err
}

func (a *API) redriveCallback(ctx context.Context, c *call, in *struct {
	CallbackPath
	Body *DeliverySelection
}) (*callbackCounted, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	t, err := a.Callbacks.Target(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox)
	if err != nil {
		return nil, err
	}
	b := in.Body
	if b == nil {
		b = &DeliverySelection{}
	}
	q := callback.DeliveryQuery{Tenant: t.Tenant, Sandbox: t.Sandbox, Target: t.ID, From: timeOf(b.From), To: timeOf(b.To)}
	some, err := a.deliveryFilter(c, "body", &q, b.States, b.Causes, b.Types, b.User, b.Connection)
	if err != nil {
		return nil, err
	}
	out := &callbackCounted{Status: http.StatusAccepted}
	if b.DryRun {
		out.Status = http.StatusOK
	}
	if some {
		out.Body.Count, out.Body.More, err = a.Callbacks.Redrive(ctx, q, b.DryRun)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (a *API) replayCallback(ctx context.Context, c *call, in *struct {
	CallbackPath
	Body *EventSelection
}) (*callbackCounted, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	b := in.Body
	if b == nil {
		b = &EventSelection{}
	}
	q := callback.ReplayQuery{
		Key: a.callbackKey(c, in.ID), Sandbox: c.Client.Sandbox, From: timeOf(b.From), To: timeOf(b.To),
		First: bankfeed.Position(b.First), Last: bankfeed.Position(b.Last),
	}
	var filter callback.Settings
	if err := a.callbackFilter(ctx, c, &CallbackPatch{Types: &b.Types, User: &b.User, Connection: &b.Connection, Account: &b.Account}, &filter); err != nil {
		return nil, err
	}
	q.Types, q.User, q.Connection, q.Account = filter.Types, filter.User, filter.Connection, filter.Account
	n, replay, err := a.Callbacks.Replay(ctx, q, b.DryRun)
	if err != nil {
		return nil, err
	}
	out := &callbackCounted{Status: http.StatusAccepted, Body: CallbackCount{Count: min(n, callback.MaxReplay), More: n > callback.MaxReplay, Replay: wire.Decimal(number64(replay))}}
	if b.DryRun {
		out.Status, out.Body.Replay = http.StatusOK, ""
	}
	return out, nil
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
