package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// page is a change with the events of one page of n transactions.
func page(tenant bankfeed.TenantID, user bankfeed.UserID, n int) *bankfeed.Change {
	c := &bankfeed.Change{Tenant: tenant, User: user}
	connection := &bankfeed.Connection{ID: 5, ProviderID: "200", ProviderName: "WBX Test Bank", CreatedAt: storetest.Now,
		Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning}}}
	account := &bankfeed.Account{ID: 3, Type: bankfeed.AccountCurrent, Currency: "EUR", CreatedAt: storetest.Now,
		Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE02120300000000202051"}}}
	session := &bankfeed.SessionRef{ID: 9, Type: bankfeed.SessionAll, Status: bankfeed.SessionInProgress, Stage: bankfeed.StageTransactions}
	for i := range n {
		c.Events = append(c.Events, bankfeed.Draft{Type: bankfeed.EventTransactionCreated, At: storetest.Now,
			Connection: 5, Account: 3, Session: 9, Snapshot: &bankfeed.Snapshot{
				Schema: bankfeed.SnapshotSchema, Build: "20260302.1", Node: "0123456789ab",
				User: bankfeed.UserRef{ID: user, BusinessContext: bankfeed.Individual}, Session: session, Connection: connection, Account: account,
				Transaction: &bankfeed.Transaction{ID: bankfeed.TransactionID(i + 1), Status: bankfeed.TransactionBooked,
					Money:       bankfeed.Money{Amount: bankfeed.MustAmount("-12.30"), Currency: "EUR"},
					BookingDate: "2026-03-02", ValueDate: "2026-03-02", BankID: fmt.Sprintf("T%09d", i), EndToEndID: "E2E-0001",
					Creditor:   bankfeed.Party{Name: "Stadtwerke", Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "DE02100100100006820101"}},
					Remittance: []string{"Abschlag Strom 03/2026 Kundennummer 4711"}, CreatedAt: storetest.Now},
			}})
	}
	return c
}

func TestErasedEventsHaveNoSnapshot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, q := context.Background(), eventlog.Query{Tenant: 1, Limit: 10}
		done, err := s.AppendEvents(ctx, page(1, 7, 2))
		require.NoError(t, err)
		require.Equal(t, bankfeed.Committed{Tenant: 1, User: 7, First: 1, Last: 2, Topics: bankfeed.Topics{true, false}}, done)
		_, err = s.AppendEvents(ctx, page(1, 8, 1))
		require.NoError(t, err)
		events, next, err := s.ReadEvents(ctx, q)
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(3), next)
		for i, d := range page(1, 7, 2).Events {
			require.Equal(t, d.Snapshot, events[i].Snapshot)
		}

		require.NoError(t, s.DestroyUserKey(ctx, 1, 7))
		events, _, err = s.ReadEvents(ctx, q)
		require.NoError(t, err)
		require.Len(t, events, 3)
		require.Nil(t, events[0].Snapshot)
		require.Nil(t, events[1].Snapshot)
		require.NotNil(t, events[2].Snapshot)
		require.Equal(t, bankfeed.EventTransactionCreated, events[0].Type)
		_, err = s.AppendEvents(ctx, page(1, 7, 1))
		require.ErrorIs(t, err, bankfeed.ErrErased)
	})
}

// A rolled-back commit gives its positions back: there is never a gap.
func TestRollbackLeavesNoGap(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		require.ErrorIs(t, s.AppendAndFail(ctx, page(1, 7, 3), errTest), errTest)
		done, err := s.AppendEvents(ctx, page(1, 7, 1))
		require.NoError(t, err)
		require.Equal(t, bankfeed.Position(1), done.First)
		events, _, err := s.ReadEvents(ctx, eventlog.Query{Tenant: 1, Limit: 10})
		require.NoError(t, err)
		require.Len(t, events, 1)
	})
}

// A payload is tied to its user: moved to another row it does not open, and the
// reader says which event is damaged.
func TestMovedPayloadDoesNotOpen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		for _, user := range []bankfeed.UserID{7, 8} {
			_, err := s.AppendEvents(ctx, page(1, user, 1))
			require.NoError(t, err)
		}
		require.NoError(t, s.Exec(ctx, `UPDATE events SET payload = (SELECT payload FROM events WHERE position = 1) WHERE position = 2`))
		_, _, err := s.ReadEvents(ctx, eventlog.Query{Tenant: 1, Limit: 10})
		require.ErrorIs(t, err, secret.ErrOpen)
		require.ErrorContains(t, err, "event 2 in lane 0 of tenant 1")
	})
}

// Each kind of reader has its index, however large the log and whoever else
// writes to it.
func TestReadersUseTheirIndex(t *testing.T) {
	connections := bankfeed.TopicConnections
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		for user := range bankfeed.UserID(10) {
			c := page(1, user+1, 1000)
			for i := range c.Events {
				if i%200 == 0 {
					c.Events[i].Type = bankfeed.EventSyncStarted
				}
			}
			_, err := s.AppendEvents(ctx, c)
			require.NoError(t, err)
		}
		for _, analyzed := range []bool{false, true} {
			if analyzed {
				require.NoError(t, s.Exec(ctx, `ANALYZE`))
			}
			for want, q := range map[string]eventlog.Query{
				"events_connections": {Tenant: 1, User: 7, Topic: &connections},
				"events_user":        {Tenant: 1, User: 7},
				map[store.Engine]string{store.SQLite: "autoindex_events_1", store.Postgres: "events_pkey"}[s.Engine()]: {Tenant: 1},
			} {
				plan, err := s.ExplainEvents(ctx, q)
				require.NoError(t, err)
				require.Contains(t, plan, want)
				require.NotRegexp(t, "Seq Scan|TEMP B-TREE", plan)
			}
		}
	})
}

var errTest = errors.New("made up")

// eventlogAll reads the beginning of the log.
var eventlogAll = eventlog.Query{Tenant: 1, Limit: 100}

func BenchmarkAppend(b *testing.B) {
	for _, s := range []*store.Store{storetest.SQLite(b), storetest.Postgres(b)} {
		b.Run(string(s.Engine())+"/1", func(b *testing.B) {
			c := page(1, 7, 1)
			for b.Loop() {
				_, err := s.AppendEvents(context.Background(), c)
				require.NoError(b, err)
			}
		})
		b.Run(string(s.Engine()), func(b *testing.B) {
			c := page(1, 7, 500)
			for b.Loop() {
				_, err := s.AppendEvents(context.Background(), c)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.N)*500/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(string(s.Engine())+"/seal", func(b *testing.B) {
			c := page(1, 7, 500)
			for b.Loop() {
				require.NoError(b, s.SealEvents(context.Background(), c))
			}
		})
	}
}
