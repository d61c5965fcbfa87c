package analysis

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

//go:embed page.html
var pageTemplate string

//go:embed page.css
var pageStyle string

// PagePolicy is the Content-Security-Policy of a page: its own style and nothing
// else, so that no text of a bank can become anything but text.
var PagePolicy = func() string {
	h := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// PageLanguage picks the language of a page, en or de, by a header
// Accept-Language: the first of the two that it names, else English.
func PageLanguage(header string) string {
	for part := range strings.SplitSeq(header, ",") {
		tag, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), ";")
		tag, _, _ = strings.Cut(tag, "-")
		if tag == "de" || tag == "en" {
			return tag
		}
	}
	return "en"
}

// pages are the parsed templates, by language.
var pages = func() map[string]*template.Template {
	m := map[string]*template.Template{}
	for _, lang := range []string{"en", "de"} {
		t := func(words string) string { return word(words, lang) }
		m[lang] = template.Must(template.New("page").Funcs(template.FuncMap{
			"t":     t,
			"money": func(d any) string { return moneyOf(d, lang) },
			"sign":  signOf,
			"date":  func(d bankfeed.Date) string { return dateText(d, lang) },
			"month": func(m string) string { return monthName(m, lang) },
			"args":  func(v view, c []finapi.CategoryFlow) categoriesView { return categoriesView{v, c} },
			"yes":   func(b bool) string { return t(map[bool]string{true: "yes", false: "no"}[b]) },
		}).Parse(pageTemplate))
	}
	return m
}()

// view is what the template shows.
type view struct {
	Report   finapi.Report
	Lang     string
	Style    template.CSS
	Title    string
	Basis    finapi.Basis
	Balances *finapi.BalancesResult
	Flow     *finapi.CashFlowResult
	Income   *finapi.IncomeSpendingResult
	Contract *finapi.ContractsResult
	Risk     *finapi.RiskResult
}

// categoriesView is what the part for categories shows.
type categoriesView struct {
	View       view
	Categories []finapi.CategoryFlow
}

// Page writes a successful report as a page with charts. It is a pure function of
// the report.
func Page(w io.Writer, r finapi.Report, lang string) error {
	if pages[lang] == nil {
		lang = "en"
	}
	v := view{Report: r, Lang: lang, Style: template.CSS(pageStyle), Title: word("report "+r.Type, lang)} //nolint:gosec // our own file
	var err error
	switch (finapi.ReportType{Category: r.Category, Type: r.Type}) {
	case finapi.ReportBalances:
		v.Balances, err = decode[finapi.BalancesResult](r, &v.Basis, func(x *finapi.BalancesResult) finapi.Basis { return x.Basis })
	case finapi.ReportCashFlow:
		v.Flow, err = decode[finapi.CashFlowResult](r, &v.Basis, func(x *finapi.CashFlowResult) finapi.Basis { return x.Basis })
	case finapi.ReportIncomeAndSpending, finapi.ReportIncome, finapi.ReportSpending, finapi.ReportRentAndLiving:
		v.Income, err = decode[finapi.IncomeSpendingResult](r, &v.Basis, func(x *finapi.IncomeSpendingResult) finapi.Basis { return x.Basis })
	case finapi.ReportContracts, finapi.ReportInsurance:
		v.Contract, err = decode[finapi.ContractsResult](r, &v.Basis, func(x *finapi.ContractsResult) finapi.Basis { return x.Basis })
	default:
		v.Risk, err = decode[finapi.RiskResult](r, &v.Basis, func(x *finapi.RiskResult) finapi.Basis { return x.Basis })
	}
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := pages[lang].Execute(&b, v); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func decode[T any](r finapi.Report, basis *finapi.Basis, of func(*T) finapi.Basis) (*T, error) {
	x := new(T)
	if err := json.Unmarshal(r.Result, x); err != nil {
		return nil, fmt.Errorf("reading the result of a report: %w", err)
	}
	*basis = of(x)
	return x, nil
}

// Name is what a category or label is called.
func (v view) Name(id string) string {
	t, ok := v.Basis.Texts[id]
	switch {
	case id == "":
		return word("no label", v.Lang)
	case !ok:
		return word(id, v.Lang)
	case v.Lang == "de":
		return t.DE
	}
	return t.EN
}

// BalanceChart draws the history of an account.
func (v view) BalanceChart(a finapi.AccountBalances) template.HTML {
	return balanceChart(a.History, v.Basis.To, word("balance at the end of each day", v.Lang), a.Currency, v.Lang)
}

// FlowChart draws income and spending of each month.
func (v view) FlowChart(c finapi.CurrencyCashFlow) template.HTML {
	bars := make([]bar, len(c.Months))
	for i, m := range c.Months {
		bars[i] = bar{label: monthName(m.Month, v.Lang), values: []bankfeed.Amount{m.Income.Amount, m.Spending.Amount}}
	}
	return barChart(bars, []string{"in", "out"}, word("income and spending by month", v.Lang), c.Currency, v.Lang)
}

// AmountChart draws what is regular and what is not of each month.
func (v view) AmountChart(months []finapi.MonthAmount, currency string) template.HTML {
	bars := make([]bar, len(months))
	for i, m := range months {
		bars[i] = bar{label: monthName(m.Month, v.Lang), values: []bankfeed.Amount{m.Regular.Amount, m.Other.Amount}}
	}
	return barChart(bars, []string{"regular", "other"}, word("regular and other by month", v.Lang), currency, v.Lang)
}

// Account is how an account is called.
func (v view) Account(a finapi.ReportAccount) string {
	return strings.TrimSpace(cmp.Or(a.Name, word(a.Type, v.Lang)) + " " + a.IBAN)
}

func moneyOf(d any, lang string) string {
	switch d := d.(type) {
	case finapi.Decimal:
		return money(d, lang)
	case *finapi.Decimal:
		if d != nil {
			return money(*d, lang)
		}
	}
	return "–"
}

// signOf is the class of an amount.
func signOf(d finapi.Decimal) string {
	if d.Sign() < 0 {
		return "num minus"
	}
	return "num"
}

// money writes an amount with the separators of the language.
func money(d finapi.Decimal, lang string) string { return grouped(d.String(), lang) }

func grouped(s, lang string) string {
	comma, point := ",", "."
	if lang == "de" {
		comma, point = ".", ","
	}
	whole, fraction, _ := strings.Cut(s, ".")
	minus := ""
	if strings.HasPrefix(whole, "-") {
		minus, whole = "−", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + comma + whole[i:]
	}
	if fraction != "" {
		whole += point + fraction
	}
	return minus + whole
}

func dateText(d bankfeed.Date, lang string) string {
	switch {
	case len(d) != 10:
		return "–"
	case lang == "de":
		return string(d[8:]) + "." + string(d[5:7]) + "." + string(d[:4])
	}
	return string(d)
}

// monthName is a month as 03/26.
func monthName(m, _ string) string {
	if len(m) != 7 {
		return m
	}
	return m[5:] + "/" + m[2:4]
}
