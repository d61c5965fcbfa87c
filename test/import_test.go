//go:build unix

package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/wire/finapi"
)

// bookkeeper is software that hands accounts in, with a user of its own.
type bookkeeper struct {
	t      *testing.T
	at     func() string
	token  string
	client string // token
}

func newBookkeeper(t *testing.T, at func() string, id, secret string) *bookkeeper {
	t.Helper()
	b := &bookkeeper{t: t, at: at}
	login := func(grant url.Values) string {
		grant.Set("client_id", id)
		grant.Set("client_secret", secret)
		resp, err := oneOff.PostForm(at()+"/oauth/token", grant)
		require.NoError(t, err)
		defer resp.Body.Close()
		var token struct {
			AccessToken string `json:"access_token"`
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&token))
		require.NotEmpty(t, token.AccessToken)
		return token.AccessToken
	}
	b.client = login(url.Values{"grant_type": {"client_credentials"}})
	b.token = b.client
	var user struct{ ID, Password string }
	b.call(201, &user, "POST", "/api/v1/users", strings.NewReader("{}"))
	b.token = login(url.Values{"grant_type": {"password"}, "username": {user.ID}, "password": {user.Password}})
	return b
}

// send returns an error where no answer came.
func (b *bookkeeper) send(method, path string, body io.Reader, header ...string) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.at()+path, body)
	require.NoError(b.t, err)
	r.Header.Set("Authorization", "Bearer "+b.token)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}).Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (b *bookkeeper) call(status int, out any, method, path string, body io.Reader, header ...string) {
	b.t.Helper()
	code, answer, err := b.send(method, path, body, header...)
	require.NoError(b.t, err)
	require.Equal(b.t, status, code, "%s %s: %s", method, path, answer)
	if out != nil {
		require.NoError(b.t, json.Unmarshal(answer, out), "%s", answer)
	}
}

// exported is a document of n transactions, written while it is read. Half of
// them have an id; there are twins among the others.
func exported(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		out := bufio.NewWriter(w)
		fmt.Fprint(out, `{"bankName":"Ledger","accounts":[{"iban":"DE89370400440532013000","accountType":"Checking","balance":1234.50,"transactions":[`)
		for i := range n {
			if i > 0 {
				out.WriteByte(',')
			}
			id := ""
			if i%2 == 0 {
				id = fmt.Sprintf(`"id":"e%d",`, i)
			}
			fmt.Fprintf(out, `{%s"amount":-%d.50,"bankBookingDate":"2026-01-%02d","purpose":"%s","counterpartName":"Shop %d"}`, id, i/8, i%28/8+1, strings.Repeat("bill ", 40), i/8)
		}
		out.WriteString(`]}]}`)
		w.CloseWithError(out.Flush())
	}()
	return r
}

const handIn = "/api/v1/dataSources/transactions"

func TestAccountsAreHandedIn(t *testing.T) {
	run := func(t *testing.T, pg bool) {
		s := sqliteSettings(t)
		if pg {
			s = postgresSettings(t)
		}
		s.CallbackAllow = "127.0.0.0/8,::1/128"
		h := start(t, s)
		id, secret := h.client(t)
		b := newBookkeeper(t, h.URL, id, secret)
		told := make(chan string, 10)
		hooks := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				told <- r.URL.Path + " " + string(body)
			}
		}))
		t.Cleanup(hooks.Close)
		callback := func(path string) string {
			t.Helper()
			select {
			case got := <-told:
				require.True(t, strings.HasPrefix(got, path+" "), got)
				return got
			case <-time.After(20 * time.Second):
				t.Fatal("no callback")
				return ""
			}
		}

		document := `{"name":"ERP","bic":"COBADEFFXXX","bankName":"Commerzbank","callbackUrl":"` + hooks.URL + `/import?state=1","callbackHandle":"h-7","accounts":[
			{"iban":"DE89 3704 0044 0532 0130 00","accountName":"Giro","accountType":"CHECKING","accountCurrency":"EUR","balance":"12345678901234.560","transactions":[
				{"id":"1","amount":-12345678901234.560,"bankBookingDate":"2026-01-05","purpose":"house"},{"amount":"0.10","valueDate":"2026-01-06"}]},
			{"accountNumber":"4711","accountType":"SAVINGS"}]}`
		var source finapi.DataSource
		b.call(201, &source, "POST", handIn, strings.NewReader(document))
		require.Equal(t, []any{finapi.Successful, "Commerzbank", "COBADEFFXXX"}, []any{source.BankStatus, source.BankName, *source.BIC})
		require.Len(t, source.Accounts, 2)
		require.Equal(t, []any{finapi.Checking, finapi.Updated, "DE89370400440532013000"}, []any{source.Accounts[0].Type, source.Accounts[0].Status, *source.Accounts[0].IBAN})
		require.Nil(t, source.Accounts[1].IBAN)
		got := callback("/import")
		for _, part := range []string{`"callbackHandle":"h-7"`, `"status":"SUCCESSFUL"`, source.ID.String()} {
			require.Contains(t, got, part)
		}
		var again finapi.DataSource
		b.call(201, &again, "POST", handIn, strings.NewReader(document))
		require.Equal(t, source.ID, again.ID)

		// Amounts as they were written, in the own API; the accounts in Oxlin's.
		_, list, err := b.send("GET", "/v1/transactions", nil)
		require.NoError(t, err)
		require.Contains(t, string(list), `"-12345678901234.560"`)
		require.Contains(t, string(list), `"0.10"`)
		var accounts []struct {
			Status string `json:"status"`
		}
		b.call(200, &accounts, "GET", "/v2.1/accounts", nil)
		require.Len(t, accounts, 2)
		require.Equal(t, "MANUAL", accounts[0].Status)

		// Part of a synchronization, whichever the dialect; no bank is called.
		var all finapi.BankConnections
		b.call(200, &all, "POST", "/api/v1/dataSources/bankConnections/synchronization", strings.NewReader(`{"callbackUrl":"`+hooks.URL+`/sync","callbackHandle":"8"}`))
		require.Len(t, all.BankConnections, 1)
		require.Contains(t, callback("/sync"), `"status":"SUCCESSFUL"`)
		b.call(204, nil, "POST", fmt.Sprintf("/v2.1/connections/%d/synchronize", source.ExternalID), nil)
		var status finapi.SourceStatus
		b.call(200, &status, "GET", "/api/v1/dataSources/"+source.ID.String()+"/status", nil)
		require.Equal(t, finapi.SourceStatus{Status: finapi.Successful, Code: finapi.CodeSyncSuccessful}, status)
		_, events, err := b.send("GET", "/v1/events?limit=500", nil)
		require.NoError(t, err)
		require.NotContains(t, string(events), "sync.failed")

		// Nothing of a document with a fault.
		var refused finapi.Errors
		b.call(400, &refused, "POST", handIn, strings.NewReader(strings.NewReplacer(`"0.10"`, `"0,10"`, `"valueDate":"2026-01-06"`, `"valueDate":"6.1.2026"`).Replace(document)))
		require.Len(t, refused.Errors, 2)
		require.Equal(t, "accounts[0].transactions[1].amount: must be a decimal amount", refused.Errors[0].Message)
		b.call(400, nil, "POST", handIn, strings.NewReader(strings.Replace(document, hooks.URL, "http://10.1.2.3", 1)))
		stranger := newBookkeeper(t, h.URL, id, secret)
		stranger.call(404, nil, "PUT", handIn+"/"+source.ID.String(), exported(1))
		stranger.call(404, nil, "GET", "/api/v1/dataSources/"+source.ID.String(), nil)

		// It goes like any other, and does not come back under its id.
		b.call(204, nil, "DELETE", "/api/v1/dataSources/"+source.ID.String(), nil)
		b.call(404, nil, "PUT", handIn+"/"+source.ID.String(), exported(1))
		eventually(t, time.Minute, "its transactions are gone", func() bool {
			_, list, err := b.send("GET", "/v1/transactions", nil)
			return err == nil && !strings.Contains(string(list), "house")
		})
		b.call(201, &again, "POST", handIn, strings.NewReader(document))
		require.NotEqual(t, source.ID, again.ID)
		callback("/import")
		require.NotContains(t, h.log.String(), "DE89370400440532013000")
		require.NotContains(t, h.log.String(), "state=1")
	}
	t.Run("sqlite", func(t *testing.T) { run(t, false) })
	t.Run("postgres", func(t *testing.T) { run(t, true) })
}

// TestKillDuringImport: kill -9 of serve in the middle of a large document,
// twice; the client sends it again until it has an answer.
func TestKillDuringImport(t *testing.T) {
	t.Parallel()
	const entries = 12_000
	onEngines(t, func(t *testing.T, db database) {
		n := newNode(t, "serve", db, startBank(t))
		n.start()
		id, secret := n.client()
		b := newBookkeeper(t, n.address, id, secret)
		for range 2 {
			failed := make(chan error, 1)
			go func() {
				for { // the claim of a life that ended lasts for 20 seconds
					status, _, err := b.send("POST", handIn, exported(entries))
					if err == nil && status == http.StatusLocked {
						continue
					}
					if err == nil {
						err = fmt.Errorf("answered %d before the kill", status)
					} else {
						err = nil
					}
					failed <- err
					return
				}
			}()
			eventually(t, time.Minute, "it writes", func() bool { return n.wrote() > 1000 })
			n.kill(t)
			require.NoError(t, <-failed)
			n.start()
			// Until then it is being worked on, as far as the client can see.
			var all finapi.BankConnections
			b.call(200, &all, "GET", "/api/v1/dataSources", nil)
			require.Len(t, all.BankConnections, 1)
			require.Equal(t, finapi.InProgress, all.BankConnections[0].BankStatus)
		}
		var source finapi.DataSource
		eventually(t, 2*time.Minute, "it is stored", func() bool {
			status, answer, err := b.send("POST", handIn, exported(entries))
			require.NoError(t, err)
			if status == http.StatusLocked {
				return false
			}
			require.Equal(t, http.StatusCreated, status, "%s", answer)
			require.NoError(t, json.Unmarshal(answer, &source))
			return true
		})
		require.Equal(t, finapi.Successful, source.BankStatus)
		rows, created := 0, map[string]int{}
		for after := ""; ; {
			var page struct {
				Transactions []struct {
					ID string `json:"id"`
				} `json:"items"`
				Next string `json:"next"`
			}
			b.call(200, &page, "GET", "/v1/transactions?limit=500&after="+url.QueryEscape(after), nil)
			rows += len(page.Transactions)
			for _, x := range page.Transactions {
				created[x.ID]++
			}
			if after = page.Next; after == "" {
				break
			}
		}
		require.Equal(t, entries, rows)
		require.Len(t, created, entries)
	})
}
