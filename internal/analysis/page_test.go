package analysis

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

var pagesTo = flag.String("pages", "", "write the pages of the tests into a directory, to look at")

// evil is what a bank's text must not be able to do.
const evil = `</title><script>alert(1)</script><img src=x onerror=alert(1)>"'&`

// household is a history with a bit of everything.
func household() *world {
	w := newWorld()
	giro := w.account("EUR", "1234.56", func(a *bankfeed.Account) {
		a.Name = "Giro " + evil
		a.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}
		a.Balances = append(a.Balances, balance("interimAvailable", "2234.56", "EUR"))
	})
	w.account("USD", "-1000000.5")
	for i := range 14 {
		m := bankfeed.DateOf(now.AddDate(0, -i, 0))[:7]
		w.pay(giro, m+"-01", "-950.00", "Hausverwaltung Elbblick", "Miete")
		w.pay(giro, m+"-05", "-89.00", "Stadtwerke Nord GmbH", "Abschlag Strom", mandate("DE98ZZZ09999999999", "M-1"))
		w.pay(giro, m+"-08", "-"+strconv.Itoa(300+i*41%700)+".20", "REWE", evil)
		if i > 0 {
			w.pay(giro, m+"-28", "2850.00", "Werft & Söhne AG", "Gehalt")
			w.pay(giro, m+"-20", "-"+strconv.Itoa(200+i*37%900)+".00", "Elektro Brandt", "")
		}
	}
	w.pay(giro, "2026-02-02", "-20.00", "Tipico "+evil, evil)
	w.pay(giro, "2026-02-03", "-1200.00", "Reisebüro", "Urlaub")
	return w
}

func render(t *testing.T, w *world, kind finapi.ReportType, lang string) string {
	t.Helper()
	result, err := w.service(t).compute(context.Background(), query{tenant: tenant, user: user, sources: sources, days: 400}, kind)
	require.NoError(t, err)
	text, err := json.Marshal(result)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, Page(&b, finapi.Report{ID: "r-1", Category: kind.Category, Type: kind.Type, CreationDate: "2026-04-10 09:00:00.000", Result: text}, lang))
	if *pagesTo != "" {
		require.NoError(t, os.WriteFile(filepath.Join(*pagesTo, kind.Type+"-"+lang+".html"), b.Bytes(), 0o600))
	}
	return b.String()
}

func TestPages(t *testing.T) {
	w := household()
	attribute := regexp.MustCompile(`(?i)\s(on\w+|style|src|href)\s*=`)
	svgs := regexp.MustCompile(`(?s)<svg.*?</svg>`)
	for _, kind := range finapi.ReportTypes {
		for _, lang := range []string{"en", "de"} {
			page := render(t, w, kind, lang)
			require.True(t, strings.HasPrefix(page, "<!doctype html>\n<html lang=\""+lang+"\">"), kind)
			require.Contains(t, page, "<h1>"+word("report "+kind.Type, lang)+"</h1>")
			require.NotContains(t, page, "<script", "%s: nothing runs", kind)
			require.NotContains(t, page, "<img")
			require.NotContains(t, page, "{{")
			require.NotContains(t, page, "ZgotmplZ")
			tags := regexp.MustCompile(`<[a-zA-Z][^>]*>`).FindAllString(page, -1)
			for _, tag := range tags {
				require.Empty(t, attribute.FindString(strings.ReplaceAll(tag, `aria-label="`, "")), tag)
			}
			for _, s := range svgs.FindAllString(page, -1) {
				d := xml.NewDecoder(strings.NewReader(s))
				for {
					_, err := d.Token()
					if errors.Is(err, io.EOF) {
						break
					}
					require.NoError(t, err, "a chart is well-formed")
				}
				require.NotContains(t, s, "NaN")
				require.NotContains(t, s, "Inf")
				require.Contains(t, s, `class="unit"`, "the axis says what it shows")
				require.GreaterOrEqual(t, strings.Count(s, `class="tick"`), 4)
			}
			charts := len(svgs.FindAllString(page, -1))
			want := map[finapi.ReportType]int{finapi.ReportBalances: 1, finapi.ReportCashFlow: 1, finapi.ReportIncomeAndSpending: 2, finapi.ReportIncome: 1, finapi.ReportSpending: 1, finapi.ReportRentAndLiving: 1}
			require.Equal(t, want[kind], charts, kind)
		}
	}
	require.Contains(t, render(t, w, finapi.ReportContracts, "de"), "Miete")
	require.Contains(t, render(t, w, finapi.ReportContracts, "de"), "01.05.2026")
	require.Contains(t, render(t, w, finapi.ReportContracts, "de"), "−950,00 EUR")
	require.Contains(t, render(t, w, finapi.ReportContracts, "en"), "2026-05-01")
	require.Contains(t, render(t, w, finapi.ReportBalances, "en"), "−1,000,000.5")
	require.Contains(t, render(t, newWorld(), finapi.ReportBalances, "en"), "no transactions")
	require.Error(t, Page(io.Discard, finapi.Report{Category: "risk", Type: "gambling", Result: []byte("{")}, "en"))
}

func TestPagePolicy(t *testing.T) {
	page := render(t, newWorld(), finapi.ReportBalances, "en")
	_, rest, ok := strings.Cut(page, "<style>")
	require.True(t, ok)
	style, _, ok := strings.Cut(rest, "</style>")
	require.True(t, ok)
	require.Equal(t, pageStyle, style, "the browser takes the style by its hash")
	require.Contains(t, PagePolicy, "default-src 'none'")
	require.NotContains(t, PagePolicy, "unsafe")
}

func TestPageLanguage(t *testing.T) {
	for header, want := range map[string]string{"": "en", "de": "de", "de-AT,en;q=0.8": "de", "fr, de;q=0.5": "de", "en-GB,de": "en", "pl": "en", "DE-CH": "de"} {
		require.Equal(t, want, PageLanguage(header), header)
	}
}

func TestGrouped(t *testing.T) {
	for in, want := range map[string][2]string{"0": {"0", "0"}, "-1234.50": {"−1,234.50", "−1.234,50"}, "123": {"123", "123"}, "1234567.891": {"1,234,567.891", "1.234.567,891"}, "-999.9": {"−999.9", "−999,9"}} {
		require.Equal(t, want, [2]string{grouped(in, "en"), grouped(in, "de")}, in)
	}
}

// An axis holds its values, shows 0, and has few round steps.
func TestAxis(t *testing.T) {
	for _, c := range [][2]float64{{0, 0}, {0, 1}, {-5, 3}, {0, 999}, {120, 130}, {-1e9, 1e9}, {-0.4, 0.2}, {0, 12345678}, {-7000, -6999}} {
		a := newAxis(c[0], c[1])
		require.LessOrEqual(t, a.low, min(c[0], 0), c)
		require.GreaterOrEqual(t, a.high, max(c[1], 0), c)
		require.LessOrEqual(t, len(a.ticks), 9, c)
		require.GreaterOrEqual(t, len(a.ticks), 2, c)
		require.InDelta(t, top, a.y(a.high), 0.01)
		require.InDelta(t, chartHeight-bottom, a.y(a.low), 0.01)
	}
}
