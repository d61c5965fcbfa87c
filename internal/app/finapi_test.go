package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// finAPIClient calls a node as a client of finAPI does.
type finAPIClient struct {
	t   *testing.T
	url string
}

func (c finAPIClient) do(token, method, path, body string) (int, string) {
	c.t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	require.NoError(c.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return resp.StatusCode, string(b)
}

// member reads a member of an answer that must have the status.
func (c finAPIClient) member(name string, want int, token, method, path, body string) string {
	c.t.Helper()
	status, got := c.do(token, method, path, body)
	require.Equal(c.t, want, status, got)
	var answer map[string]any
	require.NoError(c.t, json.Unmarshal([]byte(got), &answer), got)
	value, _ := answer[name].(string)
	require.NotEmpty(c.t, value, got)
	return value
}

func (c finAPIClient) token(form url.Values) string {
	c.t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.PostForm(c.url+"/oauth/token", form)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(c.t, json.NewDecoder(resp.Body).Decode(&answer))
	require.NotEmpty(c.t, answer.AccessToken)
	return answer.AccessToken
}

// A whole node, over HTTP: users, a synchronization of nothing, the erasure of
// the data and of the user, and a process. No token shows in the log.
func TestFinAPI(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			var args []string
			if engine == "postgres" {
				usePostgres(t)
				args = []string{"--migrate"}
			}
			var log lines
			a, stop := start(t, settings(t, args...), &log)
			made, err := a.access.CreateClient(t.Context(), "", "shop", true)
			require.NoError(t, err)
			c := finAPIClient{t, a.URL()}
			credentials := url.Values{"client_id": {made.ID}, "client_secret": {string(made.Secret)}}
			with := func(more ...string) url.Values {
				v := url.Values{}
				for name, x := range credentials {
					v[name] = x
				}
				for i := 0; i < len(more); i += 2 {
					v.Set(more[i], more[i+1])
				}
				return v
			}
			client := c.token(with("grant_type", "client_credentials"))
			password := c.member("password", 201, client, "POST", "/api/v1/users", `{"id":"Customer-1"}`)
			user := c.token(with("grant_type", "password", "username", "customer-1", "password", password))

			status, body := c.do(user, "POST", "/api/v1/dataSources/bankConnections/synchronization", "{}")
			require.Equal(t, 200, status, body)
			require.JSONEq(t, `{"bankConnections":[]}`, body)

			deletion := c.member("deletionId", 200, user, "DELETE", "/api/v1/user", "")
			require.Eventually(t, func() bool {
				return c.member("status", 200, user, "GET", "/api/v1/user/status/delete/"+deletion, "") == "SUCCESSFUL"
			}, 30*time.Second, 50*time.Millisecond)
			require.Equal(t, "Customer-1", c.member("id", 200, user, "GET", "/api/v1/users", ""), "the user and its token stay")
			status, _ = c.do(user, "DELETE", "/api/v1/users", "")
			require.Equal(t, 200, status)
			status, body = c.do(user, "GET", "/api/v1/users", "")
			require.Equal(t, 401, status)
			require.Contains(t, body, `"error":"invalid_token"`)

			process := c.member("processToken", 201, client, "POST", "/api/v1/processes", "")
			hidden := c.member("access_token", 200, client, "GET", "/api/v1/processes/"+process+"?invalidate=true", "")
			require.NotEmpty(t, c.member("id", 200, hidden, "GET", "/api/v1/users", ""))
			status, body = c.do(client, "GET", "/api/v1/processes/"+process, "")
			require.Equal(t, 404, status)
			require.Contains(t, body, `"endpoint":"GET /api/v1/processes/{processToken}"`)
			c.do(client, "GET", "/api/v1/processes/short", "")

			_, body, _ = get(t, a.URL()+"/metrics")
			require.Contains(t, body, `route="/api/v1/processes/{processToken}"`)
			require.NoError(t, stop())
			for _, secret := range []string{process, hidden, user, client, password, "processes/short"} {
				require.NotContains(t, log.String(), secret)
				require.NotContains(t, body, secret)
			}
			require.NotContains(t, log.String(), `"level":"ERROR"`)
			require.Contains(t, log.String(), `"path":"/api/v1/processes/***"`)
		})
	}
}

// The caller's own request id comes back, in the header and in the error.
func TestRequestIDOfFinAPI(t *testing.T) {
	a, stop := start(t, settings(t), io.Discard)
	id := strings.Repeat("x", 255)
	r := httptest.NewRequest(http.MethodGet, "/api/v1/nothing", nil)
	r.Header.Set("X-Request-Id", id)
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, r)
	require.Equal(t, id, w.Header().Get("X-Request-Id"))
	require.Contains(t, w.Body.String(), `"requestId":"`+id+`"`)
	require.NoError(t, stop())
}
