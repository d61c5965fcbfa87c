package oxlin

import (
	"net/http"
	"reflect"
	"slices"

	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

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

// Parameters that several operations share.
var (
	userID = dialect.Param{Name: "user_id", Doc: "The user. A client token needs it; a user token acts for its own user only.", Schema: dialect.Text(64)}
	page   = dialect.Param{Name: "page", Doc: "Counted from 1. A page shorter than limit is the last one.", Schema: dialect.Integer(1, 1_000_000, 1)}
	limit  = dialect.Param{Name: "limit", Doc: "Entries on a page.", Schema: dialect.Integer(1, 500, 100)}
)

// versioned is the path of an operation. atRoot is one that is also served
// without the version, since location headers name it so.
func versioned(path string) []string { return []string{prefix + path} }

func atRoot(path string) []string { return []string{prefix + path, path} }

// operations is the whole API.
func (a *API) operations() []*dialect.Operation {
	manage, read := []string{scopeConnectionsManage}, []string{scopeAccountsRead, scopeAccountsManage}
	attended := []dialect.Param{userID, dialect.PSUAddress, dialect.PSUAgent}
	all := []*dialect.Operation{
		{
			Method: "POST", Paths: versioned("/users"), ID: "createUser", Tag: "users", Summary: "Create a user", Scopes: []string{scopeUsersCreate}, Body: typeOf[newUser](),
			Status: http.StatusCreated, Location: "the user", Also: []int{http.StatusConflict}, Handle: a.createUser,
			About: "With a client token.",
		},
		{
			Method: "GET", Paths: atRoot("/users/{user_id}"), ID: "getUser", Tag: "users", Summary: "Read a user", Params: []dialect.Param{userID},
			Status: http.StatusOK, Answer: typeOf[oxlin.User](), Handle: a.getUser, About: "`me` is the token's own user.",
		},
		{
			Method: "DELETE", Paths: atRoot("/users/{user_id}"), ID: "deleteUser", Tag: "users", Summary: "Erase a user and everything that belongs to it",
			Scopes: []string{scopeProfileEdit, scopeUsersCreate}, Params: []dialect.Param{userID}, Status: http.StatusNoContent, Handle: a.deleteUser,
			About: "`me` is the token's own user.",
		},
		{
			Method: "GET", Paths: versioned("/providers"), ID: "listProviders", Tag: "providers", Summary: "List the banks", Status: http.StatusOK, Answer: typeOf[[]oxlin.Provider](),
			Handle: a.listProviders, About: "A sandbox client sees the sandbox's banks, a live one the real ones.",
		},
		{
			Method: "GET", Paths: versioned("/providers/{id}"), ID: "getProvider", Tag: "providers", Summary: "Read a bank", Status: http.StatusOK, Answer: typeOf[oxlin.Provider](),
			Handle: a.getProvider,
		},
		{
			Method: "POST", Paths: versioned("/connections"), ID: "createConnection", Tag: "connections", Summary: "Link a bank", Scopes: manage, Params: attended,
			Body: typeOf[newConnection](), Status: http.StatusCreated, Location: "the connection", Answer: typeOf[oxlin.ConnectionDetail](),
			Also: []int{http.StatusConflict, http.StatusServiceUnavailable}, Handle: a.createConnection,
			About: "Each channel of the answer holds what its user must do next: visit `redirect_url` or answer `challenge`. Without `PSU-IP-Address` an EMBEDDED channel has a `redirect_url` too: a page of the hub that asks the user.",
		},
		{
			Method: "GET", Paths: versioned("/connections"), ID: "listConnections", Tag: "connections", Summary: "List a user's connections", Params: []dialect.Param{userID},
			Status: http.StatusOK, Answer: typeOf[[]oxlin.ConnectionDetail](), Handle: a.listConnections,
		},
		{
			Method: "POST", Paths: versioned("/connections/synchronize"), ID: "synchronizeAll", Tag: "connections", Summary: "Synchronize all connections of a user",
			Scopes: []string{scopeConnectionsSync, scopeConnectionsManage}, Params: append([]dialect.Param{syncType}, attended...), Body: typeOf[syncRequest](),
			Optional: true, Status: http.StatusOK, Answer: typeOf[[]oxlin.Link](), Also: []int{http.StatusConflict, http.StatusServiceUnavailable},
			Handle: a.synchronizeAll, About: "The answer links to each connection that is now being synchronized.",
		},
		{
			Method: "GET", Paths: versioned("/connections/{id}"), ID: "getConnection", Tag: "connections", Summary: "Read a connection", Params: []dialect.Param{userID},
			Status: http.StatusOK, Answer: typeOf[oxlin.ConnectionDetail](), Handle: a.getConnection,
		},
		{
			Method: "DELETE", Paths: versioned("/connections/{id}"), ID: "deleteConnection", Tag: "connections", Summary: "Remove a connection with its data", Scopes: manage,
			Params: []dialect.Param{userID}, Status: http.StatusNoContent, Also: []int{http.StatusConflict}, Handle: a.deleteConnection,
			About: "Its consents are ended at the bank in the background.",
		},
		{
			Method: "PUT", Paths: versioned("/connections/{id}/credentials"), ID: "editCredentials", Tag: "connections", Summary: "Renew or repair channels", Scopes: manage,
			Params: attended, Body: typeOf[editCredentials](), Status: http.StatusOK, Answer: typeOf[oxlin.ConnectionDetail](),
			Also: []int{http.StatusConflict, http.StatusServiceUnavailable}, Handle: a.editCredentials,
			About: "A new consent for a REDIRECT channel, new credentials for an EMBEDDED one. The answer is that of linking a bank.",
		},
		{
			Method: "POST", Paths: versioned("/connections/{id}/user_inputs"), ID: "answerChallenge", Tag: "connections", Summary: "Answer a bank's challenge", Scopes: manage,
			Params: attended, Body: typeOf[userInput](), Status: http.StatusOK, Answer: typeOf[oxlin.Step](),
			Also: []int{http.StatusConflict, http.StatusServiceUnavailable}, Handle: a.answerChallenge,
			About: "The answer is what the channel needs next: another `challenge` (the same one after a wrong code), a `redirect_url`, or neither.",
		},
		{
			Method: "POST", Paths: versioned("/connections/{id}/synchronize"), ID: "synchronize", Tag: "connections", Summary: "Synchronize a connection",
			Scopes: []string{scopeConnectionsSync, scopeConnectionsManage}, Params: append([]dialect.Param{syncType}, attended...), Body: typeOf[syncRequest](),
			Optional: true, Status: http.StatusNoContent, Also: []int{http.StatusConflict, http.StatusServiceUnavailable}, Handle: a.synchronize,
			About: "Follow it on a queue that was subscribed before. A synchronization that is running already is joined.",
		},
		{
			Method: "GET", Paths: versioned("/accounts"), ID: "listAccounts", Tag: "accounts", Summary: "List a user's accounts", Scopes: read, Params: accountParams,
			Status: http.StatusOK, Answer: typeOf[[]oxlin.Account](), Also: []int{http.StatusNotFound}, Handle: a.listAccounts,
		},
		{
			Method: "GET", Paths: versioned("/accounts/{id}"), ID: "getAccount", Tag: "accounts", Summary: "Read an account", Scopes: read, Params: []dialect.Param{userID},
			Status: http.StatusOK, Answer: typeOf[oxlin.Account](), Handle: a.getAccount,
		},
		{
			Method: "GET", Paths: versioned("/transactions"), ID: "listTransactions", Tag: "transactions", Summary: "List a user's transactions, the newest day first",
			Scopes: []string{scopeTransactionsRead}, Params: transactionParams, Status: http.StatusOK, Answer: typeOf[[]oxlin.Transaction](),
			Also: []int{http.StatusNotFound}, Handle: a.listTransactions,
		},
		{
			Method: "GET", Paths: versioned("/transactions/{id}"), ID: "getTransaction", Tag: "transactions", Summary: "Read a transaction", Scopes: []string{scopeTransactionsRead},
			Params: []dialect.Param{userID}, Status: http.StatusOK, Answer: typeOf[oxlin.Transaction](), Handle: a.getTransaction,
		},
		{
			Method: "POST", Paths: versioned("/queues/subscribe"), ID: "subscribe", Tag: "queues", Summary: "Subscribe to a new queue", Params: []dialect.Param{userID},
			Body: typeOf[subscription](), Status: http.StatusCreated, Location: "the queue", Handle: a.subscribe,
			About: "The queue receives every event of the user from now on, until it has not been read for 15 minutes.",
		},
		{
			Method: "GET", Paths: atRoot("/queues/{queue_id}"), ID: "readQueue", Tag: "queues", Summary: "Poll or stream a queue", Params: queueParams, Describe: describeStream,
			Status: http.StatusOK, Answer: typeOf[[]oxlin.Event](), Also: []int{http.StatusNoContent, http.StatusGone}, Handle: a.readQueue,
			About: "Without `after`: the next events; asking again says that the last answer arrived, and one that could not be written is repeated. With `after`: what follows that event, and the queue goes on from there. 204 when there is nothing.",
		},
		{
			Method: "DELETE", Paths: atRoot("/queues/{queue_id}"), ID: "deleteQueue", Tag: "queues", Summary: "End a queue", Params: []dialect.Param{userID},
			Status: http.StatusNoContent, Handle: a.deleteQueue,
		},
	}
	for _, op := range all {
		if slices.ContainsFunc(op.Params, func(p dialect.Param) bool { return p.Name == userID.Name }) {
			op.Also = append(op.Also, http.StatusNotFound)
		}
	}
	return all
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
