package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/connector/connectortest"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// TestRecordedBanks synchronizes against what real bank sandboxes sent, and
// compares what the hub stores with the recording, read independently of the
// connector. It runs over every bank that the folder holds.
func TestRecordedBanks(t *testing.T) {
	root := filepath.Join(backingtest.SpecDir(t), "aspsp-recordings")
	dirs, err := os.ReadDir(root)
	require.NoError(t, err)
	banks := 0
	for _, d := range dirs {
		dir := filepath.Join(root, d.Name())
		list := connectortest.Load(t, dir)
		if !has(list, "get-accounts") {
			continue // bodies only, without the exchanges they belong to
		}
		banks++
		for _, mode := range []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded} {
			t.Run(d.Name()+"/"+string(mode), func(t *testing.T) { syncRecorded(t, dir, list, mode) })
		}
	}
	require.NotZero(t, banks)
}

func has(list []connectortest.Recording, operation string) bool {
	for _, r := range list {
		if strings.HasPrefix(r.Operation, operation) {
			return true
		}
	}
	return false
}

func syncRecorded(t *testing.T, dir string, list []connectortest.Recording, mode bankfeed.Mode) {
	server := connectortest.Replay(t, dir, mode)
	banks, err := connector.NewRegistry(map[string]connector.Connector{"berlin-group": berlingroup.New(http.DefaultClient)}, connector.Profile{
		Provider:  bankfeed.Provider{ID: "200", Name: "Recorded Bank", Sandbox: true, Channels: []bankfeed.ChannelDefinition{{Mode: mode}}},
		Standard:  "berlin-group",
		Endpoints: []connector.Endpoint{{Mode: mode, BaseURL: server.URL}},
		// Recordings are years old.
		HistoryDays: 10_000,
	})
	require.NoError(t, err)
	h := newHubAt(t, storetest.SQLite(t), banks, mode)
	h.sync(psu)

	want := expected(t, list, mode)
	accounts, err := h.store.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
	require.NoError(t, err)
	require.Len(t, accounts, len(want.accounts))
	stored := map[string][]string{}
	for _, tx := range h.transactions() {
		a := account(accounts, tx.Account)
		stored[a] = append(stored[a], tx.Money.Amount.String()+" "+tx.Money.Currency)
	}
	for _, a := range accounts {
		name := identifierOf(a)
		require.Contains(t, want.accounts, name)
		var balances []string
		for _, b := range a.Balances {
			balances = append(balances, b.Type+" "+b.Money.Amount.String()+" "+b.Money.Currency)
		}
		require.ElementsMatch(t, want.balances[name], balances, "balances of %s", name)
		require.ElementsMatch(t, want.transactions[name], stored[name], "transactions of %s", name)
		if want.notJSON[name] {
			require.Equal(t, bankfeed.AccountFailed, a.Status)
			require.Equal(t, bankfeed.FailFormat, a.Failure.Reason)
		}
	}
	t.Logf("%d accounts, %d transactions, connection %s", len(accounts), len(h.transactions()), h.connection().Status)
}

func account(list []bankfeed.Account, id bankfeed.AccountID) string {
	for _, a := range list {
		if a.ID == id {
			return identifierOf(a)
		}
	}
	return ""
}

func identifierOf(a bankfeed.Account) string { return a.Identifiers[0].Value + " " + a.Currency }

type recorded struct {
	accounts     map[string]string // name → resource id
	balances     map[string][]string
	transactions map[string][]string
	notJSON      map[string]bool
}

// expected reads the recordings with nothing but encoding/json.
func expected(t *testing.T, list []connectortest.Recording, mode bankfeed.Mode) recorded {
	want := recorded{map[string]string{}, map[string][]string{}, map[string][]string{}, map[string]bool{}}
	body := func(operation string) (string, bool) {
		found, ok := "", false
		for _, r := range list {
			switch r.Operation {
			case operation + "-redirect":
				if mode == bankfeed.Redirect {
					return r.Response.Body, true
				}
			case operation:
				found, ok = r.Response.Body, true
			}
		}
		return found, ok
	}
	decode := func(text string) (v map[string]any, ok bool) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		return v, d.Decode(&v) == nil
	}
	get := func(v any, path ...string) any {
		for _, p := range path {
			m, _ := v.(map[string]any)
			v = m[p]
		}
		return v
	}
	word := func(v any, path ...string) string {
		switch x := get(v, path...).(type) {
		case string:
			return x
		case json.Number:
			return x.String()
		}
		return ""
	}
	text, ok := body("get-accounts")
	require.True(t, ok)
	v, ok := decode(text)
	require.True(t, ok)
	byIBAN := map[string]string{}
	for _, a := range get(v, "accounts").([]any) {
		name := word(a, "iban") + " " + word(a, "currency")
		want.accounts[name] = word(a, "resourceId")
		byIBAN[word(a, "iban")] = name
	}
	money := func(v any, key string) string { return word(v, key, "amount") + " " + word(v, key, "currency") }
	if text, ok := body("get-balances"); ok {
		if v, ok := decode(text); ok {
			name := byIBAN[word(v, "account", "iban")]
			newest := map[string]string{} // of each type and currency the last one stands
			for _, b := range get(v, "balances").([]any) {
				newest[word(b, "balanceType")+money(b, "balanceAmount")[strings.LastIndex(money(b, "balanceAmount"), " "):]] = word(b, "balanceType") + " " + money(b, "balanceAmount")
			}
			for _, b := range newest {
				want.balances[name] = append(want.balances[name], b)
			}
		}
	}
	if text, ok := body("get-transactions"); ok {
		v, isJSON := decode(text)
		name := byIBAN[word(v, "account", "iban")]
		if !isJSON {
			for n := range want.accounts {
				name = n
			}
			want.notJSON[name] = bytes.ContainsAny([]byte(text), ":<")
		}
		for _, status := range []string{"booked", "pending"} {
			items, _ := get(v, "transactions", status).([]any)
			for _, x := range items {
				want.transactions[name] = append(want.transactions[name], money(x, "transactionAmount"))
			}
		}
	}
	return want
}
