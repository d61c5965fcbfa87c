package native

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// EventLog reads the events of a tenant and waits for new ones.
type EventLog interface {
	Read(ctx context.Context, q eventlog.Query, after eventlog.Cursor, wait time.Duration) (eventlog.Page, error)
	Oldest(ctx context.Context, tenant bankfeed.TenantID) (eventlog.Cursor, error)
	Newest(ctx context.Context, tenant bankfeed.TenantID) (eventlog.Cursor, error)
}

// EventFilter narrows the log.
type EventFilter struct {
	After      string   `query:"after" maxLength:"200" doc:"Where to go on: next of the answer before. Without it from the oldest event that is left; latest: only what comes from now on."`
	Types      []string `query:"types" nullable:"false" maxItems:"100" maxLength:"64" doc:"Only these types, separated by commas; transaction.* stands for all of a group." example:"transaction.*,sync.succeeded"`
	User       string   `query:"user" doc:"Only events of this user, by number or UUID. A client's token sees all its users without it."`
	Connection string   `query:"connection" doc:"Only events of this connection, by number or UUID; it need not exist any more."`
	Account    string   `query:"account" doc:"Only events of this account, by number or UUID."`
	Session    string   `query:"session" doc:"Only events of this session, by number or UUID."`
}

// EventList is a page of the log.
type EventList struct {
	Items []wire.Event `json:"items" nullable:"false"`
	Next  string       `json:"next" doc:"Send it as after to go on. Always there, also when there are no events; keep it when you have dealt with the events."`
}

// latest asks for what comes from now on.
const latest = "latest"

func (a *API) routeEvents() {
	register(a, huma.Operation{
		OperationID: "listEvents", Method: http.MethodGet, Path: "/v1/events", Tags: []string{tagEvents},
		Summary:     "Read the event log",
		Description: "In commit order, from a cursor that you keep. Reading again from an older cursor gives the same events again. With wait the answer comes as soon as there is an event.",
		Responses:   a.gone(),
	}, func(ctx context.Context, c *call, in *struct {
		EventFilter
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		Wait  int `query:"wait" minimum:"0" maximum:"30" doc:"Seconds to wait for an event if there is none."`
	}) (*struct{ Body EventList }, error) {
		q, after, err := a.eventQuery(ctx, c, in.EventFilter, in.Limit)
		if err != nil {
			return nil, err
		}
		p, err := a.readEvents(ctx, c, q, after, time.Duration(in.Wait)*time.Second)
		if ctx.Err() != nil { // the hub is about to stop, or nobody is there to read it
			p, err = eventlog.Page{Next: after}, nil
		}
		if err != nil {
			return nil, err
		}
		return &struct{ Body EventList }{EventList{Items: wire.Each(p.Events, a.renderer(c).Event), Next: p.Next.String()}}, nil
	})

	stream := a.gone()
	stream["200"] = &huma.Response{
		Description: "Server-sent events: id is a cursor, event the type, data the event as in the list. A comment comes every 15 seconds, with the cursor reached by then. An event problem, with a problem as its data, is the last one before the stream ends for a reason.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	register(a, huma.Operation{
		OperationID: "streamEvents", Method: http.MethodGet, Path: "/v1/events/stream", Tags: []string{tagEvents},
		Summary:     "Follow the event log",
		Description: "The same as a stream of server-sent events, which never ends by itself.",
		Responses:   stream,
	}, func(ctx context.Context, c *call, in *struct {
		EventFilter
		LastEventID string `header:"Last-Event-ID" maxLength:"200" doc:"The id of the last event that was received; wins over after."`
	}) (*huma.StreamResponse, error) {
		if in.LastEventID != "" {
			in.After = in.LastEventID
		}
		q, after, err := a.eventQuery(ctx, c, in.EventFilter, streamPage)
		if err != nil {
			return nil, err
		}
		// Read once before the status is written, so that a cursor that cannot
		// be followed is an HTTP error.
		p, err := a.readEvents(ctx, c, q, after, 0)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(huma.Context) { a.stream(ctx, c, q, after, p) }}, nil
	})
}

// eventQuery reads the filter and the cursor.
func (a *API) eventQuery(ctx context.Context, c *call, f EventFilter, limit int) (q eventlog.Query, after eventlog.Cursor, err error) {
	q = eventlog.Query{Tenant: c.Client.Tenant, Limit: limit}
	if q.Types, err = eventTypes(f.Types); err != nil {
		return q, after, err
	}
	connection, err1 := a.eventID(c, bankfeed.KindConnection, "query.connection", f.Connection)
	account, err2 := a.eventID(c, bankfeed.KindAccount, "query.account", f.Account)
	session, err3 := a.eventID(c, bankfeed.KindSession, "query.session", f.Session)
	if err = errors.Join(err1, err2, err3); err != nil {
		return q, after, err
	}
	q.Connection, q.Account, q.Session = bankfeed.ConnectionID(connection), bankfeed.AccountID(account), bankfeed.SessionID(session)
	if f.User != "" || c.User != 0 {
		if q.User, err = a.user(ctx, c, f.User); err != nil {
			return q, after, err
		}
	}
	switch f.After {
	case "":
		after, err = a.Events.Oldest(ctx, q.Tenant)
	case latest:
		after, err = a.Events.Newest(ctx, q.Tenant)
	default:
		after, err = eventlog.ParseCursor(f.After)
	}
	return q, after, inQuery(err)
}

// eventID reads the id of a thing that need not exist any more. The UUID of
// another installation or tenant names nothing here.
func (a *API) eventID(c *call, kind bankfeed.Kind, field, s string) (int64, error) {
	const nothing = -1
	if s == "" {
		return 0, nil
	}
	if n, ok := a.Installation.ParseID(s, kind, c.Client.Tenant); ok {
		return n, nil
	}
	if _, err := bankfeed.ParseUUID(s); err != nil {
		return 0, bankfeed.InvalidField(field, "expected a number or a UUID")
	}
	return nothing, nil
}

// eventTypes resolves groups such as transaction.*.
func eventTypes(names []string) ([]bankfeed.EventType, error) {
	var types []bankfeed.EventType
	for _, name := range names {
		before := len(types)
		group, isGroup := strings.CutSuffix(name, "*")
		for _, info := range bankfeed.EventTypes {
			t := string(info.Type)
			if t == name || isGroup && strings.HasSuffix(group, ".") && strings.HasPrefix(t, group) {
				types = append(types, info.Type)
			}
		}
		if len(types) == before {
			return nil, bankfeed.InvalidField("query.types", "expected event types or groups such as transaction.*, separated by commas")
		}
	}
	slices.Sort(types)
	return slices.Compact(types), nil
}

// inQuery says where the fields are that the log names.
func inQuery(err error) error {
	var e *bankfeed.Error
	if errors.As(err, &e) && e.Field != "" && !strings.Contains(e.Field, ".") {
		placed := *e
		placed.Field = "query." + e.Field
		return &placed
	}
	return err
}

// readEvents reads what the caller may see. Without a user in the query, events
// of the other world (sandbox or live) are taken out, and waiting goes on if
// none is left.
func (a *API) readEvents(ctx context.Context, c *call, q eventlog.Query, after eventlog.Cursor, wait time.Duration) (eventlog.Page, error) {
	until := time.Now().Add(wait)
	for {
		p, err := a.Events.Read(ctx, q, after, wait)
		if err != nil || q.User != 0 || len(p.Events) == 0 {
			return p, inQuery(err)
		}
		p.Events, err = a.worlds.visible(ctx, c.Client, p.Events)
		if err != nil || len(p.Events) > 0 || wait <= 0 {
			return p, err
		}
		after, wait = p.Next, time.Until(until)
	}
}
