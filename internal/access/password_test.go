package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func engines(t testing.TB) map[string]*store.Store {
	return map[string]*store.Store{"sqlite": storetest.SQLite(t), "postgres": storetest.Postgres(t)}
}

func TestPasswordLogin(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		live, sandbox, foreign := f.client("a", false), f.client("a", true), f.client("b", false)
		u := f.user(live, access.NewUser{ExternalID: "42", Email: "ann@example.com", Password: "correct horse"})
		f.user(live, access.NewUser{ExternalID: "none"})
		uuid := f.in.UUID(bankfeed.KindUser, live.Tenant, int64(u.ID)).String()
		for _, c := range []struct {
			why            string
			client         bankfeed.Client
			name, password string
			ok             bool
		}{
			{"external id", live, "42", "correct horse", true},
			{"email", live, "Ann@Example.COM", "correct horse", true},
			{"UUID", live, uuid, "correct horse", true},
			{"wrong password", live, "42", "Correct horse", false},
			{"empty password", live, "42", "", false},
			{"unknown user", live, "43", "correct horse", false},
			{"no name", live, "", "", false},
			{"strange name", live, "\x00\xff", "correct horse", false},
			{"user without a password", live, "none", "", false},
			{"sandbox client, live user", sandbox, "42", "correct horse", false},
			{"another tenant", foreign, "42", "correct horse", false},
			{"UUID in another tenant", foreign, uuid, "correct horse", false},
		} {
			g, err := f.PasswordToken(f.ctx, c.client, c.name, bankfeed.Secret(c.password), "")
			if !c.ok {
				require.Equal(t, error(access.ErrGrant), err, c.why)
				continue
			}
			require.NoError(t, err, c.why)
			caller, err := f.Authenticate(f.ctx, g.AccessToken)
			require.NoError(t, err)
			require.Equal(t, bankfeed.Caller{Client: live, User: u.ID, Scopes: []string{}}, caller)
		}
	})
}

func TestFailedLoginsCloseTheLogin(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		f.user(c, access.NewUser{ExternalID: "psu", Email: "psu@example.com", Password: "secret-password"})
		try := func(name string, password bankfeed.Secret) error {
			_, err := f.PasswordToken(f.ctx, c, name, password, "")
			return err
		}
		closed := func(name string) time.Duration {
			t.Helper()
			var e *bankfeed.Error
			err := try(name, "secret-password")
			require.ErrorAs(t, err, &e)
			require.Equal(t, bankfeed.RateLimited.String(), e.Kind.String(), "%v", err)
			return e.RetryAfter
		}
		for _, name := range []string{"psu", "nobody"} { // the two are not to be told apart
			for range 5 {
				require.Equal(t, error(access.ErrGrant), try(name, "wrong"))
			}
			require.Equal(t, time.Second, closed(name))
			require.Equal(t, time.Second, closed(name), "a try at a closed login costs nothing")
			f.advance(time.Second)
			require.Equal(t, error(access.ErrGrant), try(name, "wrong"))
			require.Equal(t, 2*time.Second, closed(name))
		}
		require.Equal(t, 2*time.Second-time.Second, closed("psu@example.com"), "no new tries under another name")

		f.advance(time.Second)
		require.NoError(t, try("psu", "secret-password"))
		require.Equal(t, error(access.ErrGrant), try("psu", "wrong"))
		require.NoError(t, try("psu", "secret-password"), "a success forgets the failures")

		var longest time.Duration
		for range 17 {
			if err := try("psu", "wrong"); !errors.Is(err, access.ErrGrant) {
				t.Fatal(err)
			}
			var e *bankfeed.Error
			if err := try("psu", ""); errors.As(err, &e) && e.Kind == bankfeed.RateLimited {
				longest = e.RetryAfter
				f.advance(e.RetryAfter)
			}
		}
		require.Equal(t, 15*time.Minute, longest)
		f.advance(time.Hour + time.Second)
		require.Equal(t, error(access.ErrGrant), try("psu", "wrong"))
		require.NoError(t, try("psu", "secret-password"), "an hour forgets them too")
	})
}
