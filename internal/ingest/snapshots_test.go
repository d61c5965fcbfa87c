package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// What the messages of a stream are made of.

func TestWhyAConsentEnded(t *testing.T) {
	unauthorised := func(reason bankfeed.FailureReason, code, text string) error {
		return &connector.Error{Reason: reason, Status: 401, Code: code, Text: text}
	}
	for name, c := range map[string]struct {
		err         error
		says        connector.ConsentState
		later       time.Duration
		reason      bankfeed.InvalidationReason
		description string
	}{
		"revoked": {unauthorised(bankfeed.FailConsentInvalid, "CONSENT_INVALID", "no longer"), connector.ConsentRevoked, 0,
			bankfeed.InvalidRevokedByPSU, "CONSENT_INVALID no longer"},
		"terminated": {unauthorised(bankfeed.FailConsentInvalid, "CONSENT_INVALID", ""), connector.ConsentTerminated, 0,
			bankfeed.InvalidTerminated, "CONSENT_INVALID"},
		"expired":             {unauthorised(bankfeed.FailConsentInvalid, "CONSENT_INVALID", ""), connector.ConsentExpired, 0, bankfeed.InvalidExpired, "CONSENT_INVALID"},
		"expired by its code": {unauthorised(bankfeed.FailConsentExpired, "CONSENT_EXPIRED", ""), connector.ConsentValid, 0, bankfeed.InvalidExpired, "CONSENT_EXPIRED"},
		"token":               {unauthorised(bankfeed.FailTokenExpired, "TOKEN_EXPIRED", ""), connector.ConsentValid, 0, bankfeed.InvalidExpired, "TOKEN_EXPIRED"},
		"without a word":      {unauthorised(bankfeed.FailConsentInvalid, "", ""), connector.ConsentValid, 0, bankfeed.InvalidExpired, ""},
		"by the calendar":     {nil, connector.ConsentValid, 181 * 24 * time.Hour, bankfeed.InvalidExpired, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(ibanA)
			h := newHub(t, storetest.SQLite(t), b)
			h.sync(psu)
			h.events()
			h.now = h.now.Add(24*time.Hour + c.later)
			b.consent = c.says
			b.refuse = func(call string) error {
				if call == "consent" {
					return nil
				}
				return c.err
			}
			h.sync(nil)
			events := only(h.events(), "consent.")
			require.Equal(t, []string{"consent.updated"}, types(events))
			k := events[0].Snapshot.Consent
			require.Equal(t, bankfeed.ConsentInvalid, k.Status)
			require.Equal(t, bankfeed.ConsentConfirmed, k.Previous)
			require.Equal(t, bankfeed.Invalidation{At: h.now, Reason: c.reason, Description: c.description}, *k.Invalidation)
			require.NotEmpty(t, k.Accounts)
		})
	}
}

func TestEveryCallIsAnEvent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, at := range []string{"accounts", "balances " + ibanA, "details " + ibanC, "transactions " + ibanA + " 0", "transactions " + ibanA + " 3", "transactions " + ibanA + " 5"} {
			for how, refusal := range map[string]error{
				"the bank is down":   &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503},
				"no answer":          &connector.Error{Reason: bankfeed.FailUnavailable},
				"the consent ended":  &connector.Error{Reason: bankfeed.FailConsentInvalid, Status: 401},
				"the hub stops":      context.Canceled,
				"the hub is at odds": connector.AsError(context.DeadlineExceeded),
			} {
				t.Run(at+", "+how, func(t *testing.T) {
					b := maskingBank(connector.Unmask, ibanA, ibanC)
					b.transactions[ibanA] = history(57, "2026-03-01")
					h := newHub(t, s, b)
					ctx, stop := context.WithCancel(context.Background())
					defer stop()
					b.refuse = func(call string) error {
						if call != at {
							return nil
						}
						if refusal == context.Canceled { //nolint:errorlint // the very value
							stop()
						}
						return refusal
					}
					_, _, err := h.engine.Synchronize(ctx, h.order(psu))
					require.NoError(t, err)
					err = h.engine.Run(ctx, h.claim())
					if ctx.Err() == nil {
						require.NoError(t, err)
					}
					calls := only(h.events(), "bank.called")
					require.Len(t, calls, len(b.calls))
					for _, e := range calls {
						require.NotNil(t, e.Snapshot.Call)
						require.Equal(t, "SCRPDEFFXXX", e.Snapshot.Connection.BIC)
						require.Equal(t, bankfeed.ByUser, e.Snapshot.Initiator)
						require.NotZero(t, e.Snapshot.Session.UUID)
					}
				})
			}
		}
	})
}

func TestLastTransactionIsTheNewestKnown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		b.transactions[ibanA] = []bankfeed.Transaction{booked("1", "2026-02-27", "-1.00", "a"), booked("2", "2026-02-25", "-1.00", "b")}
		h := newHub(t, s, b)
		ended := func() map[string]bankfeed.TransactionID {
			m := map[string]bankfeed.TransactionID{}
			for _, e := range only(h.events(), "session.account_finished") {
				m[e.Snapshot.Account.IBAN()] = e.Snapshot.LastTransaction
			}
			return m
		}
		h.sync(psu)
		newest := h.transactions()[0]
		require.Equal(t, "1", newest.BankID)
		require.Equal(t, map[string]bankfeed.TransactionID{ibanA: newest.ID, ibanB: 0}, ended(), "said of an account without any, too")

		// Nothing is listed any more: the window has moved on.
		h.now = h.now.Add(60 * 24 * time.Hour)
		b.transactions[ibanA] = nil
		h.sync(nil)
		require.Equal(t, map[string]bankfeed.TransactionID{ibanA: newest.ID, ibanB: 0}, ended())
	})
}

func TestAnAccountIsNotFinishedWhileItsListMoves(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		b.transactions[ibanA], b.transactions[ibanB] = history(40, "2026-03-01"), history(2, "2026-03-01")
		n := 0
		b.refuse = func(call string) error {
			if call == "transactions "+ibanA+" 2" {
				n++
				id := fmt.Sprintf("late%d", n)
				b.transactions[ibanA] = slices.Insert(b.transactions[ibanA], 0, booked(id, "2026-03-01", "-1.00", id))
			}
			return nil
		}
		h := newHub(t, s, b)
		h.sync(psu)
		ended := only(h.events(), "session.account_finished")
		require.Len(t, ended, 1)
		require.Equal(t, ibanB, ended[0].Snapshot.Account.IBAN())
	})
}

func TestConsentIsToldAfterItsAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		down := true
		b.refuse = func(call string) error {
			if down && call == "accounts" {
				return &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}
			}
			return nil
		}
		h := newHub(t, s, b)
		h.sync(psu)
		require.Empty(t, only(h.events(), "consent."), "its accounts are not known")
		down = false
		h.sync(psu)
		var list []string
		for _, e := range h.events() {
			if strings.HasPrefix(string(e.Type), "consent.") || e.Type == bankfeed.EventAccountCreated {
				list = append(list, string(e.Type))
			}
		}
		require.Equal(t, []string{"account.created", "account.created", "consent.created"}, list)
	})
}

func TestTheBankIsNamedAsItIsToday(t *testing.T) {
	b := newBank(ibanA)
	b.profile.Provider.BIC = ""
	h := newHub(t, storetest.SQLite(t), b)
	h.sync(psu)
	require.Empty(t, h.connection().BIC)
	h.events()
	b.profile.Provider.BIC = "SCRPDEFFXXX"
	h.now = h.now.Add(24 * time.Hour)
	h.sync(nil)
	for _, e := range h.events() {
		require.Equal(t, "SCRPDEFFXXX", e.Snapshot.Connection.BIC, e.Type)
	}
	require.Equal(t, "SCRPDEFFXXX", h.connection().BIC)
}

func TestInitiatorAndExternalID(t *testing.T) {
	h := newHub(t, storetest.SQLite(t), newBank(ibanA))
	o := h.order(nil)
	o.ExternalID = "mine-7"
	_, _, err := h.engine.Synchronize(context.Background(), o)
	require.NoError(t, err)
	require.NoError(t, h.engine.Run(context.Background(), h.claim()))
	for _, e := range h.events() {
		require.Equal(t, bankfeed.ByUser, e.Snapshot.Initiator, "asked for through the API, though nobody is there")
		require.Equal(t, "mine-7", e.Snapshot.Session.ExternalID)
	}
	h.now = h.now.Add(24 * time.Hour)
	_, err = h.engine.Schedule(context.Background())
	require.NoError(t, err)
	require.NoError(t, h.engine.Run(context.Background(), h.claim()))
	for _, e := range h.events() {
		require.Equal(t, bankfeed.ByBackground, e.Snapshot.Initiator)
		require.Empty(t, e.Snapshot.Session.ExternalID)
	}
}
