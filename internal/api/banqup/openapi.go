package banqup

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed/internal/api/dialect"
)

const (
	about = "What clients of banqUP's hub call beside its stream. Everything else of this hub is in the native API."
	// deletion is told of both paths.
	deletion = "Removes what the user has at the bank: its consents end there, and accounts, balances and transactions go away, in the background. " +
		"A ConsentMessage with the operation deleted follows for each consent when that is done. " +
		"Unknown, foreign, and nothing of the user at that bank have one and the same answer, 404."
)

// scope is what a token with scopes needs; one without may do everything.
const scope = "connections_manage"

// maxBody is far more than a user's name needs.
const maxBody = 16 << 10

// Accepted is the answer to a request that is being carried out.
type Accepted struct {
	Success bool `json:"success"`
	Data    *int `json:"data" doc:"Always null."`
}

// deletionBody is the body that a request may have.
type deletionBody struct {
	UserID string `json:"userId,omitempty" doc:"As in the query."`
}

var userID = dialect.Param{Name: "userId", Schema: &huma.Schema{Type: huma.TypeString}, Doc: "The user: your own id of it, or the hub's UUID; the hub's number only of a user " +
	"without an own id. A client's token needs it, here or in the body."}

// operations is the whole API.
func (a *API) operations() []*dialect.Operation {
	deletes := func(id, path, summary string, segments ...string) *dialect.Operation {
		return &dialect.Operation{
			Method: http.MethodDelete, Paths: []string{path}, ID: id, Tag: "bank", Summary: summary, About: deletion, Scopes: []string{scope},
			Params: []dialect.Param{userID}, Body: reflect.TypeFor[deletionBody](), Optional: true, MaxBody: maxBody,
			Status: http.StatusAccepted, Answer: reflect.TypeFor[Accepted](), Handle: a.delete,
			Describe: func(o *huma.Operation) {
				for i, what := range segments {
					o.Parameters[i].Description = what
				}
			},
		}
	}
	return []*dialect.Operation{
		deletes("deleteBankAccounts", byID, "Delete bank accounts", "The hub's id of the bank."),
		deletes("deleteBankAccountsByType", byType, "Delete bank accounts, the bank by an identifier",
			"What names the bank: "+strings.Join(swiftTypes, ", ")+" (its BIC) or "+strings.Join(idTypes, ", ")+" (the hub's id of the bank); in any case.", "The identifier."),
	}
}

func document(version string) dialect.Document {
	return dialect.Document{
		Title: "bankfeed: banqUP dialect", Version: version, About: about,
		Error: func(*dialect.Operation, int) reflect.Type { return reflect.TypeFor[Error]() },
		Schemes: map[string]*huma.SecurityScheme{"token": {
			Type: "oauth2", Flows: &huma.OAuthFlows{ClientCredentials: &huma.OAuthFlow{TokenURL: "/oauth/token", Scopes: map[string]string{scope: "remove what a user has at a bank"}}},
		}},
	}
}
