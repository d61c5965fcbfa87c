package finapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	wire "github.com/bankfeed/bankfeed/wire/finapi"
)

func init() {
	openapi3filter.RegisterBodyDecoder("text/html", func(r io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		b, err := io.ReadAll(r)
		return string(b), err
	})
}

// desk is the API with the real analysis on a real database. User 7 has one data
// source with a current account, user 8 another.
type desk struct {
	*client
	service *analysis.Service
	store   *store.Store
	source  string // of user 7
	foreign string // of user 8
}

func newDesk(t *testing.T) *desk {
	s := storetest.SQLite(t)
	for {
		if _, u := storetest.User(t, s); u.ID == 8 {
			break
		}
	}
	ctx, now := context.Background(), time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)
	for i, user := range []bankfeed.UserID{7, 8} {
		n := bankfeed.ConnectionID(i + 1)
		c := &bankfeed.Change{Tenant: 1, User: user,
			NewConnection: &bankfeed.Connection{ID: n, ProviderID: "300", Status: bankfeed.ConnectionSuccess, CreatedAt: now,
				Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess, LastSuccessAt: &now}}},
			Accounts: []bankfeed.Account{{ID: bankfeed.AccountID(n), Connection: n, Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", CreatedAt: now, LastReadAt: now,
				OwnerName: "Lorenz GmbH", Balances: []bankfeed.Balance{
					{Type: "interimBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount("100.00"), Currency: "EUR"}, FetchedAt: now},
					{Type: "interimAvailable", Money: bankfeed.Money{Amount: bankfeed.MustAmount("600.00"), Currency: "EUR"}, FetchedAt: now}}}}}
		c.Transactions.Insert = []bankfeed.TransactionRow{{Identity: bankfeed.Identity{Key: 1}, Transaction: bankfeed.Transaction{ID: bankfeed.TransactionID(n), Account: bankfeed.AccountID(n),
			Status: bankfeed.TransactionBooked, BookingDate: "2020-01-01", Money: bankfeed.Money{Amount: bankfeed.MustAmount("-12.50"), Currency: "EUR"}, Creditor: bankfeed.Party{Name: "REWE"}, CreatedAt: now}}}
		_, err := s.Apply(ctx, c)
		require.NoError(t, err)
	}
	rules, err := analysis.LoadRules("")
	require.NoError(t, err)
	d := &desk{store: s}
	d.service = analysis.New(analysis.Config{Store: s, Rules: rules, Installation: s.Installation(), Now: func() time.Time { return now }})
	d.client = newClient(t, func(c *finapi.Config) { c.Analysis, c.Installation = d.service, s.Installation() })
	d.source = s.Installation().UUID(bankfeed.KindConnection, 1, 1).String()
	d.foreign = s.Installation().UUID(bankfeed.KindConnection, 1, 2).String()
	return d
}

func decode[T any](t *testing.T, a answer, status int) (v T) {
	t.Helper()
	require.Equal(t, status, a.Code, a.Body)
	require.NoError(t, json.Unmarshal([]byte(a.Body), &v))
	return v
}

func (d *desk) newCase(extra ...string) wire.Case {
	d.t.Helper()
	return decode[wire.Case](d.t.(*testing.T), d.do("user", "POST", "/api/v1/cases", `{"dataSourceIds":["`+d.source+`"],"name":"Ratenkauf"}`, extra...), 201)
}

// work does what a node does in the background.
func (d *desk) work() {
	d.t.Helper()
	now := time.Now()
	claims, err := d.store.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkReport, Owner: "n", Now: now, Until: now.Add(time.Minute), Limit: 10, Cap: func(string) int { return 0 }})
	require.NoError(d.t, err)
	require.NotEmpty(d.t, claims)
	for _, c := range claims {
		require.NoError(d.t, d.service.Run(context.Background(), c.Fence))
	}
}

// needUser lets the data source of user 7 need its user.
func (d *desk) needUser() {
	c, err := d.store.Connection(context.Background(), 1, 7, 1)
	require.NoError(d.t, err)
	c.Channels[0].Status = bankfeed.ChannelTokenExpired
	_, err = d.store.Apply(context.Background(), &bankfeed.Change{Tenant: 1, User: 7, Connection: &c})
	require.NoError(d.t, err)
}

func TestCases(t *testing.T) {
	d := newDesk(t)
	k := d.newCase()
	require.Equal(t, wire.Case{ID: k.ID, Name: "Ratenkauf", DataSourceIDs: []string{d.source}, CreationDate: "2020-01-02 01:00:00.000"}, k)
	second := d.newCase("Idempotency-Key", "k-1")
	require.Equal(t, second, d.newCase("Idempotency-Key", "k-1"), "the same request again")
	require.NotEqual(t, k.ID, second.ID)
	d.refused(d.do("user", "POST", "/api/v1/cases", `{"dataSourceIds":["`+d.source+`"],"name":"Leasing"}`, "Idempotency-Key", "k-1"), 422, "ILLEGAL_ENTITY_STATE")
	require.Equal(t, []wire.Case{second, k}, decode[wire.Cases](t, d.do("user", "GET", "/api/v1/cases", ""), 200).Cases)
	require.Equal(t, []wire.Case{second}, decode[wire.Cases](t, d.do("user", "GET", "/api/v1/cases?perPage=1", ""), 200).Cases)
	require.Equal(t, []wire.Case{k}, decode[wire.Cases](t, d.do("user", "GET", "/api/v1/cases?before="+second.ID, ""), 200).Cases)
	require.Equal(t, k, decode[wire.Case](t, d.do("user", "GET", "/api/v1/cases/"+k.ID, ""), 200))
	require.Empty(t, decode[wire.Cases](t, d.do("user8", "GET", "/api/v1/cases", ""), 200).Cases)

	for _, caller := range []string{"user8", "foreign"} {
		d.refused(d.do(caller, "GET", "/api/v1/cases/"+k.ID, ""), 404, "UNKNOWN_ENTITY")
		d.refused(d.do(caller, "DELETE", "/api/v1/cases/"+k.ID, ""), 404, "UNKNOWN_ENTITY")
		d.refused(d.do(caller, "GET", "/api/v1/cases/"+k.ID+"/reports", ""), 404, "UNKNOWN_ENTITY")
		d.refused(d.do(caller, "POST", "/api/v1/cases/"+k.ID+"/reports/cashFlow/balances", ""), 404, "UNKNOWN_ENTITY")
	}
	for body, want := range map[string]string{
		`{"dataSourceIds":["` + d.foreign + `"]}`:                    "404 UNKNOWN_ENTITY",
		`{"dataSourceIds":["` + d.source + `","` + d.foreign + `"]}`: "404 UNKNOWN_ENTITY",
		`{"dataSourceIds":["nonsense"]}`:                             "404 UNKNOWN_ENTITY",
		`{"dataSourceIds":[]}`:                                       "400 ILLEGAL_FIELD_VALUE",
		`{}`:                                                         "400 MISSING_FIELD",
		`{`:                                                          "400 BAD_REQUEST",
		`{"dataSourceIds":["` + d.source + `"],"name":"` + strings.Repeat("x", 201) + `"}`:                              "400 ILLEGAL_FIELD_VALUE",
		`{"dataSourceIds":[` + strings.TrimSuffix(strings.Repeat(`"`+d.source+`",`, analysis.MaxSources+1), ",") + `]}`: "400 ILLEGAL_FIELD_VALUE",
	} {
		status, code, _ := strings.Cut(want, " ")
		d.refused(d.do("user", "POST", "/api/v1/cases", body), map[string]int{"404": 404, "400": 400}[status], code)
	}
	name := strings.Repeat("ü", 200)
	require.Equal(t, name, decode[wire.Case](t, d.do("user", "POST", "/api/v1/cases", `{"dataSourceIds":["`+d.source+`"],"name":"`+name+`"}`), 201).Name, "200 characters, however many bytes")
	d.refused(d.do("client", "GET", "/api/v1/cases", ""), 403, "FORBIDDEN")
	require.Equal(t, 204, d.do("user", "DELETE", "/api/v1/cases/"+k.ID, "").Code)
	d.refused(d.do("user", "GET", "/api/v1/cases/"+k.ID, ""), 404, "UNKNOWN_ENTITY")
}

func TestReports(t *testing.T) {
	d := newDesk(t)
	k := d.newCase()
	path := "/api/v1/cases/" + k.ID + "/reports"
	require.Empty(t, decode[wire.Reports](t, d.do("user", "GET", path, ""), 200).Reports)
	r := decode[wire.Report](t, d.do("user", "POST", path+"/cashFlow/balances", `{"callbackUrl":"https://domain.tld/cb","callbackHandle":"h-1"}`), 201)
	require.Equal(t, wire.Report{ID: r.ID, CaseID: k.ID, Category: wire.CashFlow, Type: "balances", Status: wire.ReportPending, CallbackHandle: "h-1", DaysOfReport: 730,
		CreationDate: "2020-01-02 01:00:00.000"}, r)
	require.Equal(t, []string{"https://domain.tld/cb false"}, d.hub.checked)
	d.refused(d.do("user", "POST", path+"/cashFlow/balances", ""), 422, "ENTITY_EXISTS")
	d.refused(d.do("user", "GET", path+"/"+r.ID+"/html", ""), 422, "ILLEGAL_ENTITY_STATE")
	for _, p := range []string{"/cashFlow/balances", "/" + r.ID} {
		d.refused(d.do("user", "GET", path+p, "", "Accept", "text/html"), 422, "ILLEGAL_ENTITY_STATE")
	}
	require.Equal(t, wire.ReportPending, decode[wire.Report](t, d.do("user", "POST", path+"/CASHFLOW/cashflow", `{"daysOfReport":30}`), 201).Status, "letters of any case")
	d.work()

	got := decode[wire.Report](t, d.do("user", "GET", path+"/cashFlow/balances", "", "Accept", "application/json, text/html;q=0.5"), 200)
	require.Equal(t, wire.ReportSuccessful, got.Status)
	require.NotNil(t, got.FinishedDate)
	require.Contains(t, string(got.Result), `"balance":100.00,`, "an amount is a number with the bank's scale")
	var result wire.BalancesResult
	require.NoError(t, json.Unmarshal(got.Result, &result))
	require.Equal(t, "112.50", result.Accounts[0].History[0].Balance.String())
	require.Equal(t, d.source, result.Accounts[0].DataSourceID)
	require.Equal(t, got, decode[wire.Report](t, d.do("user", "GET", path+"/"+r.ID, ""), 200))
	all := decode[wire.Reports](t, d.do("user", "GET", path, ""), 200).Reports
	require.Len(t, all, 2)
	require.Equal(t, got, all[0])
	require.Equal(t, 30, all[1].DaysOfReport)

	for _, a := range []answer{
		d.do("user", "GET", path+"/cashFlow/balances", "", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language", "de-DE"),
		d.do("user", "GET", path+"/"+r.ID+"/html", "", "Accept-Language", "de-DE"),
	} {
		require.Equal(t, 200, a.Code)
		require.Equal(t, "text/html; charset=utf-8", a.Header.Get("Content-Type"))
		require.Equal(t, analysis.PagePolicy, a.Header.Get("Content-Security-Policy"))
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Contains(t, a.Body, "<svg")
		require.Contains(t, a.Body, "112,50")
	}

	for _, p := range []string{"/cashFlow/luck", "/luck/balances", "/risk/balances", "/risk/gambling"} {
		d.refused(d.do("user", "GET", path+p, ""), 404, "UNKNOWN_ENTITY")
	}
	d.refused(d.do("user", "POST", path+"/cashFlow/luck", ""), 404, "UNKNOWN_ENTITY")
	d.refused(d.do("user", "GET", path+"/"+k.ID, ""), 404, "UNKNOWN_ENTITY")
	d.refused(d.do("user8", "GET", path+"/"+r.ID, ""), 404, "UNKNOWN_ENTITY")
	d.refused(d.do("user", "POST", path+"/risk/gambling", `{"callbackUrl":"https://127.0.0.1/"}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(d.do("user", "POST", path+"/risk/gambling", `{"daysOfReport":0}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(d.do("user", "PUT", path+"/risk/gambling", ""), 405, "METHOD_NOT_ALLOWED")

	require.Equal(t, 204, d.do("user", "DELETE", path+"/cashFlow/balances", "").Code)
	d.refused(d.do("user", "GET", path+"/cashFlow/balances", ""), 404, "UNKNOWN_ENTITY")
	d.needUser()
	d.refused(d.do("user", "POST", path+"/cashFlow/balances", ""), 422, "ILLEGAL_ENTITY_STATE")
	d.refused(d.do("user", "POST", "/api/v1/cases", `{"dataSourceIds":["`+d.source+`"]}`), 422, "ILLEGAL_ENTITY_STATE")
	require.Equal(t, 200, d.do("user", "GET", path+"/cashFlow/cashFlow", "").Code, "what is there stays")
}

// The document says what a result of each type has.
func TestResultsAreDocumented(t *testing.T) {
	d := newDesk(t)
	var rows []bankfeed.TransactionRow
	for _, month := range []string{"2019-09", "2019-10", "2019-11", "2019-12"} {
		for _, x := range [][2]string{{"2500.00", "Holm GmbH"}, {"-800.00", "Vermieter Miete"}, {"-20.00", "Tipico"}} {
			n := bankfeed.TransactionID(len(rows) + 10)
			other := bankfeed.Party{Name: x[1]}
			rows = append(rows, bankfeed.TransactionRow{Identity: bankfeed.Identity{Key: uint64(n)}, Transaction: bankfeed.Transaction{ID: n, Account: 1, Status: bankfeed.TransactionBooked,
				BookingDate: bankfeed.Date(month + "-02"), Money: bankfeed.Money{Amount: bankfeed.MustAmount(x[0]), Currency: "EUR"}, Creditor: other, Debtor: other}})
		}
	}
	c := &bankfeed.Change{Tenant: 1, User: 7}
	c.Transactions.Insert = rows
	_, err := d.store.Apply(t.Context(), c)
	require.NoError(t, err)
	path := "/api/v1/cases/" + d.newCase().ID + "/reports/"
	for _, kind := range wire.ReportTypes {
		require.Equal(t, 201, d.do("user", "POST", path+kind.String(), "").Code)
	}
	d.work()
	d.work()
	schemas := map[string]string{"balances": "BalancesResult", "cashFlow": "CashFlowResult", "incomeAndSpending": "IncomeSpendingResult", "income": "IncomeSpendingResult",
		"spending": "IncomeSpendingResult", "rentAndLiving": "IncomeSpendingResult", "contracts": "ContractsResult", "insurance": "ContractsResult"}
	for _, kind := range wire.ReportTypes {
		r := decode[wire.Report](t, d.do("user", "GET", path+kind.String(), ""), 200)
		require.Equal(t, wire.ReportSuccessful, r.Status, kind)
		var result any
		require.NoError(t, json.Unmarshal(r.Result, &result))
		schema := d.doc.Components.Schemas[cmp.Or(schemas[kind.Type], "RiskResult")]
		require.NotNil(t, schema, kind)
		require.NoError(t, d.doc.ValidateSchemaJSON(schema.Value, result), "%s: %s", kind, r.Result)
	}
}

func TestChecks(t *testing.T) {
	d := newDesk(t)
	balances := func(body string) answer { return d.do("user", "POST", "/api/v1/checks/balancesCheck", body) }
	ids := `"dataSourceIds":["` + d.source + `"]`
	for amount, want := range map[string]string{"100": "COVERED", "100.01": "COVERED_BY_OVERDRAFT", "600.00": "COVERED_BY_OVERDRAFT", "600.01": "NOT_COVERED"} {
		r := decode[wire.BalancesCheck](t, balances(`{`+ids+`,"amount":`+amount+`}`), 200)
		require.Equal(t, want, r.Result, amount)
		require.Equal(t, amount, r.Amount.String())
		require.Equal(t, want == "COVERED_BY_OVERDRAFT", r.OverdraftRequired)
	}
	require.Equal(t, "UNKNOWN", decode[wire.BalancesCheck](t, balances(`{`+ids+`,"amount":1,"currency":"PLN"}`), 200).Result)
	d.refused(balances(`{`+ids+`}`), 400, "MISSING_FIELD")
	d.refused(balances(`{`+ids+`,"amount":0}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(balances(`{`+ids+`,"amount":-5}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(balances(`{`+ids+`,"amount":1e300}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(balances(`{`+ids+`,"amount":1,"currency":"euro"}`), 400, "ILLEGAL_FIELD_VALUE")
	d.refused(balances(`{"dataSourceIds":["`+d.foreign+`"],"amount":1}`), 404, "UNKNOWN_ENTITY")
	acc, err := d.store.Accounts(t.Context(), 1, 7, bankfeed.AccountFilter{Connection: 1})
	require.NoError(t, err)
	acc[0].Balances = acc[0].Balances[:1]
	_, err = d.store.Apply(t.Context(), &bankfeed.Change{Tenant: 1, User: 7, Accounts: acc})
	require.NoError(t, err)
	require.Contains(t, balances(`{`+ids+`,"amount":1}`).Body, `"available":null,"overdraft":null,`, "what the bank does not say")
	h := decode[wire.HolderTypeCheck](t, d.do("user", "POST", "/api/v1/checks/accountHolderType", `{`+ids+`}`), 200)
	require.Equal(t, "COMPANY", h.HolderType)
	require.Equal(t, "LEGAL_FORM", h.Accounts[0].Evidence[0].Kind)
	d.refused(d.do("user", "POST", "/api/v1/checks/luck", `{}`), 404, "UNKNOWN_ENTITY")
	d.needUser()
	d.refused(balances(`{`+ids+`,"amount":1}`), 422, "ILLEGAL_ENTITY_STATE")
	d.refused(d.do("user", "POST", "/api/v1/checks/accountHolderType", `{`+ids+`}`), 422, "ILLEGAL_ENTITY_STATE")
}
