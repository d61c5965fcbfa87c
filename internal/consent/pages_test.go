package consent_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestPagesAreTight(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(embedded))
	a := w.get(l.Steps[0].RedirectURL)
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8"} {
		require.Equal(t, want, a.Header.Get(name))
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(a.body)
	require.Len(t, style, 2)
	h := sha256.Sum256([]byte(style[1]))
	policy := a.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "frame-ancestors 'none'")
	require.Contains(t, policy, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(h[:])+"'", "the browser takes the style")
	require.Contains(t, policy, "form-action 'self' https://client.example")
	require.NotContains(t, a.body, "<script")
	require.NotContains(t, a.body, "src=")
	require.Contains(t, a.body, "WBX &lt;Test&gt; Bank")
	require.Contains(t, a.body, `<html lang="en">`)
	for _, id := range []string{"login", "password"} {
		require.Contains(t, a.body, `<label for="`+id+`">`)
	}
	cookie := a.Header.Get("Set-Cookie")
	require.Contains(t, cookie, "HttpOnly")
	require.Contains(t, cookie, "SameSite=Lax")

	unknown := w.get(w.hub.URL + "/link/" + strings.Repeat("A", 43))
	require.Equal(t, "no-store", unknown.Header.Get("Cache-Control"))
	require.Contains(t, unknown.Header.Get("Content-Security-Policy"), "default-src 'none'")
}

// Opening a page acts in its user's name. A look ahead, or a program that only
// asks whether the page is there, is not its user.
func TestALookAheadDoesNothing(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(redirect))
	w.events()
	require.Equal(t, http.StatusNoContent, w.do(http.MethodHead, l.Steps[0].RedirectURL, nil).StatusCode)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.Steps[0].RedirectURL, nil)
	require.NoError(t, err)
	r.Header.Set("Sec-Purpose", "prefetch;prerender")
	res, err := w.browser.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	require.Empty(t, w.events())
}

func TestNothingBeginsWithoutAnAddress(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.consent.Address = func(*http.Request) string { return "" }
	l := w.link(w.linking(redirect))
	w.events()
	require.Equal(t, http.StatusBadRequest, w.get(l.Steps[0].RedirectURL).StatusCode)
	require.Empty(t, w.events())
}

// sendsAway is a bank with a page of its own.
func sendsAway(status func() (connector.ConsentInfo, error)) *scripted {
	bank := asksForCode()
	bank.create = func(_ connector.Access, r connector.ConsentRequest) (connector.ConsentStep, error) {
		return connector.ConsentStep{Grant: bankfeed.Grant{ConsentID: "c", State: bankfeed.Secret(r.RedirectURI)}, RedirectURL: "https://bank.example/sca"}, nil
	}
	bank.status = func(connector.Access) (connector.ConsentInfo, error) { return status() }
	return bank
}

var refreshTo = regexp.MustCompile(`http-equiv="refresh" content="[0-9]+;url=([^"]+)"`)

// A bank that takes its time is asked again, each time with a new state; a
// client does not wait with it for ever.
func TestTheBankTakesItsTime(t *testing.T) {
	busy := &connector.Error{Reason: bankfeed.FailUnavailable}
	for name, c := range map[string]struct {
		answers []any // the last one stays
		result  string
	}{
		"pending, then valid":    {[]any{connector.ConsentPending, connector.ConsentPending, connector.ConsentValid}, "success"},
		"down, then valid":       {[]any{busy, connector.ConsentValid}, "success"},
		"pending, then rejected": {[]any{connector.ConsentPending, connector.ConsentRejected}, "refused"},
		"pending for ever":       {[]any{connector.ConsentPending}, "pending"},
		"down for ever":          {[]any{busy}, "pending"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w := newWorld(t, storetest.SQLite(t), sendsAway(func() (connector.ConsentInfo, error) {
				switch a := c.answers[min(asked, len(c.answers)-1)].(type) {
				case connector.ConsentState:
					asked++
					return connector.ConsentInfo{State: a}, nil
				case error:
					asked++
					return connector.ConsentInfo{}, a
				}
				panic("unreachable")
			}))
			l := w.link(w.linking(redirect))
			require.Equal(t, "https://bank.example/sca", w.sent(w.get(l.Steps[0].RedirectURL)))
			next := string(w.state(l.Connection.ID).Consents[0].Grant.State)
			seen := map[string]bool{}
			for range 20 {
				require.False(t, seen[next], "each state works once")
				seen[next] = true
				a := w.get(next)
				require.Equal(t, http.StatusNotFound, w.get(next).StatusCode)
				if a.StatusCode == http.StatusSeeOther {
					require.Contains(t, a.Header.Get("Location"), "result="+c.result)
					break
				}
				m := refreshTo.FindStringSubmatch(a.body)
				require.Len(t, m, 2, a.body)
				next = strings.ReplaceAll(m[1], "&amp;", "&")
			}
			if c.result != "pending" {
				return
			}
			require.Equal(t, bankfeed.ConnectionRunning, w.state(l.Connection.ID).Connection.Status)
			w.advance(30 * time.Minute)
			w.work()
			require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
		})
	}
}

// The node dies between the bank's answer and the commit: nothing of the step
// is there, and the link works.
func TestACrashBeforeTheCommit(t *testing.T) {
	for _, after := range []bool{false, true} {
		w := newWorld(t, storetest.SQLite(t))
		plain := w.consent.Config
		l := w.link(w.linking(redirect))

		w.crash(1, after)
		require.Equal(t, http.StatusInternalServerError, w.get(l.Steps[0].RedirectURL).StatusCode)
		w.consent.Config = plain
		if !after {
			require.Empty(t, w.state(l.Connection.ID).Consents)
		}
		back := w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), "fine")

		w.crash(1, after)
		require.Equal(t, http.StatusInternalServerError, w.get(back).StatusCode)
		w.consent.Config = plain
		if after {
			require.Equal(t, http.StatusNotFound, w.get(back).StatusCode, "it has happened")
		} else {
			require.Contains(t, w.sent(w.get(back)), "result=success")
		}
		w.work()
		require.Equal(t, bankfeed.ConnectionSuccess, w.state(l.Connection.ID).Connection.Status)
	}
}

// The same in the middle of an answer: the wait ends at its deadline.
func TestACrashWithinAnAnswer(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.embed("fine")
	w.crash(2, false) // the first takes the challenge
	require.ErrorIs(t, w.code(l, "123456"), errCrash)
	require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "123456")))
	w.advance(6 * time.Minute)
	w.work()
	require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
	require.Equal(t, bankfeed.ChannelAuthFailed, w.channel(l.Connection.ID, bankfeed.Embedded).Status)
}

// The way back is taken twice at the same moment: one counts, and the other
// does not take away what the first has got.
func TestTwoWaysBackAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		bank := sendsAway(nil)
		arrived, release := make(chan struct{}), make(chan struct{})
		bank.status = func(connector.Access) (connector.ConsentInfo, error) {
			arrived <- struct{}{}
			<-release
			return connector.ConsentInfo{State: connector.ConsentValid}, nil
		}
		bank.remove = func(connector.Access) error { panic("nobody asked for that") }
		w := newWorld(t, s, bank)
		l := w.link(w.linking(redirect))
		w.get(l.Steps[0].RedirectURL)
		back := string(w.state(l.Connection.ID).Consents[0].Grant.State)
		codes := make(chan int, 2)
		for range 2 {
			go func() {
				res, err := w.browser.Get(back)
				if err != nil {
					codes <- 0
					return
				}
				defer res.Body.Close()
				codes <- res.StatusCode
			}()
		}
		<-arrived
		<-arrived
		close(release)
		first, second := <-codes, <-codes
		require.Equal(t, http.StatusSeeOther, min(first, second))
		require.Contains(t, []int{http.StatusGone, http.StatusNotFound}, max(first, second))
		require.Equal(t, []string{"connection.created", "sync.started", "channel.auth_started", "channel.auth_succeeded"}, w.told())
	})
}
