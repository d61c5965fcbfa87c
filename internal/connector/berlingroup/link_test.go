package berlingroup

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResolve(t *testing.T) {
	base, _ := url.Parse("https://bank.example/xs2a/pl")
	const from = "https://bank.example/xs2a/pl/v1/accounts/r/transactions?dateFrom=2024-01-01"
	for href, want := range map[string]string{
		"https://bank.example/xs2a/pl/v1/consents/1":     "https://bank.example/xs2a/pl/v1/consents/1",
		"https://BANK.example:443/v1/x?a=b%2Fc#top":      "https://BANK.example:443/v1/x?a=b%2Fc",
		"//bank.example/v1/x":                            "https://bank.example/v1/x",
		"/v1/consents/a%2Fb=/status":                     "https://bank.example/xs2a/pl/v1/consents/a%2Fb=/status",
		"v1/consents/1":                                  "https://bank.example/xs2a/pl/v1/consents/1",
		"/xs2a/pl/v1/consents/1":                         "https://bank.example/xs2a/pl/v1/consents/1",
		"/xs2a/plus/v1/consents/1":                       "https://bank.example/xs2a/pl/xs2a/plus/v1/consents/1",
		"?page=2&q=a+b":                                  "https://bank.example/xs2a/pl/v1/accounts/r/transactions?page=2&q=a+b",
		"/v1/accounts/r/transactions?cursor=%7B1%7D&x=1": "https://bank.example/xs2a/pl/v1/accounts/r/transactions?cursor=%7B1%7D&x=1",
	} {
		got, err := resolve(base, from, " "+href+" ")
		require.NoError(t, err, href)
		require.Equal(t, want, got, href)
	}
	for _, href := range []string{"https://evil.example/v1/x", "http://bank.example/v1/x", "https://bank.example:8443/v1/x", "//evil.example/x", "https://bank.example@evil.example/x",
		"https://user@bank.example/v1/x", "ftp://bank.example/x", "javascript:alert(1)", "mailto:a@b", "https://[::1", "%zz", "https://bank.example.evil.example/"} {
		_, err := resolve(base, from, href)
		require.Error(t, err, href)
	}
}

func TestSCALink(t *testing.T) {
	base, _ := url.Parse("https://bank.example/xs2a")
	for href, want := range map[string]string{
		"https://login.example/sca?x=1#frag": "https://login.example/sca?x=1#frag",
		"http://localhost:8080/sca":          "http://localhost:8080/sca",
		"/sca/1":                             "https://bank.example/sca/1",
	} {
		got, err := scaLink(base, href)
		require.NoError(t, err, href)
		require.Equal(t, want, got)
	}
	for _, href := range []string{"javascript:alert(1)", "data:text/html,x", "https://user:pw@login.example/", "app://login", "https://", "%zz", "http://localhost:{{port}}/"} {
		_, err := scaLink(base, href)
		require.Error(t, err, href)
	}
}

func TestMaskURL(t *testing.T) {
	base, _ := url.Parse("https://bank.example/xs2a")
	for raw, want := range map[string]string{
		"https://bank.example/xs2a/v1/consents":                                                                             "https://bank.example/xs2a/v1/consents",
		"https://bank.example/xs2a/v1/consents/c-1/status":                                                                  "https://bank.example/xs2a/v1/consents/***/status",
		"https://bank.example/xs2a/v1/consents/c/authorisations/a":                                                          "https://bank.example/xs2a/v1/consents/***/authorisations/***",
		"https://bank.example/xs2a/v1/accounts/DE38/transactions?dateFrom=2024-01-01&bookingStatus=both&cursor=DE38&DE38=1": "https://bank.example/xs2a/v1/accounts/***/transactions?dateFrom=2024-01-01&bookingStatus=both&cursor=***&***=***",
		"https://bank.example/xs2a/v1/accounts/DE38/transactions/download/Z=":                                               "https://bank.example/xs2a/v1/accounts/***/transactions/download/***",
		"https://bank.example/other/path":                                                                                   "https://bank.example/xs2a/***/***",
	} {
		require.Equal(t, want, maskURL(base, raw), raw)
	}
}

func FuzzResolve(f *testing.F) {
	base, _ := url.Parse("https://bank.example/xs2a")
	for _, s := range []string{"/v1/x", "?a=b", "//evil", "https://bank.example/x", "\\\\evil", "/\\evil", "https:///x", "..//x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, href string) {
		got, err := resolve(base, "https://bank.example/xs2a/v1/accounts", href)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || !strings.EqualFold(u.Hostname(), "bank.example") || u.User != nil {
			t.Fatalf("%q leads to %q", href, got)
		}
		_ = maskURL(base, got)
	})
}
