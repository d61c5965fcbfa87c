package webform_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/internal/webform"
)

func (w *world) update(id bankfeed.ConnectionID) webform.Task {
	w.t.Helper()
	k, err := w.forms.Update(w.t.Context(), webform.UpdateOrder{Tenant: w.tenant, User: w.user.ID, Client: "client", Sandbox: true, Connection: id,
		Callbacks: []bankfeed.RequestCallback{{Moment: bankfeed.MomentUserNeeded, URL: "https://client.example/needed"}}})
	require.NoError(w.t, err)
	require.Equal(w.t, webform.NotYetStarted, k.Status)
	w.advance(time.Second)
	return k
}

func TestTaskWithoutItsUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.connected("fine")
		w.advance(time.Hour)
		k := w.update(id)
		w.work()
		k = w.task(k)
		require.Equal(t, webform.Completed, k.Status, "%+v", k)
		require.Equal(t, id, k.Connection)
		require.Nil(t, k.Form)
		told := w.told()
		require.Len(t, told, 1)
		require.Equal(t, bankfeed.EventRequestFinished, told[0].Type)
		require.Equal(t, k.UUID, told[0].Snapshot.Request.UUID)
		require.Nil(t, told[0].Snapshot.Request.Page)
	})
}

// needed is a task whose bank wants to see the user.
func needed(t *testing.T, w *world) (webform.Task, webform.Form) {
	id := w.connected("fine")
	w.event(map[string]any{"event": "revoke_consent", "user": "fine"})
	w.advance(time.Hour)
	k := w.update(id)
	w.work()
	k = w.task(k)
	require.Equal(t, webform.WebFormRequired, k.Status, "%+v", k)
	require.NotNil(t, k.Form)
	require.Equal(t, webform.Update, k.Form.Type)
	require.Equal(t, webform.NotYetOpened, k.Form.Status)
	told := w.told()
	require.Len(t, told, 1)
	require.Equal(t, bankfeed.EventRequestUserNeeded, told[0].Type)
	require.Equal(t, k.Form.UUID, told[0].Snapshot.Request.Page.UUID)
	w.advance(time.Second)
	return k, *k.Form
}

func TestTaskThatNeedsItsUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		k, f := needed(t, w)
		page := string(f.URL)
		how := w.shown(page)
		require.Contains(t, how.body, "Renew the access")
		require.NotContains(t, how.body, "EMBEDDED", "the way that is broken")
		start := w.sent(w.press(page, how, "action", "link", "mode", "REDIRECT"))
		require.Equal(t, webform.WebFormRequired, w.task(k).Status)
		w.confirm(start, "fine")
		w.work()
		require.Equal(t, webform.Completed, w.form(f).Status)
		require.Equal(t, webform.Completed, w.task(k).Status)
		require.Len(t, w.connections(), 1)
		told := w.told()
		require.Len(t, told, 2)
		require.Equal(t, bankfeed.RequestTask, told[1].Snapshot.Request.Kind)
		require.Equal(t, webform.Completed, told[1].Snapshot.Request.Page.Status)
	})
}

func TestTaskWhoseUserDoesNotHelp(t *testing.T) {
	t.Run("aborts", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		k, f := needed(t, w)
		w.press(string(f.URL), w.shown(string(f.URL)), "action", "cancel")
		w.work()
		k = w.task(k)
		require.Equal(t, webform.CompletedWithError, k.Status)
		require.Equal(t, webform.CodeInterrupted, k.Code)
		require.Len(t, w.connections(), 1, "what was there stays")
	})
	t.Run("does not come", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		k, f := needed(t, w)
		w.advance(20 * time.Minute)
		w.work()
		require.Equal(t, webform.Expired, w.form(f).Status)
		k = w.task(k)
		require.Equal(t, webform.CompletedWithError, k.Status)
		require.Contains(t, k.Message, "expired")
		require.Len(t, w.connections(), 1)
	})
	t.Run("refuses, and the time runs out", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		k, f := needed(t, w)
		page := string(f.URL)
		w.refuse(w.sent(w.press(page, w.shown(page), "action", "link", "mode", "REDIRECT")))
		w.work()
		require.Contains(t, w.shown(page).body, "The access was not granted.")
		require.Equal(t, webform.WebFormRequired, w.task(k).Status)
		w.advance(20 * time.Minute)
		w.work()
		k = w.task(k)
		require.Equal(t, webform.CompletedWithError, k.Status)
		require.Equal(t, webform.CodeBankRejection, k.Code)
		require.Len(t, w.connections(), 1)
	})
}

func TestTaskAtABankThatIsDown(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.connected("fine")
	w.event(map[string]any{"event": "bank_down", "user": "fine"})
	w.advance(time.Hour)
	k := w.update(id)
	w.work()
	k = w.task(k)
	require.Equal(t, webform.CompletedWithError, k.Status)
	require.Equal(t, webform.CodeBankRejection, k.Code)
}

func TestTaskOfWhatIsNotThere(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	id := w.connected("fine")
	o := webform.UpdateOrder{Tenant: w.tenant, User: w.user.ID, Sandbox: true, Connection: id + 100}
	_, err := w.forms.Update(t.Context(), o)
	require.Equal(t, bankfeed.NotFound, bankfeed.ErrorKindOf(err))
	o.Connection, o.Sandbox = id, false
	_, err = w.forms.Update(t.Context(), o)
	require.Equal(t, bankfeed.NotFound, bankfeed.ErrorKindOf(err))

	k := w.update(id)
	require.NoError(t, w.consent.DeleteConnection(t.Context(), w.tenant, w.user.ID, id))
	w.work()
	k = w.task(k)
	require.Equal(t, webform.CompletedWithError, k.Status)
	require.Equal(t, webform.CodeInternal, k.Code)
	o.Sandbox = true
	_, err = w.forms.Update(t.Context(), o)
	require.Equal(t, bankfeed.NotFound, bankfeed.ErrorKindOf(err), "a connection that was removed")
}

func TestListing(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	k, f := needed(t, w)
	forms, err := w.forms.Forms(t.Context(), w.tenant, w.user.ID)
	require.NoError(t, err)
	require.Len(t, forms, 2)
	require.Equal(t, f.ID, forms[0].ID, "newest first")
	tasks, err := w.forms.Tasks(t.Context(), w.tenant, w.user.ID)
	require.NoError(t, err)
	require.Len(t, tasks, 1)
	require.Equal(t, k.ID, tasks[0].ID)
	require.Equal(t, f.ID, tasks[0].Form.ID)
}
