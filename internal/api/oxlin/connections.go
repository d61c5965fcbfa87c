package oxlin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// LinkRequest is embedded by the bodies that link channels. The generator of
// the document sees only exported types.
type LinkRequest struct {
	Channels          []linkChannel `json:"channels" minItems:"1" maxItems:"2" nullable:"false"`
	RedirectURL       string        `json:"redirect_url,omitempty" maxLength:"2048" doc:"Where the user's browser ends up; absolute, http or https. Without it on a page of the hub."`
	SessionExternalID string        `json:"session_external_id,omitempty" maxLength:"512" doc:"Your own id of this synchronization."`
	ConsentExternalID string        `json:"consent_external_id,omitempty" maxLength:"512" doc:"Your own id of the consent."`
}

type newConnection struct {
	ProviderID string `json:"provider_id" minLength:"1" maxLength:"64"`
	LinkRequest
}

type editCredentials struct {
	LinkRequest
}

type linkChannel struct {
	ChannelDefinitionID string       `json:"channel_definition_id" minLength:"3" maxLength:"66"`
	Credentials         *credentials `json:"credentials,omitempty" doc:"For EMBEDDED. Without them the bank's first challenge asks for them."`
}

type credentials struct {
	Login    bankfeed.Secret `json:"login" minLength:"1" maxLength:"512"`
	Password bankfeed.Secret `json:"password,omitempty" maxLength:"512"`
}

type userInput struct {
	ChannelDefinitionID string          `json:"channel_definition_id,omitempty" maxLength:"66" doc:"Not needed while only one channel has a challenge."`
	Credentials         *credentials    `json:"credentials,omitempty" doc:"To a challenge of the kind CREDENTIALS."`
	MethodID            string          `json:"method_id,omitempty" maxLength:"512" doc:"To a challenge of the kind METHOD."`
	Code                bankfeed.Secret `json:"code,omitempty" maxLength:"512" doc:"To a challenge of the kind CODE."`
}

type syncRequest struct {
	SessionExternalID string `json:"session_external_id,omitempty" maxLength:"512" doc:"Your own id of this synchronization."`
}

var syncType = dialect.Param{Name: "type", Schema: dialect.OneOf([]bankfeed.SessionType{bankfeed.SessionAll, bankfeed.SessionListAccounts}),
	Doc: "Without it ALL. LIST_ACCOUNTS reads the account lists, then an ALL follows by itself."}

// linking reads what both linking and renewing are told.
func (r LinkRequest) linking(c *dialect.Call, user bankfeed.UserID, providerID string) (bankfeed.Linking, error) {
	psu, err := c.PSU()
	if err != nil {
		return bankfeed.Linking{}, err
	}
	if err := checkRedirect(r.RedirectURL); err != nil {
		return bankfeed.Linking{}, err
	}
	l := bankfeed.Linking{
		Tenant: c.Tenant(), User: user, Sandbox: c.Caller.Client.Sandbox, RedirectURL: r.RedirectURL, PSU: psu,
		SessionExternalID: r.SessionExternalID, ConsentExternalID: r.ConsentExternalID,
	}
	for i, ch := range r.Channels {
		at := "channels[" + strconv.Itoa(i) + "]."
		owner, mode, ok := bankfeed.ParseChannelDefinitionID(ch.ChannelDefinitionID)
		if !ok || owner != providerID {
			return l, bankfeed.InvalidField(at+"channel_definition_id", "is not a channel of this provider")
		}
		if slices.ContainsFunc(l.Channels, func(o bankfeed.LinkChannel) bool { return o.Mode == mode }) {
			return l, bankfeed.InvalidField(at+"channel_definition_id", "is there twice")
		}
		lc := bankfeed.LinkChannel{Mode: mode}
		if ch.Credentials != nil {
			if mode == bankfeed.Redirect {
				return l, bankfeed.InvalidField(at+"credentials", "a REDIRECT channel takes none: its user logs in at the bank")
			}
			lc.Login, lc.Password = ch.Credentials.Login, ch.Credentials.Password
		}
		l.Channels = append(l.Channels, lc)
	}
	return l, nil
}

func checkRedirect(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return bankfeed.InvalidField("redirect_url", "must be an absolute http or https URL")
	}
	return nil
}

func (a *API) createConnection(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	var body newConnection
	if err := c.Body(&body); err != nil {
		return err
	}
	l, err := body.linking(c, user, body.ProviderID)
	if err != nil {
		return err
	}
	l.Provider = body.ProviderID
	linked, err := a.Linker.Link(c.Context(), l)
	if err != nil {
		return err
	}
	c.W.Header().Set("Location", connectionPath(linked.Connection.ID))
	return a.writeLinked(c, http.StatusCreated, linked, nil)
}

func connectionPath(id bankfeed.ConnectionID) string {
	return prefix + "/connections/" + strconv.FormatInt(int64(id), 10)
}

func (a *API) editCredentials(c *dialect.Call) error {
	user, id, err := a.owned(c)
	if err != nil {
		return err
	}
	var body editCredentials
	if err := c.Body(&body); err != nil {
		return err
	}
	old, err := a.Reader.Connection(c.Context(), c.Tenant(), user, id)
	if err != nil {
		return err
	}
	l, err := body.linking(c, user, old.ProviderID)
	if err != nil {
		return err
	}
	l.Renew = id
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), user, bankfeed.AccountFilter{Connection: id})
	if err != nil {
		return err
	}
	linked, err := a.Linker.Link(c.Context(), l)
	if err != nil {
		return err
	}
	return a.writeLinked(c, http.StatusOK, linked, accounts)
}

// writeLinked answers with the connection, and on each channel with what its
// user must do next.
func (a *API) writeLinked(c *dialect.Call, status int, linked bankfeed.Linked, accounts []bankfeed.Account) error {
	w, err := a.detail(c, linked.Connection, accounts)
	if err != nil {
		return err
	}
	for _, step := range linked.Steps {
		s := oxlin.RenderStep(linked.Connection.ProviderID, step)
		for i := range w.Channels {
			if ch := &w.Channels[i]; ch.ChannelDefinitionID == s.ChannelDefinitionID {
				ch.RedirectURL, ch.Challenge = s.RedirectURL, s.Challenge
			}
		}
	}
	return c.Write(status, w)
}

// detail adds what the provider defines. A provider that left the hub's list
// leaves its connections readable.
func (a *API) detail(c *dialect.Call, conn bankfeed.Connection, accounts []bankfeed.Account) (oxlin.ConnectionDetail, error) {
	p, err := a.Linker.Provider(conn.ProviderID, c.Caller.Client.Sandbox)
	if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
		return oxlin.ConnectionDetail{}, err
	}
	return oxlin.RenderConnectionDetail(conn, p, accounts), nil
}

// owned reads the user and the connection that a request is about, which need
// not belong together.
func (a *API) owned(c *dialect.Call) (user bankfeed.UserID, id bankfeed.ConnectionID, err error) {
	if user, err = a.user(c); err != nil {
		return 0, 0, err
	}
	id, err = pathID[bankfeed.ConnectionID](c)
	return user, id, err
}

func (a *API) listConnections(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	connections, err := a.Reader.Connections(c.Context(), c.Tenant(), user)
	if err != nil {
		return err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), user, bankfeed.AccountFilter{})
	if err != nil {
		return err
	}
	of := map[bankfeed.ConnectionID][]bankfeed.Account{}
	for _, acc := range accounts {
		of[acc.Connection] = append(of[acc.Connection], acc)
	}
	list := make([]oxlin.ConnectionDetail, len(connections))
	for i, conn := range connections {
		if list[i], err = a.detail(c, conn, of[conn.ID]); err != nil {
			return err
		}
	}
	return c.Write(http.StatusOK, list)
}

func (a *API) getConnection(c *dialect.Call) error {
	user, id, err := a.owned(c)
	if err != nil {
		return err
	}
	conn, err := a.Reader.Connection(c.Context(), c.Tenant(), user, id)
	if err != nil {
		return err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), user, bankfeed.AccountFilter{Connection: id})
	if err != nil {
		return err
	}
	w, err := a.detail(c, conn, accounts)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, w)
}

func (a *API) deleteConnection(c *dialect.Call) error {
	user, id, err := a.owned(c)
	if err != nil {
		return err
	}
	if err := a.Linker.DeleteConnection(c.Context(), c.Tenant(), user, id); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

func (a *API) answerChallenge(c *dialect.Call) error {
	user, id, err := a.owned(c)
	if err != nil {
		return err
	}
	var body userInput
	if err := c.Body(&body); err != nil {
		return err
	}
	psu, err := c.PSU()
	if err != nil {
		return err
	}
	conn, err := a.Reader.Connection(c.Context(), c.Tenant(), user, id)
	if err != nil {
		return err
	}
	answer := bankfeed.Answer{Tenant: c.Tenant(), User: user, Connection: id, PSU: psu, MethodID: body.MethodID, Code: body.Code}
	if body.ChannelDefinitionID != "" {
		owner, mode, ok := bankfeed.ParseChannelDefinitionID(body.ChannelDefinitionID)
		if !ok || owner != conn.ProviderID || conn.Channel(mode) == nil {
			return bankfeed.InvalidField("channel_definition_id", "is not a channel of this connection")
		}
		answer.Mode = mode
	}
	if body.Credentials != nil {
		answer.Login, answer.Password = body.Credentials.Login, body.Credentials.Password
	}
	step, err := a.Linker.Answer(c.Context(), answer)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, oxlin.RenderStep(conn.ProviderID, step))
}

// order reads what both ways of synchronizing are told. Whoever asks over this
// API is its user's agent, present or not.
func (a *API) order(c *dialect.Call, user bankfeed.UserID) (o bankfeed.SyncOrder, err error) {
	o = bankfeed.SyncOrder{Tenant: c.Tenant(), User: user, Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser}
	kind, err := c.Text(syncType)
	if err != nil {
		return o, err
	}
	if kind != "" {
		o.Type = bankfeed.SessionType(kind)
	}
	var body syncRequest
	if err := c.Body(&body); err != nil {
		return o, err
	}
	o.ExternalID = body.SessionExternalID
	o.PSU, err = c.PSU()
	return o, err
}

func (a *API) synchronize(c *dialect.Call) error {
	user, id, err := a.owned(c)
	if err != nil {
		return err
	}
	o, err := a.order(c, user)
	if err != nil {
		return err
	}
	o.Connection = id
	if _, _, err := a.Syncer.Synchronize(c.Context(), o); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

func (a *API) synchronizeAll(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	o, err := a.order(c, user)
	if err != nil {
		return err
	}
	sessions, err := a.Syncer.SynchronizeAll(c.Context(), o)
	if err != nil {
		return err
	}
	links := make([]oxlin.Link, len(sessions))
	for i, s := range sessions {
		links[i] = oxlin.Link{Rel: "connection", Href: connectionPath(s.Connection)}
	}
	return c.Write(http.StatusOK, links)
}

func (a *API) listProviders(c *dialect.Call) error {
	list := []oxlin.Provider{}
	for _, p := range a.Linker.Providers(c.Caller.Client.Sandbox) {
		list = append(list, oxlin.RenderProvider(p))
	}
	return c.Write(http.StatusOK, list)
}

func (a *API) getProvider(c *dialect.Call) error {
	p, err := a.Linker.Provider(c.R.PathValue("id"), c.Caller.Client.Sandbox)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, oxlin.RenderProvider(p))
}
