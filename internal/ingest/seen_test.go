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
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// watch is a hub whose tenant wants to hear of what did not change.
func watch(t *testing.T, s *store.Store, b *bank, modes ...bankfeed.Mode) *hub {
	h := newHub(t, s, b, modes...)
	config := h.engine.Config
	config.CommitRows = 7
	config.Unchanged = func(tenant bankfeed.TenantID) bool { return tenant == h.tenant }
	h.engine = ingest.New(config)
	return h
}

// allEvents is events with those of TopicSeen.
func (h *hub) allEvents() []bankfeed.Event {
	h.t.Helper()
	var all []bankfeed.Event
	for {
		events, next, err := h.store.ReadEvents(context.Background(), eventlog.Query{Tenant: h.tenant, User: h.user.ID, After: h.seen, Limit: 500, Seen: true})
		require.NoError(h.t, err)
		if len(events) == 0 {
			return all
		}
		all, h.seen = append(all, events...), next
	}
}

// data is the events about accounts, their transactions and their end.
func data(events []bankfeed.Event) (list []bankfeed.Event) {
	for _, e := range events {
		if e.Type == bankfeed.EventAccountFinished || strings.HasPrefix(string(e.Type), "account.") || strings.HasPrefix(string(e.Type), "transaction.") {
			list = append(list, e)
		}
	}
	return list
}

// runs shortens repeated types.
func runs(events []bankfeed.Event) (list []string) {
	for i := 0; i < len(events); {
		n := i
		for n < len(events) && events[n].Type == events[i].Type {
			n++
		}
		list = append(list, fmt.Sprint(events[i].Type, " ", n-i))
		i = n
	}
	return list
}

func TestUnchangedIsTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(25, "2026-03-01")
		h := watch(t, s, b)
		h.sync(psu)
		require.Equal(t, []string{"account.created 1", "account.updated 1", "transaction.created 25", "session.account_finished 1"}, runs(data(h.allEvents())))
		stored := h.transactions()

		// One is new, one has changed, 24 are as they were.
		h.now = h.now.Add(24 * time.Hour)
		b.transactions[ibanA] = append([]bankfeed.Transaction{booked("new", "2026-03-02", "-9.99", "coffee")}, b.transactions[ibanA]...)
		b.transactions[ibanA][1].Remittance = []string{"corrected"}
		h.sync(nil)
		events := data(h.allEvents())
		require.Equal(t, []string{"account.seen 1"}, runs(events)[:1], "before its transactions")
		require.Equal(t, bankfeed.EventAccountFinished, events[len(events)-1].Type)
		require.Len(t, only(events, "transaction.seen"), 24)
		require.Len(t, events, 1+1+1+24+1)
		for _, e := range only(events, "transaction.seen") {
			i := slices.IndexFunc(stored, func(x bankfeed.Transaction) bool { return x.ID == e.Snapshot.Transaction.ID })
			want := stored[i]
			want.Account, want.User, want.Raw = 0, 0, nil
			require.Equal(t, want, *e.Snapshot.Transaction, "as it is stored")
			require.Equal(t, ibanA, e.Snapshot.Account.IBAN())
		}

		// A list of accounts tells of them, so that nothing else has to.
		h.now = h.now.Add(24 * time.Hour)
		h.listAccounts(psu)
		events = data(h.allEvents())
		require.Equal(t, []string{"account.seen 2", "transaction.seen 26", "session.account_finished 1"}, runs(events))
		require.NotEqual(t, events[0].Session, events[1].Session, "one for each session")

		h.now = h.now.Add(24 * time.Hour)
		b.balance[ibanA] = "7.00"
		h.sync(nil)
		require.Equal(t, []string{"account.updated 1", "transaction.seen 26", "session.account_finished 1"}, runs(data(h.allEvents())))

		// Others never see it.
		h.seen = 0
		require.Empty(t, only(h.events(), "account.seen"))
		require.Empty(t, only(h.events(), "transaction.seen"))
	})
}

func TestUnchangedIsToldOncePerListing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for name, spoil := range map[string]func(b *bank){
			"a list that moves": func(b *bank) {
				moved := 0
				b.refuse = func(call string) error {
					if call == "transactions "+ibanA+" 2" && moved < 2 {
						moved++
						id := fmt.Sprintf("late%d", moved)
						b.transactions[ibanA] = slices.Insert(b.transactions[ibanA], 0, booked(id, "2026-03-02", "-1.00", id))
					}
					return nil
				}
			},
			"ids that turn out worthless": func(b *bank) {
				b.transactions[ibanA][32].BankID = ""
				for i := range 32 {
					b.transactions[ibanA][i].BankID = fmt.Sprint("other", i)
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				b := newBank(ibanA)
				b.transactions[ibanA] = history(40, "2026-03-01")
				h := watch(t, s, b)
				h.sync(psu)
				h.allEvents()

				spoil(b)
				h.now = h.now.Add(24 * time.Hour)
				h.sync(psu) // who can read it as often as it takes
				times := map[bankfeed.TransactionID]int{}
				events := data(h.allEvents())
				for _, e := range only(events, "transaction.") {
					times[e.Snapshot.Transaction.ID]++
				}
				require.Len(t, times, len(h.transactions()))
				for id, n := range times {
					require.Equal(t, 1, n, "transaction %d", id)
				}
				require.Len(t, only(events, "account.seen"), 1)
				require.Equal(t, bankfeed.EventAccountFinished, events[len(events)-1].Type)
			})
		}
	})
}

func TestUnchangedWithoutBalances(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(3, "2026-03-01")
		h := watch(t, s, b)
		h.sync(psu)
		h.allEvents()
		b.refuse = func(call string) error {
			if strings.HasPrefix(call, "balances") {
				return &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503}
			}
			return nil
		}
		h.now = h.now.Add(24 * time.Hour)
		h.sync(nil)
		require.Equal(t, []string{"account.seen 1", "transaction.seen 3", "session.account_finished 1"}, runs(data(h.allEvents())))

		// With one access left transactions go first.
		b.refuse = nil
		for range 3 {
			h.now = h.now.Add(time.Hour)
			h.sync(nil)
			require.Equal(t, []string{"account.seen 1", "transaction.seen 3", "session.account_finished 1"}, runs(data(h.allEvents())))
		}

		// Nothing was read: nothing was seen.
		b.refuse = func(string) error { return &connector.Error{Reason: bankfeed.FailUnavailable, Status: 503} }
		h.now = h.now.Add(24 * time.Hour)
		h.sync(nil)
		require.Empty(t, data(h.allEvents()))
	})
}

func TestUnchangedOnTwoChannels(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(3, "2026-03-01")
		h := watch(t, s, b, bankfeed.Redirect, bankfeed.Embedded)
		h.sync(psu)
		require.Empty(t, only(h.allEvents(), "account.seen"), "the other channel told of it in this session")
		h.now = h.now.Add(24 * time.Hour)
		h.sync(psu)
		require.Len(t, only(h.allEvents(), "account.seen"), 1)
	})
}

func TestUnchangedAfterACrash(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, at := range []string{"balances " + ibanA, "transactions " + ibanA + " 0", "transactions " + ibanA + " 2"} {
			t.Run(at, func(t *testing.T) {
				b := newBank(ibanA)
				b.transactions[ibanA] = history(35, "2026-03-01")
				h := watch(t, s, b)
				h.sync(psu)
				h.allEvents()
				h.now = h.now.Add(24 * time.Hour)
				o := h.order(psu)
				o.Type = bankfeed.SessionListAccounts
				ctx, kill := context.WithCancel(context.Background())
				_, _, err := h.engine.Synchronize(ctx, o)
				require.NoError(t, err)
				require.NoError(t, h.engine.Run(ctx, h.claim()))
				h.allEvents()
				b.refuse = func(call string) error {
					if call == at {
						kill()
						return ctx.Err()
					}
					return nil
				}
				require.Error(t, h.engine.Run(ctx, h.claim()))
				b.refuse = nil
				h.now = h.now.Add(time.Minute)
				require.NoError(t, h.engine.Run(context.Background(), h.claim()))
				require.Equal(t, []string{"account.seen 1", "transaction.seen 35", "session.account_finished 1"}, runs(data(h.allEvents())))
			})
		}
	})
}
