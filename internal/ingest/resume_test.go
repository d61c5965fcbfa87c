package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// A crash between a channel's account list and its transactions, which lasts as
// long as the other channel takes for its list: the list used to be read again,
// which told of its end twice and cost an access.
func TestCrashAfterAnAccountListDoesNotReadItAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBank(ibanA)
		b.transactions[ibanA] = history(15, "2026-03-01")
		h := newHub(t, s, b, bankfeed.Redirect, bankfeed.Embedded)
		ctx, kill := context.WithCancel(context.Background())
		defer kill()
		var before []bankfeed.Event
		lists := 0
		b.refuse = func(call string) error {
			if call != "accounts" {
				return nil
			}
			if lists++; lists == 1 {
				return nil
			}
			// The other channel's list is on its way to the store, or there.
			deadline := time.After(10 * time.Second)
			for len(only(before, "channel.accounts_list_succeeded")) == 0 {
				select {
				case <-deadline:
					t.Error("the first list was not stored")
					return nil
				case <-time.After(time.Millisecond):
					before = append(before, h.events()...)
				}
			}
			kill()
			return ctx.Err()
		}
		_, _, err := h.engine.Synchronize(ctx, h.order(psu))
		require.NoError(t, err)
		require.Error(t, h.engine.Run(ctx, h.claim()))
		require.Equal(t, 2, lists)

		b.refuse = nil
		b.calls = nil
		h.now = h.now.Add(time.Minute) // the lease has run out
		require.NoError(t, h.engine.Run(context.Background(), h.claim()))
		require.Len(t, h.transactions(), 15)
		lists = 0
		for _, call := range b.calls {
			if call == "accounts" {
				lists++
			}
		}
		require.Equal(t, 1, lists, "only the list that had not been read")
		told := map[bankfeed.EventType]map[bankfeed.Mode]int{}
		for _, e := range append(before, h.events()...) {
			if told[e.Type] == nil {
				told[e.Type] = map[bankfeed.Mode]int{}
			}
			told[e.Type][e.Snapshot.Channel]++
		}
		once := map[bankfeed.Mode]int{bankfeed.Redirect: 1, bankfeed.Embedded: 1}
		for _, typ := range []bankfeed.EventType{bankfeed.EventAccountsListStarted, bankfeed.EventAccountsListSucceeded, bankfeed.EventProviderConnected,
			bankfeed.EventConsentCreated, bankfeed.EventTransactionsStarted, bankfeed.EventTransactionsSucceeded} {
			require.Equal(t, once, told[typ], typ)
		}
		require.Equal(t, map[bankfeed.Mode]int{"": 1}, told[bankfeed.EventSyncSucceeded])
	})
}
