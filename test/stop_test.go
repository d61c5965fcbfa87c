package test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stop does not wait for those who wait: an open poll is answered, a stream
// ends, and the node is gone long before they would have been.
func TestStopEndsPollsAndStreams(t *testing.T) {
	h := start(t, sqliteSettings(t))
	id, secret := h.client(t)
	c, err := h.Access().AuthenticateClient(t.Context(), id, secret)
	require.NoError(t, err)
	grant, err := h.Access().ClientToken(t.Context(), c, "")
	require.NoError(t, err)
	do := func(method, path, accept, body string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, h.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+string(grant.AccessToken))
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	defer http.DefaultClient.CloseIdleConnections()
	resp := do("POST", "/v2.1/users", "", `{"email":"a@example.org","password":"a-long-password"}`)
	require.Equal(t, 201, resp.StatusCode)
	user := "user_id=" + strings.TrimPrefix(resp.Header.Get("Location"), "/users/")
	resp = do("POST", "/v2.1/queues/subscribe?"+user, "", `{"topics":["connections"]}`)
	require.Equal(t, 201, resp.StatusCode)
	queue := "/v2.1" + resp.Header.Get("Location") + "?" + user

	stream := do("GET", queue, "text/event-stream", "")
	require.Equal(t, 200, stream.StatusCode)
	native := do("GET", "/v1/events/stream?after=latest", "", "")
	require.Equal(t, 200, native.StatusCode)
	polled := make(chan int)
	go func() { polled <- do("GET", queue+"&wait=30", "", "").StatusCode }()
	require.Eventually(t, func() bool {
		_, body := get(t, h.URL()+"/metrics")
		return strings.Contains(body, "bankfeed_http_requests_in_flight 4\n") // with this one
	}, 10*time.Second, 5*time.Millisecond)

	began := time.Now()
	require.NoError(t, h.stop())
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, http.StatusNoContent, <-polled)
	for _, s := range []*http.Response{stream, native} {
		_, err = io.ReadAll(s.Body)
		require.NoError(t, err, "a stream ends properly")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}
