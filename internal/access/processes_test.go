package access_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestProcesses(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		client := bankfeed.Caller{Client: f.client("", true)}
		p, err := f.StartProcess(f.ctx, client)
		require.NoError(t, err)
		require.Equal(t, f.time().Add(14*24*time.Hour), p.ExpiresAt)

		x, err := f.ExchangeProcess(f.ctx, client, p.Token, false)
		require.NoError(t, err)
		require.Equal(t, 9, x.Left)
		require.Equal(t, p.ExpiresAt, x.ExpiresAt)
		require.Empty(t, x.RefreshToken, "else an exchange would last for ever")
		caller, err := f.Authenticate(f.ctx, x.AccessToken)
		require.NoError(t, err)
		require.Equal(t, client.Client, caller.Client)
		u, err := f.User(f.ctx, caller, caller.User)
		require.NoError(t, err)
		require.True(t, u.NoAutoSync)

		again, err := f.ExchangeProcess(f.ctx, client, p.Token, false)
		require.NoError(t, err)
		require.NotEqual(t, x.AccessToken, again.AccessToken)
		same, err := f.Authenticate(f.ctx, again.AccessToken)
		require.NoError(t, err)
		require.Equal(t, caller.User, same.User, "one process, one user")

		for range 8 {
			x, err = f.ExchangeProcess(f.ctx, client, p.Token, false)
			require.NoError(t, err)
		}
		require.Zero(t, x.Left)
		_, err = f.ExchangeProcess(f.ctx, client, p.Token, false)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "ten times")
	})
}

// Calls at the same moment get no more than ten between them, and one last one.
func TestExchangesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		client := bankfeed.Caller{Client: f.client("", true)}
		for end, want := range map[bool]int64{false: access.MaxExchanges, true: 1} {
			p, err := f.StartProcess(f.ctx, client)
			require.NoError(t, err)
			var all sync.WaitGroup
			var given atomic.Int64
			for range 2 * access.MaxExchanges {
				all.Go(func() {
					_, err := f.ExchangeProcess(f.ctx, client, p.Token, end)
					if err == nil {
						given.Add(1)
					} else {
						assert.ErrorIs(t, err, bankfeed.ErrNotFound)
					}
				})
			}
			all.Wait()
			require.Equal(t, want, given.Load())
		}
	})
}

func TestProcessesEnd(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		client := bankfeed.Caller{Client: f.client("", true)}
		start := func() bankfeed.Secret {
			p, err := f.StartProcess(f.ctx, client)
			require.NoError(t, err)
			return p.Token
		}
		gone := func(caller bankfeed.Caller, token bankfeed.Secret) {
			t.Helper()
			_, err := f.ExchangeProcess(f.ctx, caller, token, false)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
		ended, foreign, late := start(), start(), start()

		x, err := f.ExchangeProcess(f.ctx, client, ended, true)
		require.NoError(t, err)
		require.Zero(t, x.Left)
		_, err = f.Authenticate(f.ctx, x.AccessToken)
		require.NoError(t, err, "the last exchange is one")
		gone(client, ended)

		gone(bankfeed.Caller{Client: f.client("other", true)}, foreign)
		gone(bankfeed.Caller{Client: f.client("", false)}, foreign)
		for _, token := range []bankfeed.Secret{"", "bfp_", foreign + "x", x.AccessToken, "\x00"} {
			gone(client, token)
		}
		_, err = f.ExchangeProcess(f.ctx, bankfeed.Caller{Client: client.Client, User: 1}, foreign, false)
		f.refused(err, bankfeed.Forbidden, "")
		_, err = f.StartProcess(f.ctx, bankfeed.Caller{Client: client.Client, User: 1})
		f.refused(err, bankfeed.Forbidden, "")
		_, err = f.ExchangeProcess(f.ctx, client, foreign, false)
		require.NoError(t, err, "whoever tried before has not used it up")

		f.advance(14 * 24 * time.Hour)
		gone(client, late)
	})
}

// The sweep erases each user once; one that cannot be erased now does not keep
// the others.
func TestExpiredProcessesAreErased(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		client := bankfeed.Caller{Client: f.client("", true)}
		var users []bankfeed.UserID
		for range 3 {
			p, err := f.StartProcess(f.ctx, client)
			require.NoError(t, err)
			x, err := f.ExchangeProcess(f.ctx, client, p.Token, false)
			require.NoError(t, err)
			caller, err := f.Authenticate(f.ctx, x.AccessToken)
			require.NoError(t, err)
			users = append(users, caller.User)
			f.advance(time.Minute)
		}
		var erased []bankfeed.UserID
		trouble := errors.New("not now")
		erase := func(_ context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
			require.Equal(t, client.Client.Tenant, tenant)
			if trouble != nil && user == users[0] {
				return trouble
			}
			erased = append(erased, user)
			return nil
		}
		n, err := f.SweepProcesses(f.ctx, f.time(), erase)
		require.NoError(t, err)
		require.Zero(t, n)

		f.advance(14*24*time.Hour - time.Minute)
		n, err = f.SweepProcesses(f.ctx, f.time(), erase)
		require.ErrorIs(t, err, trouble)
		require.Equal(t, 1, n)
		require.Equal(t, users[1:2], erased, "the third has a minute left")

		trouble = bankfeed.ErrNotFound // erased by its own request
		f.advance(time.Hour)
		n, err = f.SweepProcesses(f.ctx, f.time(), erase)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, users[1:], erased)
		n, err = f.SweepProcesses(f.ctx, f.time(), erase)
		require.NoError(t, err)
		require.Zero(t, n, "once each")
	})
}

// finAPI's clients name their users in any case; others do not.
// The user's data is deleted while the sweep is at it: who takes the user's place
// is erased too.
func TestExpiredWhileItsDataIsDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		now, ctx := storetest.Now, t.Context()
		a := access.New(s.Access(), access.Options{Installation: s.Installation(), Now: func() time.Time { return now }})
		made, err := a.CreateClient(ctx, "", "shop", true)
		require.NoError(t, err)
		p, err := a.StartProcess(ctx, bankfeed.Caller{Client: made.Client})
		require.NoError(t, err)
		var erased []bankfeed.UserID
		_, err = a.SweepProcesses(ctx, p.ExpiresAt.Add(time.Second), func(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
			if erased = append(erased, user); len(erased) > 1 {
				return nil
			}
			_, err := s.ReplaceUser(ctx, tenant, user, now)
			return errors.Join(err, bankfeed.ErrNotFound)
		})
		require.NoError(t, err)
		require.Len(t, erased, 2)
		require.NotEqual(t, erased[0], erased[1])
	})
}

func TestUsersInAnyCase(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", true)
		caller := bankfeed.Caller{Client: c}
		n := access.NewUser{ExternalID: "Customer-1", AnyCase: true, Password: "secret-password", Contact: bankfeed.Contact{Email: "a@example.org", Phone: "+49 1"}, NoAutoSync: true}
		u := f.user(c, n)
		got, err := f.User(f.ctx, caller, u.ID)
		require.NoError(t, err)
		require.Equal(t, u, got)
		require.Equal(t, "Customer-1", got.ExternalID, "as it was given")
		require.Equal(t, n.Contact, got.Contact)
		require.True(t, got.NoAutoSync)

		n.ExternalID = "CUSTOMER-1"
		_, err = f.CreateUser(f.ctx, caller, n)
		f.refused(err, bankfeed.Conflict, "external_id")
		n.ExternalID = "customer-2"
		f.user(c, n) // the same contact: it is nobody's login

		for _, name := range []string{"Customer-1", "customer-1", "CUSTOMER-1"} {
			_, err := f.PasswordToken(f.ctx, c, name, "secret-password", "")
			require.NoError(t, err, name)
		}
		_, err = f.PasswordToken(f.ctx, c, "a@example.org", "secret-password", "")
		require.ErrorIs(t, err, access.ErrGrant)

		exact := f.user(c, access.NewUser{ExternalID: "customer-1", Password: "another-password"})
		g, err := f.PasswordToken(f.ctx, c, "customer-1", "another-password", "")
		require.NoError(t, err, "the exact id wins")
		who, err := f.Authenticate(f.ctx, g.AccessToken)
		require.NoError(t, err)
		require.Equal(t, exact.ID, who.User)

		require.NoError(t, f.MarkErased(f.ctx, c.Tenant, u.ID))
		n.ExternalID = "cUSTOMER-1"
		f.user(c, n)
	})
}

// A client that wants fire-and-forget says so once; every token of it knows.
func TestCallbacksOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", true)
		g, err := f.ClientToken(f.ctx, c, "")
		require.NoError(t, err)
		for _, once := range []bool{false, true, false} {
			require.NoError(t, f.SetCallbacksOnce(f.ctx, c.ID, once))
			caller, err := f.Authenticate(f.ctx, g.AccessToken)
			require.NoError(t, err)
			require.Equal(t, once, caller.Client.CallbacksOnce)
		}
		require.ErrorIs(t, f.SetCallbacksOnce(f.ctx, "nobody", true), bankfeed.ErrNotFound)
	})
}
