package finapi

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// enums are the closed lists, by schema and member.
var enums = map[string][]any{
	"Error.code":               dialect.Enum(finapi.ErrorCodes),
	"Error.type":               dialect.Enum(finapi.ErrorTypes),
	"FormError.code":           dialect.Enum(finapi.FormErrorCodes),
	"DataSource.bankStatus":    dialect.Enum(finapi.Statuses),
	"SourceStatus.status":      dialect.Enum(finapi.Statuses),
	"SourceStatus.code":        dialect.Enum(finapi.Codes),
	"Account.accountType":      dialect.Enum(finapi.AccountTypes),
	"Report.status":            dialect.Enum([]finapi.ReportStatus{finapi.ReportPending, finapi.ReportInProgress, finapi.ReportSuccessful, finapi.ReportFailed}),
	"Report.category":          dialect.Enum([]finapi.Category{finapi.CashFlow, finapi.Contracts, finapi.Risk}),
	"Account.status":           dialect.Enum(finapi.AccountStatuses),
	"WebForm.type":             dialect.Enum(finapi.WebFormTypes),
	"WebForm.status":           dialect.Enum(finapi.WebFormStatuses),
	"WebFormInfo.status":       dialect.Enum(finapi.WebFormStatuses),
	"Task.type":                {string(finapi.TaskUpdate)},
	"Task.status":              dialect.Enum(finapi.TaskStatuses),
	"WebFormPayload.errorCode": append(dialect.Enum(finapi.FormFailures), nil),
	"TaskPayload.errorCode":    append(dialect.Enum(finapi.FormFailures), nil),
	"Deletion.status":          dialect.Enum(finapi.DeletionStatuses),
	"DeletionModule.status":    dialect.Enum(finapi.DeletionStatuses),
}

// kinds are the members that are one of several things.
var kinds = map[string][]reflect.Type{
	"Report.result": {typeOf[finapi.BalancesResult](), typeOf[finapi.CashFlowResult](), typeOf[finapi.IncomeSpendingResult](),
		typeOf[finapi.ContractsResult](), typeOf[finapi.RiskResult]()},
}

const about = "finAPI's Data Intelligence, with the users of Access, the process controller and Web Form 2.0, as this hub serves them. " +
	"Members that are not described here are ignored in requests; clients must ignore those that they do not know, and tolerate words that closed lists do not have yet. " +
	"Unknown, expired and foreign ids have one and the same answer, 404."

func document(version string) dialect.Document {
	return dialect.Document{
		Title: "bankfeed: finAPI dialect", Version: version, About: about, Enums: enums, Kinds: kinds, Error: errorBody,
		Alias: "V2", AliasAbout: "for clients of a later version of Access", Numbers: []reflect.Type{typeOf[finapi.Decimal]()},
		Schemes: map[string]*huma.SecurityScheme{"token": {
			Type: "oauth2", Flows: &huma.OAuthFlows{
				ClientCredentials: &huma.OAuthFlow{TokenURL: "/oauth/token", Scopes: map[string]string{}},
				Password:          &huma.OAuthFlow{TokenURL: "/oauth/token", RefreshURL: "/oauth/token", Scopes: map[string]string{}},
			},
		}},
	}
}

// errorBody is the type of an error's body.
func errorBody(op *dialect.Operation, status int) reflect.Type {
	form := strings.HasPrefix(op.Paths[0], webForms) || strings.HasPrefix(op.Paths[0], tasks)
	switch {
	case form && status == http.StatusBadRequest:
		return typeOf[finapi.FormErrors]()
	case form:
		return typeOf[finapi.FormError]()
	case status == http.StatusUnauthorized:
		return typeOf[finapi.Unauthorized]()
	}
	return typeOf[finapi.Errors]()
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
