//go:build unix

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// company is a client's software: it knows the hub by HTTP only.
type company struct {
	t     *testing.T
	at    func() string // the node that it asks
	http  *http.Client
	token string
	bank  string // that its users link

	id, secret string // of the client
}

// newCompany makes a client at a node and logs it in.
func newCompany(n *node) *company {
	n.t.Helper()
	c := &company{t: n.t, at: n.address, bank: smallPagesID, http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second}}
	n.t.Cleanup(c.http.CloseIdleConnections)
	c.id, c.secret = n.client()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	c.must(http.MethodPost, "/token", map[string]string{"grant_type": "client_credentials", "client_id": c.id, "client_secret": c.secret}, &answer)
	c.token = answer.AccessToken
	return c
}

// via is the same company asking another node.
func (c *company) via(n *node) *company {
	other := *c
	other.at = n.address
	return &other
}

// do returns the status of the answer; out is filled if it is a success with a
// body. The PSU is always there.
func (c *company) do(ctx context.Context, method, path string, in, out any) (status int, err error) {
	resp, err := c.ask(ctx, method, path, in)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, err // half an answer is none
	case resp.StatusCode >= 300:
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, answer)
	case out != nil && resp.StatusCode != http.StatusNoContent:
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, err
}

func (c *company) ask(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.at()+path, &body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("PSU-IP-Address", "127.0.0.1")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(r)
}

func (c *company) must(method, path string, in, out any) {
	c.t.Helper()
	_, err := c.do(c.t.Context(), method, path, in, out)
	require.NoError(c.t, err)
}

// located makes something and returns where it is.
func (c *company) located(path string, in any) string {
	c.t.Helper()
	resp, err := c.ask(c.t.Context(), http.MethodPost, path, in)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	require.Equal(c.t, http.StatusCreated, resp.StatusCode)
	return resp.Header.Get("Location")
}

// link is a user's link to the bank.
type link struct {
	login      string
	entries    int // that the bank has
	user       string
	connection string
	session    string // the first one
}

func total(links []link) (n int) {
	for _, l := range links {
		n += l.entries
	}
	return n
}

// newUser makes a user.
func (c *company) newUser() string {
	c.t.Helper()
	var user struct {
		ID string `json:"id"`
	}
	c.must(http.MethodPost, "/v1/users", map[string]string{}, &user)
	return user.ID
}

// link makes a user who links a `big` login, which begins the first session:
// EMBEDDED, so that it takes no browser.
func (c *company) link(login string) link {
	c.t.Helper()
	l := link{login: login, entries: 100_000, user: c.newUser()}
	if _, n, ok := strings.Cut(login, "-"); ok {
		var err error
		l.entries, err = strconv.Atoi(n)
		require.NoError(c.t, err)
	}
	l.connection, l.session = c.connect(l.user, login)
	return l
}

func (c *company) connect(user, login string) (connection, session string) {
	c.t.Helper()
	var linked struct {
		Connection struct {
			ID string `json:"id"`
		} `json:"connection"`
		Session struct {
			ID string `json:"id"`
		} `json:"session"`
		Steps []struct {
			Challenge *struct {
				Kind string `json:"kind"`
			} `json:"challenge"`
		} `json:"steps"`
	}
	c.must(http.MethodPost, "/v1/connections", map[string]any{"user": user, "provider_id": c.bank, "channels": []map[string]any{
		{"mode": "EMBEDDED", "credentials": map[string]string{"login": login, "password": sandbox.Password}}}}, &linked)
	require.Len(c.t, linked.Steps, 1)
	require.NotNil(c.t, linked.Steps[0].Challenge)
	require.Equal(c.t, "CODE", linked.Steps[0].Challenge.Kind)
	c.must(http.MethodPost, "/v1/connections/"+linked.Connection.ID+"/answers", map[string]string{"user": user, "code": sandbox.Code}, nil)
	return linked.Connection.ID, linked.Session.ID
}

// open counts the links whose first session has not ended.
func (c *company) open(links []link) (n int) {
	c.t.Helper()
	for _, l := range links {
		var s struct {
			EndedAt *time.Time `json:"ended_at"`
		}
		c.must(http.MethodGet, "/v1/sessions/"+l.session+"?user="+l.user, nil, &s)
		if s.EndedAt == nil {
			n++
		}
	}
	return n
}

// state is how a connection stands, and each channel that was ever used.
func (c *company) state(l link) string {
	c.t.Helper()
	var s struct {
		Status   string `json:"status"`
		Channels []struct {
			Mode   string `json:"mode"`
			Status string `json:"status"`
		} `json:"channels"`
	}
	c.must(http.MethodGet, "/v1/connections/"+l.connection+"?user="+l.user, nil, &s)
	text := s.Status
	for _, ch := range s.Channels {
		if ch.Status != "EMPTY" {
			text += " " + ch.Mode + ":" + ch.Status
		}
	}
	return text
}

// logged is how many events the log has.
func (c *company) logged() (n int) {
	c.t.Helper()
	var page struct {
		Next string `json:"next"`
	}
	c.must(http.MethodGet, "/v1/events?after=latest", nil, &page)
	at, err := eventlog.ParseCursor(page.Next)
	require.NoError(c.t, err)
	for _, p := range at.Lanes {
		n += int(p)
	}
	return n
}
