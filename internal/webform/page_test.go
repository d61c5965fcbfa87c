package webform_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/internal/webform"
)

func TestWhatIsNotOfThisBrowser(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f, other := w.create(w.order()), w.create(w.order())
	page := string(f.URL)
	mine := w.shown(page + "?bank=200")
	for name, a := range map[string]answer{
		"without csrf":      w.press(page, answer{}, "action", "link", "bank", "200", "mode", "REDIRECT", "step", "0"),
		"of another form":   w.press(string(other.URL), mine, "action", "link", "bank", "200", "mode", "REDIRECT"),
		"invented":          w.press(page, mine, "action", "cancel", "csrf", strings.Repeat("A", 43)),
		"cancel, no secret": w.press(page, answer{}, "action", "cancel"),
	} {
		require.Equal(t, http.StatusForbidden, a.StatusCode, name)
	}
	stranger := newBrowser(t)
	w.browser, stranger = stranger, w.browser
	require.Equal(t, http.StatusForbidden, w.press(page, mine, "action", "cancel").StatusCode, "the proof of another browser")
	w.browser = stranger
	require.Empty(t, w.connections())

	for _, token := range []string{strings.Repeat("A", 43), "x", strings.Repeat("é", 30)} {
		unknown := w.get(w.hub.URL + "/widget/" + url.PathEscape(token))
		require.Equal(t, http.StatusNotFound, unknown.StatusCode)
		require.Equal(t, "no-store", unknown.Header.Get("Cache-Control"))
		require.Equal(t, http.StatusNotFound, w.get(w.hub.URL+"/widget/"+url.PathEscape(token)+"/state").StatusCode)
	}
	_, err := w.forms.Form(t.Context(), w.tenant, w.user.ID+1, f.ID)
	require.ErrorIs(t, err, bankfeed.ErrNotFound)
	_, err = w.forms.Form(t.Context(), w.tenant+1, w.user.ID, f.ID)
	require.ErrorIs(t, err, bankfeed.ErrNotFound)
	_, err = w.forms.Task(t.Context(), w.tenant, w.user.ID, f.ID)
	require.ErrorIs(t, err, bankfeed.ErrNotFound, "a form is no task")
}

func TestALookAheadOpensNothing(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Method = http.MethodHead },
		func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch;prerender") },
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(f.URL), nil)
		require.NoError(t, err)
		change(r)
		require.Equal(t, http.StatusNoContent, w.ask(r).StatusCode)
	}
	require.Equal(t, webform.NotYetOpened, w.form(f).Status)
}

// The client may say in the form's URL where it wants its user; nobody can change
// that later.
func TestReturnURLs(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	q := url.Values{"redirectUrl": {"https://client.example/ok?a=b"}, "abortRedirectUrl": {"https://client.example/no"}, "errorRedirectUrl": {"javascript:alert(1)"},
		"customerSupportUrl": {"https://client.example/help"}}
	require.Equal(t, page, w.sent(w.get(page+"?"+q.Encode())))
	require.Contains(t, w.shown(page).body, `href="https://client.example/help"`)
	require.Equal(t, page, w.sent(w.get(page+"?abortRedirectUrl=https%3A%2F%2Fevil.example")))
	w.press(page, w.shown(page), "action", "cancel")
	require.Equal(t, "https://client.example/no", w.sent(w.get(page)))

	o := w.order()
	for _, to := range []string{"javascript:alert(1)", "//client.example", "https://a:b@client.example", "https://client.example/" + strings.Repeat("a", 2048)} {
		o.RedirectURL = to
		_, err := w.forms.Import(t.Context(), o)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), to)
	}
	o.RedirectURL, o.Sandbox = "http://client.example", false
	_, err := w.forms.Import(t.Context(), o)
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), "a live client's users stay on https")
}

func TestPresets(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	o := w.order()
	o.Bank = "200"
	f := w.create(o)
	require.Contains(t, w.shown(string(f.URL)).body, "Connect your bank")
	require.NotContains(t, w.shown(string(f.URL)).body, "Choose another bank")
	require.Contains(t, w.shown(string(f.URL)+"?bank=201").body, "WBX &lt;Test&gt; Bank", "the client's choice")

	o = w.order()
	o.Search = "andere"
	require.Contains(t, w.shown(string(w.create(o).URL)).body, "Connect your bank", "there is one such bank")
	o.Search = "no such bank"
	require.Contains(t, w.shown(string(w.create(o).URL)).body, "Choose your bank")

	o = w.order()
	o.Modes = []bankfeed.Mode{bankfeed.Embedded}
	f = w.create(o)
	how := w.shown(string(f.URL)).body
	require.Contains(t, how, `type="hidden" name="mode" value="EMBEDDED"`, "one bank offers that")
	require.NotContains(t, how, `value="REDIRECT"`)

	o.Bank = "201"
	_, err := w.forms.Import(t.Context(), o)
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	o.Bank = "999"
	_, err = w.forms.Import(t.Context(), o)
	require.Equal(t, bankfeed.NotFound, bankfeed.ErrorKindOf(err))
	o.Bank, o.Sandbox = "200", false
	_, err = w.forms.Import(t.Context(), o)
	require.Equal(t, bankfeed.NotFound, bankfeed.ErrorKindOf(err), "a live client sees no sandbox bank")
}

// What is searched for is compared with every bank.
func TestALongSearch(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	page := string(w.create(w.order()).URL)
	found := w.shown(page + "?" + url.Values{"q": {"bank test"}}.Encode())
	require.Contains(t, found.body, "WBX &lt;Test&gt; Bank")
	require.NotContains(t, found.body, "Andere Bank")
	long := w.shown(page + "?" + url.Values{"q": {"test" + strings.Repeat(" ", 251) + strings.Repeat("x y ", 4000)}}.Encode())
	require.Contains(t, long.body, "WBX &lt;Test&gt; Bank", "what is longer than any name does not count")
}

func TestPageIsTight(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	w.shown(string(f.URL))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(f.URL)+"?bank=200", nil)
	require.NoError(t, err)
	r.Header.Set("Accept-Language", "fr, de-AT;q=0.9, en;q=0.8")
	a := w.ask(r)
	policy := a.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "script-src 'sha256-")
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	require.Equal(t, "no-referrer", a.Header.Get("Referrer-Policy"))
	require.Contains(t, a.body, `<html lang="de">`)
	require.Contains(t, a.body, "Wie möchten Sie sie verbinden?")
	require.NotContains(t, a.body, "src=")
	require.NotContains(t, a.body, "http://", "nothing from elsewhere")
	cookie := a.Header.Get("Set-Cookie") + w.get(string(f.URL)).Header.Get("Set-Cookie")
	require.NotContains(t, cookie, string(f.URL[len(f.URL)-43:]))
}
