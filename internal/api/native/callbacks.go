package native

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Callbacks keeps receivers and tells what became of deliveries;
// bankfeed.ErrNotFound for what is unknown, another's or of the other world.
type Callbacks interface {
	// Check, Subscribe and Edit name fields at fault below field.
	Check(ctx context.Context, field string, t callback.Target) error
	Subscribe(ctx context.Context, field string, t callback.Target) (callback.Target, error)
	Edit(ctx context.Context, key callback.Key, sandbox bool, field string, edit func(*callback.Target) error) (callback.Target, error)
	Set(ctx context.Context, key callback.Key, sandbox bool, to callback.Status, from ...callback.Status) (callback.Target, error)
	Delete(ctx context.Context, key callback.Key, sandbox bool) error
	Target(ctx context.Context, key callback.Key, sandbox bool) (callback.Target, error)
	Targets(ctx context.Context, q callback.TargetQuery) ([]callback.Target, error)
	Counts(ctx context.Context, key callback.Key) (callback.Counts, error)
	Deliveries(ctx context.Context, q callback.DeliveryQuery) ([]callback.Delivery, error)
	Delivery(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, id callback.DeliveryID, attempts int) (callback.Delivery, []callback.Attempt, error)
	Redrive(ctx context.Context, q callback.DeliveryQuery, dry bool) (n int, more bool, err error)
	Replay(ctx context.Context, q callback.ReplayQuery, dry bool) (n int, replay int64, err error)
}

// CallbackRequest asks for a subscription.
type CallbackRequest struct {
	Name       string           `json:"name,omitempty" maxLength:"200" doc:"For people."`
	URL        string           `json:"url" minLength:"1" maxLength:"2048" doc:"Absolute, any port; https except for clients of the sandbox. User and password become basic authentication." example:"https://receiver.example/bankfeed"`
	Types      []string         `json:"types,omitempty" nullable:"false" maxItems:"100" doc:"Only these types of event; transaction.* stands for all of a group that there are today. Without it all." example:"[\"transaction.*\",\"sync.succeeded\"]"`
	User       string           `json:"user,omitempty" maxLength:"64" doc:"Only events of this user, by number or UUID."`
	Connection string           `json:"connection,omitempty" maxLength:"64" doc:"Only events of this connection, by number or UUID. Likewise account."`
	Account    string           `json:"account,omitempty" maxLength:"64"`
	Ordered    bool             `json:"ordered,omitempty" doc:"What follows for a connection waits until what went before was delivered or given up."`
	Concurrent int              `json:"concurrent,omitempty" minimum:"0" maximum:"256" doc:"Attempts at the same time, at most; 0: as the hub does."`
	PerSecond  int              `json:"per_second,omitempty" minimum:"0" maximum:"10000" doc:"Attempts a second, at most; 0: no limit."`
	MaxRetries *int             `json:"max_retries,omitempty" minimum:"0" maximum:"50" doc:"Attempts after the first, at most. Without it the whole schedule."`
	Headers    *CallbackHeaders `json:"headers,omitempty"`
	After      string           `json:"after,omitempty" maxLength:"200" doc:"Where in the log it begins: a cursor of GET /v1/events; oldest: with the oldest event that is left. Without it only what comes from now on."`
}

// CallbackPatch changes a subscription. Members that are absent stay as they are.
type CallbackPatch struct {
	Name       *string          `json:"name,omitempty" maxLength:"200"`
	URL        *string          `json:"url,omitempty" minLength:"1" maxLength:"2048" doc:"The whole of it, with what is shown as ***. As it is shown: it stays."`
	Types      *[]string        `json:"types,omitempty" nullable:"false" maxItems:"100" doc:"An empty list: all."`
	User       *string          `json:"user,omitempty" maxLength:"64" doc:"Empty: events of all users. Likewise connection and account."`
	Connection *string          `json:"connection,omitempty" maxLength:"64"`
	Account    *string          `json:"account,omitempty" maxLength:"64"`
	Ordered    *bool            `json:"ordered,omitempty"`
	Concurrent *int             `json:"concurrent,omitempty" minimum:"0" maximum:"256"`
	PerSecond  *int             `json:"per_second,omitempty" minimum:"0" maximum:"10000"`
	MaxRetries *int             `json:"max_retries,omitempty" minimum:"0" maximum:"50" doc:"50 is more than the schedule has."`
	Headers    *CallbackHeaders `json:"headers,omitempty" doc:"The whole of them; a static header whose value is *** keeps its value."`
}

// CallbackPath names a callback.
type CallbackPath struct {
	ID string `path:"id" maxLength:"64" doc:"Number or UUID of the callback."`
}

func (a *API) callbackKey(c *call, id string) callback.Key {
	return callback.Key{Tenant: c.Client.Tenant, ID: number[callback.TargetID](a, c, bankfeed.KindTarget, id)}
}

type callbackBody struct{ Body Callback }

const needsClient = " Needs a client's token, as everything here."

func (a *API) routeCallbacks() {
	register(a, huma.Operation{
		OperationID: "createCallback", Method: http.MethodPost, Path: "/v1/callbacks", Tags: []string{tagCallbacks},
		Summary: "Create a subscription",
		Description: "Every event that fits is sent to the URL as POST, signed as Standard Webhooks has it, with the body that GET /v1/events shows; an answer of 2xx is success. " +
			"It hears of the users of the client's world, sandbox or live." + needsClient,
		DefaultStatus: http.StatusCreated,
	}, a.createCallback)

	register(a, huma.Operation{
		OperationID: "listCallbacks", Method: http.MethodGet, Path: "/v1/callbacks", Tags: []string{tagCallbacks},
		Summary: "List callbacks", Description: "By number." + needsClient,
	}, a.listCallbacks)

	register(a, huma.Operation{
		OperationID: "getCallback", Method: http.MethodGet, Path: "/v1/callbacks/{id}", Tags: []string{tagCallbacks},
		Summary: "Get a callback", Description: "With its place in the log and the counts of its deliveries.",
	}, a.getCallback)

	register(a, huma.Operation{
		OperationID: "changeCallback", Method: http.MethodPatch, Path: "/v1/callbacks/{id}", Tags: []string{tagCallbacks},
		Summary: "Change a subscription", Description: "It holds for what is sent from now on, deliveries that wait included; a filter for events that were not looked at yet.",
	}, a.changeCallback)

	register(a, huma.Operation{
		OperationID: "deleteCallback", Method: http.MethodDelete, Path: "/v1/callbacks/{id}", Tags: []string{tagCallbacks},
		Summary: "Delete a subscription", Description: "Deliveries that wait end as skipped.",
	}, func(ctx context.Context, c *call, in *CallbackPath) (*struct{}, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		return nil, a.Callbacks.Delete(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox)
	})

	for _, verb := range []struct {
		name, summary, description string
		to                         callback.Status
		from                       []callback.Status
	}{
		{"pause", "Pause a callback", "Nothing is sent; everything waits.", callback.Paused, []callback.Status{callback.Active}},
		{"resume", "Resume a callback", "What waits is sent.", callback.Active, []callback.Status{callback.Paused}},
		{"disable", "Disable a callback", "What comes to a subscription is recorded as skipped, and can be redriven; the callbacks of requests wait.", callback.Disabled, []callback.Status{callback.Active, callback.Paused}},
		{"enable", "Enable a callback", "Also one that its receiver disabled by an answer of 410. What was skipped stays so until it is redriven.", callback.Active, []callback.Status{callback.Disabled}},
	} {
		register(a, huma.Operation{
			OperationID: verb.name + "Callback", Method: http.MethodPost, Path: "/v1/callbacks/{id}/" + verb.name, Tags: []string{tagCallbacks},
			Summary: verb.summary, Description: verb.description, DefaultStatus: http.StatusOK,
		}, func(ctx context.Context, c *call, in *CallbackPath) (*callbackBody, error) {
			if err := ofClient(c); err != nil {
				return nil, err
			}
			t, err := a.Callbacks.Set(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox, verb.to, verb.from...)
			if err != nil {
				return nil, err
			}
			return &callbackBody{a.callback(t)}, nil
		})
	}
	a.routeCallbackSecrets()
	a.routeCallbackDeliveries()
}

type createdCallback struct {
	Location string `header:"Location"`
	Body     Callback
}

func (a *API) createCallback(ctx context.Context, c *call, in *struct{ Body CallbackRequest }) (*createdCallback, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	b := &in.Body
	t := callback.Target{
		Key: callback.Key{Tenant: c.Client.Tenant}, Client: c.Client.ID, Sandbox: c.Client.Sandbox, URL: bankfeed.Secret(b.URL),
		Subscription: &callback.Settings{
			Name: b.Name, Ordered: b.Ordered, Concurrent: b.Concurrent, PerSecond: b.PerSecond, Retries: b.MaxRetries, Headers: callbackHeaders(b.Headers, nil),
		},
	}
	filter := CallbackPatch{Types: &b.Types, User: &b.User, Connection: &b.Connection, Account: &b.Account}
	if err := a.callbackFilter(ctx, c, &filter, t.Subscription); err != nil {
		return nil, err
	}
	at, err := a.callbackStart(ctx, c, b.After)
	if err != nil {
		return nil, err
	}
	for lane, position := range at.Lanes {
		t.Cursors = append(t.Cursors, callback.Cursor{Lane: lane, Epoch: at.Epoch, Position: position})
	}
	if err := a.Callbacks.Check(ctx, "body", t); err != nil {
		return nil, err
	}
	// The secret comes first: once there is a subscription, whoever sends for it
	// makes one that nobody gets to see.
	secret, err := a.CallbackSecrets.First(ctx, t.Tenant)
	if err != nil {
		return nil, err
	}
	if t, err = a.Callbacks.Subscribe(ctx, "body", t); err != nil {
		return nil, err
	}
	out := &createdCallback{"/v1/callbacks/" + wire.Decimal(t.ID), a.callback(t)}
	out.Body.Secret = string(secret)
	return out, nil
}

// callbackStart is where a new subscription begins.
func (a *API) callbackStart(ctx context.Context, c *call, after string) (at eventlog.Cursor, err error) {
	switch after {
	case "":
		return a.Events.Newest(ctx, c.Client.Tenant)
	case "oldest":
		return a.Events.Oldest(ctx, c.Client.Tenant)
	}
	if at, err = eventlog.ParseCursor(after); err != nil {
		return at, bankfeed.InvalidField("body.after", "expected a cursor of GET /v1/events, or oldest")
	}
	// One that cannot be followed is refused now, not later.
	_, err = a.Events.Read(ctx, eventlog.Query{Tenant: c.Client.Tenant, Limit: 1}, at, 0)
	return at, err
}

// callbackFilter reads what a subscription is narrowed to.
func (a *API) callbackFilter(ctx context.Context, c *call, in *CallbackPatch, s *callback.Settings) (err error) {
	if in.Types != nil {
		types, err := eventTypes(*in.Types)
		if err != nil {
			return bankfeed.InvalidField("body.types", "expected event types or groups such as transaction.*")
		}
		s.Types = slices.DeleteFunc(types, func(t bankfeed.EventType) bool { return t.Topic() == bankfeed.TopicSeen })
		if len(s.Types) == 0 && len(types) > 0 {
			return bankfeed.InvalidField("body.types", "callbacks do not carry what was only seen")
		}
	}
	if in.User != nil {
		if s.User = 0; *in.User != "" {
			if s.User, err = a.user(ctx, c, *in.User); err != nil {
				return err
			}
		}
	}
	for _, named := range []struct {
		kind  bankfeed.Kind
		field string
		text  *string
		set   func(int64)
	}{
		{bankfeed.KindConnection, "body.connection", in.Connection, func(n int64) { s.Connection = bankfeed.ConnectionID(n) }},
		{bankfeed.KindAccount, "body.account", in.Account, func(n int64) { s.Account = bankfeed.AccountID(n) }},
	} {
		if named.text == nil {
			continue
		}
		n, err := a.eventID(c, named.kind, named.field, *named.text)
		if err != nil {
			return err
		}
		if n < 0 { // of another installation or tenant
			return bankfeed.ErrNotFound
		}
		named.set(n)
	}
	return nil
}

// callbackHeaders reads headers. What was shown as *** keeps its value.
func callbackHeaders(in *CallbackHeaders, before map[string]bankfeed.Secret) callback.Headers {
	if in == nil {
		return callback.Headers{}
	}
	h := callback.Headers{ID: in.ID, Timestamp: in.Timestamp, Signature: in.Signature}
	kept := map[string]bankfeed.Secret{}
	for name, value := range before {
		kept[http.CanonicalHeaderKey(name)] = value
	}
	for name, value := range in.Static {
		if h.Static == nil {
			h.Static = map[string]bankfeed.Secret{}
		}
		h.Static[name] = bankfeed.Secret(value)
		if old, ok := kept[http.CanonicalHeaderKey(name)]; ok && value == hidden {
			h.Static[name] = old
		}
	}
	return h
}

func (a *API) listCallbacks(ctx context.Context, c *call, in *struct {
	Kind  string `query:"kind" enum:"subscription,request" doc:"Only subscriptions, or only the receivers that requests named."`
	After string `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}) (*struct{ Body CallbackList }, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	after, err := readNumberCursor[callback.TargetID](in.After)
	if err != nil {
		return nil, err
	}
	q := callback.TargetQuery{Tenant: c.Client.Tenant, Sandbox: c.Client.Sandbox, After: after, Limit: in.Limit}
	if in.Kind != "" {
		q.Subscriptions = new(in.Kind == "subscription")
	}
	list, err := a.Callbacks.Targets(ctx, q)
	if err != nil {
		return nil, err
	}
	out := CallbackList{Items: wire.Each(list, a.callback)}
	if len(list) == in.Limit {
		out.Next = numberCursor(list[len(list)-1].ID)
	}
	return &struct{ Body CallbackList }{out}, nil
}

func (a *API) getCallback(ctx context.Context, c *call, in *CallbackPath) (*callbackBody, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	t, err := a.Callbacks.Target(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox)
	if err != nil {
		return nil, err
	}
	v := a.callback(t)
	counts, err := a.Callbacks.Counts(ctx, t.Key)
	if err != nil {
		return nil, err
	}
	v.Counts = callbackCounts(counts)
	if t.Subscription != nil {
		head, err := a.Events.Newest(ctx, t.Tenant)
		if err != nil {
			return nil, err
		}
		v.Progress = progress(t, head)
	}
	return &callbackBody{v}, nil
}

func (a *API) changeCallback(ctx context.Context, c *call, in *struct {
	CallbackPath
	Body CallbackPatch
}) (*callbackBody, error) {
	if err := ofClient(c); err != nil {
		return nil, err
	}
	b := &in.Body
	var filter callback.Settings // looked up once, outside of the change
	if err := a.callbackFilter(ctx, c, b, &filter); err != nil {
		return nil, err
	}
	t, err := a.Callbacks.Edit(ctx, a.callbackKey(c, in.ID), c.Client.Sandbox, "body", func(t *callback.Target) error {
		s := t.Subscription
		set(&s.Name, b.Name)
		set(&s.Ordered, b.Ordered)
		set(&s.Concurrent, b.Concurrent)
		set(&s.PerSecond, b.PerSecond)
		if b.MaxRetries != nil {
			s.Retries = b.MaxRetries
		}
		if b.URL != nil && *b.URL != shownURL(t.URL) {
			t.URL = bankfeed.Secret(*b.URL)
		}
		if b.Types != nil {
			s.Types = filter.Types
		}
		if b.User != nil {
			s.User = filter.User
		}
		if b.Connection != nil {
			s.Connection = filter.Connection
		}
		if b.Account != nil {
			s.Account = filter.Account
		}
		if b.Headers != nil {
			s.Headers = callbackHeaders(b.Headers, s.Headers.Static)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &callbackBody{a.callback(t)}, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
