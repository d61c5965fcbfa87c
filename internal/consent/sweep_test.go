package consent_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func (w *world) sweep() int {
	w.t.Helper()
	n, err := w.consent.Sweep(w.t.Context(), w.clock())
	require.NoError(w.t, err)
	return n
}

func TestConsentsEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.linked("fine")
		end := w.state(id).Consents[0].ValidUntil
		day := 24 * time.Hour
		w.advance(end.AddDays(-8).Time().Sub(w.clock()))
		w.sweep()
		require.Empty(t, w.told())

		w.advance(day) // seven days ahead
		require.Equal(t, 1, w.sweep())
		events := w.events()
		require.Len(t, events, 1)
		require.Equal(t, bankfeed.EventConsentExpiring, events[0].Type)
		require.Equal(t, bankfeed.ByBackground, events[0].Snapshot.Initiator)
		require.Equal(t, end, events[0].Snapshot.Consent.ValidUntil)
		require.Zero(t, w.sweep(), "once")

		w.advance(7*day + day - time.Second) // the end of its last day
		require.Zero(t, w.sweep())
		w.advance(time.Second)
		n, _, err := w.engine.Synchronize(t.Context(), bankfeed.SyncOrder{Tenant: w.tenant, User: w.user.ID, Connection: id, PSU: psu})
		require.NoError(t, err)
		require.Zero(t, w.sweep(), "an open session sees to it itself")
		w.work()
		require.Equal(t, bankfeed.SessionFailed, w.session(n.ID).Status)
		w.events()
		require.Zero(t, w.sweep())
	})
}

func TestConsentsEndByTheCalendar(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.both()
		before := w.channel(id, bankfeed.Redirect)
		w.advance(200 * 24 * time.Hour)
		require.Equal(t, 2+1, w.sweep(), "both consents, too late for a warning, and the link")
		require.ElementsMatch(t, []string{"consent.updated", "channel.action_required TOKEN_EXPIRED", "consent.updated", "channel.action_required TOKEN_EXPIRED"}, w.told())
		st := w.state(id)
		require.Equal(t, bankfeed.ConnectionFailed, st.Connection.Status)
		require.Zero(t, st.Connection.NextSyncAt)
		for _, k := range st.Consents {
			require.Equal(t, bankfeed.ConsentInvalid, k.Status)
			require.Equal(t, bankfeed.InvalidExpired, k.Invalidation.Reason)
		}
		ch := w.channel(id, bankfeed.Redirect)
		require.Equal(t, bankfeed.ChannelTokenExpired, ch.Status)
		require.Equal(t, bankfeed.ActionRedirect, ch.Action)
		require.Nil(t, ch.Expires)
		require.Equal(t, before.LastEndAt, ch.LastEndAt)
		require.Zero(t, w.sweep())
	})
}

func TestExpiredLinksAreForgotten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(credentials("fine")))
		require.Zero(t, w.sweep())
		w.advance(11 * time.Minute)
		require.Equal(t, 1, w.sweep(), "the credentials")
		require.Zero(t, w.sweep())
		require.Equal(t, http.StatusGone, w.get(l.Steps[0].RedirectURL).StatusCode, "it can still say so")
		w.advance(24 * time.Hour)
		require.Equal(t, 1, w.sweep())
		require.Equal(t, http.StatusNotFound, w.get(l.Steps[0].RedirectURL).StatusCode)
	})
}
