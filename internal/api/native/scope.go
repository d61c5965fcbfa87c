package native

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
)

// Scopes, in the words of the Oxlin dialect: a token serves both.
const (
	scopeUsersCreate       = "users_create"
	scopeProfileEdit       = "profile_edit"
	scopeConnectionsManage = "connections_manage"
	scopeConnectionsSync   = "connections_sync"
	scopeAccountsRead      = "accounts_read"
	scopeAccountsManage    = "accounts_manage"
	scopeTransactionsRead  = "transactions_read"
)

// scopes are what each operation needs of a token that has scopes: one of
// these; none: any token will do. An operation that is not here is for tokens
// without scopes only.
var scopes = map[string][]string{
	"createUser": {scopeUsersCreate},
	"listUsers":  nil,
	"getUser":    nil,
	"eraseUser":  {scopeProfileEdit, scopeUsersCreate},

	"listProviders": nil,
	"getProvider":   nil,

	"createConnection": {scopeConnectionsManage},
	"renewConnection":  {scopeConnectionsManage},
	"answerChallenge":  {scopeConnectionsManage},
	"listConnections":  nil,
	"getConnection":    nil,
	"deleteConnection": {scopeConnectionsManage},

	"synchronize":  {scopeConnectionsSync, scopeConnectionsManage},
	"listSessions": nil,
	"getSession":   nil,

	// A consent lists accounts with their IBANs.
	"listConsents":  {scopeAccountsRead, scopeAccountsManage, scopeConnectionsManage},
	"getConsent":    {scopeAccountsRead, scopeAccountsManage, scopeConnectionsManage},
	"deleteConsent": {scopeConnectionsManage},

	"listAccounts":     {scopeAccountsRead, scopeAccountsManage},
	"getAccount":       {scopeAccountsRead, scopeAccountsManage},
	"deleteAccount":    {scopeAccountsManage, scopeConnectionsManage},
	"listTransactions": {scopeTransactionsRead},
	"getTransaction":   {scopeTransactionsRead},

	// The log shows everything, transactions too.
	"listEvents":   {scopeTransactionsRead},
	"streamEvents": {scopeTransactionsRead},

	// So do streams; their consumers read transactions too.
	"listStreams":         {scopeTransactionsRead},
	"getStream":           {scopeTransactionsRead},
	"searchStreamEvents":  {scopeTransactionsRead},
	"getStreamEvent":      {scopeTransactionsRead},
	"listStreamGaps":      {scopeTransactionsRead},
	"listStreamFaults":    {scopeTransactionsRead},
	"acknowledgeMessages": {scopeTransactionsRead},
	"redriveStream":       {scopeTransactionsRead},

	// They send everything to the client's consumers.
	"createReplay": {scopeTransactionsRead},
	"listReplays":  {scopeTransactionsRead},
	"getReplay":    {scopeTransactionsRead},
	"cancelReplay": {scopeTransactionsRead},

	// So do callbacks.
	"createCallback":            {scopeTransactionsRead},
	"listCallbacks":             {scopeTransactionsRead},
	"getCallback":               {scopeTransactionsRead},
	"changeCallback":            {scopeTransactionsRead},
	"deleteCallback":            {scopeTransactionsRead},
	"pauseCallback":             {scopeTransactionsRead},
	"resumeCallback":            {scopeTransactionsRead},
	"disableCallback":           {scopeTransactionsRead},
	"enableCallback":            {scopeTransactionsRead},
	"listAllCallbackDeliveries": {scopeTransactionsRead},
	"listCallbackDeliveries":    {scopeTransactionsRead},
	"getCallbackDelivery":       {scopeTransactionsRead},
	"redriveCallbackDelivery":   {scopeTransactionsRead},
	"redriveCallback":           {scopeTransactionsRead},
	"replayCallback":            {scopeTransactionsRead},
	"listCallbackSecrets":       {scopeTransactionsRead},
	"createCallbackSecret":      {scopeTransactionsRead},
	"retireCallbackSecret":      {scopeTransactionsRead},
}

// allowed: a token that was issued without a scope is not restricted.
func allowed(operation string, granted []string) bool {
	if len(granted) == 0 {
		return true
	}
	needed, known := scopes[operation]
	return known && (len(needed) == 0 || slices.ContainsFunc(needed, func(s string) bool { return slices.Contains(granted, s) }))
}

// guard refuses a token of foreign scopes before anything of the request is
// read, and documents what is needed.
func guard(op *huma.Operation) {
	id := op.OperationID
	if needed := scopes[id]; len(needed) > 0 {
		op.Description = strings.TrimSpace(op.Description + " A token with scopes needs " + strings.Join(needed, " or ") + ".")
	}
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		c := ctx.Context().Value(callKey{}).(*call)
		if !allowed(id, c.Scopes) {
			p := problemOf(bankfeed.Errorf(bankfeed.Forbidden, "the token's scope does not cover this request"))
			p.headers = http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope"`}} // RFC 6750, section 3.1
			p.write(c.w)
			return
		}
		next(ctx)
	})
}
