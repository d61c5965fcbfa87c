package consent_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// meeting is a store in which something happens between the check of a password
// and the token that follows it.
type meeting struct {
	store.Access
	before func()
}

func (m *meeting) AddTokens(ctx context.Context, tokens []access.Token) error {
	if f := m.before; f != nil && tokens[0].User != 0 {
		m.before = nil
		f()
	}
	return m.Access.AddTokens(ctx, tokens)
}

// loggedIn makes a user with a password, and the service it logs in to.
func (w *world) loggedIn(s *store.Store) (*access.Service, *meeting, bankfeed.Client, bankfeed.User) {
	w.t.Helper()
	m := &meeting{Access: s.Access()}
	service := access.New(m, access.Options{Installation: s.Installation(), Now: w.clock})
	client, err := service.CreateClient(w.t.Context(), "other", "shop", true)
	require.NoError(w.t, err)
	w.tenant = client.Tenant
	u, err := service.CreateUser(w.t.Context(), bankfeed.Caller{Client: client.Client}, access.NewUser{ExternalID: "psu", Password: "secret-password"})
	require.NoError(w.t, err)
	return service, m, client.Client, u
}

// A login that meets the erasure of its user's data ends with a token of the
// successor; one that meets the end of the user with none.
func TestALoginThatMeetsAnErasure(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		service, m, client, u := w.loggedIn(s)
		m.before = func() {
			_, err := w.consent.EraseData(ctx, w.tenant, u.ID)
			require.NoError(t, err)
		}
		g, err := service.PasswordToken(ctx, client, "psu", "secret-password", "")
		require.NoError(t, err)
		caller, err := service.Authenticate(ctx, g.AccessToken)
		require.NoError(t, err, "no token that is dead from the start")
		require.NotEqual(t, u.ID, caller.User)

		m.before = func() { require.NoError(t, w.consent.EraseUser(ctx, w.tenant, caller.User)) }
		_, err = service.PasswordToken(ctx, client, "psu", "secret-password", "")
		require.ErrorIs(t, err, access.ErrGrant)

		// Somebody else has the name meanwhile, with a password of their own.
		u, err = service.CreateUser(ctx, bankfeed.Caller{Client: client}, access.NewUser{ExternalID: "psu", Password: "secret-password"})
		require.NoError(t, err)
		m.before = func() {
			require.NoError(t, w.consent.EraseUser(ctx, w.tenant, u.ID))
			w.user = u
			w.work() // the name is free again
			_, err = service.CreateUser(ctx, bankfeed.Caller{Client: client}, access.NewUser{ExternalID: "psu", Password: "another-password"})
			require.NoError(t, err)
		}
		_, err = service.PasswordToken(ctx, client, "psu", "secret-password", "")
		require.ErrorIs(t, err, access.ErrGrant)
	})
}

// No refresh is lost to an erasure of the data that it meets.
func TestARefreshThatMeetsAnErasure(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		ctx := t.Context()
		service, _, client, u := w.loggedIn(s)
		g, err := service.PasswordToken(ctx, client, "psu", "secret-password", "")
		require.NoError(t, err)
		for range 8 {
			start := make(chan struct{})
			var wg sync.WaitGroup
			var refreshed, erased error
			wg.Go(func() { <-start; g, refreshed = service.Refresh(ctx, client, g.RefreshToken, "") })
			wg.Go(func() { <-start; _, erased = w.consent.EraseData(ctx, w.tenant, u.ID) })
			close(start)
			wg.Wait()
			require.NoError(t, errors.Join(refreshed, erased))
			caller, err := service.Authenticate(ctx, g.AccessToken)
			require.NoError(t, err)
			require.NotEqual(t, u.ID, caller.User)
			u.ID = caller.User
		}
	})
}
