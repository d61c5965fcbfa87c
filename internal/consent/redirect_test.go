package consent_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// Stored times have microseconds. An event that had more would say another time of
// the same thing than the next event and every reader.
func TestEventsSayTheTimesThatAreStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.advance(409)
		fetched := regexp.MustCompile(`"fetched_at":"[^"]*"`)
		l := w.link(w.linking(redirect))
		require.Equal(t, w.state(l.Connection.ID).Connection.CreatedAt, l.Connection.CreatedAt.UTC())
		require.Equal(t, w.session(l.Session.ID).CreatedAt, l.Session.CreatedAt.UTC())
		w.confirm(l, "fine")
		w.work()
		for _, e := range w.events() {
			if e.Type == bankfeed.EventBankCalled {
				continue // told of once, by the connector's own clock
			}
			text, err := json.Marshal(e.Snapshot)
			require.NoError(t, err)
			text = fetched.ReplaceAll(text, nil) // balances were read at a time of that clock, which is stored as it is
			require.NotRegexp(t, `T\d\d:\d\d:\d\d\.\d{7}`, string(text), e.Type)
		}
	})
}

func TestRedirectLinksAChannel(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		in := w.linking(redirect)
		in.SessionExternalID, in.ConsentExternalID = "s-1", "c-1"
		l := w.link(in)
		require.Equal(t, bankfeed.ConnectionRunning, l.Connection.Status)
		require.Equal(t, bankfeed.ChannelEmpty, l.Connection.Channel(bankfeed.Embedded).Status)
		require.Equal(t, []string{"connection.created", "sync.started"}, w.told())
		w.work()
		require.Equal(t, bankfeed.SessionInitiated, w.session(l.Session.ID).Status, "it waits for its user")

		bank := w.sent(w.get(l.Steps[0].RedirectURL))
		require.True(t, strings.HasPrefix(bank, w.bankURL+"/sca/personal/"), bank)
		require.Equal(t, []string{"channel.auth_started"}, w.told())
		st := w.state(l.Connection.ID)
		require.Equal(t, bankfeed.ConsentReceived, st.Consents[0].Status)
		require.Equal(t, "127.0.0.1", st.Session.PSU.IP, "the browser's own address")

		back := w.atBank(bank, "fine")
		done, err := url.Parse(w.sent(w.get(back)))
		require.NoError(t, err)
		require.Equal(t, "client.example", done.Host)
		require.Equal(t, url.Values{"order": {"7"}, "connection_id": {"1"}, "result": {"success"}}, done.Query())
		require.Equal(t, []string{"channel.auth_succeeded"}, w.told())
		st = w.state(l.Connection.ID)
		k := st.Consents[0]
		require.Equal(t, bankfeed.ConsentConfirmed, k.Status)
		require.Equal(t, "c-1", k.ExternalID)
		require.Equal(t, storetest.Now.Add(180*24*time.Hour).Format(time.DateOnly), string(k.ValidUntil))
		require.Equal(t, k.ValidUntil.AddDays(1).Time(), *st.Connection.Channel(bankfeed.Redirect).Expires)
		require.Empty(t, k.Grant.State)

		w.work()
		n := w.session(l.Session.ID)
		require.Equal(t, bankfeed.SessionFinished, n.Status)
		require.Nil(t, n.PSU)
		st = w.state(l.Connection.ID)
		require.Equal(t, bankfeed.ConnectionSuccess, st.Connection.Status)
		require.Len(t, st.Accounts, 2)
		told := w.told()
		require.Contains(t, told, "consent.created")
		require.Equal(t, "sync.succeeded", told[len(told)-1])

		// Neither works again, and nothing changes by trying.
		require.Equal(t, http.StatusNotFound, w.get(back).StatusCode, "a replayed state")
		over := w.get(l.Steps[0].RedirectURL)
		require.Equal(t, http.StatusGone, over.StatusCode)
		require.Contains(t, over.body, "result=success")
		require.Empty(t, w.events())
	})
}

func TestARefusalAtTheBank(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(redirect))
		back := w.refuse(w.sent(w.get(l.Steps[0].RedirectURL)))
		require.Contains(t, back, "refused=1")
		w.events()
		require.Contains(t, w.sent(w.get(back)), "result=refused")
		require.Equal(t, []string{"channel.action_required AUTH_FAILED"}, w.told())
		w.work()
		require.Equal(t, []string{"sync.failed"}, w.told())
		st := w.state(l.Connection.ID)
		require.Equal(t, bankfeed.ConnectionFailed, st.Connection.Status)
		ch := st.Connection.Channel(bankfeed.Redirect)
		require.Equal(t, bankfeed.ActionRedirect, ch.Action)
		require.Equal(t, bankfeed.FailRefused, ch.Failure.Reason)
		require.Equal(t, bankfeed.ConsentRejected, st.Consents[0].Status)
		require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
	})
}

// Nobody comes, or nobody comes back: the session ends at its deadline, and
// whoever comes later is told so.
func TestAnAbortedLinkEnds(t *testing.T) {
	for name, opened := range map[string]bool{"never opened": false, "left at the bank": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			l := w.link(w.linking(redirect))
			var bank string
			if opened {
				w.advance(20 * time.Minute)
				bank = w.sent(w.get(l.Steps[0].RedirectURL))
			}
			w.advance(29 * time.Minute)
			w.work()
			require.Equal(t, bankfeed.ConnectionRunning, w.state(l.Connection.ID).Connection.Status)
			w.advance(time.Minute)
			w.events()
			late := w.get(l.Steps[0].RedirectURL)
			require.Equal(t, http.StatusGone, late.StatusCode, "late, though nobody has ended it yet")
			w.work()
			require.Equal(t, []string{"channel.action_required AUTH_FAILED", "sync.failed"}, w.told())
			st := w.state(l.Connection.ID)
			require.Equal(t, bankfeed.FailAborted, st.Connection.Channel(bankfeed.Redirect).Failure.Reason)
			require.Nil(t, st.Session)
			require.Equal(t, http.StatusGone, w.get(l.Steps[0].RedirectURL).StatusCode)
			if opened {
				back := w.refuse(bank)
				require.Equal(t, http.StatusGone, w.get(back).StatusCode, "a way back that comes too late")
				require.Equal(t, bankfeed.ConsentRejected, st.Consents[0].Status)
			}
			require.Empty(t, w.told())
		})
	}
}

// A consent that was granted too late is nobody's: it ends at the bank.
func TestAConsentThatComesTooLateIsGivenBack(t *testing.T) {
	for name, ended := range map[string]bool{"the session has ended": true, "nobody has ended it yet": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			l := w.link(w.linking(redirect))
			back := w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), "fine")
			grant := w.state(l.Connection.ID).Consents[0].Grant
			require.Equal(t, connector.ConsentValid, w.honoured(bankfeed.Redirect, grant))
			w.advance(31 * time.Minute)
			if ended {
				w.work()
			}
			w.event(`{"event":"bank_down"}`)
			require.Equal(t, http.StatusGone, w.get(back).StatusCode)
			w.event(`{"event":"bank_up"}`)
			require.Equal(t, http.StatusGone, w.get(back).StatusCode, "it works until the bank has answered")
			require.Equal(t, connector.ConsentTerminated, w.honoured(bankfeed.Redirect, grant))
			require.Equal(t, http.StatusNotFound, w.get(back).StatusCode, "once")
			w.work()
			st := w.state(l.Connection.ID)
			require.Equal(t, bankfeed.ConsentRejected, st.Consents[0].Status)
			require.Empty(t, st.Accounts)
		})
	}
}

func TestForeignAndMalformedSecrets(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(redirect))
	w.events()
	token := l.Steps[0].RedirectURL[strings.LastIndexByte(l.Steps[0].RedirectURL, '/')+1:]
	for _, path := range []string{
		"/link/return?state=" + strings.Repeat("A", 43), "/link/return?state=" + token, "/link/return", "/link/return?state=%00",
		"/link/" + strings.Repeat("A", 43), "/link/x", "/link/" + token[:42] + "*", "/link/" + strings.Repeat("A", 5000),
	} {
		a := w.get(w.hub.URL + path)
		require.Equal(t, http.StatusNotFound, a.StatusCode, path)
		require.Contains(t, a.body, "Unknown link")
	}
	require.Empty(t, w.events())
}

// Opening a link again is a fresh start at the bank; the state of before is
// void.
func TestALinkOpenedTwice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(redirect))
		first := w.sent(w.get(l.Steps[0].RedirectURL))
		second := w.sent(w.get(l.Steps[0].RedirectURL))
		require.NotEqual(t, first, second)
		st := w.state(l.Connection.ID)
		require.Len(t, st.Consents, 2)
		require.Equal(t, bankfeed.ConsentReceived, st.Consents[0].Status)
		require.Equal(t, bankfeed.ConsentRejected, st.Consents[1].Status)
		stale := w.atBank(first, "fine")
		w.events()
		require.Equal(t, http.StatusNotFound, w.get(stale).StatusCode)
		require.Empty(t, w.events())
		require.Contains(t, w.sent(w.get(w.atBank(second, "fine"))), "result=success")
		require.Equal(t, []string{"channel.auth_succeeded"}, w.told())
	})
}

func TestALinkIsNotOpenedForEver(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(redirect))
	for range 10 {
		w.sent(w.get(l.Steps[0].RedirectURL))
	}
	require.Equal(t, http.StatusTooManyRequests, w.get(l.Steps[0].RedirectURL).StatusCode)
}

// The browser dies at the bank after the PSU has confirmed: opening the link
// again finds that out instead of asking for another confirmation.
func TestALostWayBack(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(redirect))
	back := w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), "fine")
	w.browser = newBrowser(t)
	require.Contains(t, w.sent(w.get(l.Steps[0].RedirectURL)), "result=success")
	require.Len(t, w.state(l.Connection.ID).Consents, 1)
	require.Equal(t, http.StatusNotFound, w.get(back).StatusCode)
}

func TestWithoutARedirectURLThePageTells(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	in := w.linking(redirect)
	in.RedirectURL = ""
	l := w.link(in)
	a := w.get(w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), "fine"))
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.Contains(t, a.body, "Access granted")
	require.Contains(t, a.body, "WBX &lt;Test&gt; Bank")
}

func TestRenewalReplacesTheConsent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.linked("fine")
		before := w.state(id)
		in := w.linking(redirect)
		in.Provider, in.Renew = "", id
		l := w.link(in)
		require.Equal(t, id, l.Connection.ID)
		require.Equal(t, bankfeed.ChannelSuccess, l.Connection.Channel(bankfeed.Redirect).LastStatus)
		w.confirm(l, "fine")
		require.Equal(t, []string{"sync.started", "channel.auth_started", "channel.auth_succeeded", "consent.updated"}, w.told())
		after := w.state(id)
		require.Equal(t, bankfeed.ConsentConfirmed, after.Consents[0].Status)
		old := after.Consents[1]
		require.Equal(t, before.Consents[0].ID, old.ID)
		require.Equal(t, bankfeed.ConsentInvalid, old.Status)
		require.Equal(t, bankfeed.InvalidReplaced, old.Invalidation.Reason)

		_, err := w.consent.Link(t.Context(), in)
		require.ErrorIs(t, err, bankfeed.ErrBusy, "a session that reads keeps the connection for itself")
		w.work()
		after = w.state(id)
		require.Equal(t, bankfeed.ConnectionSuccess, after.Connection.Status)
		require.Len(t, after.Accounts, len(before.Accounts), "the same accounts under the new consent")
		told := w.told()
		require.Contains(t, told, "consent.created")
		require.Equal(t, "sync.succeeded", told[len(told)-1])
	})
}

// A second request to link takes the place of one whose user never came.
func TestRenewalReplacesALinkThatWaits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		first := w.link(w.linking(redirect))
		bank := w.sent(w.get(first.Steps[0].RedirectURL))
		w.events()
		in := w.linking(redirect)
		in.Renew = first.Connection.ID
		both := in
		both.Channels = []bankfeed.LinkChannel{embedded}
		_, err := w.consent.Link(t.Context(), both)
		require.ErrorIs(t, err, bankfeed.ErrBusy, "another channel does not take its place")

		second := w.link(in)
		require.Equal(t, []string{"sync.failed", "sync.started"}, w.told())
		require.Equal(t, bankfeed.SessionFailed, w.session(first.Session.ID).Status)
		require.Equal(t, http.StatusGone, w.get(first.Steps[0].RedirectURL).StatusCode)
		require.Equal(t, http.StatusGone, w.get(w.atBank(bank, "fine")).StatusCode)
		w.confirm(second, "fine")
		w.work()
		require.Equal(t, bankfeed.ConnectionSuccess, w.state(first.Connection.ID).Connection.Status)
	})
}

func TestTwoChannelsOfOneSession(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	in := w.linking(redirect, credentials("fine"))
	in.PSU = psu
	l := w.link(in)
	require.NotEmpty(t, l.Steps[0].RedirectURL)
	require.Equal(t, bankfeed.ChallengeCode, l.Steps[1].Challenge.Kind)
	_, err := w.consent.Answer(t.Context(), bankfeed.Answer{Tenant: w.tenant, User: w.user.ID, Connection: l.Connection.ID, Code: "123456"})
	require.NoError(t, err)
	w.work()
	st := w.state(l.Connection.ID)
	require.Equal(t, bankfeed.ChannelSuccess, st.Connection.Channel(bankfeed.Embedded).Status)
	require.Equal(t, bankfeed.ConnectionRunning, st.Connection.Status)
	w.confirm(l, "fine")
	w.work()
	require.Equal(t, bankfeed.SessionFinished, w.session(l.Session.ID).Status)
	require.Equal(t, bankfeed.ConnectionSuccess, w.state(l.Connection.ID).Connection.Status)
}

func TestWhatCannotBeLinked(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for name, c := range map[string]struct {
		change func(*bankfeed.Linking)
		kind   bankfeed.ErrorKind
		field  string
	}{
		"no channel":                 {func(l *bankfeed.Linking) { l.Channels = nil }, bankfeed.Invalid, "channels"},
		"a channel twice":            {func(l *bankfeed.Linking) { l.Channels = append(l.Channels, redirect) }, bankfeed.Invalid, "channels"},
		"an unknown channel":         {func(l *bankfeed.Linking) { l.Channels[0].Mode = "PIGEON" }, bankfeed.Invalid, "channels"},
		"credentials for a redirect": {func(l *bankfeed.Linking) { l.Channels[0].Login = "me" }, bankfeed.Invalid, "channels"},
		"an unknown bank":            {func(l *bankfeed.Linking) { l.Provider = "9" }, bankfeed.NotFound, "provider_id"},
		"a bank of the other world":  {func(l *bankfeed.Linking) { l.Sandbox = false }, bankfeed.NotFound, "provider_id"},
		"an unknown user":            {func(l *bankfeed.Linking) { l.User = 99 }, bankfeed.NotFound, ""},
		"an unknown connection":      {func(l *bankfeed.Linking) { l.Renew = 99 }, bankfeed.NotFound, ""},
		"a relative URL":             {func(l *bankfeed.Linking) { l.RedirectURL = "/done" }, bankfeed.Invalid, "redirect_url"},
		"a script":                   {func(l *bankfeed.Linking) { l.RedirectURL = "javascript:alert(1)" }, bankfeed.Invalid, "redirect_url"},
		"a URL with credentials":     {func(l *bankfeed.Linking) { l.RedirectURL = "https://a:b@client.example/" }, bankfeed.Invalid, "redirect_url"},
		"a host with a meaning":      {func(l *bankfeed.Linking) { l.RedirectURL = "https://a;script-src/" }, bankfeed.Invalid, "redirect_url"},
		"a long URL":                 {func(l *bankfeed.Linking) { l.RedirectURL = "https://a/" + strings.Repeat("a", 2048) }, bankfeed.Invalid, "redirect_url"},
	} {
		t.Run(name, func(t *testing.T) {
			l := w.linking(redirect)
			c.change(&l)
			_, err := w.consent.Link(t.Context(), l)
			require.Error(t, err)
			require.Equal(t, c.kind, bankfeed.ErrorKindOf(err))
			if e, ok := err.(*bankfeed.Error); ok { //nolint:errorlint // the dialects see it as it is
				require.Equal(t, c.field, e.Field)
			}
		})
	}
	t.Run("a business user", func(t *testing.T) {
		id, err := w.store.Access().CreateUser(t.Context(), w.tenant, access.User{Sandbox: true,
			User: bankfeed.User{BusinessContext: bankfeed.Business, CreatedAt: w.now}})
		require.NoError(t, err)
		l := w.linking(redirect)
		l.User = id
		_, err = w.consent.Link(t.Context(), l)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	})
	connections, err := w.store.Connections(t.Context(), w.tenant, w.user.ID)
	require.NoError(t, err)
	require.Empty(t, connections)
	require.Empty(t, w.events())
}
