package banqup

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const (
	about = "What clients of banqUP's hub call beside its stream. Everything else of this hub is in the native API."
	// deletion is told of both paths.
	deletion = "Removes what the user has at the bank: its consents end there, and accounts, balances and transactions go away, in the background. " +
		"A ConsentMessage with the operation deleted follows for each consent when that is done. " +
		"Unknown, foreign, and nothing of the user at that bank have one and the same answer, 404. A token with scopes needs " + scope + "."
)

// deletionBody is the body that a request may have.
type deletionBody struct {
	UserID string `json:"userId,omitempty" doc:"As in the query."`
}

// document is made by huma's generator; requests do not pass through huma.
func (a *API) document() ([]byte, error) {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	content := func(v any) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(reflect.TypeOf(v), true, "")}}
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "bankfeed: banqUP dialect", Version: a.Version, Description: about},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{"token": {
			Type: "oauth2", Flows: &huma.OAuthFlows{ClientCredentials: &huma.OAuthFlow{TokenURL: "/oauth/token", Scopes: map[string]string{scope: "remove what a user has at a bank"}}},
		}}},
	}
	text := func(name, in, about string) *huma.Param {
		return &huma.Param{Name: name, In: in, Required: in == "path", Description: about, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	types := strings.Join(swiftTypes, ", ") + " (its BIC) or " + strings.Join(idTypes, ", ") + " (the hub's id of the bank); in any case."
	for _, op := range []struct {
		id, path, summary string
		params            []*huma.Param
	}{
		{"deleteBankAccounts", byID, "Delete bank accounts", []*huma.Param{text("bankId", "path", "The hub's id of the bank.")}},
		{"deleteBankAccountsByType", byType, "Delete bank accounts, the bank by an identifier", []*huma.Param{
			text("idType", "path", "What names the bank: "+types), text("idValue", "path", "The identifier."),
		}},
	} {
		o := &huma.Operation{
			Method: http.MethodDelete, Path: op.path, OperationID: op.id, Summary: op.summary, Description: deletion, Tags: []string{"bank"},
			Security: []map[string][]string{{"token": {}}},
			Parameters: append(op.params, text("userId", "query", "The user: your own id of it, or the hub's UUID; the hub's number only of a user without an own id. "+
				"A client's token needs it, here or in the body.")),
			RequestBody: &huma.RequestBody{Content: content(deletionBody{})},
			Responses:   map[string]*huma.Response{"202": {Description: "Accepted", Content: content(Accepted{})}},
		}
		for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge,
			http.StatusTooManyRequests, http.StatusInternalServerError} {
			o.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: content(Error{})}
		}
		doc.AddOperation(o)
	}
	for _, s := range registry.Map() {
		s.AdditionalProperties = nil // both sides ignore what they do not know
	}
	return json.Marshal(doc)
}
