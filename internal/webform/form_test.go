package webform_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/internal/webform"
)

func TestRedirect(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		o := w.order()
		o.RedirectURL = "https://client.example/done?order=7"
		o.Callbacks = []bankfeed.RequestCallback{{Moment: bankfeed.MomentFinished, URL: "https://client.example/hook"}}
		f := w.create(o)
		require.Equal(t, webform.Import, f.Type)
		require.Equal(t, storetest.Now.Add(20*time.Minute), f.ExpiresAt)
		page := string(f.URL)

		list := w.shown(page)
		require.Equal(t, webform.InProgress, w.form(f).Status)
		require.Contains(t, list.body, "WBX &lt;Test&gt; Bank")
		require.Contains(t, list.body, "Andere Bank")
		how := w.shown(page + "?bank=200")
		require.Contains(t, how.body, `value="REDIRECT" required checked`)
		require.Contains(t, how.body, `value="EMBEDDED"`)
		back := w.confirm(w.choose(page, "200", bankfeed.Redirect), "fine")
		reading := w.back(f, back)
		require.Contains(t, reading.body, "Your accounts are being read")
		require.Contains(t, reading.body, `<noscript><meta http-equiv="refresh" content="3;url=`+page+`">`)
		require.Empty(t, w.told())

		w.work()
		f = w.form(f)
		require.Equal(t, webform.Completed, f.Status)
		require.Equal(t, w.connections()[0].ID, f.Connection)
		require.Equal(t, o.RedirectURL, w.sent(w.get(page)))

		told := w.told()
		require.Len(t, told, 1)
		require.Equal(t, bankfeed.EventRequestFinished, told[0].Type)
		r := told[0].Snapshot.Request
		require.Equal(t, bankfeed.RequestWebForm, r.Kind)
		require.Equal(t, webform.Completed, r.Status)
		require.Equal(t, f.UUID, r.UUID)
		require.Len(t, r.Sources, 1)
		require.Equal(t, bankfeed.OutcomeSucceeded, r.Sources[0].Outcome.Status)
	})
}

// The login and the challenge are on the start page of every link; the form has
// its user back afterwards.
func TestEmbedded(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	start := w.choose(string(f.URL), "200", bankfeed.Embedded)
	require.Equal(t, start, w.sent(w.press(start, w.shown(start), "action", "answer", "login", "methods", "password", sandbox.Password)))
	method := w.shown(start)
	require.Contains(t, method.body, `name="method"`)
	require.Equal(t, start, w.sent(w.press(start, method, "action", "answer", "method", "sms")))
	back := w.sent(w.press(start, w.shown(start), "action", "answer", "code", sandbox.Code))
	require.Contains(t, w.back(f, back).body, "Your accounts are being read")
	w.work()
	f = w.form(f)
	require.Equal(t, webform.Completed, f.Status)
	done := w.shown(string(f.URL))
	require.Contains(t, done.body, "Your accounts are connected")
	require.Equal(t, done.body, w.shown(string(f.URL)).body, "and again")
}

func TestTheUserTriesAgain(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	back := w.refuse(w.choose(page, "200", bankfeed.Redirect))
	w.work()
	failed := w.back(f, back)
	require.Equal(t, http.StatusOK, failed.StatusCode)
	require.Contains(t, failed.body, "The access was not granted.")
	require.Equal(t, webform.InProgress, w.form(f).Status, "it can still be used")
	first := w.connections()[0].ID

	start := w.sent(w.press(page, failed, "action", "again"))
	w.confirm(start, "fine")
	w.work()
	require.Equal(t, webform.Completed, w.form(f).Status)
	require.Equal(t, first, w.form(f).Connection, "the same connection, tried again")
	require.Len(t, w.connections(), 1)
}

// A bank that lets the hub in and then fails is read again without its user.
func TestTheBankWasDown(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	w.event(map[string]any{"event": "bank_down", "user": "fine"})
	w.confirm(w.choose(page, "200", bankfeed.Redirect), "fine")
	w.work()
	failed := w.shown(page)
	require.Contains(t, failed.body, "Your bank does not answer at the moment.")
	w.event(map[string]any{"event": "bank_up", "user": "fine"})
	require.Equal(t, page, w.sent(w.press(page, failed, "action", "again")))
	require.Contains(t, w.shown(page).body, "Your accounts are being read")
	w.work()
	require.Equal(t, webform.Completed, w.form(f).Status)
}

func TestAnotherBankInstead(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	w.choose(page, "201", bankfeed.Redirect)
	w.confirm(w.choose(page, "200", bankfeed.Redirect), "fine")
	w.work()
	require.Equal(t, webform.Completed, w.form(f).Status)
	there := w.connections()
	require.Len(t, there, 1, "what the first choice began is gone")
	require.Equal(t, "200", there[0].ProviderID)
}

func TestExpiry(t *testing.T) {
	t.Run("unopened", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		f := w.create(w.order())
		w.work()
		require.Equal(t, webform.NotYetOpened, w.form(f).Status)
		w.advance(20 * time.Minute)
		gone := w.get(string(f.URL))
		require.Equal(t, http.StatusGone, gone.StatusCode, "on time, whenever it ends in the background")
		w.work()
		require.Equal(t, webform.Expired, w.form(f).Status)
		require.Equal(t, http.StatusGone, w.get(string(f.URL)).StatusCode)
		require.Equal(t, webform.Expired, w.told()[0].Snapshot.Request.Status)
	})
	t.Run("at the bank", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		f := w.create(w.order())
		start := w.choose(string(f.URL), "200", bankfeed.Redirect)
		back := w.atBank(w.sent(w.get(start)), "fine")
		w.advance(20 * time.Minute)
		w.work()
		require.Equal(t, webform.Expired, w.form(f).Status)
		require.Empty(t, w.connections(), "nobody waits for it any more")
		require.Less(t, w.get(back).StatusCode, http.StatusInternalServerError)
		w.work()
		require.Empty(t, w.connections())
	})
	t.Run("after a refusal", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		f := w.create(w.order())
		w.refuse(w.choose(string(f.URL), "200", bankfeed.Redirect))
		w.work()
		w.advance(20 * time.Minute)
		w.work()
		f = w.form(f)
		require.Equal(t, webform.CompletedWithError, f.Status)
		require.Equal(t, webform.CodeBankRejection, f.Code)
		require.Zero(t, f.Connection)
		require.Empty(t, w.connections())
	})
	t.Run("while the accounts are read", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		f := w.create(w.order())
		w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine")
		w.advance(20 * time.Minute)
		require.Contains(t, w.shown(string(f.URL)).body, "Your accounts are being read", "what the user agreed to is not given up")
		w.work()
		require.Equal(t, webform.Completed, w.form(f).Status)
	})
}

func TestAbort(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	w.choose(page, "200", bankfeed.Redirect)
	unfinished := w.shown(page)
	require.Contains(t, unfinished.body, "Not finished yet")
	require.Equal(t, page, w.sent(w.press(page, unfinished, "action", "cancel")))
	require.Contains(t, w.shown(page).body, "Cancelled")
	require.Equal(t, webform.Aborted, w.form(f).Status)
	require.Equal(t, page, w.sent(w.press(page, unfinished, "action", "cancel")), "twice")
	w.work()
	require.Empty(t, w.connections())
	require.Len(t, w.told(), 1)

	other := w.create(w.order())
	require.NoError(t, w.forms.Abort(t.Context(), w.tenant, w.user.ID, other.ID))
	require.Equal(t, webform.Aborted, w.form(other).Status)
	require.ErrorIs(t, w.forms.Abort(t.Context(), w.tenant, w.user.ID+1, other.ID), bankfeed.ErrNotFound)
}

// A form sent twice, an old page out of the back button, a second window: one of
// them counts.
func TestOneStepAtATime(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	page := string(f.URL)
	first, second := w.shown(page+"?bank=200"), w.shown(page+"?bank=201")
	start := w.sent(w.press(page, first, "action", "link", "bank", "200", "mode", "REDIRECT"))
	require.Equal(t, page, w.sent(w.press(page, first, "action", "link", "bank", "200", "mode", "REDIRECT")), "sent twice")
	require.Equal(t, page, w.sent(w.press(page, second, "action", "link", "bank", "201", "mode", "REDIRECT")), "of a second window")
	require.Len(t, w.connections(), 1)
	require.Contains(t, w.shown(page).body, `href="`+start+`"`, "the back button leads to the same link")

	w.confirm(start, "fine")
	require.Equal(t, page, w.sent(w.press(page, first, "action", "cancel")), "too late")
	w.work()
	require.Equal(t, webform.Completed, w.form(f).Status)
	require.Len(t, w.connections(), 1)
	require.Equal(t, page, w.sent(w.press(page, second, "action", "link", "bank", "201", "mode", "REDIRECT")), "an old page")
	require.Len(t, w.connections(), 1)
}

// Windows that press at the same moment: one link is begun, whoever it is.
func TestManyWindowsAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		f := w.create(w.order())
		page := string(f.URL)
		choice := w.shown(page + "?bank=200")
		var wait sync.WaitGroup
		starts := make([]string, 8)
		for i := range starts {
			wait.Go(func() {
				a := w.press(page, choice, "action", "link", "bank", "200", "mode", "REDIRECT")
				if assert.Equal(t, http.StatusSeeOther, a.StatusCode, a.body) {
					starts[i] = a.Header.Get("Location")
				}
			})
		}
		wait.Wait()
		starts = slices.DeleteFunc(starts, func(to string) bool { return to == page })
		require.Len(t, starts, 1)
		require.Len(t, w.connections(), 1)
		w.confirm(starts[0], "fine")
		w.work()
		require.Equal(t, webform.Completed, w.form(f).Status)
	})
}

// dying is a hub that is killed after it has begun a link, before it wrote that
// down.
type dying struct{ webform.Links }

var errKilled = errors.New("killed")

func (d dying) Link(ctx context.Context, l bankfeed.Linking) (bankfeed.Linked, error) {
	_, err := d.Links.Link(ctx, l)
	return bankfeed.Linked{}, errors.Join(err, errKilled)
}

func TestKilledWhileALinkIsBegun(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	stranger, err := w.consent.Link(t.Context(), bankfeed.Linking{Tenant: w.tenant, User: w.user.ID, Sandbox: true, Provider: "201",
		Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}}})
	require.NoError(t, err)
	f := w.create(w.order())
	page := string(f.URL)
	w.forms.Links = dying{w.consent}
	require.Equal(t, http.StatusInternalServerError, w.press(page, w.shown(page+"?bank=200"), "action", "link", "bank", "200", "mode", "REDIRECT").StatusCode)
	require.Len(t, w.connections(), 2)
	w.forms.Links = w.consent
	w.confirm(w.choose(page, "200", bankfeed.Redirect), "fine")
	w.work()
	f = w.form(f)
	require.Equal(t, webform.Completed, f.Status)
	there := w.connections()
	require.Len(t, there, 2, "what was begun and forgotten is gone, and nothing else")
	require.ElementsMatch(t, []bankfeed.ConnectionID{stranger.Connection.ID, f.Connection}, []bankfeed.ConnectionID{there[0].ID, there[1].ID})
}

// keeping is a hub that is killed after a form has ended, before what it began
// was removed.
type keeping struct{ webform.Links }

func (k keeping) DeleteConnection(context.Context, bankfeed.TenantID, bankfeed.UserID, bankfeed.ConnectionID) error {
	return errKilled
}

func TestKilledBeforeItTidiesUp(t *testing.T) {
	for name, end := range map[string]func(*world, webform.Form){
		"accounts that are there already": func(w *world, f webform.Form) {
			w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine")
		},
		"given up": func(w *world, f webform.Form) {
			w.choose(string(f.URL), "200", bankfeed.Redirect)
			require.NoError(w.t, w.forms.Abort(w.t.Context(), w.tenant, w.user.ID, f.ID))
		},
		"expired": func(w *world, f webform.Form) {
			w.choose(string(f.URL), "200", bankfeed.Redirect)
			w.advance(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			before := w.connected("fine")
			f := w.create(w.order())
			w.forms.Links = keeping{w.consent}
			end(w, f)
			w.faults = errKilled
			w.work()
			require.NotEqual(t, webform.InProgress, w.form(f).Status)
			require.Len(t, w.told(), 1)
			require.Len(t, w.connections(), 2)

			w.forms.Links, w.faults = w.consent, nil
			w.advance(time.Hour) // a new node takes over
			w.work()
			there := w.connections()
			require.Len(t, there, 1, "nothing that came to nothing stays, to be counted twice")
			require.Equal(t, before, there[0].ID)
			require.Empty(t, w.told())
		})
	}
}

func TestGivenUpWhileTheAccountsAreRead(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := w.create(w.order())
	w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine")
	require.NoError(t, w.forms.Abort(t.Context(), w.tenant, w.user.ID, f.ID), "by its client, who may")
	w.work()
	require.Equal(t, webform.Aborted, w.form(f).Status)
	require.Empty(t, w.connections())
	require.Len(t, w.told(), 1)
}

// The same accounts twice would be counted twice.
func TestTheAccountsAreThereAlready(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	before := w.connected("fine")
	f := w.create(w.order())
	w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine")
	w.work()
	f = w.form(f)
	require.Equal(t, webform.CompletedWithError, f.Status)
	require.Equal(t, webform.CodeEntityExists, f.Code)
	there := w.connections()
	require.Len(t, there, 1)
	require.Equal(t, before, there[0].ID)
	require.Contains(t, w.shown(string(f.URL)).body, "connected already")

	f = w.create(w.order())
	w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine-1")
	w.work()
	require.Equal(t, webform.Completed, w.form(f).Status, "other accounts at the same bank")
	require.Len(t, w.connections(), 2)
}

// Two windows, a form in each: one of them keeps the accounts.
func TestTheSameAccountsTwiceAtOnce(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	forms := []webform.Form{w.create(w.order()), w.create(w.order())}
	for _, f := range forms {
		w.confirm(w.choose(string(f.URL), "200", bankfeed.Redirect), "fine")
		w.workOn(bankfeed.WorkSession) // both have got their data before either is judged
	}
	w.work()
	require.Equal(t, webform.Completed, w.form(forms[0]).Status)
	require.Equal(t, webform.CompletedWithError, w.form(forms[1]).Status)
	require.Equal(t, webform.CodeEntityExists, w.form(forms[1]).Code)
	there := w.connections()
	require.Len(t, there, 1)
	require.Equal(t, w.form(forms[0]).Connection, there[0].ID)
}
