package app

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// The simulated banks that mask IBANs, as a stream shows their accounts: masked
// and then whole, or masked only.
func TestSandboxMasksIBANs(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	a, _ := start(t, settings(t, "--sandbox"), io.Discard)
	made, err := a.Access().CreateClient(t.Context(), "", "client", true)
	require.NoError(t, err)
	client, err := a.Access().AuthenticateClient(t.Context(), made.ID, string(made.Secret))
	require.NoError(t, err)
	grant, err := a.Access().ClientToken(t.Context(), client, "")
	require.NoError(t, err)
	token := string(grant.AccessToken)
	var user struct{ ID string }
	require.Equal(t, 201, call(t, "POST", a.URL()+"/v1/users", token, `{"external_id":"anna"}`, &user))
	var providers struct {
		Items []struct{ ID string }
	}
	require.Equal(t, 200, call(t, "GET", a.URL()+"/v1/providers", token, "", &providers))
	require.Equal(t, []struct{ ID string }{{sandbox.ProviderID}, {sandbox.UnmaskProviderID}, {sandbox.MaskedProviderID}}, providers.Items)

	for provider, shapes := range map[string][]string{
		sandbox.UnmaskProviderID: {`account.created DExxxx\d{4}`, `account.updated DE\d{20}`},
		sandbox.MaskedProviderID: {`account.created DExxxx\d{4}`},
	} {
		var linked struct {
			Connection struct{ ID string }
			Steps      []struct {
				RedirectURL string `json:"redirect_url"`
			}
		}
		require.Equal(t, 201, call(t, "POST", a.URL()+"/v1/connections", token,
			`{"user":"`+user.ID+`","provider_id":"`+provider+`","channels":[{"mode":"REDIRECT"}]}`, &linked))
		confirmAtBank(t, linked.Steps[0].RedirectURL)
		var told []string
		var after bankfeed.Position
		require.Eventually(t, func() (ended bool) {
			events, next, err := a.data.Store.ReadEvents(t.Context(), eventlog.Query{Tenant: client.Tenant, After: after, Limit: 5000})
			require.NoError(t, err)
			after = next
			for _, e := range events {
				ended = ended || e.Type == bankfeed.EventSyncSucceeded && e.Snapshot.Connection.ProviderID == provider
				if e.Snapshot.Account != nil && e.Snapshot.Connection.ProviderID == provider && e.Snapshot.Account.Type == bankfeed.AccountCurrent &&
					(e.Type == bankfeed.EventAccountCreated || e.Type == bankfeed.EventAccountUpdated) {
					told = append(told, string(e.Type)+" "+e.Snapshot.Account.ShownIBAN())
					require.NotEmpty(t, e.Snapshot.Account.Balances, "each message is complete")
				}
			}
			return ended
		}, 30*time.Second, 50*time.Millisecond)
		require.Len(t, told, len(shapes), "%v", told)
		for i, shape := range shapes {
			require.Regexp(t, "^"+shape+"$", told[i])
		}
	}
}

var pageToken = regexp.MustCompile(`name="token" value="([^"]*)"`)

// confirmAtBank goes the way of a PSU's browser: to the bank, through its pages
// and back.
func confirmAtBank(t *testing.T, link string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	read := func(r *http.Response, err error) (page, at string) {
		require.NoError(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, 200, r.StatusCode, string(b))
		return string(b), r.Request.URL.String()
	}
	page, bank := read(browser.Get(link))
	for _, form := range []url.Values{
		{"action": {"login"}, "username": {"fine"}, "password": {sandbox.Password}},
		{"action": {"confirm"}, "code": {sandbox.Code}},
	} {
		form.Set("token", html.UnescapeString(pageToken.FindStringSubmatch(page)[1]))
		page, _ = read(browser.PostForm(bank, form))
	}
	require.Contains(t, page, "Access granted")
}
