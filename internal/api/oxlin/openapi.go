package oxlin

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// The document is made from the same table and types that serve requests, by
// huma's generator; requests do not pass through huma.

func newRegistry() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	r.RegisterTypeAlias(typeOf[json.Number](), typeOf[float64]()) // in the document only: the wire keeps every digit
	return r
}

// enums are the closed lists, by schema and member.
var enums = map[string][]any{
	"Error.error":             enum(oxlin.ErrorCodes),
	"Event.event_type":        enum(oxlin.EventTypes),
	"Event.category":          enum(oxlin.Categories),
	"Connection.status":       enum(oxlin.ConnectionStatuses),
	"ConnectionDetail.status": enum(oxlin.ConnectionStatuses),
	"Channel.status":          enum(oxlin.ChannelStatuses),
	"ChannelDetail.status":    enum(oxlin.ChannelStatuses),
	"Account.type":            enum(oxlin.AccountTypes),
	"Account.status":          enum(oxlin.AccountStatuses),
	"Account.usage":           enum(oxlin.Usages),
	"Transaction.status":      enum(oxlin.TransactionStatuses),
	"Transaction.type":        enum(oxlin.TransactionTypes),
	"Transaction.origin":      enum(oxlin.Origins),
}

const about = "The Oxlin Accounts API v2.1 as this hub serves it. Ids are decimal strings, times are whole seconds since 1970, amounts are JSON numbers with the bank's own digits. " +
	"Members that are not described here are ignored in requests; clients must ignore those that they do not know. JSON bodies are read whatever the content type says. " +
	"Unknown, expired and foreign ids have one and the same answer, 404."

func (a *API) document(operations []*operation) ([]byte, error) {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "bankfeed: Oxlin dialect", Version: a.Version, Description: about},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{
			Schemas: a.registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{"token": {
				Type: "oauth2", Flows: &huma.OAuthFlows{
					ClientCredentials: &huma.OAuthFlow{TokenURL: "/token", Scopes: map[string]string{scopeUsersCreate: "create users"}},
					Password:          &huma.OAuthFlow{TokenURL: "/token", RefreshURL: "/token", Scopes: userScopes},
				},
			}},
		},
	}
	for _, op := range operations {
		for i, path := range op.paths() {
			doc.AddOperation(a.describe(op, path, i > 0))
		}
	}
	for name, s := range a.registry.Map() {
		s.AdditionalProperties = nil // both sides ignore what they do not know
		for member, p := range s.Properties {
			if e, ok := enums[name+"."+member]; ok {
				p.Enum = e
			}
		}
	}
	return json.Marshal(doc)
}

var userScopes = map[string]string{
	scopeProfileEdit:       "erase the user",
	scopeConnectionsManage: "link, repair, synchronize and remove connections",
	scopeConnectionsSync:   "synchronize",
	scopeAccountsRead:      "read accounts",
	scopeAccountsManage:    "read accounts",
	scopeTransactionsRead:  "read transactions",
}

func (a *API) describe(op *operation, path string, alias bool) *huma.Operation {
	o := &huma.Operation{
		Method: op.method, Path: path, OperationID: op.id, Summary: op.summary, Description: op.about,
		Tags: []string{strings.Split(op.path, "/")[1]}, Security: []map[string][]string{{"token": {}}}, Responses: map[string]*huma.Response{},
	}
	if alias {
		o.OperationID += "AtRoot"
		o.Description = "The same as under " + prefix + ", for clients that follow a location header."
	}
	if len(op.scopes) > 0 {
		o.Description = strings.TrimSpace(o.Description + " A token with scopes needs " + strings.Join(op.scopes, " or ") + ".")
	}
	for _, segment := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			o.Parameters = append(o.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	for _, p := range op.params {
		o.Parameters = append(o.Parameters, describeParam(p))
	}
	if op.body != nil {
		o.RequestBody = &huma.RequestBody{Required: !op.optional, Content: a.content(op.body)}
	}
	o.Responses[strconv.Itoa(op.status)] = a.success(op)
	for _, status := range op.statuses() {
		r := &huma.Response{Description: http.StatusText(status), Content: a.content(typeOf[oxlin.Error]())}
		if status == http.StatusNoContent {
			r.Content = nil
		}
		o.Responses[strconv.Itoa(status)] = r
	}
	return o
}

func describeParam(p param) *huma.Param {
	d := &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: p.schema}
	if p.header {
		d.In = "header"
	}
	if p.schema.Type == huma.TypeArray {
		explode := false
		d.Style, d.Explode = "form", &explode
	}
	return d
}

func (a *API) success(op *operation) *huma.Response {
	r := &huma.Response{Description: http.StatusText(op.status)}
	if op.answer != nil {
		r.Content = a.content(op.answer)
	}
	if op.location != "" {
		r.Headers = map[string]*huma.Header{"Location": {Description: "The path of " + op.location + ".", Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	if op.id == "readQueue" {
		r.Content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{
			Type: huma.TypeString, Description: "Messages with id and data, the data of each an Event; a comment every 15 seconds. For a request that accepts it.",
		}}
	}
	return r
}

// statuses are the errors that an operation can answer with.
func (op *operation) statuses() []int {
	all := append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError}, op.also...)
	if slices.ContainsFunc(op.params, func(p param) bool { return p.name == userID.name }) || strings.Contains(op.path, "{") {
		all = append(all, http.StatusNotFound)
	}
	if op.body != nil {
		all = append(all, http.StatusRequestEntityTooLarge)
	}
	return all
}

func (a *API) content(t reflect.Type) map[string]*huma.MediaType {
	s := a.registry.Schema(t, true, "")
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	return map[string]*huma.MediaType{"application/json": {Schema: s}}
}
