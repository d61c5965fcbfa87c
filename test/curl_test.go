package test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/demo"
)

// curl runs a command as the vendor's page prints it, with -i to see the
// status, and splits what it shows.
func curl(t *testing.T, command string) (status string, header map[string]string, body string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", strings.Replace(command, "curl ", "curl -s -S -i ", 1)).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	head, body, ok := strings.Cut(string(out), "\r\n\r\n")
	require.True(t, ok, "%s", out)
	lines := strings.Split(head, "\r\n")
	header = map[string]string{}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		header[strings.ToLower(name)] = value
	}
	return lines[0], header, body
}

// The commands of the vendor's page "Using queues and events", with its host
// replaced, give the answers that the page shows.
func TestCommandsOfTheOxlinPage(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("NOT RUN: curl is not installed")
	}
	h := start(t, sqliteSettings(t))
	id, secret := h.client(t)
	token := func(grant map[string]string) string {
		grant["client_id"], grant["client_secret"] = id, secret
		b, err := json.Marshal(grant)
		require.NoError(t, err)
		resp, err := http.Post(h.URL()+"/token", "application/json", bytes.NewReader(b))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		return answer.AccessToken
	}
	client := token(map[string]string{"grant_type": "client_credentials"})
	status, header, _ := curl(t, `curl -X POST `+h.URL()+`/v2.1/users -H 'authorization: Bearer `+client+`' -d '{"email": "anna@example.org", "password": "a-long-password"}'`)
	require.Equal(t, "HTTP/1.1 201 Created", status)
	require.Regexp(t, `^/users/[0-9]+$`, header["location"])
	user := token(map[string]string{"grant_type": "password", "username": "anna@example.org", "password": "a-long-password"})

	page := strings.NewReplacer("https://sandbox-api.oxlin.io", h.URL(), "{access_token}", user)
	status, header, body := curl(t, page.Replace(`curl -X POST \
https://sandbox-api.oxlin.io/v2.1/queues/subscribe \
-H 'authorization: Bearer {access_token}' \
-d '{
"topics": ["connections"]
}'`))
	require.Equal(t, "HTTP/1.1 201 Created", status)
	require.Empty(t, body)
	queue := header["location"]
	require.Regexp(t, `^/queues/[^/]+$`, queue)

	poll := page.Replace("curl https://sandbox-api.oxlin.io/v2.1" + queue + ` \
-H 'authorization: Bearer {access_token}'`)
	status, _, body = curl(t, poll)
	require.Equal(t, "HTTP/1.1 204 No Content", status)
	require.Empty(t, body)

	// A user of another connection makes no difference; this one links a bank.
	j := demo.NewJourney(h.URL(), h.SandboxURL(), id, secret, &output{})
	j.UseUser("anna@example.org", "a-long-password")
	require.NoError(t, j.Run(t.Context()))

	var events []map[string]any
	deadline := time.Now().Add(10 * time.Second)
	for len(events) == 0 {
		require.True(t, time.Now().Before(deadline), "no events")
		if status, _, body = curl(t, poll); status == "HTTP/1.1 200 OK" {
			require.NoError(t, json.Unmarshal([]byte(body), &events))
		}
	}
	seconds := func(v any) bool {
		n, ok := v.(float64)
		return ok && n > 1e9 && n < 1e10 && n == float64(int64(n))
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	for _, e := range events {
		require.Regexp(t, digits, e["id"])
		require.Equal(t, "CONNECTION", e["resource_type"])
		require.True(t, seconds(e["creation_date"]))
		require.Contains(t, []any{"20000", "20001"}, e["channel_definition_id"])
		r := e["resource"].(map[string]any)
		require.Regexp(t, digits, r["id"])
		require.Equal(t, "200", r["provider_id"])
		require.Equal(t, "WBX Test Bank", r["name"])
		require.True(t, seconds(r["creation_date"]))
		for _, c := range r["channels"].([]any) {
			c := c.(map[string]any)
			require.Contains(t, []any{"20000", "20001"}, c["channel_definition_id"])
			require.NotEmpty(t, c["status"])
			for _, date := range []string{"expires", "last_success_date", "last_end_date"} {
				if v, ok := c[date]; ok {
					require.True(t, seconds(v), "%s %v", date, v)
				}
			}
		}
	}
	require.Equal(t, "SYNC_ALL_SUCCESS", events[len(events)-1]["event_type"], "a synchronization ends with it")
	require.Equal(t, "SUCCESS", events[len(events)-1]["resource"].(map[string]any)["status"])

	status, _, body = curl(t, strings.Replace(poll, queue, "/queues/unknown", 1))
	require.Equal(t, "HTTP/1.1 404 Not Found", status)
	require.Contains(t, body, `"error"`)
}
