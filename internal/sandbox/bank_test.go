package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// testNow is when all tests begin: a Saturday in the middle of nothing.
var testNow = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

const (
	unattended = false
	attended   = true
)

// tester is a TPP and a PSU's browser, knowing nothing but URLs and HTTP.
type tester struct {
	t      *testing.T
	url    string
	client *http.Client
	spec   *openapi3.T
}

func newBank(t *testing.T, cfg Config) (*Bank, *tester) {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return testNow }
	}
	if cfg.Seed == 0 {
		cfg.Seed = 7
	}
	b, err := New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(b)
	t.Cleanup(func() {
		srv.Close()
		require.NoError(t, b.Close())
	})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b, &tester{t: t, url: srv.URL, client: client, spec: spec(t)}
}

var loadSpec = sync.OnceValues(func() (*openapi3.T, error) {
	dir := os.Getenv("BANKFEED_SPEC_DIR")
	if dir == "" {
		return nil, nil
	}
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(dir, "berlin-group-nextgenpsd2-1.3.12_2022-07-01.openapi.json"))
	if err != nil {
		return nil, err
	}
	// The answer to an update may be one of five shapes of which every one that
	// starts with scaStatus fits several: the official oneOf cannot be met.
	update := doc.Components.Responses["OK_200_UpdatePsuData"].Value.Content["application/json"].Schema.Value
	update.AnyOf, update.OneOf = update.OneOf, nil
	return doc, nil
})

// spec is the official OpenAPI file, nil where it is not at hand.
func spec(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := loadSpec()
	require.NoError(t, err)
	return doc
}

var basePath = regexp.MustCompile(`^/(redirect|embedded)(/business)?/v1/`)

// validate holds an answer of an XS2A API against the official file.
func (c *tester) validate(req *http.Request, res *http.Response, body []byte) {
	c.t.Helper()
	if c.spec == nil || !basePath.MatchString(req.URL.Path) {
		return
	}
	path := basePath.ReplaceAllString(req.URL.Path, "/v1/")
	have := strings.Split(path, "/")
	route, literal := routers.Route{Spec: c.spec, Method: req.Method}, -1
	for template, item := range c.spec.Paths.Map() {
		want := strings.Split(template, "/")
		op := item.GetOperation(req.Method)
		if len(want) != len(have) || op == nil {
			continue
		}
		same, words := true, 0
		for i := range want {
			if want[i] == have[i] {
				words++
			} else if !strings.HasPrefix(want[i], "{") {
				same = false
			}
		}
		if same && words > literal {
			literal, route.Path, route.PathItem, route.Operation = words, template, item, op
		}
	}
	if literal < 0 {
		c.t.Fatalf("%s %s is not in the official file", req.Method, req.URL.Path)
	}
	err := openapi3filter.ValidateResponse(c.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, Route: &route},
		Status:                 res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	require.NoError(c.t, err, "%s %s", req.Method, req.URL.Path)
}

// in is the same tester inside a subtest.
func (c *tester) in(t *testing.T) *tester {
	d := *c
	d.t = t
	return &d
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	raw    []byte
}

// get walks into the JSON body.
func (a answer) get(path ...any) any {
	a.t.Helper()
	var v any
	require.NoError(a.t, json.Unmarshal(a.raw, &v), "%s", a.raw)
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			require.True(a.t, ok, "%v in %s", path, a.raw)
			v = m[p]
		case int:
			l, ok := v.([]any)
			require.True(a.t, ok && p < len(l), "%v in %s", path, a.raw)
			v = l[p]
		}
	}
	return v
}

func (a answer) str(path ...any) string {
	a.t.Helper()
	s, ok := a.get(path...).(string)
	require.True(a.t, ok, "%v in %s", path, a.raw)
	return s
}

func (a answer) href(name string) string { a.t.Helper(); return a.str("_links", name, "href") }

func (a answer) requireError(status int, code string) {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s", a.raw)
	require.Equal(a.t, code, a.str("tppMessages", 0, "code"))
}

func (c *tester) do(method, target string, header map[string]string, body any) answer {
	c.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = c.url + target
	}
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		require.NoError(c.t, err)
		rd = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, target, rd)
	require.NoError(c.t, err)
	req.Header.Set("X-Request-ID", uuid.NewString())
	if rd != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		if v == "" {
			req.Header.Del(k)
		} else {
			req.Header.Set(k, v)
		}
	}
	res, err := c.client.Do(req)
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	if json.Valid(raw) || len(raw) == 0 {
		c.validate(req, res, raw)
	}
	return answer{c.t, res.StatusCode, res.Header, raw}
}

func (c *tester) admin(path string, body any) answer {
	c.t.Helper()
	a := c.do("POST", "/sandbox/"+path, nil, body)
	require.Equal(c.t, 200, a.status, "%s", a.raw)
	return a
}

func (c *tester) fire(user, event string, more map[string]any) answer {
	c.t.Helper()
	ev := map[string]any{"user": user, "event": event}
	for k, v := range more {
		ev[k] = v
	}
	return c.admin("events", ev)
}

func (c *tester) advance(d string) { c.t.Helper(); c.admin("clock", map[string]string{"advance": d}) }

func consentBody() map[string]any {
	return map[string]any{
		"access": map[string]any{"allPsd2": "allAccounts"}, "recurringIndicator": true, "validUntil": "9999-12-31",
		"frequencyPerDay": 4, "combinedServiceIndicator": false,
	}
}

var psu = map[string]string{"PSU-IP-Address": "192.0.2.7", "TPP-Redirect-URI": "https://tpp.example/ok?state=a%2Fb&x=1", "TPP-Nok-Redirect-URI": "https://tpp.example/nok?state=a%2Fb"}

func with(base map[string]string, kv ...string) map[string]string {
	out := map[string]string{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i]] = kv[i+1]
	}
	return out
}

// create makes a consent below an API base path.
func (c *tester) create(base string, body any) answer {
	c.t.Helper()
	a := c.do("POST", base+"/v1/consents", psu, body)
	require.Equal(c.t, 201, a.status, "%s", a.raw)
	require.Equal(c.t, "received", a.str("consentStatus"))
	return a
}

// start posts the password of an embedded authorisation.
func (c *tester) start(con answer, user, password string) answer {
	c.t.Helper()
	return c.do("POST", con.href("startAuthorisationWithPsuAuthentication"), with(psu, "PSU-ID", user), map[string]any{"psuData": map[string]string{"password": password}})
}

func (c *tester) code(auth answer, code string) answer {
	c.t.Helper()
	return c.do("PUT", auth.href("authoriseTransaction"), psu, map[string]string{"scaAuthenticationData": code})
}

// embedded gives a valid consent of the embedded API.
func (c *tester) embedded(user string) string {
	c.t.Helper()
	con := c.create(EmbeddedBase, consentBody())
	auth := c.start(con, user, Password)
	require.Equal(c.t, 201, auth.status, "%s", auth.raw)
	done := c.code(auth, Code)
	require.Equal(c.t, 200, done.status, "%s", done.raw)
	require.Equal(c.t, "finalised", done.str("scaStatus"))
	return con.str("consentId")
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

// form posts to an SCA page with the token of the page before.
func (c *tester) form(page string, before answer, fields url.Values) answer {
	c.t.Helper()
	token := tokenField.FindSubmatch(before.raw)
	require.NotNil(c.t, token, "%s", before.raw)
	fields.Set("token", string(token[1]))
	return c.do("POST", page, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-Request-ID": ""}, fields.Encode())
}

func (c *tester) logIn(page, user, password string) answer {
	c.t.Helper()
	first := c.do("GET", page, nil, nil)
	require.Equal(c.t, 200, first.status)
	return c.form(page, first, url.Values{"action": {"login"}, "username": {user}, "password": {password}})
}

// redirected gives a valid consent of the redirect API by way of the pages.
func (c *tester) redirected(base, user string, body any) string {
	c.t.Helper()
	con := c.create(base, body)
	page := con.href("scaRedirect")
	second := c.logIn(page, user, Password)
	require.Equal(c.t, 200, second.status, "%s", second.raw)
	done := c.form(page, second, url.Values{"action": {"confirm"}, "code": {Code}})
	require.Equal(c.t, 302, done.status, "%s", done.raw)
	require.Equal(c.t, psu["TPP-Redirect-URI"], done.header.Get("Location"))
	return con.str("consentId")
}

// read calls a data endpoint under a consent.
func (c *tester) read(target, consent string, isAttended bool) answer {
	c.t.Helper()
	h := map[string]string{"Consent-ID": consent}
	if isAttended {
		h["PSU-IP-Address"] = "2001:db8::7"
	}
	return c.do("GET", target, h, nil)
}

// accounts lists the accounts of a consent: name in the bank's words to resourceId.
func (c *tester) accounts(base, consent string) map[string]string {
	c.t.Helper()
	a := c.read(base+"/v1/accounts", consent, attended)
	require.Equal(c.t, 200, a.status, "%s", a.raw)
	out := map[string]string{}
	for i := range a.get("accounts").([]any) {
		out[a.str("accounts", i, "name")+" "+a.str("accounts", i, "currency")] = a.str("accounts", i, "resourceId")
	}
	return out
}

const giro = "Girokonto EUR"

// list reads one page of transactions into maps.
func list(a answer, kind string) []map[string]any {
	a.t.Helper()
	require.Equal(a.t, 200, a.status, "%s", a.raw)
	var body struct {
		Transactions map[string]json.RawMessage `json:"transactions"`
	}
	require.NoError(a.t, json.Unmarshal(a.raw, &body))
	var out []map[string]any
	if raw, ok := body.Transactions[kind]; ok {
		require.NoError(a.t, json.Unmarshal(raw, &out))
	}
	return out
}

func next(a answer) string {
	a.t.Helper()
	links := a.get("transactions", "_links").(map[string]any)
	if n, ok := links["next"].(map[string]any); ok {
		return n["href"].(string)
	}
	return ""
}

func transactionsPath(base, rid, query string) string {
	return base + "/v1/accounts/" + rid + "/transactions?" + query
}

// all follows the pages of a listing.
func (c *tester) all(target, consent string, isAttended bool) (booked []map[string]any) {
	c.t.Helper()
	for target != "" {
		a := c.read(target, consent, isAttended)
		booked = append(booked, list(a, "booked")...)
		target = next(a)
	}
	return booked
}
