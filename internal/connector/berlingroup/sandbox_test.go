package berlingroup_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// sandboxed reaches the simulated bank on its embedded channel.
func sandboxed(t *testing.T) (*berlingroup.Connector, connector.Access) {
	bank, err := sandbox.New(sandbox.Config{})
	require.NoError(t, err)
	server := httptest.NewServer(bank)
	t.Cleanup(server.Close)
	c := connect(t, sandbox.EmbeddedBase)
	return c, connector.Access{Mode: bankfeed.Embedded, PSU: &bankfeed.PSU{IP: "192.0.2.7"}, Profile: &connector.Profile{
		Endpoints: []connector.Endpoint{{Mode: bankfeed.Embedded, BaseURL: server.URL + sandbox.EmbeddedBase}},
		Rules:     []connector.ErrorRule{{Code: "PSU_CREDENTIALS_INVALID", Contains: "password has expired", Reason: bankfeed.FailPassword}},
	}}
}

// authorised obtains a consent of a test user, as far as the bank lets it.
func authorised(t *testing.T, c *berlingroup.Connector, a *connector.Access, login string) error {
	r := asked
	r.PSUID = bankfeed.Secret(login)
	step, err := c.CreateConsent(t.Context(), *a, r)
	for err == nil && !step.Done {
		a.Grant = step.Grant
		var in connector.Input
		switch step.Challenge.Kind {
		case bankfeed.ChallengeCredentials:
			in.Password = sandbox.Password
		case bankfeed.ChallengeMethodChoice:
			in.MethodID = step.Challenge.Methods[2].ID
		case bankfeed.ChallengeCode:
			require.Equal(t, 6, step.Challenge.MaxLen)
			in.Code = sandbox.Code
		}
		step, err = c.Continue(t.Context(), *a, in)
	}
	if err == nil {
		a.Grant = step.Grant
	}
	return err
}

func TestSandboxFromConsentToTheLastPage(t *testing.T) {
	c, a := sandboxed(t)
	require.NoError(t, authorised(t, c, &a, "methods"))
	info, err := c.ConsentStatus(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, connector.ConsentValid, info.State)
	require.NotEmpty(t, info.ValidUntil)
	require.Equal(t, 4, info.FrequencyPerDay)

	accounts, err := c.Accounts(t.Context(), a, "")
	require.NoError(t, err)
	require.NotEmpty(t, accounts.Accounts)
	pages := 0
	for _, acc := range accounts.Accounts {
		require.NotEmpty(t, acc.Identifiers)
		ref := connector.AccountRef{ResourceID: acc.ResourceID, Currency: acc.Currency}
		balances, err := c.Balances(t.Context(), a, ref)
		require.NoError(t, err)
		require.NotEmpty(t, balances)
		seen := map[string]bool{}
		q := connector.TransactionQuery{From: "2020-01-01"}
		for more := true; more; pages++ {
			page, err := c.Transactions(t.Context(), a, ref, q)
			require.NoError(t, err)
			for _, x := range page.Transactions {
				require.False(t, seen[x.BankID], "an entry came on two pages")
				seen[x.BankID] = true
				require.NotZero(t, x.Money.Amount.Sign())
				require.Equal(t, acc.Currency, x.Money.Currency)
			}
			q.Cursor, more = page.Next, page.More
		}
		require.NotEmpty(t, seen)
	}
	require.Greater(t, pages, len(accounts.Accounts), "some account has several pages")

	require.NoError(t, c.DeleteConsent(t.Context(), a))
	info, err = c.ConsentStatus(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, connector.ConsentTerminated, info.State)
}

func TestSandboxRefusals(t *testing.T) {
	for login, reason := range map[string]bankfeed.FailureReason{
		"wrong-password": bankfeed.FailCredentials, "password-change": bankfeed.FailPassword, "user-action": bankfeed.FailUserAction,
		"wrong-code": bankfeed.FailChallengeWrong, "late-code": bankfeed.FailChallengeWrong,
	} {
		t.Run(login, func(t *testing.T) {
			c, a := sandboxed(t)
			e := refused(t, authorised(t, c, &a, login), reason)
			require.Equal(t, login == "wrong-code", e.TryAgain)
			for e.TryAgain { // the bank gives three tries
				_, err := c.Continue(t.Context(), a, connector.Input{Code: "000000"})
				e = refused(t, err, reason)
			}
		})
	}
	for login, reason := range map[string]bankfeed.FailureReason{"bank-down": bankfeed.FailUnavailable, "nonsense": bankfeed.FailProtocol, "short-history": bankfeed.FailInternal} {
		t.Run(login, func(t *testing.T) {
			c, a := sandboxed(t)
			require.NoError(t, authorised(t, c, &a, login))
			accounts, err := c.Accounts(t.Context(), a, "")
			if err == nil {
				_, err = c.Transactions(t.Context(), a, connector.AccountRef{ResourceID: accounts.Accounts[0].ResourceID}, connector.TransactionQuery{From: "2020-01-01"})
			}
			refused(t, err, reason)
		})
	}
	t.Run("rate-limit-text", func(t *testing.T) {
		c, a := sandboxed(t)
		require.NoError(t, authorised(t, c, &a, "rate-limit-text"))
		for range 3 {
			_, err := c.Accounts(t.Context(), a, "")
			require.NoError(t, err, "attended")
		}
		a.PSU = nil
		_, err := c.Accounts(t.Context(), a, "")
		require.NoError(t, err)
		_, err = c.Accounts(t.Context(), a, "")
		e := refused(t, err, bankfeed.FailRateLimited)
		require.True(t, e.Daily)
		require.Zero(t, e.RetryAfter)
	})
}
