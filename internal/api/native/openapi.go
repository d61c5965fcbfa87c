package native

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

const (
	tagUsers        = "Users"
	tagProviders    = "Banks"
	tagConnections  = "Connections"
	tagSessions     = "Sessions"
	tagConsents     = "Consents"
	tagAccounts     = "Accounts"
	tagTransactions = "Transactions"
	tagEvents       = "Events"
	tagStreams      = "Streams"
	tagReplays      = "Replays"
	tagCallbacks    = "Callbacks"
)

const introduction = `The hub's own API: everything that the other dialects can do, and the event log under all of them.

Every request carries an access token of /oauth/token. A client's token acts for every user of the client and names the user with ?user=; a user's token acts for that user.
An id is a number, written as a string; where a uuid stands beside it, either is accepted. Times are RFC 3339 in UTC, amounts are exact decimals in strings.
An id that is unknown, no longer there or not yours is answered with the same 404.`

// humaConfig leaves out what the framework adds by itself: links to schemas
// built from the Host header, and a page that loads scripts from elsewhere.
func (a *API) humaConfig() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "bankfeed native API", Version: a.Version, Description: introduction},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "An access token of POST /oauth/token: grant_type client_credentials, password or refresh_token."},
				},
			},
			Security: []map[string][]string{{"token": {}}},
			Tags: []*huma.Tag{
				{Name: tagUsers, Description: "The people and companies whose accounts are read (PSUs)."},
				{Name: tagProviders, Description: "The banks that can be linked."},
				{Name: tagConnections, Description: "Users' links to banks, over one or two channels."},
				{Name: tagSessions, Description: "Runs that synchronize a connection."},
				{Name: tagConsents, Description: "Users' permissions, one for each channel of a connection."},
				{Name: tagAccounts, Description: "Accounts and their balances."},
				{Name: tagTransactions, Description: "Movements on accounts, booked and pending."},
				{Name: tagEvents, Description: "Everything that happened, in commit order. docs/events.md lists the types."},
				{Name: tagStreams, Description: "What is known of messages on their way to RabbitMQ and its consumers. docs/streams.md says what each state proves."},
				{Name: tagReplays, Description: "Events that are sent to a stream again."},
				{Name: tagCallbacks, Description: "Events that are sent by HTTP: to subscriptions, and to URLs that requests named. docs/callbacks.md says what is promised."},
			},
		},
		Formats: map[string]huma.Format{
			"application/json": huma.DefaultJSONFormat,
			"json":             huma.DefaultJSONFormat,
		},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{asProblem},
	}
}

// responses documents the errors of an operation beside its own answers.
func (a *API) responses(op huma.Operation) map[string]*huma.Response {
	all := op.Responses
	if all == nil {
		all = map[string]*huma.Response{}
	}
	all["default"] = a.problemResponse("Any error, as problem+json")
	return all
}

func (a *API) problemResponse(description string) *huma.Response {
	schema := a.api.OpenAPI().Components.Schemas.Schema(typeOfProblem, true, "")
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
}

// gone are the two errors of a cursor that cannot be followed any more.
func (a *API) gone() map[string]*huma.Response {
	conflict, gone := http.StatusText(http.StatusConflict), http.StatusText(http.StatusGone)
	return map[string]*huma.Response{
		"409": a.problemResponse(conflict + ": the log was restored from a backup after the cursor was made; next is the new start"),
		"410": a.problemResponse(gone + ": events after the cursor were removed by retention; next is the oldest cursor left"),
	}
}

// document writes the OpenAPI document, without the framework's own error
// shapes, which this API never sends.
func document(o *huma.OpenAPI) ([]byte, error) {
	schemas := o.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	return json.Marshal(o)
}
