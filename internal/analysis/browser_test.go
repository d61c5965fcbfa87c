//go:build unix

package analysis

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/wire/finapi"
)

// A browser draws the charts with the page's own style under its own policy, and
// a text of a bank stays a text.
func TestPageInABrowser(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT RUN: chromium is not installed")
	}
	page := render(t, household(), finapi.ReportBalances, "en")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", PagePolicy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	defer server.Close()
	allocator, end := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)...)
	defer end()
	tab, stop := chromedp.NewContext(allocator)
	defer stop()
	require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL)))
	for script, want := range map[string]string{
		`getComputedStyle(document.querySelector(".chart .line")).fill`:                          "none",
		`getComputedStyle(document.querySelector("td.num")).textAlign`:                           "right",
		`String(document.querySelectorAll("script, img, link, iframe").length)`:                  "0",
		`String(document.querySelector(".chart").getBoundingClientRect().height > 100)`:          "true",
		`String(document.querySelector("h2").textContent.includes("<script>alert(1)</script>"))`: "true",
		`String(document.documentElement.scrollWidth <= window.innerWidth)`:                      "true",
	} {
		got, err := chromedp.Run(tab, chromedp.Evaluate[string](script))
		require.NoError(t, err, script)
		require.Equal(t, want, strings.TrimSpace(got), script)
	}
}
