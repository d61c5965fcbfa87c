package access_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// fixture is a service on a real store, with a clock that stands still.
type fixture struct {
	*access.Service
	t   *testing.T
	ctx context.Context
	in  bankfeed.Installation

	mu  sync.Mutex
	now time.Time
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) time() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := &fixture{t: t, ctx: t.Context(), in: s.Installation(), now: storetest.Now}
		f.Service = access.New(s.Access(), access.Options{Installation: f.in, Now: f.time})
		test(t, f)
	})
}

func (f *fixture) client(tenant string, sandbox bool) bankfeed.Client {
	f.t.Helper()
	c, err := f.CreateClient(f.ctx, tenant, "shop", sandbox)
	require.NoError(f.t, err)
	return c.Client
}

func (f *fixture) user(c bankfeed.Client, n access.NewUser) bankfeed.User {
	f.t.Helper()
	u, err := f.CreateUser(f.ctx, bankfeed.Caller{Client: c}, n)
	require.NoError(f.t, err)
	return u
}

// login makes a user of the client and logs it in.
func (f *fixture) login(c bankfeed.Client, scope string) (bankfeed.User, access.Grant) {
	f.t.Helper()
	u := f.user(c, access.NewUser{ExternalID: "psu", Password: "secret-password"})
	g, err := f.PasswordToken(f.ctx, c, "psu", "secret-password", scope)
	require.NoError(f.t, err)
	return u, g
}

func (f *fixture) refused(err error, kind bankfeed.ErrorKind, field string) {
	f.t.Helper()
	var e *bankfeed.Error
	require.ErrorAs(f.t, err, &e)
	require.Equal(f.t, kind.String(), e.Kind.String(), e.Text)
	require.Equal(f.t, field, e.Field, e.Text)
}

func TestClientSecrets(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first, err := f.CreateClient(f.ctx, "", "shop", true)
		require.NoError(t, err)
		require.True(t, first.NewTenant)
		require.True(t, first.Sandbox)
		other, err := f.CreateClient(f.ctx, "", "till", false)
		require.NoError(t, err)
		require.False(t, other.NewTenant)
		require.Equal(t, first.Tenant, other.Tenant)
		require.NotEqual(t, first.ID, other.ID)

		auth := func(id string, s bankfeed.Secret) error {
			c, err := f.AuthenticateClient(f.ctx, id, string(s))
			if err == nil {
				require.Equal(t, first.Client, c)
			}
			return err
		}
		require.NoError(t, auth(first.ID, first.Secret))
		for name, c := range map[string]struct {
			id     string
			secret bankfeed.Secret
		}{
			"wrong secret":     {first.ID, "bfs_wrong"},
			"no secret":        {first.ID, ""},
			"another's secret": {first.ID, other.Secret},
			"unknown client":   {"6a7a2cf5-7f0e-4d0a-8f0a-1f8e9b8f6a11", first.Secret},
			"strange client":   {"\x00' OR 1=1", first.Secret},
			"no client":        {"", ""},
		} {
			require.ErrorIs(t, auth(c.id, c.secret), access.ErrClient, name)
		}

		f.advance(time.Second)
		second, err := f.AddSecret(f.ctx, first.ID)
		require.NoError(t, err)
		require.NoError(t, auth(first.ID, first.Secret), "both live")
		require.NoError(t, auth(first.ID, second))
		_, err = f.AddSecret(f.ctx, first.ID)
		f.refused(err, bankfeed.Conflict, "")
		_, err = f.AddSecret(f.ctx, "nobody")
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		all, err := f.ListClients(f.ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)
		i := 0
		if all[0].ID != first.ID {
			i = 1
		}
		require.Equal(t, "shop", all[i].Name)
		require.Equal(t, access.DefaultTenant, all[i].Tenant)
		require.Equal(t, storetest.Now, all[i].CreatedAt)
		require.Len(t, all[i].Secrets, 2)
		require.Len(t, all[1-i].Secrets, 1)

		old := all[i].Secrets[0].Fingerprint()
		require.ErrorIs(t, f.RevokeSecret(f.ctx, other.ID, old), bankfeed.ErrNotFound)
		require.NoError(t, f.RevokeSecret(f.ctx, first.ID, old))
		require.ErrorIs(t, f.RevokeSecret(f.ctx, first.ID, old), bankfeed.ErrNotFound)
		require.ErrorIs(t, auth(first.ID, first.Secret), access.ErrClient)
		require.NoError(t, auth(first.ID, second))
		third, err := f.AddSecret(f.ctx, first.ID)
		require.NoError(t, err)
		require.NoError(t, auth(first.ID, third))
	})
}

func TestTenants(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := f.client("a", false).Tenant, f.client("b", false).Tenant
		require.NotEqual(t, a, b)
		require.Equal(t, b, f.client("b", true).Tenant)
		_, err := f.CreateClient(f.ctx, "\x00", "x", false)
		f.refused(err, bankfeed.Invalid, "tenant")
	})
}

func TestUsersAreUniqueInTheirTenant(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := f.client("a", false), f.client("b", false)
		n := access.NewUser{ExternalID: "42", Email: "Ann@Example.com", BusinessContext: bankfeed.Business}
		u := f.user(a, n)
		require.Equal(t, bankfeed.User{ID: u.ID, ExternalID: "42", Email: "Ann@Example.com", BusinessContext: bankfeed.Business, CreatedAt: storetest.Now}, u)
		f.user(b, n)
		f.user(a, access.NewUser{})
		require.Equal(t, bankfeed.Individual, f.user(a, access.NewUser{}).BusinessContext, "any number without id and email")

		for _, c := range []struct {
			n     access.NewUser
			kind  bankfeed.ErrorKind
			field string
		}{
			{access.NewUser{ExternalID: "42"}, bankfeed.Conflict, "external_id"},
			{access.NewUser{ExternalID: "42", Email: "new@example.com"}, bankfeed.Conflict, "external_id"},
			{access.NewUser{ExternalID: "43", Email: "ann@EXAMPLE.com"}, bankfeed.Conflict, "email"},
			{access.NewUser{Email: "Ann@Example.com"}, bankfeed.Conflict, "email"},
			{access.NewUser{Email: "ann"}, bankfeed.Invalid, "email"},
			{access.NewUser{Email: "@example.com"}, bankfeed.Invalid, "email"},
			{access.NewUser{Email: "ann@"}, bankfeed.Invalid, "email"},
			{access.NewUser{Email: "an n@example.com"}, bankfeed.Invalid, "email"},
			{access.NewUser{Email: "ann@\xff.com"}, bankfeed.Invalid, "email"},
			{access.NewUser{ExternalID: "a\x00b"}, bankfeed.Invalid, "external_id"},
			{access.NewUser{ExternalID: string(make([]byte, 256))}, bankfeed.Invalid, "external_id"},
			{access.NewUser{Password: "short"}, bankfeed.Invalid, "password"},
			{access.NewUser{Password: bankfeed.Secret(make([]byte, 513))}, bankfeed.Invalid, "password"},
			{access.NewUser{BusinessContext: "both"}, bankfeed.Invalid, "business_context"},
		} {
			_, err := f.CreateUser(f.ctx, bankfeed.Caller{Client: a}, c.n)
			f.refused(err, c.kind, c.field)
		}
		users, err := f.Users(f.ctx, bankfeed.Caller{Client: a}, 0, 100)
		require.NoError(t, err)
		require.Len(t, users, 3, "what was refused left nothing")
	})
}

func TestTenantsAndUsersAreKeptApart(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		live, sandbox, foreign := f.client("a", false), f.client("a", true), f.client("b", false)
		u := f.user(live, access.NewUser{ExternalID: "u", Email: "u@example.com"})
		v := f.user(live, access.NewUser{ExternalID: "v"})
		for name, c := range map[string]struct {
			caller bankfeed.Caller
			sees   bool
		}{
			"client token":              {bankfeed.Caller{Client: live}, true},
			"own token":                 {bankfeed.Caller{Client: live, User: u.ID}, true},
			"another user's token":      {bankfeed.Caller{Client: live, User: v.ID}, false},
			"sandbox client":            {bankfeed.Caller{Client: sandbox}, false},
			"another tenant":            {bankfeed.Caller{Client: foreign}, false},
			"same number, other tenant": {bankfeed.Caller{Client: foreign, User: u.ID}, false},
		} {
			for how, find := range map[string]func() (bankfeed.User, error){
				"number":      func() (bankfeed.User, error) { return f.User(f.ctx, c.caller, u.ID) },
				"external id": func() (bankfeed.User, error) { return f.UserByExternalID(f.ctx, c.caller, "u") },
				"subject":     func() (bankfeed.User, error) { return f.Subject(f.ctx, c.caller, u.ID) },
			} {
				got, err := find()
				if c.sees {
					require.NoError(t, err, "%s by %s", name, how)
					require.Equal(t, u, got)
				} else {
					require.Equal(t, error(bankfeed.ErrNotFound), err, "%s by %s: the answer to an unknown one", name, how)
				}
			}
		}

		own := bankfeed.Caller{Client: live, User: u.ID}
		got, err := f.Subject(f.ctx, own, 0)
		require.NoError(t, err)
		require.Equal(t, u, got)
		_, err = f.Subject(f.ctx, bankfeed.Caller{Client: live}, 0)
		f.refused(err, bankfeed.Invalid, "user_id")
		_, err = f.CreateUser(f.ctx, own, access.NewUser{})
		f.refused(err, bankfeed.Forbidden, "")
		_, err = f.Users(f.ctx, own, 0, 10)
		f.refused(err, bankfeed.Forbidden, "")
		for _, key := range []string{"", "\x00", "\xff"} {
			_, err = f.UserByExternalID(f.ctx, bankfeed.Caller{Client: live}, key)
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
	})
}

func TestUsersArePaged(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		live, sandbox := f.client("", false), f.client("", true)
		var want, got []bankfeed.User
		for range 7 {
			want = append(want, f.user(live, access.NewUser{}))
			f.user(sandbox, access.NewUser{})
		}
		for after := bankfeed.UserID(0); ; {
			page, err := f.Users(f.ctx, bankfeed.Caller{Client: live}, after, 3)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), 3)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			after = page[len(page)-1].ID
		}
		require.Equal(t, want, got)
	})
}

func TestErasedUsers(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		caller := bankfeed.Caller{Client: c}
		n := access.NewUser{ExternalID: "psu", Email: "psu@example.com", Password: "secret-password"}
		u := f.user(c, n)
		g, err := f.PasswordToken(f.ctx, c, "psu", "secret-password", "")
		require.NoError(t, err)

		require.NoError(t, f.MarkErased(f.ctx, c.Tenant, u.ID))
		require.NoError(t, f.MarkErased(f.ctx, c.Tenant, u.ID), "again")
		require.ErrorIs(t, f.MarkErased(f.ctx, c.Tenant, u.ID+1), bankfeed.ErrNotFound)
		require.ErrorIs(t, f.MarkErased(f.ctx, c.Tenant+1, u.ID), bankfeed.ErrNotFound)

		_, err = f.Authenticate(f.ctx, g.AccessToken)
		require.ErrorIs(t, err, access.ErrToken)
		_, err = f.Refresh(f.ctx, c, g.RefreshToken, "")
		require.ErrorIs(t, err, access.ErrGrant)
		_, err = f.PasswordToken(f.ctx, c, "psu", "secret-password", "")
		require.ErrorIs(t, err, access.ErrGrant)
		_, err = f.User(f.ctx, caller, u.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		all, err := f.Users(f.ctx, caller, 0, 10)
		require.NoError(t, err)
		require.Empty(t, all)
		require.NotEqual(t, u.ID, f.user(c, n).ID, "external id and email are free again")
	})
}
