package finapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Analysis keeps cases and computes reports and checks: analysis.Service.
type Analysis interface {
	CreateCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, name, key string, sources []bankfeed.ConnectionID) (analysis.Case, error)
	Case(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID) (analysis.Case, error)
	Cases(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, before analysis.CaseID, limit int) ([]analysis.Case, error)
	DeleteCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID) error
	CreateReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, t finapi.ReportType, o analysis.Order) (analysis.Report, error)
	Report(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, t finapi.ReportType) (analysis.Report, error)
	ReportByID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, report analysis.ReportID) (analysis.Report, error)
	Reports(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID) ([]analysis.Report, error)
	DeleteReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, t finapi.ReportType) error
	CheckBalances(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sources []bankfeed.ConnectionID, amount bankfeed.Money) (finapi.BalancesCheck, error)
	CheckHolderType(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sources []bankfeed.ConnectionID) (finapi.HolderTypeCheck, error)
}

const (
	cases  = prefix + "/cases"
	checks = prefix + "/checks"
)

var (
	caseKey = dialect.Param{Name: "Idempotency-Key", Header: true, Schema: dialect.Text(255),
		Doc: "Any text of your own. A request that is repeated with the same one makes no other case; another request with it is refused with 422."}
	perPage    = dialect.Param{Name: "perPage", Schema: dialect.Integer(1, 500, 100), Doc: "How many at most."}
	beforeCase = dialect.Param{Name: "before", Schema: dialect.Text(36), Doc: "Only those that are older than the case of this id."}
)

func (a *API) caseOperations() []*dialect.Operation {
	const sourcesMust = "Every data source must be SUCCESSFUL and not be synchronizing, else 422 ILLEGAL_ENTITY_STATE. "
	types := make([]string, len(finapi.ReportTypes))
	for i, t := range finapi.ReportTypes {
		types[i] = t.String()
	}
	one, typed := []string{cases + "/{caseId}"}, []string{cases + "/{caseId}/reports/{category}/{type}"}
	entity := []int{http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusUnsupportedMediaType}
	noPageYet := []int{http.StatusUnprocessableEntity}
	return []*dialect.Operation{
		{
			Method: "POST", Paths: []string{cases}, ID: "createCase", Tag: "cases", Token: dialect.UserToken, Summary: "Make a case of data sources",
			Params: []dialect.Param{caseKey}, Body: typeOf[caseRequest](), Status: http.StatusCreated, Answer: typeOf[finapi.Case](), Also: entity, Handle: a.createCase,
			About: sourcesMust + "A case goes, with its reports, when one of its data sources is deleted.",
		},
		{
			Method: "GET", Paths: []string{cases}, ID: "listCases", Tag: "cases", Token: dialect.UserToken, Summary: "List the user's cases, newest first",
			Params: []dialect.Param{perPage, beforeCase}, Status: http.StatusOK, Answer: typeOf[finapi.Cases](), Also: []int{http.StatusNotFound}, Handle: a.listCases,
		},
		{
			Method: "GET", Paths: one, ID: "getCase", Tag: "cases", Token: dialect.UserToken, Summary: "Read a case",
			Status: http.StatusOK, Answer: typeOf[finapi.Case](), Handle: a.getCase,
		},
		{
			Method: "DELETE", Paths: one, ID: "deleteCase", Tag: "cases", Token: dialect.UserToken, Summary: "Remove a case with its reports",
			Status: http.StatusNoContent, Handle: a.deleteCase,
		},
		{
			Method: "GET", Paths: []string{cases + "/{caseId}/reports"}, ID: "listReports", Tag: "reports", Token: dialect.UserToken, Summary: "Read all reports of a case",
			Status: http.StatusOK, Answer: typeOf[finapi.Reports](), Handle: a.listReports,
		},
		{
			Method: "POST", Paths: typed, ID: "createReport", Tag: "reports", Token: dialect.UserToken, Summary: "Ask for a report", Body: typeOf[reportRequest](), Optional: true,
			Status: http.StatusCreated, Answer: typeOf[finapi.Report](), Also: entity, Handle: a.createReport,
			About: sourcesMust + "It is computed in the background; the callback is called when it has ended. A case has one report of a type: another is refused with 422 ENTITY_EXISTS. " +
				"Types: " + strings.Join(types, ", ") + ".",
		},
		{
			Method: "GET", Paths: typed, ID: "getReport", Tag: "reports", Token: dialect.UserToken, Summary: "Read a report",
			Status: http.StatusOK, Answer: typeOf[finapi.Report](), Also: noPageYet, Handle: a.getReport, Describe: alsoPage,
			About: "result is there once status is SUCCESSFUL. A request that prefers text/html gets a page with charts, or 422 ILLEGAL_ENTITY_STATE until then.",
		},
		{
			Method: "DELETE", Paths: typed, ID: "deleteReport", Tag: "reports", Token: dialect.UserToken, Summary: "Remove a report, so that it can be made anew",
			Status: http.StatusNoContent, Handle: a.deleteReport,
		},
		{
			Method: "GET", Paths: []string{cases + "/{caseId}/reports/{reportId}"}, ID: "getReportById", Tag: "reports", Token: dialect.UserToken, Summary: "Read a report by its id",
			Status: http.StatusOK, Answer: typeOf[finapi.Report](), Also: noPageYet, Handle: a.getReportByID, Describe: alsoPage,
		},
		{
			Method: "GET", Paths: []string{cases + "/{caseId}/reports/{reportId}/html"}, ID: "getReportPage", Tag: "reports", Token: dialect.UserToken, Summary: "Read a report as a page with charts",
			Status: http.StatusOK, Also: noPageYet, Handle: a.getReportPage, Describe: onlyPage,
			About: "In English or German, by Accept-Language. It holds no script and loads nothing. 422 ILLEGAL_ENTITY_STATE until the report is SUCCESSFUL.",
		},
		{
			Method: "POST", Paths: []string{checks + "/balancesCheck"}, ID: "checkBalances", Tag: "checks", Token: dialect.UserToken, Summary: "Can an amount be paid?",
			Body: typeOf[balancesCheckRequest](), Status: http.StatusOK, Answer: typeOf[finapi.BalancesCheck](), Also: entity, Handle: a.checkBalances,
			About: sourcesMust + "Answers at once whether the amount can be paid from one of the current accounts, and whether the overdraft would be needed.",
		},
		{
			Method: "POST", Paths: []string{checks + "/accountHolderType"}, ID: "checkAccountHolderType", Tag: "checks", Token: dialect.UserToken, Summary: "A person or a company?",
			Body: typeOf[holderTypeRequest](), Status: http.StatusOK, Answer: typeOf[finapi.HolderTypeCheck](), Also: entity, Handle: a.checkHolderType,
			About: sourcesMust + "Answers at once, with its reasons.",
		},
	}
}

const html = "text/html"

func page() *huma.MediaType { return &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}} }

func alsoPage(o *huma.Operation) { o.Responses["200"].Content[html] = page() }

func onlyPage(o *huma.Operation) {
	o.Responses["200"].Content = map[string]*huma.MediaType{html: page()}
}

type caseRequest struct {
	DataSourceIDs []string `json:"dataSourceIds" minItems:"1" maxItems:"100" nullable:"false"`
	Name          string   `json:"name,omitempty" maxLength:"200" doc:"Your own name for the case."`
}

// reportRequest holds finapi.ReportRequest against its bounds.
type reportRequest struct {
	CallbackURL    bankfeed.Secret `json:"callbackUrl,omitempty" maxLength:"2048" doc:"Told when the report has ended: absolute, any port; https for live clients."`
	CallbackHandle string          `json:"callbackHandle,omitempty" maxLength:"512" doc:"Your own name for the report, returned unchanged by the callback."`
	DaysOfReport   int             `json:"daysOfReport,omitempty" minimum:"1" maximum:"3650" default:"730" doc:"How far back it looks, from the day up to which the data is known."`
}

type balancesCheckRequest struct {
	DataSourceIDs []string    `json:"dataSourceIds" minItems:"1" maxItems:"100" nullable:"false"`
	Amount        json.Number `json:"amount"`
	Currency      string      `json:"currency,omitempty" pattern:"^[A-Z]{3}$" default:"EUR"`
}

type holderTypeRequest struct {
	DataSourceIDs []string `json:"dataSourceIds" minItems:"1" maxItems:"100" nullable:"false"`
}

// sourcesOf reads ids of data sources; one that names nothing makes the whole
// request name nothing.
func (a *API) sourcesOf(c *dialect.Call, ids []string) (sources []bankfeed.ConnectionID, err error) {
	for _, s := range ids {
		n, ok := a.Installation.ParseID(s, bankfeed.KindConnection, c.Tenant())
		if !ok {
			return nil, bankfeed.ErrNotFound
		}
		sources = append(sources, bankfeed.ConnectionID(n))
	}
	return sources, nil
}

func (a *API) createCase(c *dialect.Call) error {
	var body caseRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	key := c.R.Header.Get(caseKey.Name)
	if len(key) > *caseKey.Schema.MaxLength {
		return bankfeed.InvalidField(caseKey.Name, "is longer than %d characters", *caseKey.Schema.MaxLength)
	}
	sources, err := a.sourcesOf(c, body.DataSourceIDs)
	if err != nil {
		return err
	}
	k, err := a.Analysis.CreateCase(c.Context(), c.Tenant(), c.Caller.User, body.Name, key, sources)
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, a.caseOf(c, k))
}

func (a *API) caseOf(c *dialect.Call, k analysis.Case) finapi.Case {
	w := finapi.Case{ID: a.Installation.UUID(bankfeed.KindCase, c.Tenant(), int64(k.ID)).String(), Name: k.Name, DataSourceIDs: []string{},
		CreationDate: finapi.TimeOf(k.CreatedAt, a.Zone)}
	for _, id := range k.Sources {
		w.DataSourceIDs = append(w.DataSourceIDs, a.Installation.UUID(bankfeed.KindConnection, c.Tenant(), int64(id)).String())
	}
	return w
}

func (a *API) listCases(c *dialect.Call) error {
	limit, err := c.Integer(perPage)
	if err != nil {
		return err
	}
	before := int64(0)
	if s := c.Query.Get(beforeCase.Name); s != "" {
		var ok bool
		if before, ok = a.Installation.ParseID(s, bankfeed.KindCase, c.Tenant()); !ok {
			return bankfeed.ErrNotFound
		}
	}
	list, err := a.Analysis.Cases(c.Context(), c.Tenant(), c.Caller.User, analysis.CaseID(before), limit)
	if err != nil {
		return err
	}
	w := finapi.Cases{Cases: []finapi.Case{}}
	for _, k := range list {
		w.Cases = append(w.Cases, a.caseOf(c, k))
	}
	return c.Write(http.StatusOK, w)
}

func (a *API) caseID(c *dialect.Call) (analysis.CaseID, error) {
	return pathID[analysis.CaseID](a, c, "caseId", bankfeed.KindCase)
}

func (a *API) getCase(c *dialect.Call) error {
	id, err := a.caseID(c)
	if err != nil {
		return err
	}
	k, err := a.Analysis.Case(c.Context(), c.Tenant(), c.Caller.User, id)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, a.caseOf(c, k))
}

func (a *API) deleteCase(c *dialect.Call) error {
	id, err := a.caseID(c)
	if err != nil {
		return err
	}
	if err := a.Analysis.DeleteCase(c.Context(), c.Tenant(), c.Caller.User, id); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

// reportType reads category and type of the path, in any case of the letters.
func reportType(c *dialect.Call) (finapi.ReportType, error) {
	for _, t := range finapi.ReportTypes {
		if strings.EqualFold(string(t.Category), c.R.PathValue("category")) && strings.EqualFold(t.Type, c.R.PathValue("type")) {
			return t, nil
		}
	}
	return finapi.ReportType{}, bankfeed.ErrNotFound
}

func (a *API) createReport(c *dialect.Call) error {
	var body reportRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	id, err := a.caseID(c)
	if err != nil {
		return err
	}
	t, err := reportType(c)
	if err != nil {
		return err
	}
	order := analysis.Order{Client: c.Caller.Client.ID, Handle: body.CallbackHandle, Days: body.DaysOfReport}
	callback, err := a.callback(c, "callbackUrl", body.CallbackURL, bankfeed.MomentFinished)
	if err != nil {
		return err
	}
	if callback != nil {
		order.CallbackURL, order.Once = callback.URL, callback.Once
	}
	r, err := a.Analysis.CreateReport(c.Context(), c.Tenant(), c.Caller.User, id, t, order)
	if errors.Is(err, analysis.ErrReportExists) {
		return &fault{http.StatusUnprocessableEntity, finapi.CodeEntityExists, "", analysis.ErrReportExists.Text}
	}
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, a.reportOf(c, r))
}

func (a *API) reportOf(c *dialect.Call, r analysis.Report) finapi.Report {
	w := finapi.Report{ID: a.Installation.UUID(bankfeed.KindReport, c.Tenant(), int64(r.ID)).String(), CaseID: a.Installation.UUID(bankfeed.KindCase, c.Tenant(), int64(r.Case)).String(),
		Category: r.Type.Category, Type: r.Type.Type, Status: r.Status, Code: r.Code, Message: r.Message(), CallbackHandle: r.Order.Handle, DaysOfReport: r.Order.Days,
		CreationDate: finapi.TimeOf(r.CreatedAt, a.Zone), Result: r.Result}
	if !r.EndedAt.IsZero() {
		at := finapi.TimeOf(r.EndedAt, a.Zone)
		w.FinishedDate = &at
	}
	return w
}

func (a *API) listReports(c *dialect.Call) error {
	id, err := a.caseID(c)
	if err != nil {
		return err
	}
	list, err := a.Analysis.Reports(c.Context(), c.Tenant(), c.Caller.User, id)
	if err != nil {
		return err
	}
	w := finapi.Reports{Reports: []finapi.Report{}}
	for _, r := range list {
		w.Reports = append(w.Reports, a.reportOf(c, r))
	}
	return c.Write(http.StatusOK, w)
}

func (a *API) typedReport(c *dialect.Call) (analysis.Report, error) {
	id, err := a.caseID(c)
	if err != nil {
		return analysis.Report{}, err
	}
	t, err := reportType(c)
	if err != nil {
		return analysis.Report{}, err
	}
	return a.Analysis.Report(c.Context(), c.Tenant(), c.Caller.User, id, t)
}

func (a *API) getReport(c *dialect.Call) error {
	r, err := a.typedReport(c)
	if err != nil {
		return err
	}
	return a.writeReport(c, r, prefersPage(c.R))
}

func (a *API) reportByID(c *dialect.Call) (analysis.Report, error) {
	id, err := a.caseID(c)
	if err != nil {
		return analysis.Report{}, err
	}
	n, err := pathID[analysis.ReportID](a, c, "reportId", bankfeed.KindReport)
	if err != nil {
		return analysis.Report{}, err
	}
	return a.Analysis.ReportByID(c.Context(), c.Tenant(), c.Caller.User, id, n)
}

func (a *API) getReportByID(c *dialect.Call) error {
	r, err := a.reportByID(c)
	if err != nil {
		return err
	}
	return a.writeReport(c, r, prefersPage(c.R))
}

func (a *API) getReportPage(c *dialect.Call) error {
	r, err := a.reportByID(c)
	if err != nil {
		return err
	}
	return a.writeReport(c, r, true)
}

func (a *API) deleteReport(c *dialect.Call) error {
	id, err := a.caseID(c)
	if err != nil {
		return err
	}
	t, err := reportType(c)
	if err != nil {
		return err
	}
	if err := a.Analysis.DeleteReport(c.Context(), c.Tenant(), c.Caller.User, id, t); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

// prefersPage reports whether a request names text/html and not JSON before it.
func prefersPage(r *http.Request) bool {
	for kind := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, _, _ = strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case html:
			return true
		case "application/json":
			return false
		}
	}
	return false
}

func (a *API) writeReport(c *dialect.Call, r analysis.Report, asPage bool) error {
	if !asPage {
		return c.Write(http.StatusOK, a.reportOf(c, r))
	}
	if r.Status != finapi.ReportSuccessful {
		return bankfeed.Errorf(bankfeed.Conflict, "the report is not SUCCESSFUL")
	}
	var b bytes.Buffer
	language := analysis.PageLanguage(c.R.Header.Get("Accept-Language"))
	if err := analysis.Page(&b, a.reportOf(c, r), language); err != nil {
		return err
	}
	h := c.W.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", analysis.PagePolicy)
	h.Set("Content-Language", language)
	h.Set("Vary", "Accept, Accept-Language")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	c.Begin(http.StatusOK)
	_, err := c.W.Write(b.Bytes())
	return err
}

func (a *API) checkBalances(c *dialect.Call) error {
	var body balancesCheckRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	amount, err := bankfeed.ParseAmount(string(body.Amount))
	if err != nil {
		return bankfeed.InvalidField("amount", "must be an amount")
	}
	sources, err := a.sourcesOf(c, body.DataSourceIDs)
	if err != nil {
		return err
	}
	if body.Currency == "" {
		body.Currency = "EUR"
	}
	w, err := a.Analysis.CheckBalances(c.Context(), c.Tenant(), c.Caller.User, sources, bankfeed.Money{Amount: amount, Currency: body.Currency})
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, w)
}

func (a *API) checkHolderType(c *dialect.Call) error {
	var body holderTypeRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	sources, err := a.sourcesOf(c, body.DataSourceIDs)
	if err != nil {
		return err
	}
	w, err := a.Analysis.CheckHolderType(c.Context(), c.Tenant(), c.Caller.User, sources)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, w)
}
