package native

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Linker links and renews connections and passes on what their users answer.
type Linker interface {
	Link(ctx context.Context, l bankfeed.Linking) (bankfeed.Linked, error)
	Answer(ctx context.Context, a bankfeed.Answer) (bankfeed.LinkStep, error)
}

// Remover ends consents at the bank and removes data, in the background.
type Remover interface {
	DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) error
	DeleteConsent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, consent bankfeed.ConsentID) error
	DeleteAccount(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID) error
}

// Catalogue is the list of banks of one world: sandbox or live.
type Catalogue interface {
	Providers(sandbox bool) []bankfeed.Provider
	Provider(id string, sandbox bool) (bankfeed.Provider, error)
}

// ConnectionReader reads a user's connections; bankfeed.ErrNotFound for one
// that is unknown or another's.
type ConnectionReader interface {
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
	Connection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error)
}

// LinkRequest asks for a connection to a bank.
type LinkRequest struct {
	User       string `json:"user,omitempty" doc:"The user, unless the query or the token says so."`
	ProviderID string `json:"provider_id" minLength:"1" maxLength:"100" example:"200"`
	LinkOptions
}

// RenewRequest asks for a new consent of a connection.
type RenewRequest struct {
	User string `json:"user,omitempty" doc:"The user, unless the query or the token says so."`
	LinkOptions
}

// LinkOptions are what linking and renewing have in common.
type LinkOptions struct {
	Channels          []LinkChannel `json:"channels" minItems:"1" maxItems:"2" nullable:"false"`
	RedirectURL       string        `json:"redirect_url,omitempty" maxLength:"2048" doc:"Where the PSU's browser ends up; without it on a page of the hub."`
	SessionExternalID string        `json:"session_external_id,omitempty" maxLength:"512" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Your own id of the session."`
	ConsentExternalID string        `json:"consent_external_id,omitempty" maxLength:"512" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Your own id of the consent."`
}

// LinkChannel is one channel to link.
type LinkChannel struct {
	Mode        string       `json:"mode" enum:"REDIRECT,EMBEDDED"`
	Credentials *Credentials `json:"credentials,omitempty" doc:"For EMBEDDED only, when the PSU typed them into your own page; without them the PSU gives them on a page of the hub."`
}

// Credentials are a PSU's own for the bank.
type Credentials struct {
	Login    bankfeed.Secret `json:"login" minLength:"1" maxLength:"512"`
	Password bankfeed.Secret `json:"password,omitempty" maxLength:"512"`
}

// Linked is what came of a request to link.
type Linked struct {
	Connection wire.Connection `json:"connection"`
	Session    wire.Session    `json:"session"`
	Steps      []wire.Step     `json:"steps" nullable:"false" doc:"What each channel needs next from its user."`
}

// AnswerRequest is a PSU's answer to a challenge.
type AnswerRequest struct {
	User     string          `json:"user,omitempty" doc:"The user, unless the query or the token says so."`
	Mode     string          `json:"mode,omitempty" enum:"REDIRECT,EMBEDDED" doc:"The channel, if more than one has a challenge."`
	Login    bankfeed.Secret `json:"login,omitempty" maxLength:"512" doc:"For CREDENTIALS."`
	Password bankfeed.Secret `json:"password,omitempty" maxLength:"512" doc:"For CREDENTIALS."`
	MethodID string          `json:"method_id,omitempty" maxLength:"512" doc:"For METHOD: the id of the chosen one."`
	Code     bankfeed.Secret `json:"code,omitempty" maxLength:"512" doc:"For CODE."`
}

// ConnectionList is all connections of a user.
type ConnectionList struct {
	Items []wire.Connection `json:"items" nullable:"false"`
}

type linkedBody struct {
	Location string `header:"Location"`
	Body     Linked
}

func (a *API) routeConnections() {
	register(a, huma.Operation{
		OperationID: "createConnection", Method: http.MethodPost, Path: "/v1/connections", Tags: []string{tagConnections},
		Summary:       "Link a bank",
		Description:   "Begins a session. Send the PSU's browser to each redirect_url and answer each challenge; the rest shows in the event log. Without PSU-IP-Address an EMBEDDED channel is answered with a redirect_url too: the hub's own page, which learns the address from the browser.",
		DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, c *call, in *struct {
		Scope
		Attended
		Body LinkRequest
	}) (*linkedBody, error) {
		l, err := a.linking(ctx, c, in.Body.LinkOptions, in.Attended, in.User, in.Body.User)
		if err != nil {
			return nil, err
		}
		l.Provider = in.Body.ProviderID
		return a.link(ctx, c, l, func(r bankfeed.Linked) string { return "/v1/connections/" + wire.Decimal(r.Connection.ID) })
	})

	register(a, huma.Operation{
		OperationID: "renewConnection", Method: http.MethodPost, Path: "/v1/connections/{id}/renew", Tags: []string{tagConnections},
		Summary:       "Renew the consent of a connection",
		Description:   "As linking, for a connection that exists: after a consent ended, a password changed, or to add a channel.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct {
		PathScoped
		Attended
		Body RenewRequest
	}) (*linkedBody, error) {
		l, err := a.linking(ctx, c, in.Body.LinkOptions, in.Attended, in.User, in.Body.User)
		if err != nil {
			return nil, err
		}
		connection, err := a.Reader.Connection(ctx, l.Tenant, l.User, number[bankfeed.ConnectionID](a, c, bankfeed.KindConnection, in.ID))
		if err != nil {
			return nil, err
		}
		l.Renew = connection.ID
		return a.link(ctx, c, l, func(r bankfeed.Linked) string { return "/v1/sessions/" + wire.Decimal(r.Session.ID) })
	})
	a.routeAnswers()

	register(a, huma.Operation{
		OperationID: "listConnections", Method: http.MethodGet, Path: "/v1/connections", Tags: []string{tagConnections}, Summary: "List connections",
	}, func(ctx context.Context, c *call, in *struct{ Scope }) (*struct{ Body ConnectionList }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		list, err := a.Reader.Connections(ctx, c.Client.Tenant, user)
		if err != nil {
			return nil, err
		}
		return &struct{ Body ConnectionList }{ConnectionList{wire.Each(list, a.renderer(c).Connection)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getConnection", Method: http.MethodGet, Path: "/v1/connections/{id}", Tags: []string{tagConnections}, Summary: "Get a connection",
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{ Body wire.Connection }, error) {
		connection, err := a.connection(ctx, c, in.PathScoped)
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Connection }{a.renderer(c).Connection(connection)}, nil
	})

	register(a, huma.Operation{
		OperationID: "deleteConnection", Method: http.MethodDelete, Path: "/v1/connections/{id}", Tags: []string{tagConnections},
		Summary:       "Delete a connection",
		Description:   "Ends its consents at the bank and removes its data, in the background; connection.deleted follows in the event log.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{}, error) {
		connection, err := a.connection(ctx, c, in.PathScoped)
		if err != nil {
			return nil, err
		}
		return nil, a.Remover.DeleteConnection(ctx, c.Client.Tenant, connection.User, connection.ID)
	})
}

func (a *API) routeAnswers() {
	register(a, huma.Operation{
		OperationID: "answerChallenge", Method: http.MethodPost, Path: "/v1/connections/{id}/answers", Tags: []string{tagConnections},
		Summary:     "Answer a challenge",
		Description: "Passes on what the PSU answered: credentials, the choice of a method, or a code. The answer is the channel's next step; with neither redirect_url nor challenge it is on its way.",
	}, func(ctx context.Context, c *call, in *struct {
		PathScoped
		Attended
		Body AnswerRequest
	}) (*struct{ Body wire.Step }, error) {
		psu, err := in.psu()
		if err != nil {
			return nil, err
		}
		b := in.Body
		if b.Login == "" && b.Password == "" && b.MethodID == "" && b.Code == "" {
			return nil, bankfeed.InvalidField("body", "expected login and password, method_id, or code")
		}
		connection, err := a.connection(ctx, c, in.PathScoped, b.User)
		if err != nil {
			return nil, err
		}
		next, err := a.Linker.Answer(ctx, bankfeed.Answer{
			Tenant: c.Client.Tenant, User: connection.User, Connection: connection.ID, Mode: bankfeed.Mode(b.Mode), PSU: psu,
			Login: b.Login, Password: b.Password, MethodID: b.MethodID, Code: b.Code,
		})
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Step }{wire.StepOf(next)}, nil
	})
}

// connection finds the connection that a path names.
func (a *API) connection(ctx context.Context, c *call, in PathScoped, users ...string) (bankfeed.Connection, error) {
	user, err := a.user(ctx, c, append(users, in.User)...)
	if err != nil {
		return bankfeed.Connection{}, err
	}
	return a.Reader.Connection(ctx, c.Client.Tenant, user, number[bankfeed.ConnectionID](a, c, bankfeed.KindConnection, in.ID))
}

func (a *API) linking(ctx context.Context, c *call, o LinkOptions, at Attended, users ...string) (bankfeed.Linking, error) {
	psu, err := at.psu()
	if err != nil {
		return bankfeed.Linking{}, err
	}
	user, err := a.user(ctx, c, users...)
	if err != nil {
		return bankfeed.Linking{}, err
	}
	l := bankfeed.Linking{
		Tenant: c.Client.Tenant, User: user, Sandbox: c.Client.Sandbox, RedirectURL: o.RedirectURL, PSU: psu,
		SessionExternalID: o.SessionExternalID, ConsentExternalID: o.ConsentExternalID,
	}
	for _, ch := range o.Channels {
		lc := bankfeed.LinkChannel{Mode: bankfeed.Mode(ch.Mode)}
		if ch.Credentials != nil {
			lc.Login, lc.Password = ch.Credentials.Login, ch.Credentials.Password
		}
		l.Channels = append(l.Channels, lc)
	}
	return l, nil
}

func (a *API) link(ctx context.Context, c *call, l bankfeed.Linking, location func(bankfeed.Linked) string) (*linkedBody, error) {
	done, err := a.Linker.Link(ctx, l)
	if err != nil {
		return nil, err
	}
	r := a.renderer(c)
	return &linkedBody{
		Location: location(done),
		Body:     Linked{Connection: r.Connection(done.Connection), Session: r.Session(done.Session), Steps: wire.Each(done.Steps, wire.StepOf)},
	}, nil
}
