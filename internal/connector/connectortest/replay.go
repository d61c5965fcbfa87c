// Package connectortest helps to test connectors: it plays recorded banks and
// checks requests against a standard's own description.
package connectortest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bankfeed/bankfeed"
)

// Recording is one exchange with a bank, in the form of the files that hold
// them.
type Recording struct {
	Bank      string `json:"bank"`
	Operation string `json:"operation"`
	Request   struct {
		Method     string `json:"method"`
		URL        string `json:"url"`
		URLPattern string `json:"urlPattern"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	} `json:"response"`
}

const redirectSuffix = "-redirect"

// Load reads the recordings of one bank's directory. Files of another form are
// left out.
func Load(t testing.TB, dir string) []Recording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s (%v)", filepath.Base(dir), err)
	}
	var list []Recording
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var r Recording
		if err := json.Unmarshal(data, &r); err == nil && r.Request.Method != "" {
			list = append(list, r)
		}
	}
	return list
}

// Replay serves the recordings of one bank's directory until the test ends.
// They are matched by method and path; queries and headers are ignored, and
// several updates of an authorisation are told apart by what they bring. Of
// exchanges recorded for both channels, mode picks one. Links are rewritten to
// lead back here. Balances and transactions are there for the account that the
// recording names and 404 for others, as is everything not recorded.
func Replay(t testing.TB, dir string, mode bankfeed.Mode) *httptest.Server {
	t.Helper()
	p := &replay{exchanges: choose(Load(t, dir), mode)}
	p.accounts = p.listed()
	server := httptest.NewServer(p)
	p.url = server.URL
	t.Cleanup(server.Close)
	return server
}

// choose keeps the recordings of a channel, those made for it first.
func choose(list []Recording, mode bankfeed.Mode) []exchange {
	var special, general []exchange
	for _, r := range list {
		e := exchange{Recording: r, path: pathPattern(r)}
		switch {
		case !strings.HasSuffix(r.Operation, redirectSuffix):
			general = append(general, e)
		case mode == bankfeed.Redirect:
			special = append(special, e)
		}
	}
	return slices.Concat(special, general)
}

type exchange struct {
	Recording
	path *regexp.Regexp
}

// pathPattern matches the path of a recorded request. An id is one segment,
// and the version is no matter.
func pathPattern(r Recording) *regexp.Regexp {
	pattern := r.Request.URLPattern
	if pattern == "" {
		path, _, _ := strings.Cut(r.Request.URL, "?")
		pattern = regexp.QuoteMeta(path)
	}
	pattern, _, _ = strings.Cut(pattern, `\?`)
	pattern = strings.ReplaceAll(strings.TrimPrefix(pattern, ".*"), ".+", "[^/]+")
	return regexp.MustCompile("^(?:.*)" + versions.ReplaceAllString(pattern, "/v[0-9]+/") + "$")
}

var (
	versions = regexp.MustCompile(`/v[0-9]+/`)
	links    = regexp.MustCompile(`https?://[^"\s]*?(/v[0-9]+/(?:consents|accounts|card-accounts)\b)`)
)

type account struct {
	ResourceID string `json:"resourceId"`
	IBAN       string `json:"iban"`
	Currency   string `json:"currency"`
}

type replay struct {
	url       string
	exchanges []exchange
	accounts  []account
}

func (p *replay) listed() []account {
	for _, e := range p.exchanges {
		var body struct {
			Accounts []account `json:"accounts"`
		}
		if json.Unmarshal([]byte(e.Response.Body), &body) == nil && len(body.Accounts) > 0 {
			return body.Accounts
		}
	}
	return nil
}

// updates names the member of an update of an authorisation that belongs to an
// operation.
var updates = map[string]string{"update-psu-authentication": "psuData", "select-sca-method": "authenticationMethodId", "send-otp": "scaAuthenticationData"}

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	for _, e := range p.exchanges {
		if e.Request.Method != r.Method || !e.path.MatchString(r.URL.Path) {
			continue
		}
		if want := updates[e.Operation]; want != "" && !bytes.Contains(body, []byte(`"`+want+`"`)) {
			continue
		}
		if !p.answersFor(e, r.URL.Path) {
			continue
		}
		for name, value := range e.Response.Headers {
			w.Header().Set(name, p.rewrite(value))
		}
		w.WriteHeader(e.Response.Status)
		_, _ = io.WriteString(w, p.rewrite(e.Response.Body))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"tppMessages":[{"category":"ERROR","code":"RESOURCE_UNKNOWN","text":"not recorded"}]}`)
}

// answersFor reports whether a recording of an account's data is about the
// account in the path.
func (p *replay) answersFor(e exchange, path string) bool {
	_, rest, ok := strings.Cut(path, "/accounts/")
	if !ok {
		return true
	}
	id, _, _ := strings.Cut(rest, "/")
	i := slices.IndexFunc(p.accounts, func(a account) bool { return a.ResourceID == id })
	if i < 0 {
		return false
	}
	asked := p.accounts[i]
	var body struct {
		Account account `json:"account"`
	}
	if json.Unmarshal([]byte(e.Response.Body), &body) != nil || body.Account.IBAN == "" {
		return len(p.accounts) == 1 || strings.Contains(e.Response.Body, asked.IBAN)
	}
	return body.Account.IBAN == asked.IBAN && (body.Account.Currency == "" || body.Account.Currency == asked.Currency)
}

func (p *replay) rewrite(s string) string {
	s = strings.ReplaceAll(s, "http://localhost:{{request.port}}", p.url)
	return links.ReplaceAllString(s, p.url+"$1")
}
