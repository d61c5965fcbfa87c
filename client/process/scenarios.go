package process

import (
	"context"
	"errors"
	"regexp"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Reports is the scenario of the guide: a case, and reports of these types. Its
// results are "case" and "report:{category}/{type}". Its callbacks come to /reports.
func Reports(types ...finapi.ReportType) Scenario {
	return Scenario{Path: "/reports", Continue: func(ctx context.Context, r *Run) error { return reports(ctx, r, types) }}
}

// Checks is the scenario with a parameter: can the process's "amount" be paid
// ("currency": EUR where there is none)? Its result is "check:balancesCheck". Its
// callbacks come to /checks.
func Checks() Scenario {
	return Scenario{Path: "/checks", Check: CheckAmount, Continue: balances}
}

// ReportsAndChecks does both, one after the other. Its callbacks come to
// /reports-and-checks.
func ReportsAndChecks(types ...finapi.ReportType) Scenario {
	return Scenario{Path: "/reports-and-checks", Check: CheckAmount, Continue: func(ctx context.Context, r *Run) error {
		if err := balances(ctx, r); err != nil {
			return err
		}
		return reports(ctx, r, types)
	}}
}

// amountForm keeps signs and exponents out: what can be paid is a plain decimal.
var amountForm = regexp.MustCompile(`^[0-9]{1,15}(\.[0-9]{1,6})?$`)

// CheckAmount checks the parameters "amount" and "currency".
func CheckAmount(params map[string]string) error {
	if !amountForm.MatchString(params["amount"]) {
		return bankfeed.InvalidField("amount", "must be a decimal number such as 250.00")
	}
	if c := params["currency"]; c != "" && !currencyForm.MatchString(c) {
		return bankfeed.InvalidField("currency", "must be three capital letters")
	}
	return nil
}

var currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)

func balances(ctx context.Context, r *Run) error {
	amount, err := bankfeed.ParseAmount(r.Param("amount"))
	if err != nil {
		return Fail(CodeScenario, "the parameter amount is not a decimal number")
	}
	return r.Step(ctx, "check:balancesCheck", nil, func(ctx context.Context, api *client.DataIntelligence, token bankfeed.Secret) (any, error) {
		return api.Check(ctx, token, "balancesCheck", finapi.BalancesCheckRequest{
			DataSourceIDs: r.DataSources(), Amount: finapi.Decimal{Amount: amount}, Currency: r.Param("currency")})
	})
}

// reports orders all reports before it waits for any. A crash between an answer
// and its commit repeats a call: the case's with the process as its
// Idempotency-Key, and a report that exists is read.
func reports(ctx context.Context, r *Run, types []finapi.ReportType) error {
	var c finapi.Case
	err := r.Step(ctx, "case", &c, func(ctx context.Context, api *client.DataIntelligence, token bankfeed.Secret) (any, error) {
		return api.CreateCase(ctx, token, finapi.CaseRequest{DataSourceIDs: r.DataSources(), Name: r.Process().ID}, r.Process().ID)
	})
	if err != nil {
		return err
	}
	for _, t := range types {
		if err := order(ctx, r, c.ID, t); err != nil {
			return err
		}
	}
	waiting := false
	for _, t := range types {
		switch err := read(ctx, r, c.ID, t); {
		case errors.Is(err, ErrLater):
			waiting = true // the others may be ready
		case err != nil:
			return err
		}
	}
	if waiting {
		return ErrLater
	}
	return nil
}

// order asks for a report once.
func order(ctx context.Context, r *Run, caseID string, t finapi.ReportType) error {
	return r.Step(ctx, "ordered:"+t.String(), nil, func(ctx context.Context, api *client.DataIntelligence, token bankfeed.Secret) (any, error) {
		made, err := api.CreateReport(ctx, token, caseID, t, finapi.ReportRequest{})
		if client.ErrorCode(err) == string(finapi.CodeEntityExists) {
			made, err = api.Report(ctx, token, caseID, t)
		}
		return made.ID, err
	})
}

// read stores a report once it is there.
func read(ctx context.Context, r *Run, caseID string, t finapi.ReportType) error {
	return r.Step(ctx, "report:"+t.String(), nil, func(ctx context.Context, api *client.DataIntelligence, token bankfeed.Secret) (any, error) {
		report, err := api.Report(ctx, token, caseID, t)
		switch {
		case err != nil:
			return nil, err
		case report.Status == finapi.ReportFailed, string(report.Status) == string(finapi.Errored):
			code := report.Code
			if code == "" {
				code = "REPORT_FAILED"
			}
			return nil, Fail(code, "the report %s failed: %s", t, report.Message)
		case report.Status == finapi.ReportSuccessful, report.Status == "" && len(report.Result) > 0:
			return report, nil
		default:
			return nil, ErrLater
		}
	})
}
