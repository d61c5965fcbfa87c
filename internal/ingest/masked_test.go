package ingest_test

import (
	"context"
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

// Two accounts behind one mask.
const (
	ibanC = "PL61109010140000071219812874"
	ibanD = "PL27114020040000300201352874"
	mask  = "PLxxxx2874"
)

func maskingBank(setting connector.MaskedIBAN, accounts ...string) *bank {
	b := newBank(accounts...)
	b.masks, b.profile.MaskedIBAN = true, setting
	for _, iban := range accounts {
		b.transactions[iban] = []bankfeed.Transaction{booked("1", "2026-03-01", "-1.00", "of "+iban)}
	}
	return b
}

// told lists events with the IBAN that they show.
func told(events []bankfeed.Event) (list []string) {
	for _, e := range events {
		list = append(list, string(e.Type)+" "+e.Snapshot.Account.ShownIBAN())
	}
	return list
}

func (h *hub) listAccounts(p *bankfeed.PSU) {
	h.t.Helper()
	o := h.order(p)
	o.Type = bankfeed.SessionListAccounts
	_, _, err := h.engine.Synchronize(context.Background(), o)
	require.NoError(h.t, err)
	require.NoError(h.t, h.engine.Run(context.Background(), h.claim()))
	require.NoError(h.t, h.engine.Run(context.Background(), h.claim()), "the session that follows")
}

// renew replaces the REDIRECT consent.
func (h *hub) renew() {
	h.t.Helper()
	ctx := context.Background()
	st, err := h.store.ConnectionState(ctx, h.tenant, h.user.ID, h.conn)
	require.NoError(h.t, err)
	old := *st.Confirmed(bankfeed.Redirect)
	id, err := h.store.NextID(ctx, h.tenant, bankfeed.KindConsent)
	require.NoError(h.t, err)
	fresh := old
	fresh.ID, fresh.Version, fresh.Accounts, fresh.AccountsListed = bankfeed.ConsentID(id), 0, nil, false
	old.Previous, old.Status = old.Status, bankfeed.ConsentInvalid
	_, err = h.store.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: h.user.ID, Consents: []bankfeed.Consent{old, fresh}})
	require.NoError(h.t, err)
}

func (h *hub) accounts() map[string]bankfeed.AccountID {
	list, err := h.store.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
	require.NoError(h.t, err)
	m := map[string]bankfeed.AccountID{}
	for _, a := range list {
		m[a.ShownIBAN()] = a.ID
	}
	require.Len(h.t, m, len(list))
	return m
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

func TestMaskedIBANIsTwoEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := maskingBank(connector.Unmask, ibanC)
		h := newHub(t, s, b)
		h.sync(psu)
		events := h.events()
		accounts := only(events, "account.")
		require.Equal(t, []string{"account.created " + mask, "account.updated " + ibanC}, told(accounts), "no more and no less")
		first, second := *accounts[0].Snapshot.Account, *accounts[1].Snapshot.Account
		require.Equal(t, first.ID, second.ID)
		require.Equal(t, []bankfeed.Identifier{{Type: bankfeed.IdentMaskedIBAN, Value: mask}}, first.Identifiers)
		require.Equal(t, []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: ibanC}}, second.Identifiers, "the mask has served its purpose")
		require.NotEmpty(t, first.Balances, "the first message is complete")
		require.Equal(t, first.Balances[0].Money, second.Balances[0].Money)
		require.Equal(t, []string{"transaction.created " + ibanC, "session.account_finished " + ibanC},
			told(slices.Concat(only(events, "transaction."), only(events, "session."))))
		created := only(events, "consent.created")
		require.Equal(t, mask, created[0].Snapshot.Consent.Accounts[0].IBAN, "as much as was known")
		ended := events[len(events)-1]
		require.Equal(t, bankfeed.EventSyncSucceeded, ended.Type)
		require.Equal(t, bankfeed.ConnectionSuccess, ended.Snapshot.Connection.Status)
		require.Equal(t, 1, count(b.calls, "details "+ibanC))
		i := slices.IndexFunc(events, func(e bankfeed.Event) bool {
			return e.Type == bankfeed.EventBankCalled && e.Snapshot.Call.Context == bankfeed.CallGetAccount
		})
		require.Positive(t, i)
		require.Less(t, events[i].Position, accounts[1].Position)

		// The list shows the mask each time; nobody hears of it again.
		h.now = h.now.Add(24 * time.Hour)
		h.sync(nil)
		h.listAccounts(psu)
		h.renew()
		h.sync(psu)
		require.Empty(t, only(h.events(), "account."))
		require.Equal(t, 1, count(b.calls, "details "+ibanC), "once")
		require.Equal(t, map[string]bankfeed.AccountID{ibanC: first.ID}, h.accounts())
		st, err := s.ConnectionState(context.Background(), h.tenant, h.user.ID, h.conn)
		require.NoError(t, err)
		require.Equal(t, ibanC, st.Confirmed(bankfeed.Redirect).Accounts[0].IBAN)

		b.balance[ibanC] = "7.00"
		h.now = h.now.Add(24 * time.Hour)
		h.sync(nil)
		require.Equal(t, []string{"account.updated " + ibanC}, told(only(h.events(), "account.")))
	})
}

func TestMaskedIBANOfABankWhoseListHasNoBalances(t *testing.T) {
	b := maskingBank(connector.Unmask, ibanC)
	list := func(b *bank) connector.Connector { return withoutBalances{b} }
	h := newHubAt(t, storetest.SQLite(t), lookup{b, list(b)})
	h.sync(psu)
	events := only(h.events(), "account.")
	require.Equal(t, []string{"account.created " + mask, "account.updated " + ibanC}, told(events))
	require.NotEmpty(t, events[1].Snapshot.Account.Balances)
}

type withoutBalances struct{ *bank }

func (b withoutBalances) Accounts(ctx context.Context, a connector.Access, cursor string) (connector.AccountPage, error) {
	p, err := b.bank.Accounts(ctx, a, cursor)
	for i := range p.Accounts {
		p.Accounts[i].Balances = nil
	}
	return p, err
}

type lookup struct {
	*bank
	c connector.Connector
}

func (l lookup) Lookup(id string) (*connector.Profile, connector.Connector, error) {
	p, _, err := l.bank.Lookup(id)
	return p, l.c, err
}

func TestUnmaskingThatFailsIsTriedAgain(t *testing.T) {
	for name, broken := range map[string]func(b *bank){
		"no answer": func(b *bank) {
			b.refuse = func(call string) error {
				if strings.HasPrefix(call, "details") {
					return &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}
				}
				return nil
			}
		},
		"still masked": func(b *bank) {
			b.details = func(iban string) connector.Account {
				a := b.account(iban)
				a.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentMaskedIBAN, Value: mask}}
				return a
			}
		},
		"another account": func(b *bank) { b.details = func(string) connector.Account { return b.account(ibanA) } },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := maskingBank(connector.Unmask, ibanC)
				broken(b)
				h := newHub(t, s, b)
				require.Equal(t, bankfeed.SessionFinished, h.sync(psu).Status)
				events := h.events()
				require.Equal(t, []string{"account.created " + mask}, told(only(events, "account.")))
				require.Equal(t, []string{"transaction.created " + mask}, told(only(events, "transaction.")), "whatever is known at that moment")
				require.Equal(t, bankfeed.ConnectionPartialSuccess, h.connection().Status)

				// Four unattended tries in a day, as of every kind of access.
				for range 6 {
					h.now = h.now.Add(time.Hour)
					h.sync(nil)
				}
				require.Equal(t, 1+4, count(b.calls, "details "+ibanC))
				require.Empty(t, only(h.events(), "account."))

				b.refuse, b.details = nil, nil
				h.now = h.now.Add(24 * time.Hour)
				h.sync(nil)
				require.Equal(t, []string{"account.updated " + ibanC}, told(only(h.events(), "account.")))
				require.Equal(t, bankfeed.ConnectionSuccess, h.connection().Status)
			})
		})
	}
}

func TestUnmaskingThatHitsALimitEndsTheRun(t *testing.T) {
	b := maskingBank(connector.Unmask, ibanC)
	h := newHub(t, storetest.SQLite(t), b)
	b.refuse = func(call string) error {
		if strings.HasPrefix(call, "details") {
			return &connector.Error{Reason: bankfeed.FailRateLimited, Status: 429, RetryAfter: time.Hour}
		}
		return nil
	}
	h.sync(psu)
	require.Equal(t, []string{"account.created " + mask}, told(only(h.events(), "account.")))
	require.Equal(t, h.now.Add(time.Hour), *h.connection().Channel(bankfeed.Redirect).NextTryAt)
}

func TestMaskedIBANIsKept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, masks := range []bool{true, false} {
			b := maskingBank(connector.KeepMasked, ibanC)
			b.masks = masks // a bank that shows it all the same
			h := newHub(t, s, b)
			h.sync(psu)
			h.listAccounts(psu)
			h.renew()
			h.sync(psu)
			events := h.events()
			require.Equal(t, []string{"account.created " + mask}, told(only(events, "account.")))
			require.Zero(t, count(b.calls, "details "+ibanC))
			for _, e := range events {
				for _, a := range append(e.Snapshot.Accounts, bankfeed.Account{}) {
					require.Empty(t, a.IBAN())
				}
			}
		}
	})
}

func TestAccountsBehindOneMask(t *testing.T) {
	for setting, shown := range map[connector.MaskedIBAN][]string{connector.Unmask: {ibanC, ibanD}, connector.KeepMasked: {mask, mask}} {
		t.Run(string(setting), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := maskingBank(setting, ibanC, ibanD)
				h := newHub(t, s, b)
				h.sync(psu)
				require.Len(t, only(h.events(), "account.created"), 2)
				require.Len(t, h.transactions(), 2)

				// The bank turns its list round: its own names tell.
				slices.Reverse(b.accounts)
				h.listAccounts(psu)
				require.Empty(t, only(h.events(), "account."))
				require.Len(t, h.transactions(), 2, "each account is read as itself")

				if setting == connector.Unmask { // and under a new consent, with new names, the whole IBAN
					b.resources = "-2"
					h.renew()
					h.sync(psu)
					require.Empty(t, only(h.events(), "account."))
					require.Len(t, h.transactions(), 2)
				}
				list, err := s.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
				require.NoError(t, err)
				require.Len(t, list, 2)
				for i, a := range list {
					require.Equal(t, shown[i], a.ShownIBAN())
				}
			})
		})
	}
}

func TestBusinessProducts(t *testing.T) {
	b := newBank(ibanA)
	b.profile.BusinessProducts = []string{"firm", "gir"}
	h := newHub(t, storetest.SQLite(t), b)
	h.sync(psu)
	require.True(t, *only(h.events(), "account.created")[0].Snapshot.Account.IsBusiness)

	b = newBank(ibanA)
	b.profile.BusinessProducts = []string{"firm"}
	h = newHub(t, storetest.SQLite(t), b)
	h.sync(psu)
	require.Nil(t, only(h.events(), "account.created")[0].Snapshot.Account.IsBusiness, "neither the product nor the bank says")
}
