package access_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

func (f *fixture) lives(g access.Grant) bool {
	f.t.Helper()
	_, err := f.Authenticate(f.ctx, g.AccessToken)
	if err != nil {
		require.Equal(f.t, error(access.ErrToken), err)
	}
	return err == nil
}

func TestClientToken(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", true)
		g, err := f.ClientToken(f.ctx, c, "users_create  x:y users_create")
		require.NoError(t, err)
		require.Equal(t, "users_create x:y", g.Scope)
		require.Equal(t, time.Hour, g.ExpiresIn)
		require.Empty(t, string(g.RefreshToken))
		caller, err := f.Authenticate(f.ctx, g.AccessToken)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Caller{Client: c, Scopes: []string{"users_create", "x:y"}}, caller)

		f.advance(time.Hour - time.Microsecond)
		require.True(t, f.lives(g))
		f.advance(time.Microsecond)
		require.False(t, f.lives(g))
	})
}

func TestTokensThatNeverWere(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		_, g := f.login(c, "")
		for _, bad := range []bankfeed.Secret{"", "x", "bfa_", g.RefreshToken, g.AccessToken[:40], g.AccessToken + "A", "bfa_\x00" + g.AccessToken[5:],
			bankfeed.Secret("bfa_" + strings.Repeat("A", 43))} {
			_, err := f.Authenticate(f.ctx, bad)
			require.Equal(t, error(access.ErrToken), err)
			if bad != g.RefreshToken {
				_, err = f.Refresh(f.ctx, c, bad, "")
				require.Equal(t, error(access.ErrGrant), err)
				require.NoError(t, f.Revoke(f.ctx, c, bad))
			}
		}
		_, err := f.Refresh(f.ctx, c, g.AccessToken, "")
		require.Equal(t, error(access.ErrGrant), err)
		require.True(t, f.lives(g))
		for _, bad := range []string{"a\"b", "a\\b", "ä", "a\nb", strings.Repeat("a", 1001)} {
			_, err := f.ClientToken(f.ctx, c, bad)
			require.ErrorIs(t, err, access.ErrScope)
			_, err = f.PasswordToken(f.ctx, c, "psu", "secret-password", bad)
			require.ErrorIs(t, err, access.ErrScope)
			_, err = f.Refresh(f.ctx, c, g.RefreshToken, bad)
			require.ErrorIs(t, err, access.ErrScope)
		}
	})
}

func TestRefresh(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		u, first := f.login(c, "accounts_read connections_manage")
		f.advance(29 * 24 * time.Hour)
		require.False(t, f.lives(first))

		_, err := f.Refresh(f.ctx, c, first.RefreshToken, "accounts_read users_create")
		require.ErrorIs(t, err, access.ErrScope)
		second, err := f.Refresh(f.ctx, c, first.RefreshToken, "accounts_read")
		require.NoError(t, err, "the refusal used nothing up")
		require.Equal(t, "accounts_read", second.Scope)
		require.NotEqual(t, first.RefreshToken, second.RefreshToken)
		caller, err := f.Authenticate(f.ctx, second.AccessToken)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Caller{Client: c, User: u.ID, Scopes: []string{"accounts_read"}}, caller)

		f.advance(29 * 24 * time.Hour)
		third, err := f.Refresh(f.ctx, c, second.RefreshToken, "")
		require.NoError(t, err, "every refresh gives 30 more days")
		require.Equal(t, "accounts_read connections_manage", third.Scope, "the refresh token kept the whole scope")
		third, err = f.Refresh(f.ctx, c, third.RefreshToken, "all")
		require.NoError(t, err)
		require.Equal(t, "accounts_read connections_manage", third.Scope, "all that was granted, and no more")

		f.advance(30 * 24 * time.Hour)
		_, err = f.Refresh(f.ctx, c, third.RefreshToken, "")
		require.ErrorIs(t, err, access.ErrGrant)
		require.NotErrorIs(t, err, access.ErrReused)
	})
}

func TestSecondUseOfARefreshTokenRevokesItsFamily(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		_, first := f.login(c, "")
		elsewhere, err := f.PasswordToken(f.ctx, c, "psu", "secret-password", "")
		require.NoError(t, err)
		second, err := f.Refresh(f.ctx, c, first.RefreshToken, "")
		require.NoError(t, err)
		third, err := f.Refresh(f.ctx, c, second.RefreshToken, "")
		require.NoError(t, err)
		require.True(t, f.lives(first) && f.lives(second) && f.lives(third))

		_, err = f.Refresh(f.ctx, f.client("", false), first.RefreshToken, "")
		require.ErrorIs(t, err, access.ErrGrant)
		require.True(t, f.lives(third), "another client cannot end it")

		_, err = f.Refresh(f.ctx, c, first.RefreshToken, "")
		require.ErrorIs(t, err, access.ErrGrant)
		require.ErrorIs(t, err, access.ErrReused)
		require.False(t, f.lives(first) || f.lives(second) || f.lives(third))
		_, err = f.Refresh(f.ctx, c, third.RefreshToken, "")
		require.ErrorIs(t, err, access.ErrGrant)
		require.True(t, f.lives(elsewhere), "another login of the same user goes on")
	})
}

func TestRevoke(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		f.user(c, access.NewUser{ExternalID: "psu", Password: "secret-password"})
		for name, pick := range map[string]func(access.Grant) bankfeed.Secret{
			"access":  func(g access.Grant) bankfeed.Secret { return g.AccessToken },
			"refresh": func(g access.Grant) bankfeed.Secret { return g.RefreshToken },
		} {
			g, err := f.PasswordToken(f.ctx, c, "psu", "secret-password", "")
			require.NoError(t, err)
			require.NoError(t, f.Revoke(f.ctx, f.client("", false), pick(g)))
			require.True(t, f.lives(g), "%s: not another client's to revoke", name)
			require.NoError(t, f.Revoke(f.ctx, c, pick(g)))
			require.False(t, f.lives(g), name)
			_, err = f.Refresh(f.ctx, c, g.RefreshToken, "")
			require.ErrorIs(t, err, access.ErrGrant, name)
			require.NoError(t, f.Revoke(f.ctx, c, pick(g)), "%s: again", name)
		}
	})
}

// On PostgreSQL a DELETE does not see what a rotation adds while the DELETE
// waits for it.
func TestNoTokenSurvivesARevocationThatMeetsARefresh(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		f.user(c, access.NewUser{ExternalID: "psu", Password: "secret-password"})
		for range 8 {
			g, err := f.PasswordToken(f.ctx, c, "psu", "secret-password", "")
			require.NoError(t, err)
			all := []access.Grant{g}
			var wg sync.WaitGroup
			wg.Go(func() { // a chain of refreshes, until the revocation ends it
				next := g
				for range 500 {
					var err error
					if next, err = f.Refresh(f.ctx, c, next.RefreshToken, ""); err != nil {
						if !errors.Is(err, access.ErrGrant) {
							t.Error(err)
						}
						return
					}
					all = append(all, next)
				}
			})
			wg.Go(func() {
				if err := f.Revoke(f.ctx, c, g.AccessToken); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			for i, g := range all {
				require.False(t, f.lives(g), "token %d of %d", i, len(all))
			}
		}
	})
}

func TestARefreshTokenIsExchangedOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		_, g := f.login(c, "")
		grants, errs := make([]access.Grant, 8), make([]error, 8)
		var wg sync.WaitGroup
		for i := range grants {
			wg.Go(func() { grants[i], errs[i] = f.Refresh(f.ctx, c, g.RefreshToken, "") })
		}
		wg.Wait()
		won := 0
		for i := range grants {
			if errs[i] == nil {
				won++
				require.False(t, f.lives(grants[i]), "the others revoked the family")
				continue
			}
			require.ErrorIs(t, errs[i], access.ErrGrant)
		}
		require.Equal(t, 1, won)
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.client("", false)
		_, g := f.login(c, "") // 2 tokens
		f.advance(2 * time.Hour)
		g, err := f.Refresh(f.ctx, c, g.RefreshToken, "") // 2 more
		require.NoError(t, err)
		for range 1005 {
			_, err := f.ClientToken(f.ctx, c, "")
			require.NoError(t, err)
		}
		n, err := f.Sweep(f.ctx, f.time())
		require.NoError(t, err)
		require.Equal(t, 1, n, "the first access token")
		f.advance(time.Hour + time.Second)
		n, err = f.Sweep(f.ctx, f.time())
		require.NoError(t, err)
		require.Equal(t, 1006, n, "more than one batch")
		_, err = f.Refresh(f.ctx, c, g.RefreshToken, "")
		require.NoError(t, err)
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	for name, s := range engines(b) {
		b.Run(name, func(b *testing.B) {
			svc := access.New(s.Access(), access.Options{})
			c, err := svc.CreateClient(b.Context(), "", "bench", false)
			require.NoError(b, err)
			g, err := svc.ClientToken(b.Context(), c.Client, "")
			require.NoError(b, err)
			for b.Loop() {
				if _, err := svc.Authenticate(b.Context(), g.AccessToken); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
