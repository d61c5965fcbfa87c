package oauth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/oauth"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// fixture is the endpoints over a real store, with a client and a user.
type fixture struct {
	t      *testing.T
	access *access.Service
	mux    *http.ServeMux
	log    *bytes.Buffer
	now    time.Time
	client access.NewClient
	user   bankfeed.User
}

func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := &fixture{t: t, mux: http.NewServeMux(), log: &bytes.Buffer{}, now: storetest.Now}
		now := func() time.Time { return f.now }
		f.access = access.New(s.Access(), access.Options{Installation: s.Installation(), Now: now})
		var err error
		f.client, err = f.access.CreateClient(t.Context(), "", "shop", true)
		require.NoError(t, err)
		f.user, err = f.access.CreateUser(t.Context(), bankfeed.Caller{Client: f.client.Client},
			access.NewUser{ExternalID: "psu", Email: "psu@example.com", Password: "secret-password"})
		require.NoError(t, err)
		oauth.New(f.access, oauth.Options{
			Limit: access.NewLimiter[netip.Prefix](oauth.DefaultRate, oauth.DefaultBurst, 100, now),
			Log:   slog.New(slog.NewTextHandler(f.log, nil)), Now: now,
		}).Mount(f.mux)
		test(t, f)
	})
}

// answer is any answer of the endpoints.
type answer struct {
	status int
	header http.Header
	body   string

	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

func (f *fixture) send(r *http.Request) answer {
	f.t.Helper()
	f.now = f.now.Add(50 * time.Millisecond) // as fast as the limit allows
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if a.body != "" {
		require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &a), a.body)
		require.Equal(f.t, "application/json", a.header.Get("Content-Type"))
	}
	require.Equal(f.t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(f.t, a.status == http.StatusUnauthorized, a.header.Get("WWW-Authenticate") != "", a.body)
	return a
}

func post(path, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return r
}

const formType = "application/x-www-form-urlencoded"

// form sends a form with the client's credentials; "-name" leaves one out.
func (f *fixture) form(path string, pairs ...string) answer {
	f.t.Helper()
	return f.send(post(path, formType, f.values(pairs...).Encode()))
}

func (f *fixture) values(pairs ...string) url.Values {
	v := url.Values{"client_id": {f.client.ID}, "client_secret": {string(f.client.Secret)}}
	for _, p := range pairs {
		name, value, given := strings.Cut(p, "=")
		if !given {
			v.Del(strings.TrimPrefix(name, "-"))
			continue
		}
		v.Set(name, value)
	}
	return v
}

func (f *fixture) lives(token string) bool {
	f.t.Helper()
	_, err := f.access.Authenticate(f.t.Context(), bankfeed.Secret(token))
	return err == nil
}

func (a answer) refused(t *testing.T, status int, code, text string) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.Equal(t, code, a.Error, a.body)
	require.Contains(t, a.Description, text)
	require.Empty(t, a.AccessToken)
}

func TestTokenForms(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a := f.form("/oauth/token", "grant_type=client_credentials")
		require.Equal(t, 200, a.status, a.body)
		require.Equal(t, "bearer", a.TokenType)
		require.Equal(t, "all", a.Scope, "what finAPI answers")
		require.Equal(t, 3600, a.ExpiresIn)
		require.NotContains(t, a.body, "refresh_token")
		require.LessOrEqual(t, len(a.AccessToken), 128, "finAPI's bound")
		require.True(t, f.lives(a.AccessToken))

		a = f.form("/oauth/token", "grant_type=password", "username=psu", "password=secret-password", "scope=b a b")
		require.Equal(t, 200, a.status, a.body)
		require.Equal(t, "b a", a.Scope)
		caller, err := f.access.Authenticate(t.Context(), bankfeed.Secret(a.AccessToken))
		require.NoError(t, err)
		require.Equal(t, f.user.ID, caller.User)

		b := f.form("/oauth/token", "grant_type=refresh_token", "refresh_token="+a.RefreshToken)
		require.Equal(t, 200, b.status, b.body)
		require.Equal(t, "b a", b.Scope)
		require.NotEqual(t, a.RefreshToken, b.RefreshToken)

		for _, scope := range []string{"", "all"} { // what finAPI answers may be asked for, too
			a := f.form("/oauth/token", "grant_type=password", "username=psu", "password=secret-password", "scope="+scope)
			require.Equal(t, 200, a.status, a.body)
			require.Equal(t, "all", a.Scope)
			a = f.form("/oauth/token", "grant_type=refresh_token", "refresh_token="+a.RefreshToken, "scope="+a.Scope)
			require.Equal(t, 200, a.status, a.body)
			require.Equal(t, "all", a.Scope)
			caller, err := f.access.Authenticate(t.Context(), bankfeed.Secret(a.AccessToken))
			require.NoError(t, err)
			require.Empty(t, caller.Scopes, "not restricted")
		}

		basic := func(id, secret, body string) answer {
			r := post("/oauth/token", formType, body)
			r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
			return f.send(r)
		}
		id, secret := f.client.ID, string(f.client.Secret)
		require.Equal(t, 200, basic(id, secret, "grant_type=client_credentials").status)
		require.Equal(t, 200, basic(id, secret, "grant_type=client_credentials&client_id="+id).status)
		basic(id, secret, "grant_type=client_credentials&client_secret="+secret).refused(t, 400, "invalid_request", "both")
		basic(id, secret, "grant_type=client_credentials&client_id=other").refused(t, 400, "invalid_request", "both")
		basic(id, "wrong", "grant_type=client_credentials").refused(t, 401, "invalid_client", "")
		basic(id, "", "grant_type=client_credentials").refused(t, 401, "invalid_client", "client_secret")
		r := post("/oauth/token", formType, "grant_type=client_credentials")
		r.Header.Set("Authorization", "Basic %%%")
		a = f.send(r)
		a.refused(t, 401, "invalid_client", "")
		require.Contains(t, a.header.Get("WWW-Authenticate"), "Basic")
	})
}

func TestTokenJSON(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		body := func(more string) string {
			return fmt.Sprintf(` {"provider":"linxoConnect","nested":{"password":1},"client_id":%q,"client_secret":%q,%s}`, f.client.ID, string(f.client.Secret), more)
		}
		user := body(`"grant_type":"password","username":"psu@example.com","password":"secret-password","scope":"accounts_read","refresh_token":null`)
		for _, contentType := range []string{"application/json", formType, "text/plain", ""} {
			a := f.send(post("/token", contentType, user))
			require.Equal(t, 200, a.status, a.body)
			require.Equal(t, "Bearer", a.TokenType)
			require.Equal(t, "accounts_read", a.Scope)
			a = f.send(post("/token", contentType, f.values("grant_type=refresh_token", "refresh_token="+a.RefreshToken).Encode()))
			require.Equal(t, 200, a.status, "a form as %s: %s", contentType, a.body)
		}
		a := f.send(post("/token", "application/json", body(`"grant_type":"client_credentials"`)))
		require.Equal(t, 200, a.status, a.body)
		require.NotContains(t, a.body, "scope")
		f.send(post("/oauth/token", "application/json", user)).refused(t, 400, "invalid_request", "form")
	})
}

func TestTokenRefusals(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for _, c := range []struct {
			pairs  []string
			status int
			code   string
			text   string
		}{
			{nil, 400, "invalid_request", "grant_type"},
			{[]string{"grant_type="}, 400, "invalid_request", "grant_type"},
			{[]string{"grant_type=authorization_code"}, 400, "unsupported_grant_type", ""},
			{[]string{"grant_type=password", "password=x"}, 400, "invalid_request", "username"},
			{[]string{"grant_type=password", "username=x"}, 400, "invalid_request", "password"},
			{[]string{"grant_type=refresh_token"}, 400, "invalid_request", "refresh_token"},
			{[]string{"grant_type=client_credentials", "-client_id"}, 401, "invalid_client", "client_id"},
			{[]string{"grant_type=client_credentials", "-client_secret"}, 401, "invalid_client", "client_secret"},
			{[]string{"grant_type=client_credentials", "client_secret=canary-1"}, 401, "invalid_client", ""},
			{[]string{"grant_type=client_credentials", "client_id=canary-2"}, 401, "invalid_client", ""},
			{[]string{"grant_type=client_credentials", "scope=canary\"3"}, 400, "invalid_scope", ""},
			{[]string{"grant_type=client_credentials", "scope=\xff"}, 400, "invalid_request", "scope"},
			{[]string{"grant_type=password", "username=canary-4", "password=canary-5"}, 400, "invalid_grant", ""},
			{[]string{"grant_type=password", "username=psu", "password=canary-6"}, 400, "invalid_grant", ""},
			{[]string{"grant_type=password", "username=\x00", "password=canary-7"}, 400, "invalid_grant", ""},
			{[]string{"grant_type=refresh_token", "refresh_token=canary-8"}, 400, "invalid_grant", ""},
		} {
			for _, path := range []string{"/oauth/token", "/token"} {
				a := f.form(path, c.pairs...)
				a.refused(t, c.status, c.code, c.text)
				require.NotContains(t, a.body, "canary")
				require.NotContains(t, fmt.Sprint(a.header), "canary")
			}
		}
		for _, body := range []string{
			`{"grant_type":1}`, `{"grant_type":"password","grant_type":"password"}`, `{`, `{}{}`, `[]`, `{"grant_type"}`, `{"a":}`,
			"grant_type=password&grant_type=password", "grant_type=%zz", "a;b", "",
		} {
			f.send(post("/token", "application/json", body)).refused(t, 400, "invalid_request", "")
		}
		f.send(post("/token", formType, strings.Repeat("a", 65<<10))).refused(t, 413, "invalid_request", "64 KiB")
		r := httptest.NewRequest(http.MethodPost, "/token?"+f.values("grant_type=client_credentials").Encode(), nil)
		f.send(r).refused(t, 400, "invalid_request", "grant_type") // secrets do not belong into URLs
		a := f.send(httptest.NewRequest(http.MethodGet, "/oauth/token", nil))
		a.refused(t, 405, "invalid_request", "")
		require.Equal(t, "POST", a.header.Get("Allow"))
		require.Empty(t, f.log.String(), "nothing of this is for the operator")
	})
}

func TestReuseIsLoggedWithoutTheToken(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a := f.form("/token", "grant_type=password", "username=psu", "password=secret-password")
		b := f.form("/token", "grant_type=refresh_token", "refresh_token="+a.RefreshToken)
		require.Equal(t, 200, b.status)
		f.form("/token", "grant_type=refresh_token", "refresh_token="+a.RefreshToken).refused(t, 400, "invalid_grant", "")
		require.False(t, f.lives(a.AccessToken) || f.lives(b.AccessToken))
		require.Contains(t, f.log.String(), f.client.ID)
		require.NotContains(t, f.log.String(), a.RefreshToken)
	})
}

func TestTooManyFailedLogins(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for range 5 {
			f.form("/token", "grant_type=password", "username=psu", "password=wrong").refused(t, 400, "invalid_grant", "")
		}
		a := f.form("/token", "grant_type=password", "username=psu", "password=secret-password")
		a.refused(t, 429, "invalid_grant", "")
		require.Equal(t, "1", a.header.Get("Retry-After"))
		f.now = f.now.Add(time.Second)
		require.Equal(t, 200, f.form("/token", "grant_type=password", "username=psu", "password=secret-password").status)
	})
}

func TestRequestsAreLimitedByAddress(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		send := func(addr string) *httptest.ResponseRecorder {
			r := post("/token", formType, "")
			r.RemoteAddr = addr
			w := httptest.NewRecorder()
			f.mux.ServeHTTP(w, r)
			return w
		}
		for i := range 40 {
			require.Equal(t, 400, send(fmt.Sprintf("192.0.2.1:%d", 1000+i)).Code)
		}
		w := send("192.0.2.1:1")
		require.Equal(t, 429, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.JSONEq(t, `{"error":"temporarily_unavailable","error_description":"too many requests"}`, w.Body.String())
		require.Equal(t, 400, send("192.0.2.2:1").Code)
		f.now = f.now.Add(50 * time.Millisecond)
		require.Equal(t, 400, send("192.0.2.1:1").Code)
	})
}

func TestRevoke(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		later := f.form("/api/v2/oauth/token", "grant_type=client_credentials")
		require.Equal(t, 200, f.form("/api/v2/oauth/revoke", "token="+later.AccessToken).status, "as clients of today's Access call it")
		require.False(t, f.lives(later.AccessToken))

		login := func() answer {
			return f.form("/oauth/token", "grant_type=password", "username=psu", "password=secret-password")
		}
		client := f.form("/oauth/token", "grant_type=client_credentials")
		withBearer := func(path, token, body string) answer {
			r := post(path, formType, body)
			r.Header.Set("Authorization", "Bearer "+token)
			return f.send(r)
		}

		a := login()
		require.Equal(t, 200, f.form("/oauth/revoke", "token="+a.AccessToken, "token_type_hint=nonsense").status)
		require.False(t, f.lives(a.AccessToken))
		f.form("/oauth/token", "grant_type=refresh_token", "refresh_token="+a.RefreshToken).refused(t, 400, "invalid_grant", "")

		a = login()
		r := withBearer("/oauth/revoke?token_type_hint=refresh_token&token="+a.RefreshToken, client.AccessToken, "")
		require.Equal(t, 200, r.status, "as finAPI's clients do: %s", r.body)
		require.Empty(t, r.body)
		require.False(t, f.lives(a.AccessToken))

		a = login()
		b := login()
		withBearer("/oauth/revoke", b.AccessToken, "token="+a.AccessToken).refused(t, 403, "insufficient_scope", "")
		r = withBearer("/oauth/revoke", "unknown", "token="+a.AccessToken)
		r.refused(t, 401, "invalid_token", "")
		require.Contains(t, r.header.Get("WWW-Authenticate"), "Bearer")
		f.form("/oauth/revoke", "token="+a.AccessToken, "client_secret=wrong").refused(t, 401, "invalid_client", "")
		f.form("/oauth/revoke", "token="+a.AccessToken, "-client_id", "-client_secret").refused(t, 401, "invalid_client", "")
		f.form("/oauth/revoke").refused(t, 400, "invalid_request", "token")
		require.Equal(t, 200, f.form("/oauth/revoke", "token=unknown").status)
		require.True(t, f.lives(a.AccessToken) && f.lives(b.AccessToken))

		other, err := f.access.CreateClient(t.Context(), "other", "other", true)
		require.NoError(t, err)
		require.Equal(t, 200, f.form("/oauth/revoke", "token="+a.AccessToken, "client_id="+other.ID, "client_secret="+string(other.Secret)).status)
		require.True(t, f.lives(a.AccessToken), "a foreign token is answered like an unknown one")
	})
}

// brokenBody fails in the middle.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBrokenBody(t *testing.T) {
	mux := http.NewServeMux()
	oauth.New(nil, oauth.Options{}).Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/token", brokenBody{}))
	require.Equal(t, http.StatusBadRequest, w.Code)
}

// finAPI's clients decode a 400, 403 or 423 of the token endpoint as they decode
// every other error, and a 401 as OAuth 2.0 has it. Both shapes are in one body.
func TestFinAPIErrors(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		shape := func(a answer, code, text string) {
			t.Helper()
			require.Regexp(t, `^\{"error":"[a-z_]+","error_description":"[^"]+","errors":\[\{"message":"[^"]+","code":"`+code+`","type":"BUSINESS"\}\],`+
				`"date":"2026-03-02 [0-9:.]{12}","requestId":"","endpoint":"POST /oauth/[a-z]+"\}\n$`, a.body)
			require.Contains(t, a.body, text)
		}
		for range 5 {
			a := f.form("/oauth/token", "grant_type=password", "username=psu", "password=wrong")
			a.refused(t, 400, "invalid_grant", "")
			shape(a, "BAD_REQUEST", access.ErrGrant.Text)
		}
		locked := f.form("/oauth/token", "grant_type=password", "username=psu", "password=secret-password")
		locked.refused(t, 423, "invalid_grant", "")
		shape(locked, "LOCKED", "")
		require.Equal(t, "1", locked.header.Get("Retry-After"))

		a := f.form("/oauth/token", "grant_type=client_credentials", "client_secret=wrong")
		a.refused(t, 401, "invalid_client", "")
		require.NotContains(t, a.body, "errors")

		f.now = f.now.Add(time.Minute)
		user := f.form("/oauth/token", "grant_type=password", "username=psu", "password=secret-password")
		r := post("/oauth/revoke", formType, "token=x")
		r.Header.Set("Authorization", "Bearer "+user.AccessToken)
		shape(f.send(r), "FORBIDDEN", "client token")
	})
}
