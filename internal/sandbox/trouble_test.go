package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

func TestListThatChangesWhileBeingRead(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("mutating-list")
	rid := c.accounts(EmbeddedBase, con)[giro]
	path := transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2026-06-01")
	first := c.read(path, con, attended)
	page1 := list(first, "booked")
	require.Len(t, page1, 25)
	page2 := list(c.read(next(first), con, attended), "booked")
	require.Equal(t, page1[24]["transactionId"], page2[0]["transactionId"], "all entries moved by one place")

	again := c.all(path, con, attended)
	require.NotEqual(t, page1[0]["transactionId"], again[0]["transactionId"])
	require.Equal(t, page1[0]["transactionId"], again[1]["transactionId"])
	seen := map[any]bool{}
	for _, e := range again {
		require.False(t, seen[e["transactionId"]], "the list is quiet for the rest of the day")
		seen[e["transactionId"]] = true
	}

	c.fire("fine", "mutate_list", map[string]any{"times": 2})
	con = c.embedded("fine")
	rid = c.accounts(EmbeddedBase, con)[giro]
	all := c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2025-11-21"), con, attended)
	double := 0
	seen = map[any]bool{}
	for _, e := range all {
		if seen[e["transactionId"]] {
			double++
		}
		seen[e["transactionId"]] = true
	}
	require.Equal(t, 2, double)
}

func TestPendingIsBookedUnderAnotherID(t *testing.T) {
	_, c := newBank(t, Config{})
	con := c.embedded("pending")
	rid := c.accounts(EmbeddedBase, con)[giro]
	path := transactionsPath(EmbeddedBase, rid, "bookingStatus=both&dateFrom=2026-11-01&itemsPerPage=1000")
	before := c.read(path, con, attended)
	waiting := list(before, "pending")
	require.GreaterOrEqual(t, len(waiting), 4)
	for _, e := range waiting {
		require.NotContains(t, e, "bookingDate")
	}
	c.advance("24h")
	after := c.read(path, con, attended)
	var fresh []map[string]any
	old := ids(list(before, "booked"))
	for _, e := range list(after, "booked") {
		if e["bookingDate"] == "2026-11-22" && e["bankTransactionCode"] == codeCard {
			fresh = append(fresh, e)
		}
	}
	require.Len(t, fresh, len(waiting)-1, "one hold is never booked")
	require.Subset(t, ids(list(after, "booked")), old)
	for _, id := range append(ids(list(after, "booked")), ids(list(after, "pending"))...) {
		require.NotContains(t, ids(waiting), id)
	}
	held, settled := decimal.Zero, decimal.Zero
	for _, e := range waiting {
		if e["creditorName"] == tip.source.name && strings.HasPrefix(e["remittanceInformationUnstructured"].(string), "Vorgemerkt") {
			held = amountOf(t, e)
		}
	}
	for _, e := range fresh {
		if strings.Contains(e["remittanceInformationUnstructured"].(string), "Trinkgeld") {
			settled = amountOf(t, e)
		}
	}
	require.Equal(t, "-50", held.String())
	require.Equal(t, "-55", settled.String())

	waiting = list(after, "pending")
	n := len(list(after, "booked"))
	c.fire("pending", "book_pending", nil)
	early := c.read(path, con, attended)
	require.Len(t, list(early, "booked"), n+len(waiting)-1)
	require.Len(t, list(early, "pending"), 1)
	c.advance("24h")
	later := ids(list(c.read(path, con, attended), "booked"))
	require.Subset(t, later, ids(list(early, "booked")), "what was booked early keeps its id")
}

func TestSpoiltIDs(t *testing.T) {
	_, c := newBank(t, Config{})
	read := func(user string) []map[string]any {
		con := c.embedded(user)
		rid := c.accounts(EmbeddedBase, con)[giro]
		return c.all(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2026-09-01"), con, attended)
	}
	for _, id := range ids(read("no-ids")) {
		require.Empty(t, strings.TrimSpace(id))
	}
	count := map[string]int{}
	for _, id := range ids(read("duplicate-ids")) {
		count[id]++
	}
	require.Greater(t, count["NOTPROVIDED"], 10)
	one, two := read("changing-ids"), read("changing-ids")
	require.Len(t, two, len(one))
	require.NotEqual(t, one[0]["transactionId"], two[0]["transactionId"])
	require.NotEqual(t, one[0]["entryReference"], two[0]["entryReference"])
	require.Equal(t, one[0]["remittanceInformationUnstructured"], two[0]["remittanceInformationUnstructured"])
}

func TestOutages(t *testing.T) {
	_, c := newBank(t, Config{})
	down := c.embedded("bank-down")
	a := c.read(EmbeddedBase+"/v1/accounts", down, attended)
	require.Equal(t, 503, a.status)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	c.fire("bank-down", "clear", nil)
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", down, attended).status)

	con := c.embedded("fine")
	c.fire("", "bank_down", nil)
	require.Equal(t, 503, c.read(EmbeddedBase+"/v1/accounts", con, attended).status)
	require.Equal(t, 503, c.do("POST", RedirectBase+"/v1/consents", psu, consentBody()).status)
	c.fire("", "bank_up", nil)
	c.fire("fine", "bank_down", map[string]any{"how": "close"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+EmbeddedBase+"/v1/accounts", nil)
	require.NoError(t, err)
	req.Header.Set("Consent-ID", con)
	req.Header.Set("X-Request-ID", con)
	res, err := c.client.Do(req)
	if err == nil {
		_ = res.Body.Close()
	}
	require.Error(t, err, "the connection just ends")
	c.fire("fine", "bank_up", nil)

	c.fire("fine", "slow", map[string]any{"delay": "30ms"})
	begin := time.Now()
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", con, attended).status)
	require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)
	c.fire("fine", "slow", map[string]any{"delay": "0s"})

	c.fire("slow", "slow", map[string]any{"delay": "1ms"})
	require.Equal(t, 200, c.read(EmbeddedBase+"/v1/accounts", c.embedded("slow"), attended).status)
	require.Equal(t, int64(slowDelayMS), delayOf(mustUser(t, "slow"), &userState{}))

	short := c.embedded("short-history")
	rid := c.accounts(EmbeddedBase, short)[giro]
	c.read(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2026-08-23"), short, attended).requireError(400, "PERIOD_INVALID")
	require.Equal(t, 200, c.read(transactionsPath(EmbeddedBase, rid, "bookingStatus=booked&dateFrom=2026-08-24"), short, attended).status)

	odd := c.embedded("nonsense")
	html := c.read(transactionsPath(EmbeddedBase, c.accounts(EmbeddedBase, odd)[giro], sinceJune), odd, attended)
	require.Equal(t, 200, html.status)
	require.Contains(t, string(html.raw), "<!doctype html>")
}
