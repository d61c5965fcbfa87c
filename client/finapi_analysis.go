package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// CreateCase binds data sources to reports. The server refuses it with
// ILLEGAL_ENTITY_STATE unless all of them are SUCCESSFUL. key is any text of the
// caller that is the same if the call is repeated: a server that knows the header
// Idempotency-Key then makes one case only. It may be empty.
func (d *DataIntelligence) CreateCase(ctx context.Context, token bankfeed.Secret, r finapi.CaseRequest, key string) (finapi.Case, error) {
	k := call{method: http.MethodPost, path: "/cases", token: token, body: r}
	if key != "" {
		k.header = http.Header{"Idempotency-Key": {key}}
	}
	var out finapi.Case
	err := d.do(ctx, k, &out)
	if err == nil && out.ID == "" {
		err = errors.New("POST /cases: the answer has no id")
	}
	return out, err
}

// Cases lists the user's cases.
func (d *DataIntelligence) Cases(ctx context.Context, token bankfeed.Secret) ([]finapi.Case, error) {
	var out looseList[finapi.Case]
	err := d.do(ctx, call{method: http.MethodGet, path: "/cases", token: token}, &out)
	return out, err
}

// Case reads a case.
func (d *DataIntelligence) Case(ctx context.Context, token bankfeed.Secret, id string) (finapi.Case, error) {
	var out finapi.Case
	err := d.do(ctx, call{method: http.MethodGet, path: "/cases/" + url.PathEscape(id), token: token}, &out)
	return out, err
}

// DeleteCase removes a case with its reports.
func (d *DataIntelligence) DeleteCase(ctx context.Context, token bankfeed.Secret, id string) error {
	return d.do(ctx, call{method: http.MethodDelete, path: "/cases/" + url.PathEscape(id), token: token}, nil)
}

func reportPath(caseID string, t finapi.ReportType) string {
	return "/cases/" + url.PathEscape(caseID) + "/reports/" + url.PathEscape(string(t.Category)) + "/" + url.PathEscape(t.Type)
}

// CreateReport asks for a report; it is computed in the background. A case holds
// one of each type: where there is one already, ErrorCode is ENTITY_EXISTS.
func (d *DataIntelligence) CreateReport(ctx context.Context, token bankfeed.Secret, caseID string, t finapi.ReportType, r finapi.ReportRequest) (finapi.Report, error) {
	var out finapi.Report
	err := d.do(ctx, call{method: http.MethodPost, path: reportPath(caseID, t), token: token, body: r}, &out)
	return out, err
}

// Report reads a report. Its result is there once its status is SUCCESSFUL.
func (d *DataIntelligence) Report(ctx context.Context, token bankfeed.Secret, caseID string, t finapi.ReportType) (finapi.Report, error) {
	var out finapi.Report
	err := d.do(ctx, call{method: http.MethodGet, path: reportPath(caseID, t), token: token}, &out)
	return out, err
}

// Reports reads all reports of a case.
func (d *DataIntelligence) Reports(ctx context.Context, token bankfeed.Secret, caseID string) ([]finapi.Report, error) {
	var out looseList[finapi.Report]
	err := d.do(ctx, call{method: http.MethodGet, path: "/cases/" + url.PathEscape(caseID) + "/reports", token: token}, &out)
	return out, err
}

// BalancesCheck asks whether an amount can be paid, and whether the overdraft
// would be needed.
func (d *DataIntelligence) BalancesCheck(ctx context.Context, token bankfeed.Secret, r finapi.BalancesCheckRequest) (finapi.BalancesCheck, error) {
	return check[finapi.BalancesCheck](ctx, d, token, "balancesCheck", r)
}

// HolderTypeCheck asks whether accounts belong to a person or a company.
func (d *DataIntelligence) HolderTypeCheck(ctx context.Context, token bankfeed.Secret, r finapi.HolderTypeRequest) (finapi.HolderTypeCheck, error) {
	return check[finapi.HolderTypeCheck](ctx, d, token, "accountHolderType", r)
}

func check[T any](ctx context.Context, d *DataIntelligence, token bankfeed.Secret, kind string, body any) (out T, err error) {
	text, err := d.Check(ctx, token, kind, body)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// Check makes a check of any kind and returns the answer as the server wrote it.
func (d *DataIntelligence) Check(ctx context.Context, token bankfeed.Secret, kind string, body any) (json.RawMessage, error) {
	var out json.RawMessage
	err := d.do(ctx, call{method: http.MethodPost, path: "/checks/" + url.PathEscape(kind), token: token, body: body}, &out)
	return out, err
}
