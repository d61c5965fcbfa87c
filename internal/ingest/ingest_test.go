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
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

const (
	ibanA = "DE89370400440532013000"
	ibanB = "DE75512108001245126199"
)

// hub is a store, an engine and one linked connection.
type hub struct {
	t      *testing.T
	store  *store.Store
	engine *ingest.Engine
	now    time.Time
	tenant bankfeed.TenantID
	user   bankfeed.User
	conn   bankfeed.ConnectionID
	seen   bankfeed.Position
}

var psu = &bankfeed.PSU{IP: "203.0.113.7"}

func newHub(t *testing.T, s *store.Store, b *bank, modes ...bankfeed.Mode) *hub {
	return newHubAt(t, s, b, modes...)
}

// newHubAt links a connection to any bank with the number 200.
func newHubAt(t *testing.T, s *store.Store, banks ingest.Banks, modes ...bankfeed.Mode) *hub {
	h := &hub{t: t, store: s, now: storetest.Now}
	h.engine = ingest.New(ingest.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab",
		Now: func() time.Time { return h.now }, Jitter: func(time.Duration) time.Duration { return 0 }})
	h.tenant, h.user = storetest.User(t, s)
	id, err := s.NextID(context.Background(), h.tenant, bankfeed.KindConnection)
	require.NoError(t, err)
	h.conn = bankfeed.ConnectionID(id)
	c := &bankfeed.Change{Tenant: h.tenant, User: h.user.ID, NewConnection: &bankfeed.Connection{ID: h.conn, User: h.user.ID, ProviderID: "200",
		ProviderName: "Scripted Bank", AutoSync: true, Status: bankfeed.ConnectionNone, CreatedAt: h.now}}
	if len(modes) == 0 {
		modes = []bankfeed.Mode{bankfeed.Redirect}
	}
	for _, m := range modes {
		c.NewConnection.Channels = append(c.NewConnection.Channels, bankfeed.Channel{Mode: m, Status: bankfeed.ChannelEmpty})
		id, err := s.NextID(context.Background(), h.tenant, bankfeed.KindConsent)
		require.NoError(t, err)
		c.Consents = append(c.Consents, bankfeed.Consent{ID: bankfeed.ConsentID(id), Mode: m, Status: bankfeed.ConsentConfirmed, CreatedAt: h.now,
			ConfirmedAt: &h.now, User: h.user.ID, Connection: h.conn, FrequencyPerDay: 4, FreshUntil: h.now.Add(time.Hour),
			ValidUntil: bankfeed.DateOf(h.now).AddDays(180), Grant: bankfeed.Grant{ConsentID: "c-" + bankfeed.Secret(m)}})
	}
	_, err = s.Apply(context.Background(), c)
	require.NoError(t, err)
	return h
}

func (h *hub) order(p *bankfeed.PSU) bankfeed.SyncOrder {
	return bankfeed.SyncOrder{Tenant: h.tenant, User: h.user.ID, Connection: h.conn, PSU: p}
}

// claim takes the session's work as the lease engine does.
func (h *hub) claim() bankfeed.Fence {
	claims, err := h.store.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkSession, Owner: "node", Now: h.now,
		Until: h.now.Add(20 * time.Second), Limit: 10, Cap: func(string) int { return 10 }})
	require.NoError(h.t, err)
	require.Len(h.t, claims, 1)
	return claims[0].Fence
}

// sync runs one whole session.
func (h *hub) sync(p *bankfeed.PSU) bankfeed.Session {
	h.t.Helper()
	ctx := context.Background()
	s, joined, err := h.engine.Synchronize(ctx, h.order(p))
	require.NoError(h.t, err)
	require.False(h.t, joined)
	if !s.Open() {
		return s // nothing could take part
	}
	require.NoError(h.t, h.engine.Run(ctx, h.claim()))
	done, err := h.store.Session(ctx, h.tenant, h.user.ID, s.ID)
	require.NoError(h.t, err)
	return done
}

// events lists what came into the log since the last call.
func (h *hub) events() []bankfeed.Event {
	h.t.Helper()
	var all []bankfeed.Event
	for {
		events, next, err := h.store.ReadEvents(context.Background(), eventlog.Query{Tenant: h.tenant, User: h.user.ID, After: h.seen, Limit: 500})
		require.NoError(h.t, err)
		if len(events) == 0 {
			return all
		}
		all, h.seen = append(all, events...), next
	}
}

func types(events []bankfeed.Event) (list []string) {
	for _, e := range events {
		list = append(list, string(e.Type))
	}
	return list
}

func only(events []bankfeed.Event, prefix string) (some []bankfeed.Event) {
	for _, e := range events {
		if strings.HasPrefix(string(e.Type), prefix) {
			some = append(some, e)
		}
	}
	return some
}

func (h *hub) transactions() []bankfeed.Transaction {
	all, err := h.store.Transactions(context.Background(), h.tenant, h.user.ID, bankfeed.TransactionFilter{Limit: 100_000})
	require.NoError(h.t, err)
	return all
}

func (h *hub) connection() *bankfeed.Connection {
	c, err := h.store.Connection(context.Background(), h.tenant, h.user.ID, h.conn)
	require.NoError(h.t, err)
	return &c
}

func TestFirstSessionThenOnlyChanges(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(25, "2026-03-01")
		h := newHub(t, s, b)

		n := h.sync(psu)
		require.Equal(t, bankfeed.SessionFinished, n.Status)
		require.Nil(t, n.PSU, "an ended session keeps no address")
		require.Len(t, h.transactions(), 25)
		events := h.events()
		require.Equal(t, []string{"sync.started", "channel.accounts_list_started", "bank.called", "channel.provider_connected", "account.created",
			"consent.created", "channel.accounts_list_succeeded", "channel.transactions_list_started", "bank.called", "account.updated"}, types(events)[:10])
		require.Len(t, only(events, "transaction.created"), 25)
		tail := types(events)[len(events)-3:]
		require.Equal(t, []string{"session.account_finished", "channel.transactions_list_succeeded", "sync.succeeded"}, tail)
		last := events[len(events)-1].Snapshot
		require.Equal(t, bankfeed.ConnectionSuccess, last.Connection.Status)
		for _, p := range b.psu {
			require.Equal(t, psu, p, "an attended session tells the bank so in every call")
		}
		require.Equal(t, h.now.Add(24*time.Hour), h.connection().NextSyncAt)

		// A day later, unattended: one new, one with another text.
		h.now = h.now.Add(24 * time.Hour)
		list := append([]bankfeed.Transaction{booked("new", "2026-03-02", "-9.99", "coffee")}, b.transactions[ibanA]...)
		list[1].Remittance = []string{"purchase, corrected"}
		b.transactions[ibanA], b.psu = list, nil
		opened, err := h.engine.Schedule(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, opened)
		require.NoError(t, h.engine.Run(context.Background(), h.claim()))
		events = h.events()
		require.Len(t, only(events, "transaction."), 2)
		require.Len(t, only(events, "transaction.created"), 1)
		require.Empty(t, only(events, "account."), "nothing about the account changed")
		require.Len(t, h.transactions(), 26)
		require.NotContains(t, b.calls[5:], "accounts", "the list is read once under a consent")
		for _, p := range b.psu {
			require.Nil(t, p, "nobody was there")
		}

		// Nothing changed: no event about data at all.
		h.now = h.now.Add(24 * time.Hour)
		h.sync(nil)
		events = h.events()
		require.Empty(t, only(events, "transaction."))
		require.Empty(t, only(events, "account."))
		require.Equal(t, "sync.succeeded", types(events)[len(events)-1])
	})
}

func TestEventsCarryExactAmounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = []bankfeed.Transaction{booked("1", "2026-03-01", "-12345678901234567.890", "large"), booked("2", "2026-03-01", "10.00", "scale")}
		h := newHub(t, s, b)
		h.sync(psu)
		var amounts []string
		for _, e := range only(h.events(), "transaction.") {
			amounts = append(amounts, e.Snapshot.Transaction.Money.Amount.String())
		}
		require.ElementsMatch(t, []string{"-12345678901234567.890", "10.00"}, amounts)
		for _, tx := range h.transactions() {
			require.Contains(t, amounts, tx.Money.Amount.String())
			require.NotEmpty(t, tx.Raw)
		}
	})
}

func TestCrashCostsAtMostThePageUnderWay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, at := range []string{"accounts", "balances " + ibanA, "transactions " + ibanA + " 0", "transactions " + ibanA + " 3", "transactions " + ibanA + " 5"} {
			t.Run(at, func(t *testing.T) {
				b := newBank(ibanA)
				b.transactions[ibanA] = history(57, "2026-03-01")
				h := newHub(t, s, b)
				ctx, kill := context.WithCancel(context.Background())
				b.refuse = func(call string) error {
					if call == at {
						kill()
						return ctx.Err()
					}
					return nil
				}
				_, _, err := h.engine.Synchronize(ctx, h.order(psu))
				require.NoError(t, err)
				first := h.claim()
				require.Error(t, h.engine.Run(ctx, first))

				b.refuse = nil
				h.now = h.now.Add(time.Minute) // the lease has run out
				second := h.claim()
				require.Greater(t, second.Number, first.Number)
				require.NoError(t, h.engine.Run(context.Background(), second))
				requireAllOnce(t, h, 57)

				// The first node wakes up and must not be able to write.
				require.ErrorIs(t, h.engine.Run(context.Background(), first), bankfeed.ErrFenced)
			})
		}
	})
}

// requireAllOnce: every transaction is stored once and was told once.
func requireAllOnce(t *testing.T, h *hub, n int) {
	t.Helper()
	require.Len(t, h.transactions(), n)
	seen := map[string]int{}
	for _, e := range only(h.events(), "transaction.created") {
		seen[e.Snapshot.Transaction.BankID+e.Snapshot.Transaction.Money.Amount.String()]++
	}
	require.Len(t, seen, n)
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
}

func TestChannelsAreIsolated(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(5, "2026-03-01")
		h := newHub(t, s, b, bankfeed.Redirect, bankfeed.Embedded)
		h.sync(psu)
		accounts, err := s.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
		require.NoError(t, err)
		require.Len(t, accounts, 1, "listed by both channels, it is one account")
		require.Equal(t, bankfeed.Redirect, accounts[0].Source)
		require.Len(t, h.transactions(), 5)
		for _, m := range []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded} {
			c := h.connection()
			require.Equal(t, bankfeed.ChannelSuccess, c.Channel(m).Status)
		}
	})
}

func TestOneAccountFailsTheOthersGoOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		b.transactions[ibanA], b.transactions[ibanB] = history(3, "2026-03-01"), history(4, "2026-03-01")
		b.refuse = func(call string) error {
			if strings.HasPrefix(call, "transactions "+ibanB) {
				return &connector.Error{Reason: bankfeed.FailFormat, Status: 200, Text: "text/plain"}
			}
			return nil
		}
		h := newHub(t, s, b)
		require.Equal(t, bankfeed.SessionFinished, h.sync(psu).Status)
		require.Equal(t, bankfeed.ConnectionPartialSuccess, h.connection().Status)
		require.Len(t, h.transactions(), 3)
		accounts, err := s.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
		require.NoError(t, err)
		require.Equal(t, bankfeed.AccountOK, accounts[0].Status)
		require.Equal(t, bankfeed.AccountFailed, accounts[1].Status)
		require.Equal(t, bankfeed.FailFormat, accounts[1].Failure.Reason)
		require.Len(t, only(h.events(), "session.account_finished"), 1, "only for the account whose transactions completed")
	})
}

func TestListThatMovesIsReadAgain(t *testing.T) {
	for _, links := range []bool{true, false} {
		t.Run(fmt.Sprintf("links=%t", links), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := newBank(ibanA)
				b.links = links
				b.transactions[ibanA] = history(40, "2026-03-01")
				inserted := 0
				b.refuse = func(call string) error {
					if call == "transactions "+ibanA+" 2" && inserted < 2 {
						inserted++
						id := fmt.Sprintf("late%d", inserted)
						b.transactions[ibanA] = slices.Insert(b.transactions[ibanA], 0, booked(id, "2026-03-01", "-1.00", id))
					}
					return nil
				}
				h := newHub(t, s, b)
				require.Equal(t, bankfeed.SessionFinished, h.sync(psu).Status)
				requireAllOnce(t, h, 42)
			})
		})
	}
}

func TestListThatNeverStandsStillIsPartial(t *testing.T) {
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
		conn := h.connection()
		require.Equal(t, bankfeed.ChannelPartialSuccess, conn.Channel(bankfeed.Redirect).Status)
		require.Equal(t, bankfeed.FailUnstable, conn.Channel(bankfeed.Redirect).Failure.Reason)
	})
}

func TestPendingBecomesBooked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		hold := booked("p1", "", "-42.00", "HOTEL PARIS")
		hold.Status, hold.TransactionDate = bankfeed.TransactionPending, "2026-03-01"
		gone := booked("p2", "", "-5.00", "PARKING")
		gone.Status, gone.TransactionDate = bankfeed.TransactionPending, "2026-03-01"
		b.transactions[ibanA] = append([]bankfeed.Transaction{hold, gone}, history(3, "2026-02-20")...)
		h := newHub(t, s, b)
		h.sync(psu)
		before := h.transactions()
		h.events()

		h.now = h.now.Add(24 * time.Hour)
		b.transactions[ibanA] = append([]bankfeed.Transaction{booked("b77", "2026-03-02", "-42.00", "Hotel Paris")}, history(3, "2026-02-20")...)
		h.sync(nil)
		events := only(h.events(), "transaction.")
		require.Equal(t, []string{"transaction.updated", "transaction.removed"}, types(events))
		require.Equal(t, bankfeed.TransactionBooked, events[0].Snapshot.Transaction.Status)
		require.Equal(t, bankfeed.TransactionCancelled, events[1].Snapshot.Transaction.Status)
		i := slices.IndexFunc(before, func(x bankfeed.Transaction) bool { return x.BankID == "p1" })
		require.Equal(t, before[i].ID, events[0].Snapshot.Transaction.ID, "a booked transaction keeps the number of its pending one")
		require.Len(t, h.transactions(), 4)
	})
}

func TestIDsThatIdentifyNothing(t *testing.T) {
	same := func(id string) bankfeed.Transaction { return booked(id, "2026-02-20", "-3.20", "COFFEE") }
	for name, ids := range map[string][2][]string{
		"blank":     {{"", "", ""}, {"", "", ""}},
		"duplicate": {{"x", "x", "x"}, {"x", "x", "x"}},
		"changing":  {{"a", "b", "c"}, {"d", "e", "f"}},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, s *store.Store) {
				b := newBank(ibanA)
				for _, id := range ids[0] {
					b.transactions[ibanA] = append(b.transactions[ibanA], same(id))
				}
				h := newHub(t, s, b)
				h.sync(psu)
				require.Len(t, h.transactions(), 3, "three coffees are three coffees")
				h.events()

				h.now = h.now.Add(24 * time.Hour)
				b.transactions[ibanA] = nil
				for _, id := range ids[1] {
					b.transactions[ibanA] = append(b.transactions[ibanA], same(id))
				}
				h.sync(nil)
				require.Len(t, h.transactions(), 3)
				require.Empty(t, only(h.events(), "transaction.created"))
			})
		})
	}
}

func TestSecondRequestJoins(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := newHub(t, s, newBank(ibanA))
		ctx := context.Background()
		first, joined, err := h.engine.Synchronize(ctx, h.order(nil))
		require.NoError(t, err)
		require.False(t, joined)
		second, joined, err := h.engine.Synchronize(ctx, h.order(nil))
		require.NoError(t, err)
		require.True(t, joined)
		require.Equal(t, first.ID, second.ID)

		named := h.order(nil)
		named.ExternalID = "my-own"
		_, joined, err = h.engine.Synchronize(ctx, named)
		require.NoError(t, err)
		require.True(t, joined)
		found, err := s.SessionsByExternalID(ctx, h.tenant, h.user.ID, "my-own")
		require.NoError(t, err)
		require.Len(t, found, 1, "a request that joined is found by its own id")
		require.NoError(t, h.engine.Run(ctx, h.claim()), "and the session goes on")

		foreign := h.order(nil)
		foreign.User++
		_, _, err = h.engine.Synchronize(ctx, foreign)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}

func TestListAccountsIsFollowedByAll(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		h := newHub(t, s, b)
		h.sync(psu)
		h.events()
		b.accounts = append(b.accounts, ibanB)
		o := h.order(psu)
		o.Type = bankfeed.SessionListAccounts
		_, _, err := h.engine.Synchronize(context.Background(), o)
		require.NoError(t, err)
		require.NoError(t, h.engine.Run(context.Background(), h.claim()))
		events := h.events()
		require.Len(t, only(events, "account.created"), 1)
		require.Equal(t, []string{"sync.succeeded", "sync.started"}, types(events)[len(events)-2:])
		require.NoError(t, h.engine.Run(context.Background(), h.claim()))
		events = h.events()
		require.Equal(t, "sync.succeeded", types(events)[len(events)-1])
		require.Equal(t, bankfeed.SessionAll, events[len(events)-1].Snapshot.Session.Type)
	})
}

func TestWithoutAnyConsentASessionEndsAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		h := newHub(t, s, b)
		h.sync(psu)
		h.now = h.now.Add(24 * time.Hour)
		b.refuse = func(string) error { return &connector.Error{Reason: bankfeed.FailConsentExpired, Status: 401} }
		h.sync(nil)
		h.events()
		n, _, err := h.engine.Synchronize(context.Background(), h.order(psu))
		require.NoError(t, err)
		require.Equal(t, bankfeed.SessionFailed, n.Status)
		require.Equal(t, []string{"sync.started", "sync.failed"}, types(h.events()))
	})
}

func TestRemovedAccount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA, ibanB)
		h := newHub(t, s, b)
		h.sync(psu)
		h.events()
		b.accounts = []string{ibanA}
		o := h.order(psu)
		o.Type = bankfeed.SessionListAccounts
		_, _, err := h.engine.Synchronize(context.Background(), o)
		require.NoError(t, err)
		require.NoError(t, h.engine.Run(context.Background(), h.claim()))
		require.Len(t, only(h.events(), "account.removed"), 1)
		accounts, err := s.Accounts(context.Background(), h.tenant, h.user.ID, bankfeed.AccountFilter{})
		require.NoError(t, err)
		require.Len(t, accounts, 1)
	})
}
