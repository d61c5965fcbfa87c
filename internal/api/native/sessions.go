package native

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Syncer starts sessions, or joins the one that is running.
type Syncer interface {
	Synchronize(ctx context.Context, o bankfeed.SyncOrder) (session bankfeed.Session, joined bool, err error)
}

// SessionReader reads a user's sessions.
type SessionReader interface {
	// Sessions lists newest first, of one connection or of all (0), those with
	// numbers below before (0: from the newest).
	Sessions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID, before bankfeed.SessionID, limit int) ([]bankfeed.Session, error)
	// SessionsByExternalID lists newest first, also those that a request with
	// that external id joined.
	SessionsByExternalID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, externalID string) ([]bankfeed.Session, error)
	Session(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.SessionID) (bankfeed.Session, error)
}

// SessionRequest asks for a session.
type SessionRequest struct {
	User       string `json:"user,omitempty" doc:"The user, unless the query or the token says so."`
	Type       string `json:"type,omitempty" enum:"ALL,LIST_ACCOUNTS" default:"ALL" doc:"LIST_ACCOUNTS is followed by a session ALL of its own."`
	ExternalID string `json:"external_id,omitempty" maxLength:"512" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Your own id of the session."`
}

// SessionList is a page of sessions.
type SessionList struct {
	Items []wire.Session `json:"items" nullable:"false"`
	Next  string         `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

func (a *API) routeSessions() {
	register(a, huma.Operation{
		OperationID: "synchronize", Method: http.MethodPost, Path: "/v1/connections/{id}/sessions", Tags: []string{tagSessions},
		Summary:       "Synchronize a connection",
		Description:   "Starts a session, or joins the one that is running. With PSU-IP-Address it is attended: the bank does not count it. What happens shows in the event log; sync.succeeded or sync.failed is its last event.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct {
		PathScoped
		Attended
		Body *SessionRequest
	}) (*struct {
		Location string `header:"Location"`
		Body     wire.Session
	}, error) {
		order := SessionRequest{Type: string(bankfeed.SessionAll)}
		if in.Body != nil {
			order = *in.Body
		}
		psu, err := in.psu()
		if err != nil {
			return nil, err
		}
		connection, err := a.connection(ctx, c, in.PathScoped, order.User)
		if err != nil {
			return nil, err
		}
		s, joined, err := a.Syncer.Synchronize(ctx, bankfeed.SyncOrder{
			Tenant: c.Client.Tenant, User: connection.User, Connection: connection.ID, Type: bankfeed.SessionType(order.Type),
			PSU: psu, Initiator: bankfeed.ByUser, ExternalID: order.ExternalID,
		})
		if err != nil {
			return nil, err
		}
		v := a.renderer(c).Session(s)
		v.Joined = joined
		return &struct {
			Location string `header:"Location"`
			Body     wire.Session
		}{"/v1/sessions/" + v.ID, v}, nil
	})

	register(a, huma.Operation{
		OperationID: "listSessions", Method: http.MethodGet, Path: "/v1/sessions", Tags: []string{tagSessions},
		Summary: "List sessions", Description: "Newest first.",
	}, a.listSessions)

	register(a, huma.Operation{
		OperationID: "getSession", Method: http.MethodGet, Path: "/v1/sessions/{id}", Tags: []string{tagSessions}, Summary: "Get a session",
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{ Body wire.Session }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		s, err := a.Reader.Session(ctx, c.Client.Tenant, user, number[bankfeed.SessionID](a, c, bankfeed.KindSession, in.ID))
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Session }{a.renderer(c).Session(s)}, nil
	})
}

func (a *API) listSessions(ctx context.Context, c *call, in *struct {
	Scope
	OfConnection
	ExternalID string `query:"external_id" maxLength:"512" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Only those started or joined with this external id; not paged."`
	After      string `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}) (*struct{ Body SessionList }, error) {
	user, err := a.user(ctx, c, in.User)
	if err != nil {
		return nil, err
	}
	connection, err := a.ofConnection(ctx, c, user, in.OfConnection)
	if err != nil {
		return nil, err
	}
	before, err := readNumberCursor[bankfeed.SessionID](in.After)
	if err != nil {
		return nil, err
	}
	var list []bankfeed.Session
	if !utf8.ValidString(in.ExternalID) {
		return nil, bankfeed.InvalidField("query.external_id", "expected text in UTF-8")
	}
	if in.ExternalID != "" {
		all, err := a.Reader.SessionsByExternalID(ctx, c.Client.Tenant, user, in.ExternalID)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if connection == 0 || s.Connection == connection {
				list = append(list, s)
			}
		}
		return &struct{ Body SessionList }{SessionList{Items: wire.Each(list, a.renderer(c).Session)}}, nil
	}
	list, err = a.Reader.Sessions(ctx, c.Client.Tenant, user, connection, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := SessionList{Items: wire.Each(list, a.renderer(c).Session)}
	if len(list) == in.Limit {
		out.Next = numberCursor(list[len(list)-1].ID)
	}
	return &struct{ Body SessionList }{out}, nil
}

// OfConnection narrows a list to one connection.
type OfConnection struct {
	Connection string `query:"connection" doc:"Only those of this connection, by number or UUID."`
}

// ofConnection reads the filter: 0 for none, and an error unless the connection
// is the user's.
func (a *API) ofConnection(ctx context.Context, c *call, user bankfeed.UserID, in OfConnection) (bankfeed.ConnectionID, error) {
	if in.Connection == "" {
		return 0, nil
	}
	found, err := a.Reader.Connection(ctx, c.Client.Tenant, user, number[bankfeed.ConnectionID](a, c, bankfeed.KindConnection, in.Connection))
	return found.ID, err
}
