package sandbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

const sinceJune = "bookingStatus=both&dateFrom=2026-06-01"

func ids(entries []map[string]any) []string {
	out := []string{}
	for _, e := range entries {
		id, _ := e["transactionId"].(string)
		out = append(out, id)
	}
	return out
}

func amountOf(t *testing.T, e map[string]any) decimal.Decimal {
	t.Helper()
	d, err := decimal.NewFromString(e["transactionAmount"].(map[string]any)["amount"].(string))
	require.NoError(t, err)
	return d
}

func booked(t *testing.T, a answer) decimal.Decimal {
	t.Helper()
	for i, v := range a.get("balances").([]any) {
		if v.(map[string]any)["balanceType"] == "interimBooked" {
			d, err := decimal.NewFromString(a.str("balances", i, "balanceAmount", "amount"))
			require.NoError(t, err)
			return d
		}
	}
	t.Fatalf("no interimBooked in %s", a.raw)
	return decimal.Decimal{}
}

func validIBAN(s string) bool {
	rem := 0
	for _, r := range s[4:] + s[:4] {
		switch {
		case r >= '0' && r <= '9':
			rem = (rem*10 + int(r-'0')) % 97
		default:
			rem = (rem*100 + int(r-'A') + 10) % 97
		}
	}
	return rem == 1
}

func TestAccountsOfBothChannels(t *testing.T) {
	_, c := newBank(t, Config{})
	red, emb := c.redirected(RedirectBase, "fine", consentBody()), c.embedded("fine")
	r, e := c.accounts(RedirectBase, red), c.accounts(EmbeddedBase, emb)
	require.Len(t, r, 2)
	require.Len(t, e, 4)
	require.NotEqual(t, r[giro], e[giro], "each consent has its own names")

	one := c.read(RedirectBase+"/v1/accounts/"+r[giro]+"?withBalance=true", red, attended)
	two := c.read(EmbeddedBase+"/v1/accounts/"+e[giro], emb, attended)
	require.Equal(t, one.str("account", "iban"), two.str("account", "iban"))
	require.True(t, validIBAN(one.str("account", "iban")), one.str("account", "iban"))
	require.NotEmpty(t, one.get("account", "balances"))
	require.Nil(t, two.get("account", "balances"))
	require.Equal(t, "CARD", c.read(EmbeddedBase+"/v1/accounts/"+e["Kreditkarte EUR"], emb, attended).str("account", "cashAccountType"))

	again := c.redirected(RedirectBase, "fine", consentBody())
	require.NotEqual(t, r[giro], c.accounts(RedirectBase, again)[giro], "a renewed consent renames every account")
	c.read(RedirectBase+"/v1/accounts/"+r[giro], again, attended).requireError(404, "RESOURCE_UNKNOWN")
	c.read(RedirectBase+"/v1/accounts", red, attended).requireError(401, "CONSENT_EXPIRED")
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", emb, attended).status, "the other channel keeps its consent")
}

func TestDataIsReproducible(t *testing.T) {
	read := func(seed int64, user string) string {
		_, c := newBank(t, Config{Seed: seed})
		con := c.embedded(user)
		all := c.all(transactionsPath(EmbeddedBase, c.accounts(EmbeddedBase, con)[giro], sinceJune), con, attended)
		require.NotEmpty(t, all)
		for _, e := range all {
			delete(e, "_links")
		}
		return fmt.Sprint(all)
	}
	first, again := read(7, "fine"), read(7, "fine")
	require.Equal(t, first, again)
	require.NotEqual(t, first, read(8, "fine"))
	require.NotEqual(t, first, read(7, "fine-2"))
}

func TestListing(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("fine")
	rid := c.accounts(EmbeddedBase, con)[giro]
	get := func(query string) answer { return c.read(transactionsPath(EmbeddedBase, rid, query), con, attended) }

	year := c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2025-11-21"), con, attended)
	require.Greater(t, len(year), 200, "several pages")
	seen := map[string]bool{}
	last := "9999"
	for _, e := range year {
		id := e["transactionId"].(string)
		require.False(t, seen[id], "%s twice", id)
		seen[id] = true
		day := e["bookingDate"].(string)
		require.LessOrEqual(t, day, last)
		require.GreaterOrEqual(t, day, "2025-11-21")
		last = day
	}
	october := list(get("bookingStatus=booked&dateFrom=2026-10-01&dateTo=2026-10-31&itemsPerPage=1000"), "booked")
	require.NotEmpty(t, october)
	for _, e := range october {
		require.Equal(t, "2026-10", e["bookingDate"].(string)[:7])
	}
	var kinds []string
	for _, e := range october {
		kinds = append(kinds, e["bankTransactionCode"].(string))
	}
	require.Contains(t, kinds, codeSalary)
	require.Contains(t, kinds, codeDebit)
	require.Contains(t, kinds, codeCard)

	require.Empty(t, list(get("bookingStatus=pending&dateFrom=2026-06-01"), "booked"))
	require.NotEmpty(t, list(get("bookingStatus=information"), "information"))
	all := get("bookingStatus=all&dateFrom=2026-11-01&withBalance=true")
	require.NotEmpty(t, list(all, "information"))
	require.NotEmpty(t, all.get("balances"))

	ref := year[3]["entryReference"].(string)
	newer := list(get("bookingStatus=booked&entryReferenceFrom="+ref), "booked")
	require.Equal(t, ids(year[:3]), ids(newer))

	require.Greater(t, len(list(get("bookingStatus=booked&deltaList=true&itemsPerPage=1000"), "booked")), len(year), "at first everything")
	c.advance("72h")
	for _, e := range list(get("bookingStatus=booked&deltaList=true"), "booked") {
		require.GreaterOrEqual(t, e["bookingDate"].(string), "2026-11-21")
	}

	one := c.read(c.detailsLink(year[0]), con, attended)
	require.Equal(t, year[0]["transactionId"], one.str("transactionsDetails", "transactionDetails", "transactionId"))
	c.read(transactionsPath(EmbeddedBase, rid, "")[:len(transactionsPath(EmbeddedBase, rid, ""))-1]+"/B00000000-20261101-000000", con, attended).requireError(404, "RESOURCE_UNKNOWN")

	get("bookingStatus=some&dateFrom=2026-06-01").requireError(400, "FORMAT_ERROR")
	get("dateFrom=2026-06-01").requireError(400, "FORMAT_ERROR")
	get("bookingStatus=booked").requireError(400, "FORMAT_ERROR")
	get("bookingStatus=booked&dateFrom=yesterday").requireError(400, "FORMAT_ERROR")
	get("bookingStatus=booked&dateFrom=2026-06-02&dateTo=2026-06-01").requireError(400, "PERIOD_INVALID")
	get("bookingStatus=booked&cursor=!").requireError(400, "FORMAT_ERROR")
	get("bookingStatus=booked&entryReferenceFrom=R1").requireError(400, "RESOURCE_UNKNOWN")
	c.do("GET", transactionsPath(EmbeddedBase, rid, sinceJune), map[string]string{"Consent-ID": con, "Accept": "application/xml"}, nil).requireError(406, "REQUESTED_FORMATS_INVALID")
}

func (c *tester) detailsLink(e map[string]any) string {
	return e["_links"].(map[string]any)["transactionDetails"].(map[string]any)["href"].(string)
}

func TestBalancesFollowTransactions(t *testing.T) {
	_, c := newBank(t, Config{})
	for _, user := range []string{"fine", "pending", "multi-currency", "big"} {
		t.Run(user, func(t *testing.T) {
			c := c.in(t)
			con := c.embedded(user)
			rids := c.accounts(EmbeddedBase, con)
			for name, rid := range rids {
				if strings.HasPrefix(name, "Kreditkarte") {
					continue // has no booked balance
				}
				before := booked(t, c.read(EmbeddedBase+"/v1/accounts/"+rid+"/balances", con, attended))
				from := c.admin("clock", map[string]string{"advance": "0s"}).str("now")[:10]
				c.advance("48h")
				after := booked(t, c.read(EmbeddedBase+"/v1/accounts/"+rid+"/balances", con, attended))
				for _, e := range c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom="+from), con, attended) {
					if e["bookingDate"].(string) > from {
						before = before.Add(amountOf(t, e))
					}
				}
				require.Equal(t, before.String(), after.String(), name)
			}
		})
	}
}

func TestCurrencies(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.redirected(RedirectBase, "multi-currency", consentBody())
	a := c.read(RedirectBase+"/v1/accounts?withBalance=true", con, attended)
	ibans := map[string]string{}
	for i, v := range a.get("accounts").([]any) {
		acc := v.(map[string]any)
		if iban, ok := acc["iban"].(string); ok {
			ibans[acc["currency"].(string)] = iban
		}
		amount := a.str("accounts", i, "balances", 0, "balanceAmount", "amount")
		_, decimals, _ := strings.Cut(amount, ".")
		require.Len(t, decimals, map[string]int{"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}[acc["currency"].(string)], amount)
	}
	require.Equal(t, ibans["EUR"], ibans["USD"], "one IBAN, two currencies")
	require.NotEqual(t, ibans["EUR"], ibans["JPY"])
	require.Len(t, ibans, 4)

	body := consentBody()
	body["access"] = map[string]any{"balances": []any{map[string]string{"iban": ibans["EUR"], "currency": "USD"}}}
	narrow := c.redirected(RedirectBase, "multi-currency", body)
	list := c.accounts(RedirectBase, narrow)
	require.Len(t, list, 1)
	for _, rid := range list {
		require.Equal(t, 200, c.read(RedirectBase+"/v1/accounts/"+rid+"/balances", narrow, attended).status)
		c.read(transactionsPath(RedirectBase, rid, sinceJune), narrow, attended).requireError(401, "CONSENT_INVALID")
	}
}

func TestUnattendedAccessesAreCounted(t *testing.T) {
	_, c := newBank(t, Config{})
	for _, user := range []string{"rate-limit", "fine"} {
		t.Run(user, func(t *testing.T) {
			c := c.in(t)
			con := c.embedded(user)
			rid := c.accounts(EmbeddedBase, con)[giro]
			for range 4 {
				require.NotEmpty(t, c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2025-11-21"), con, unattended), "pages count as one")
				c.advance("1h")
			}
			over := c.read(transactionsPath(EmbeddedBase, rid, sinceJune), con, unattended)
			over.requireError(429, "ACCESS_EXCEEDED")
			require.Equal(t, "72000", over.header.Get("Retry-After"))
			require.Equal(t, 200, c.read(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended).status, "the PSU is never limited")
			require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts/"+rid+"/balances", con, unattended).status, "each kind has its own count")
			c.advance("20h1s")
			require.Equal(t, 200, c.read(transactionsPath(EmbeddedBase, rid, sinceJune), con, unattended).status, "rolling")
			require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, unattended).status)
		})
	}
	t.Run("rate-limit-text", func(t *testing.T) {
		c := c.in(t)
		con := c.embedded("rate-limit-text")
		require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, unattended).status)
		over := c.read(EmbeddedBase+"/v1/accounts", con, unattended)
		over.requireError(429, "ACCESS_EXCEEDED")
		require.Empty(t, over.header.Get("Retry-After"))
		require.Equal(t, textHUB046, over.str("tppMessages", 0, "text"))
	})
	t.Run("the consent's own frequency", func(t *testing.T) {
		c := c.in(t)
		body := consentBody()
		body["frequencyPerDay"] = 1
		con := c.redirected(RedirectBase, "fine", body)
		require.Equal(t, 200, c.read(RedirectBase+"/v1/accounts", con, unattended).status)
		c.read(RedirectBase+"/v1/accounts", con, unattended).requireError(429, "ACCESS_EXCEEDED")
	})
}

func TestAccessThatEndsAfterTheFirstSync(t *testing.T) {
	for user, want := range map[string]struct{ code, consent string }{
		"token-expired":   {"TOKEN_EXPIRED", "valid"},
		"consent-expired": {"CONSENT_EXPIRED", "expired"},
		"consent-revoked": {"CONSENT_INVALID", "revokedByPsu"},
	} {
		t.Run(user, func(t *testing.T) {
			_, c := newBank(t, Config{})
			sync := func(con string) map[string]string {
				rids := c.accounts(EmbeddedBase, con)
				for _, rid := range rids {
					c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=both&dateFrom=2025-11-21"), con, attended)
					require.Equal(t, 200, c.read(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended).status, "the first page may be read again")
					require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts/"+rid+"/balances", con, attended).status)
				}
				return rids
			}
			con := c.embedded(user)
			rids := sync(con)
			c.advance("31s")
			c.read(transactionsPath(EmbeddedBase, rids[giro], sinceJune), con, attended).requireError(401, want.code)
			require.Equal(t, want.consent, c.do("GET", EmbeddedBase+"/v1/consents/"+con+"/status", nil, nil).str("consentStatus"))

			con = c.embedded(user)
			sync(con)
			c.read(EmbeddedBase+"/v1/accounts", con, attended).requireError(401, want.code)
			c.fire(user, "clear", nil)
			con = c.embedded(user)
			sync(con)
			sync(con)
		})
	}
}

func mustUser(t *testing.T, login string) testUser {
	t.Helper()
	u, ok := lookupUser(login)
	require.True(t, ok)
	return u
}

func TestHundredThousandTransactions(t *testing.T) {
	_, c := newBank(t, Config{})
	c.spec = nil // validated elsewhere; 200 pages are for counting
	login, total := "big", bigTotal
	if raceEnabled {
		login, total = "big-10000", 10_000
	}
	con := c.redirected(RedirectBase, login, consentBody())
	rids := c.accounts(RedirectBase, con)
	require.Len(t, rids, 1)
	path := transactionsPath(RedirectBase, rids[giro], "bookingStatus=both&dateFrom=2026-08-23")
	read := func() (amounts map[string]string, pages int) {
		amounts = make(map[string]string, total)
		for target := path; target != ""; pages++ {
			var page struct {
				Transactions struct {
					Booked []struct {
						ID     string `json:"transactionId"`
						Amount amount `json:"transactionAmount"`
					} `json:"booked"`
					Links map[string]link `json:"_links"`
				} `json:"transactions"`
			}
			a := c.read(target, con, unattended)
			require.NoError(t, json.Unmarshal(a.raw, &page))
			for _, e := range page.Transactions.Booked {
				amounts[e.ID] = e.Amount.Amount
			}
			target = page.Transactions.Links["next"].Href
		}
		return amounts, pages
	}
	seen, pages := read()
	require.Equal(t, total/bigPageSize, pages)
	require.Len(t, seen, total)
	sum := decimal.Zero
	for _, text := range seen {
		d, err := decimal.NewFromString(text)
		require.NoError(t, err)
		sum = sum.Add(d)
	}
	l := &account{perDay: total / bulkDays}
	require.Equal(t, decimal.New(l.bulkDaySum()*bulkDays, -2).String(), sum.String())

	c.advance("24h")
	moved, _ := read()
	require.Len(t, moved, total)
	fresh := 0
	for id := range moved {
		if _, known := seen[id]; !known {
			fresh++
		}
	}
	require.Equal(t, total/bulkDays, fresh, "a day's entries are new, the oldest day is gone")
	require.Equal(t, 50, mustUser(t, "big-50").total)
}

func TestConcurrentReadersAndEvents(t *testing.T) {
	_, c := newBank(t, Config{Dir: t.TempDir()})
	con := c.embedded("fine")
	rid := c.accounts(EmbeddedBase, con)[giro]
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				c.read(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended)
				c.fire("fine", "new_transaction", map[string]any{"pending": true})
				c.fire("fine", "book_pending", nil)
				c.do("GET", "/sandbox/state", nil, nil)
			}
		})
	}
	wg.Wait()
	fired := 0
	for _, e := range c.all(transactionsPath(EmbeddedBase, rid, sinceJune), con, attended) {
		if strings.HasPrefix(e["transactionId"].(string), "F") {
			fired++
		}
	}
	require.Equal(t, 20, fired)
}
