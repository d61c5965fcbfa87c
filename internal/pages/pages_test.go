package pages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

func request(t *testing.T, language string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Accept-Language", language)
	return r
}

func TestLanguage(t *testing.T) {
	for header, want := range map[string]string{"": "en", "de": "de", "de-AT, en;q=0.5": "de", "en;q=0.4, de;q=0.6": "de", "fr, de;q=0.2": "de", "fr": "en",
		"de;q=0": "en", "de;q=0.0, en;q=0.1": "en", "de;q=x": "en", "de;q=1.5": "en", "en;q=0.35, de;q=0.4": "de", "DE-ch": "de", "en, de": "en", ";;,,": "en"} {
		require.Equal(t, want, pages.Language(request(t, header)), header)
	}
}

func shown(t *testing.T, language, words string) string {
	t.Helper()
	set := pages.New(fstest.MapFS{"x": {Data: []byte(`{{t .}}`)}}, "x", "")
	w := httptest.NewRecorder()
	require.NoError(t, set.Render(w, request(t, language), pages.Page{Status: http.StatusOK, Title: "Code", View: words}))
	return w.Body.String()
}

// Every sentence of the pages has its German: whoever adds one adds both.
func TestNothingIsMissingInGerman(t *testing.T) {
	template := regexp.MustCompile(`\{\{t "([^"]+)"\}\}`)
	// What people read begins with a capital letter and holds words only.
	sentence := regexp.MustCompile(`^[A-Z][a-z]+[a-z' ,.;-]*(?:[A-Z]{3})?[A-Za-z' ,.;-]*$`)
	words := map[string]string{}
	for _, dir := range []string{"../consent", "../webform"} {
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(dir + "/" + path)
			require.NoError(t, err)
			if strings.HasSuffix(path, ".html") {
				for _, m := range template.FindAllStringSubmatch(string(b), -1) {
					words[m[1]] = dir + "/" + path
				}
			}
			if !strings.HasSuffix(path, ".go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, b, 0)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if s, err := strconv.Unquote(l.Value); err == nil && sentence.MatchString(s) && !strings.Contains(s, "-Control") && !strings.HasSuffix(s, "-Type") {
						words[s] = dir + "/" + path
					}
				}
				return true
			})
			return nil
		})
		require.NoError(t, err)
	}
	require.Greater(t, len(words), 50, "the sentences are found")
	for w, at := range words {
		if w == "Location" || w == "Code" {
			continue
		}
		english := shown(t, "en", w)
		german := shown(t, "de", w)
		require.NotEqual(t, body(english), body(german), "%s says %q", at, w)
	}
}

func body(page string) string {
	_, page, _ = strings.Cut(page, "</h1>")
	return page
}

func TestABanksOwnWordsStay(t *testing.T) {
	require.Contains(t, shown(t, "de", "Open <your> app"), "Open &lt;your&gt; app")
}

func TestForms(t *testing.T) {
	f := pages.Forms{Cookie: "c", Path: "/widget/", PublicURL: "https://hub.example/below"}
	w := httptest.NewRecorder()
	proof := f.Proof(w, request(t, ""), "token")
	cookie := w.Result().Cookies()[0]
	require.True(t, cookie.Secure)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, "/below/widget/", cookie.Path)
	post := func(token, csrf string, c *http.Cookie) error {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(url.Values{"csrf": {csrf}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if c != nil {
			r.AddCookie(c)
		}
		_, err := f.Read(r, token)
		return err
	}
	require.NoError(t, post("token", proof, cookie))
	require.ErrorIs(t, post("other", proof, cookie), pages.ErrForm)
	require.ErrorIs(t, post("token", proof, nil), pages.ErrForm)
	require.ErrorIs(t, post("token", "", cookie), pages.ErrForm)
	require.ErrorIs(t, post("token", strings.Repeat("a", pages.MaxForm), cookie), pages.ErrNoForm)
	require.False(t, pages.LooksLikeSecret("x"))
	require.True(t, pages.LooksLikeSecret(pages.NewSecret()))
	one, other := pages.NewSecret(), pages.NewSecret()
	require.NotEqual(t, one, other)
}

func TestCheckReturnURL(t *testing.T) {
	for to, ok := range map[string]bool{"https://client.example/a?b#c": true, "http://client.example": false, "//client.example": false, "https://a:b@c.example": false,
		"https://a;script-src *": false, "javascript:alert(1)": false, "https://": false, "https://client.example/" + strings.Repeat("a", 2048): false} {
		err := pages.CheckReturnURL("f", to, false)
		require.Equal(t, ok, err == nil, to)
		if err != nil {
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
			require.NotContains(t, err.Error(), "client.example")
		}
	}
	require.NoError(t, pages.CheckReturnURL("f", "http://127.0.0.1:80", true))
}
