package ingest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func TestRefusals(t *testing.T) {
	type want struct {
		channel    bankfeed.ChannelStatus
		connection bankfeed.ConnectionStatus
		end        string
		next       time.Duration // 0: nothing unattended any more
	}
	for name, c := range map[string]struct {
		err     connector.Error
		consent connector.ConsentState
		want    want
	}{
		"consent expired":   {connector.Error{Reason: bankfeed.FailConsentExpired, Status: 401}, 0, want{bankfeed.ChannelTokenExpired, bankfeed.ConnectionFailed, "sync.failed", 0}},
		"consent revoked":   {connector.Error{Reason: bankfeed.FailConsentInvalid, Status: 401}, connector.ConsentRevoked, want{bankfeed.ChannelTokenExpired, bankfeed.ConnectionFailed, "sync.failed", 0}},
		"password change":   {connector.Error{Reason: bankfeed.FailPassword, Status: 401}, 0, want{bankfeed.ChannelPasswordChangeRequired, bankfeed.ConnectionFailed, "sync.failed", 0}},
		"user action":       {connector.Error{Reason: bankfeed.FailUserAction, Status: 403}, 0, want{bankfeed.ChannelUserActionRequired, bankfeed.ConnectionFailed, "sync.failed", 0}},
		"rate limited":      {connector.Error{Reason: bankfeed.FailRateLimited, Status: 429, RetryAfter: 3 * time.Hour}, 0, want{bankfeed.ChannelSuccess, bankfeed.ConnectionSuccess, "sync.failed", 3 * time.Hour}},
		"rate limited, day": {connector.Error{Reason: bankfeed.FailRateLimited, Status: 429, Daily: true}, 0, want{bankfeed.ChannelSuccess, bankfeed.ConnectionSuccess, "sync.failed", 15 * time.Hour}},
		"bank down":         {connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}, 0, want{bankfeed.ChannelUnavailable, bankfeed.ConnectionFailed, "sync.failed", 2 * time.Hour}},
		"nonsense":          {connector.Error{Reason: bankfeed.FailProtocol, Status: 200}, 0, want{bankfeed.ChannelUnavailable, bankfeed.ConnectionFailed, "sync.failed", 2 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := newBank(ibanA)
				b.transactions[ibanA] = history(3, "2026-03-01")
				h := newHub(t, s, b)
				h.sync(psu)
				h.events()

				h.now = h.now.Add(24 * time.Hour)
				b.consent = c.consent
				b.refuse = func(call string) error {
					if call == "consent" {
						return nil
					}
					e := c.err
					return &e
				}
				n := h.sync(nil)
				require.Equal(t, bankfeed.SessionFailed, n.Status)
				events := h.events()
				require.Equal(t, c.want.end, types(events)[len(events)-1])
				conn := h.connection()
				require.Equal(t, c.want.channel, conn.Channel(bankfeed.Redirect).Status)
				require.Equal(t, c.want.connection, conn.Status)
				require.NotNil(t, conn.Channel(bankfeed.Redirect).Failure)
				if c.want.next == 0 {
					require.Zero(t, conn.NextSyncAt, "a state that needs the user stops unattended sessions")
					require.Len(t, only(events, "channel.action_required"), 1)
				} else {
					require.Equal(t, h.now.Add(c.want.next), conn.NextSyncAt)
				}
				if c.want.channel == bankfeed.ChannelTokenExpired {
					require.Len(t, only(events, "consent.updated"), 1)
				}
				require.Len(t, h.transactions(), 3, "what is stored stays")
			})
		})
	}
}

func TestQuotaIsNeverExceeded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(3, "2026-03-01")
		h := newHub(t, s, b)
		h.sync(psu)
		h.now = h.now.Add(time.Hour)
		for range 6 {
			b.calls = nil
			h.sync(nil)
			h.now = h.now.Add(time.Minute)
		}
		conn := h.connection()
		require.Equal(t, bankfeed.FailQuota, conn.Channel(bankfeed.Redirect).Failure.Reason)
		require.Equal(t, bankfeed.ChannelSuccess, conn.Channel(bankfeed.Redirect).Status, "a limit is neither success nor failure")
		require.Empty(t, b.calls, "with nothing left no call is made")
		require.True(t, conn.NextSyncAt.After(h.now.Add(20*time.Hour)))

		h.now = h.now.Add(24 * time.Hour)
		require.Equal(t, bankfeed.SessionFinished, h.sync(nil).Status)
	})
}

func TestALimitInTheMiddleCostsOnlyTime(t *testing.T) {
	for name, stale := range map[string]bool{"goes on at the cursor": false, "the cursor has expired": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := newBank(ibanA)
				b.transactions[ibanA] = history(57, "2026-03-01")
				limited := true
				b.refuse = func(call string) error {
					if call != "transactions "+ibanA+" 3" {
						return nil
					}
					if limited {
						return &connector.Error{Reason: bankfeed.FailRateLimited, Status: 429, RetryAfter: time.Minute}
					}
					if stale {
						stale = false
						return &connector.Error{Reason: bankfeed.FailProtocol, Status: 400, Code: "FORMAT_ERROR"}
					}
					return nil
				}
				h := newHub(t, s, b)
				h.sync(psu)
				require.Len(t, h.transactions(), 30, "what was read before stays")
				require.Equal(t, h.now.Add(time.Minute), h.connection().NextSyncAt)

				limited, b.calls = false, nil
				h.now = h.now.Add(2 * time.Minute)
				require.Equal(t, bankfeed.SessionFinished, h.sync(nil).Status)
				requireAllOnce(t, h, 57)
				if b.calls[1] != "transactions "+ibanA+" 3" {
					t.Errorf("the next session began with %s", b.calls[1])
				}
			})
		})
	}
}

func TestALimitBurnsNoQuota(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		h := newHub(t, s, b)
		h.sync(psu)
		b.refuse = func(call string) error {
			return &connector.Error{Reason: bankfeed.FailRateLimited, Status: 429, RetryAfter: time.Minute}
		}
		for range 6 {
			h.now = h.now.Add(2 * time.Minute)
			h.sync(nil)
			require.Equal(t, bankfeed.FailRateLimited, h.connection().Channel(bankfeed.Redirect).Failure.Reason, "not the hub's own quota")
		}
		b.refuse = nil
		h.now = h.now.Add(2 * time.Minute)
		require.Equal(t, bankfeed.SessionFinished, h.sync(nil).Status)
	})
}

func TestOneAccountsEmptyQuotaLeavesTheOthers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		h := newHub(t, s, b)
		h.sync(psu)
		st, err := s.ConnectionState(context.Background(), h.tenant, h.user.ID, h.conn)
		require.NoError(t, err)
		var used []bankfeed.QuotaUse
		for range 4 {
			used = append(used, bankfeed.QuotaUse{Consent: st.Consents[0].ID, Account: st.Accounts[0].ID, Kind: bankfeed.AccessTransactions, At: h.now})
		}
		_, err = s.Apply(context.Background(), &bankfeed.Change{Tenant: h.tenant, User: h.user.ID, Accesses: used})
		require.NoError(t, err)
		b.transactions[ibanA], b.transactions[ibanB] = history(3, "2026-03-01"), history(4, "2026-03-01")
		h.now = h.now.Add(time.Hour)
		require.Equal(t, bankfeed.SessionFinished, h.sync(nil).Status)
		require.Len(t, h.transactions(), 4)
		require.Equal(t, bankfeed.ChannelPartialSuccess, h.connection().Channel(bankfeed.Redirect).Status)
	})
}

func TestARefusedBalanceDoesNotHideTransactions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(3, "2026-03-01")
		b.refuse = func(call string) error {
			if strings.HasPrefix(call, "balances") {
				return &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}
			}
			return nil
		}
		h := newHub(t, s, b)
		require.Equal(t, bankfeed.SessionFinished, h.sync(psu).Status)
		require.Len(t, h.transactions(), 3)
		require.Equal(t, bankfeed.ChannelPartialSuccess, h.connection().Channel(bankfeed.Redirect).Status)
		calls := 0
		for _, e := range only(h.events(), "bank.called") {
			if e.Snapshot.Call.Status == 503 {
				calls++
			}
		}
		require.Equal(t, 1, calls, "the refused call is in the log")
	})
}

func TestAPanicDoesNotReachTheProcess(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.refuse = func(call string) error {
			if strings.HasPrefix(call, "balances") {
				b.mu.Unlock()
				defer b.mu.Lock()
				panic("an answer nobody thought of")
			}
			return nil
		}
		h := newHub(t, s, b)
		ctx := context.Background()
		_, _, err := h.engine.Synchronize(ctx, h.order(psu))
		require.NoError(t, err)
		for range 5 { // the lease engine tries again and again
			require.ErrorContains(t, h.engine.Run(ctx, h.claim()), "an answer nobody thought of")
			h.now = h.now.Add(time.Minute)
		}
		require.NoError(t, h.engine.Run(ctx, h.claim()))
		conn := h.connection()
		require.Equal(t, bankfeed.FailInternal, conn.Channel(bankfeed.Redirect).Failure.Reason)
		events := h.events()
		require.Equal(t, "sync.failed", types(events)[len(events)-1], "a session that cannot go on ends")
	})
}

func TestHubErrorsAreNotTheBanks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.refuse = func(string) error { return errors.New("a bug") }
		h := newHub(t, s, b)
		h.sync(psu)
		conn := h.connection()
		require.Equal(t, bankfeed.FailInternal, conn.Channel(bankfeed.Redirect).Failure.Reason)
		require.NotContains(t, conn.Channel(bankfeed.Redirect).Failure.Text, "a bug", "inner text goes to the log")
	})
}
