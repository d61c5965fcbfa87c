package app

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A client reads the events of all its users. It used to panic: the log was
// asked on behalf of a client, and nobody had told the API which users are its
// own.
func TestAClientReadsTheEventsOfItsUsers(t *testing.T) {
	a, _ := start(t, settings(t, "--sandbox"), io.Discard)
	made, err := a.Access().CreateClient(t.Context(), "", "test", true)
	require.NoError(t, err)
	client, err := a.Access().AuthenticateClient(t.Context(), made.ID, string(made.Secret))
	require.NoError(t, err)
	grant, err := a.Access().ClientToken(t.Context(), client, "")
	require.NoError(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	do := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+string(grant.AccessToken))
		r.Header.Set("PSU-IP-Address", "127.0.0.1")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	status, body := do(http.MethodPost, "/v1/users", `{"external_id":"anna"}`)
	require.Equal(t, http.StatusCreated, status, body)
	status, body = do(http.MethodPost, "/v1/connections", `{"user":"1","provider_id":"200","channels":[{"mode":"REDIRECT"}]}`)
	require.Equal(t, http.StatusCreated, status, body)
	status, body = do(http.MethodGet, "/v1/events?types=connection.created", "")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"external_id":"anna"`)
}
