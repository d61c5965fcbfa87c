package oxlin

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// enums are the closed lists, by schema and member.
var enums = map[string][]any{
	"Error.error":             dialect.Enum(oxlin.ErrorCodes),
	"Event.event_type":        dialect.Enum(oxlin.EventTypes),
	"Event.category":          dialect.Enum(oxlin.Categories),
	"Connection.status":       dialect.Enum(oxlin.ConnectionStatuses),
	"ConnectionDetail.status": dialect.Enum(oxlin.ConnectionStatuses),
	"Channel.status":          dialect.Enum(oxlin.ChannelStatuses),
	"ChannelDetail.status":    dialect.Enum(oxlin.ChannelStatuses),
	"Account.type":            dialect.Enum(oxlin.AccountTypes),
	"Account.status":          dialect.Enum(oxlin.AccountStatuses),
	"Account.usage":           dialect.Enum(oxlin.Usages),
	"Transaction.status":      dialect.Enum(oxlin.TransactionStatuses),
	"Transaction.type":        dialect.Enum(oxlin.TransactionTypes),
	"Transaction.origin":      dialect.Enum(oxlin.Origins),
}

const about = "The Oxlin Accounts API v2.1 as this hub serves it. Ids are decimal strings, times are whole seconds since 1970, amounts are JSON numbers with the bank's own digits. " +
	"Members that are not described here are ignored in requests; clients must ignore those that they do not know. JSON bodies are read whatever the content type says. " +
	"Unknown, expired and foreign ids have one and the same answer, 404."

func document(version string) dialect.Document {
	return dialect.Document{
		Title: "bankfeed: Oxlin dialect", Version: version, About: about, Enums: enums,
		Alias: "AtRoot", AliasAbout: "for clients that follow a location header",
		Error: func(*dialect.Operation, int) reflect.Type { return typeOf[oxlin.Error]() },
		Schemes: map[string]*huma.SecurityScheme{"token": {
			Type: "oauth2", Flows: &huma.OAuthFlows{
				ClientCredentials: &huma.OAuthFlow{TokenURL: "/token", Scopes: map[string]string{scopeUsersCreate: "create users"}},
				Password:          &huma.OAuthFlow{TokenURL: "/token", RefreshURL: "/token", Scopes: userScopes},
			},
		}},
	}
}

var userScopes = map[string]string{
	scopeProfileEdit:       "erase the user",
	scopeConnectionsManage: "link, repair, synchronize and remove connections",
	scopeConnectionsSync:   "synchronize",
	scopeAccountsRead:      "read accounts",
	scopeAccountsManage:    "read accounts",
	scopeTransactionsRead:  "read transactions",
}

// describeStream says that a queue can be streamed too.
func describeStream(o *huma.Operation) {
	o.Responses["200"].Content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{
		Type: huma.TypeString, Description: "Messages with id and data, the data of each an Event; a comment every 15 seconds. For a request that accepts it.",
	}}
}
