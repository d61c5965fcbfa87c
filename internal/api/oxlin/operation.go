package oxlin

import (
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// operation is one row of the API: what is served and what is documented.
type operation struct {
	method, path string // the path without the version
	root         bool   // also served without the version, since location headers name it so
	id           string
	summary      string
	about        string
	scopes       []string // a token with scopes needs one of these; none: any token will do
	params       []param
	body         reflect.Type // of the request; nil: none is read
	optional     bool         // the body may be absent
	status       int          // of success
	location     string       // what the header of that name points to, if the answer has one
	answer       reflect.Type // nil: no body
	also         []int        // what may come beside the answers that every operation has
	handle       func(*call) error

	schema *huma.Schema // of body
}

// paths are where it is served.
func (op *operation) paths() []string {
	if op.root {
		return []string{prefix + op.path, op.path}
	}
	return []string{prefix + op.path}
}

// allowed: a token that was issued without a scope is not restricted.
func (op *operation) allowed(scopes []string) bool {
	return len(scopes) == 0 || len(op.scopes) == 0 ||
		slices.ContainsFunc(op.scopes, func(s string) bool { return slices.Contains(scopes, s) })
}

// Scopes, as the vendor's clients ask for them.
const (
	scopeUsersCreate       = "users_create"
	scopeProfileEdit       = "profile_edit"
	scopeConnectionsManage = "connections_manage"
	scopeConnectionsSync   = "connections_sync"
	scopeAccountsRead      = "accounts_read"
	scopeAccountsManage    = "accounts_manage"
	scopeTransactionsRead  = "transactions_read"
)

// param is a parameter of the query or a header.
type param struct {
	name   string
	doc    string
	schema *huma.Schema
	header bool
}

func integer(least, most, def int) *huma.Schema {
	lo, hi := float64(least), float64(most)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &lo, Maximum: &hi, Default: def}
}

func text(most int) *huma.Schema { return &huma.Schema{Type: huma.TypeString, MaxLength: &most} }

func oneOf[W ~string](words []W) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: enum(words)}
}

func listOf[W ~string](words []W) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: oneOf(words)}
}

func enum[W ~string](words []W) []any {
	values := make([]any, len(words))
	for i, w := range words {
		values[i] = string(w)
	}
	return values
}

// Parameters that several operations share.
var (
	userID = param{name: "user_id", doc: "The user. A client token needs it; a user token acts for its own user only.", schema: text(64)}
	page   = param{name: "page", doc: "Counted from 1. A page shorter than limit is the last one.", schema: integer(1, 1_000_000, 1)}
	limit  = param{name: "limit", doc: "Entries on a page.", schema: integer(1, 500, 100)}

	psuAddress = param{name: "PSU-IP-Address", header: true, schema: text(45),
		doc: "The IP address of the user's device. It says that the user is present, and is passed on to the bank: never send anything else."}
	psuAgent = param{name: "PSU-User-Agent", header: true, schema: text(512), doc: "The user's browser or app; passed on to the bank."}
)

// operations is the whole API.
func (a *API) operations() []*operation {
	manage, read := []string{scopeConnectionsManage}, []string{scopeAccountsRead, scopeAccountsManage}
	attended := []param{userID, psuAddress, psuAgent}
	return []*operation{
		{
			method: "POST", path: "/users", id: "createUser", summary: "Create a user", scopes: []string{scopeUsersCreate}, body: typeOf[newUser](),
			status: http.StatusCreated, location: "the user", also: []int{http.StatusConflict}, handle: a.createUser,
			about: "With a client token.",
		},
		{
			method: "GET", path: "/users/{user_id}", root: true, id: "getUser", summary: "Read a user", params: []param{userID},
			status: http.StatusOK, answer: typeOf[oxlin.User](), handle: a.getUser, about: "`me` is the token's own user.",
		},
		{
			method: "DELETE", path: "/users/{user_id}", root: true, id: "deleteUser", summary: "Erase a user and everything that belongs to it",
			scopes: []string{scopeProfileEdit, scopeUsersCreate}, params: []param{userID}, status: http.StatusNoContent, handle: a.deleteUser,
			about: "`me` is the token's own user.",
		},
		{
			method: "GET", path: "/providers", id: "listProviders", summary: "List the banks", status: http.StatusOK, answer: typeOf[[]oxlin.Provider](),
			handle: a.listProviders, about: "A sandbox client sees the sandbox's banks, a live one the real ones.",
		},
		{
			method: "GET", path: "/providers/{id}", id: "getProvider", summary: "Read a bank", status: http.StatusOK, answer: typeOf[oxlin.Provider](),
			handle: a.getProvider,
		},
		{
			method: "POST", path: "/connections", id: "createConnection", summary: "Link a bank", scopes: manage, params: attended,
			body: typeOf[newConnection](), status: http.StatusCreated, location: "the connection", answer: typeOf[oxlin.ConnectionDetail](),
			also: []int{http.StatusConflict, http.StatusServiceUnavailable}, handle: a.createConnection,
			about: "Each channel of the answer holds what its user must do next: visit `redirect_url` or answer `challenge`. Without `PSU-IP-Address` an EMBEDDED channel has a `redirect_url` too: a page of the hub that asks the user.",
		},
		{
			method: "GET", path: "/connections", id: "listConnections", summary: "List a user's connections", params: []param{userID},
			status: http.StatusOK, answer: typeOf[[]oxlin.ConnectionDetail](), handle: a.listConnections,
		},
		{
			method: "POST", path: "/connections/synchronize", id: "synchronizeAll", summary: "Synchronize all connections of a user",
			scopes: []string{scopeConnectionsSync, scopeConnectionsManage}, params: append([]param{syncType}, attended...), body: typeOf[syncRequest](),
			optional: true, status: http.StatusOK, answer: typeOf[[]oxlin.Link](), also: []int{http.StatusConflict, http.StatusServiceUnavailable},
			handle: a.synchronizeAll, about: "The answer links to each connection that is now being synchronized.",
		},
		{
			method: "GET", path: "/connections/{id}", id: "getConnection", summary: "Read a connection", params: []param{userID},
			status: http.StatusOK, answer: typeOf[oxlin.ConnectionDetail](), handle: a.getConnection,
		},
		{
			method: "DELETE", path: "/connections/{id}", id: "deleteConnection", summary: "Remove a connection with its data", scopes: manage,
			params: []param{userID}, status: http.StatusNoContent, also: []int{http.StatusConflict}, handle: a.deleteConnection,
			about: "Its consents are ended at the bank in the background.",
		},
		{
			method: "PUT", path: "/connections/{id}/credentials", id: "editCredentials", summary: "Renew or repair channels", scopes: manage,
			params: attended, body: typeOf[editCredentials](), status: http.StatusOK, answer: typeOf[oxlin.ConnectionDetail](),
			also: []int{http.StatusConflict, http.StatusServiceUnavailable}, handle: a.editCredentials,
			about: "A new consent for a REDIRECT channel, new credentials for an EMBEDDED one. The answer is that of linking a bank.",
		},
		{
			method: "POST", path: "/connections/{id}/user_inputs", id: "answerChallenge", summary: "Answer a bank's challenge", scopes: manage,
			params: attended, body: typeOf[userInput](), status: http.StatusOK, answer: typeOf[oxlin.Step](),
			also: []int{http.StatusConflict, http.StatusServiceUnavailable}, handle: a.answerChallenge,
			about: "The answer is what the channel needs next: another `challenge` (the same one after a wrong code), a `redirect_url`, or neither.",
		},
		{
			method: "POST", path: "/connections/{id}/synchronize", id: "synchronize", summary: "Synchronize a connection",
			scopes: []string{scopeConnectionsSync, scopeConnectionsManage}, params: append([]param{syncType}, attended...), body: typeOf[syncRequest](),
			optional: true, status: http.StatusNoContent, also: []int{http.StatusConflict, http.StatusServiceUnavailable}, handle: a.synchronize,
			about: "Follow it on a queue that was subscribed before. A synchronization that is running already is joined.",
		},
		{
			method: "GET", path: "/accounts", id: "listAccounts", summary: "List a user's accounts", scopes: read, params: accountParams,
			status: http.StatusOK, answer: typeOf[[]oxlin.Account](), also: []int{http.StatusNotFound}, handle: a.listAccounts,
		},
		{
			method: "GET", path: "/accounts/{id}", id: "getAccount", summary: "Read an account", scopes: read, params: []param{userID},
			status: http.StatusOK, answer: typeOf[oxlin.Account](), handle: a.getAccount,
		},
		{
			method: "GET", path: "/transactions", id: "listTransactions", summary: "List a user's transactions, the newest day first",
			scopes: []string{scopeTransactionsRead}, params: transactionParams, status: http.StatusOK, answer: typeOf[[]oxlin.Transaction](),
			also: []int{http.StatusNotFound}, handle: a.listTransactions,
		},
		{
			method: "GET", path: "/transactions/{id}", id: "getTransaction", summary: "Read a transaction", scopes: []string{scopeTransactionsRead},
			params: []param{userID}, status: http.StatusOK, answer: typeOf[oxlin.Transaction](), handle: a.getTransaction,
		},
		{
			method: "POST", path: "/queues/subscribe", id: "subscribe", summary: "Subscribe to a new queue", params: []param{userID},
			body: typeOf[subscription](), status: http.StatusCreated, location: "the queue", handle: a.subscribe,
			about: "The queue receives every event of the user from now on, until it has not been read for 15 minutes.",
		},
		{
			method: "GET", path: "/queues/{queue_id}", root: true, id: "readQueue", summary: "Poll or stream a queue", params: queueParams,
			status: http.StatusOK, answer: typeOf[[]oxlin.Event](), also: []int{http.StatusNoContent, http.StatusGone}, handle: a.readQueue,
			about: "Without `after`: the next events; asking again says that the last answer arrived, and one that could not be written is repeated. With `after`: what follows that event, and the queue goes on from there. 204 when there is nothing.",
		},
		{
			method: "DELETE", path: "/queues/{queue_id}", root: true, id: "deleteQueue", summary: "End a queue", params: []param{userID},
			status: http.StatusNoContent, handle: a.deleteQueue,
		},
	}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
