package consent_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func (w *world) deletion(user bankfeed.UserID, id int64) (d consent.DataDeletion, open []string) {
	w.t.Helper()
	d, err := w.consent.DataDeletion(w.t.Context(), w.tenant, user, id)
	require.NoError(w.t, err)
	for _, p := range d.Parts {
		if !p.Done {
			open = append(open, p.Name)
		}
	}
	return d, open
}

// Everything that erases a user happens to the data, the key included, and the
// client goes on with the same name, password and tokens.
func TestDataIsErasedAndTheUserStays(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		service := access.New(s.Access(), access.Options{Installation: s.Installation(), Now: w.clock})
		client, err := service.CreateClient(ctx, "other", "shop", true)
		require.NoError(t, err)
		w.tenant = client.Tenant
		u, err := service.CreateUser(ctx, bankfeed.Caller{Client: client.Client}, access.NewUser{ExternalID: "Customer-1", AnyCase: true, Password: "secret-password",
			Contact: bankfeed.Contact{Email: "a@example.org"}, NoAutoSync: true})
		require.NoError(t, err)
		w.user = u
		grant, err := service.PasswordToken(ctx, client.Client, "customer-1", "secret-password", "")
		require.NoError(t, err)
		w.linked("fine")
		require.False(t, w.connections()[0].AutoSync, "as the user was made")

		id, err := w.consent.EraseData(ctx, w.tenant, u.ID)
		require.NoError(t, err)
		caller, err := service.Authenticate(ctx, grant.AccessToken)
		require.NoError(t, err, "the token lives on")
		require.NotEqual(t, u.ID, caller.User)
		successor, err := service.User(ctx, caller, caller.User)
		require.NoError(t, err)
		same := u
		same.ID = successor.ID
		require.Equal(t, same, successor)
		list, err := s.Connections(ctx, w.tenant, successor.ID)
		require.NoError(t, err)
		require.Empty(t, list, "nothing is found at once")
		_, err = service.PasswordToken(ctx, client.Client, "CUSTOMER-1", "secret-password", "")
		require.NoError(t, err)
		_, err = service.Refresh(ctx, client.Client, grant.RefreshToken, "")
		require.NoError(t, err)

		d, open := w.deletion(successor.ID, id)
		require.False(t, d.Done)
		require.Equal(t, w.clock().UTC(), d.CreatedAt)
		require.Equal(t, []string{"DATA_SOURCES", "TRANSACTIONS", "HISTORY"}, open)
		for _, other := range []bankfeed.UserID{u.ID, successor.ID + 1} {
			_, err := w.consent.DataDeletion(ctx, w.tenant, other, id)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
		_, err = w.consent.DataDeletion(ctx, w.tenant+1, successor.ID, id)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		n, err := s.SweepDeletions(ctx, w.clock().Add(time.Hour), 10)
		require.NoError(t, err)
		require.Zero(t, n, "not while it goes on")

		w.work()
		w.requireErased()
		d, open = w.deletion(successor.ID, id)
		require.True(t, d.Done)
		require.Empty(t, open)

		w.user, w.seen = successor, 0
		w.linked("fine")
		require.NotZero(t, w.transactions(), "under a key of its own")

		second, err := w.consent.EraseData(ctx, w.tenant, successor.ID)
		require.NoError(t, err)
		w.work()
		w.requireErased()
		caller, err = service.Authenticate(ctx, grant.AccessToken)
		require.NoError(t, err)
		last, err := service.User(ctx, caller, caller.User)
		require.NoError(t, err)
		require.Equal(t, "Customer-1", last.ExternalID)
		for _, x := range []int64{id, second} {
			d, _ := w.deletion(last.ID, x)
			require.True(t, d.Done, "earlier deletions stay readable")
		}
		n, err = s.SweepDeletions(ctx, w.clock().Add(time.Hour), 10)
		require.NoError(t, err)
		require.Equal(t, 2, n)

		_, err = w.consent.EraseData(ctx, w.tenant, u.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "the user of before is gone")
	})
}

// A user that the client never named is the one of its UUID from then on.
func TestASuccessorKeepsTheUUID(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		uuid := s.Installation().UUID(bankfeed.KindUser, w.tenant, int64(w.user.ID)).String()
		for range 2 {
			_, err := w.consent.EraseData(t.Context(), w.tenant, w.user.ID)
			require.NoError(t, err)
			u, err := s.Access().FindUser(t.Context(), w.tenant, access.UserKey{ExternalID: uuid})
			require.NoError(t, err)
			require.NotEqual(t, w.user.ID, u.ID)
			w.user = u.User
		}
	})
}

// A process outlives the erasure of its data.
func TestAProcessFollowsItsUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		service := access.New(s.Access(), access.Options{Installation: s.Installation(), Now: w.clock})
		client, err := service.CreateClient(ctx, "other", "shop", true)
		require.NoError(t, err)
		w.tenant = client.Tenant
		caller := bankfeed.Caller{Client: client.Client}
		p, err := service.StartProcess(ctx, caller)
		require.NoError(t, err)
		x, err := service.ExchangeProcess(ctx, caller, p.Token, false)
		require.NoError(t, err)
		before, err := service.Authenticate(ctx, x.AccessToken)
		require.NoError(t, err)
		_, err = w.consent.EraseData(ctx, w.tenant, before.User)
		require.NoError(t, err)
		x, err = service.ExchangeProcess(ctx, caller, p.Token, false)
		require.NoError(t, err)
		after, err := service.Authenticate(ctx, x.AccessToken)
		require.NoError(t, err)
		require.NotEqual(t, before.User, after.User)

		w.advance(15 * 24 * time.Hour)
		n, err := service.SweepProcesses(ctx, w.clock(), w.consent.EraseUser)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		w.work()
		w.user = bankfeed.User{ID: after.User}
		w.requireErased()
	})
}
