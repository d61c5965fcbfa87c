package analysis_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// hub is a store with a user, a data source with some transactions, and the
// service on top of it.
type hub struct {
	*analysis.Service
	store  *store.Store
	tenant bankfeed.TenantID
	user   bankfeed.UserID
	source bankfeed.ConnectionID
	now    time.Time
}

// broken is a store that cannot read transactions.
type broken struct {
	*store.Store
	err error
}

func (b *broken) Transactions(ctx context.Context, t bankfeed.TenantID, u bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Store.Transactions(ctx, t, u, f)
}

func newHub(t *testing.T, s *store.Store, over analysis.Store) *hub {
	t.Helper()
	ctx := context.Background()
	h := &hub{store: s, now: storetest.Now}
	tenant, user := storetest.User(t, s)
	h.tenant, h.user, h.source = tenant, user.ID, 1
	rules, err := analysis.LoadRules("")
	require.NoError(t, err)
	h.Service = analysis.New(analysis.Config{Store: over, Rules: rules, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab",
		Now: func() time.Time { return h.now }, NotBefore: time.Second})
	day := bankfeed.DateOf(h.now)
	c := &bankfeed.Change{Tenant: tenant, User: user.ID,
		NewConnection: &bankfeed.Connection{ID: 1, ProviderID: "200", Status: bankfeed.ConnectionNone, CreatedAt: h.now},
		Accounts: []bankfeed.Account{{ID: 1, Connection: 1, Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", CreatedAt: h.now, LastReadAt: h.now,
			Balances: []bankfeed.Balance{{Type: "interimBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount("500.00"), Currency: "EUR"}, FetchedAt: h.now}}}}}
	// More than two pages, all on a few days.
	for i := range 2345 {
		c.Transactions.Insert = append(c.Transactions.Insert, bankfeed.TransactionRow{Identity: bankfeed.Identity{Key: uint64(i + 1)},
			Transaction: bankfeed.Transaction{ID: bankfeed.TransactionID(i + 1), Account: 1, Status: bankfeed.TransactionBooked, BookingDate: day.AddDays(-i % 7), CreatedAt: h.now,
				Money: bankfeed.Money{Amount: bankfeed.MustAmount("-0.01"), Currency: "EUR"}, Creditor: bankfeed.Party{Name: "Tipico"}}})
	}
	_, err = s.Apply(ctx, c)
	require.NoError(t, err)
	return h
}

func (h *hub) claim(t *testing.T, owner string) []lease.Claim {
	t.Helper()
	c, err := h.store.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkReport, Owner: owner, Now: h.now, Until: h.now.Add(lease.TTL), Limit: 1,
		Cap: func(string) int { return 0 }})
	require.NoError(t, err)
	return c
}

func (h *hub) events(t *testing.T) []bankfeed.Event {
	t.Helper()
	list, _, err := h.store.ReadEvents(context.Background(), eventlog.Query{Tenant: h.tenant, Types: []bankfeed.EventType{bankfeed.EventRequestFinished}, Limit: 100})
	require.NoError(t, err)
	return list
}

func TestReportIsComputedAndTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		h := newHub(t, s, s)
		c, err := h.CreateCase(ctx, h.tenant, h.user, "Ratenkauf", "key-1", []bankfeed.ConnectionID{h.source, h.source})
		require.NoError(t, err)
		again, err := h.CreateCase(ctx, h.tenant, h.user, "Ratenkauf", "key-1", []bankfeed.ConnectionID{h.source})
		require.NoError(t, err)
		require.Equal(t, c, again, "the same request again")
		r, err := h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportGambling, analysis.Order{Client: "app", Handle: "h-1", CallbackURL: "https://receiver.example/cb"})
		require.NoError(t, err)
		require.Equal(t, finapi.ReportPending, r.Status)
		_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportGambling, analysis.Order{})
		require.ErrorIs(t, err, analysis.ErrReportExists)
		_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportType{Category: "risk", Type: "luck"}, analysis.Order{})
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances, analysis.Order{Days: analysis.MaxDays + 1})
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, err = h.Report(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		// A node takes it and is killed: nothing was told, another begins anew.
		killed := h.claim(t, "n1")
		require.Len(t, killed, 1)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		require.Error(t, h.Run(gone, killed[0].Fence))
		require.Empty(t, h.events(t))
		h.now = h.now.Add(2 * lease.TTL)
		claim := h.claim(t, "n2")
		require.NoError(t, h.Run(ctx, claim[0].Fence))
		require.ErrorIs(t, h.Run(ctx, killed[0].Fence), bankfeed.ErrFenced, "the first one wakes up")
		h.now = h.now.Add(2 * lease.TTL)
		require.Empty(t, h.claim(t, "n3"), "the work is done")

		got, err := h.Report(ctx, h.tenant, h.user, c.ID, finapi.ReportGambling)
		require.NoError(t, err)
		require.Equal(t, finapi.ReportSuccessful, got.Status)
		require.False(t, got.EndedAt.IsZero())
		byID, err := h.ReportByID(ctx, h.tenant, h.user, c.ID, r.ID)
		require.NoError(t, err)
		require.Equal(t, got, byID)
		_, err = h.ReportByID(ctx, h.tenant, h.user, c.ID, r.ID+1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		var result finapi.RiskResult
		require.NoError(t, json.Unmarshal(got.Result, &result))
		require.Equal(t, 2345, result.Indicators[0].Count, "every page, none twice")
		require.Equal(t, "-23.45", result.Indicators[0].Sums[0].Debits.String())

		events := h.events(t)
		require.Len(t, events, 1)
		ref := events[0].Snapshot.Request
		require.Equal(t, bankfeed.RequestReport, ref.Kind)
		body, err := finapi.RenderCallback(events[0])
		require.NoError(t, err)
		in := s.Installation()
		require.JSONEq(t, `{"callbackHandle":"h-1","caseId":"`+in.UUID(bankfeed.KindCase, h.tenant, int64(c.ID)).String()+`","reportId":"`+
			in.UUID(bankfeed.KindReport, h.tenant, int64(r.ID)).String()+`","category":"risk","type":"gambling","status":"SUCCESSFUL"}`, string(body))
		require.NotContains(t, string(body), "receiver.example")

		require.NoError(t, h.DeleteReport(ctx, h.tenant, h.user, c.ID, finapi.ReportGambling))
		_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportGambling, analysis.Order{})
		require.NoError(t, err, "made anew")
		require.NoError(t, h.DeleteCase(ctx, h.tenant, h.user, c.ID))
		require.ErrorIs(t, h.DeleteCase(ctx, h.tenant, h.user, c.ID), bankfeed.ErrNotFound)
		require.NoError(t, h.Run(ctx, h.claim(t, "n3")[0].Fence), "there is nothing left to do")
		h.now = h.now.Add(time.Hour)
		require.Empty(t, h.claim(t, "n3"))
	})
}

// A fault of the hub is tried again, and given up in the end: nobody waits for a
// report that never comes.
func TestReportThatCannotBeComputed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		b := &broken{Store: s}
		h := newHub(t, s, b)
		c, err := h.CreateCase(ctx, h.tenant, h.user, "", "", []bankfeed.ConnectionID{h.source})
		require.NoError(t, err)
		_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances, analysis.Order{Handle: "h-2"})
		require.NoError(t, err)
		b.err = errors.New("a row that nobody can read")
		for try := range 5 {
			claim := h.claim(t, "n1")
			require.Len(t, claim, 1, try)
			require.ErrorIs(t, h.Run(ctx, claim[0].Fence), b.err)
			r, err := h.Report(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances)
			require.NoError(t, err)
			require.Equal(t, finapi.ReportInProgress, r.Status)
			h.now = h.now.Add(2 * lease.TTL)
		}
		require.Empty(t, h.events(t))
		require.NoError(t, h.Run(ctx, h.claim(t, "n1")[0].Fence))
		r, err := h.Report(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances)
		require.NoError(t, err)
		require.Equal(t, finapi.ReportFailed, r.Status)
		require.NotEmpty(t, r.Message())
		require.Nil(t, r.Result)
		require.Len(t, h.events(t), 1)
		require.Equal(t, string(finapi.ReportFailed), h.events(t)[0].Snapshot.Request.Status)
		h.now = h.now.Add(time.Hour)
		require.Empty(t, h.claim(t, "n1"))
	})
}

// A data source that synchronizes again bars new reports, not old ones.
func TestReportNeedsSuccess(t *testing.T) {
	ctx := context.Background()
	s := storetest.SQLite(t)
	h := newHub(t, s, s)
	c, err := h.CreateCase(ctx, h.tenant, h.user, "", "", []bankfeed.ConnectionID{h.source})
	require.NoError(t, err)
	conn, err := s.Connection(ctx, h.tenant, h.user, h.source)
	require.NoError(t, err)
	conn.Channels = []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning, LastSuccessAt: &h.now}}
	_, err = s.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: h.user, Connection: &conn})
	require.NoError(t, err)
	_, err = h.CreateReport(ctx, h.tenant, h.user, c.ID, finapi.ReportBalances, analysis.Order{})
	require.ErrorIs(t, err, analysis.ErrNotSuccessful)
	_, err = h.CreateCase(ctx, h.tenant, h.user, "", "", []bankfeed.ConnectionID{h.source})
	require.ErrorIs(t, err, analysis.ErrNotSuccessful)
	_, err = h.CheckBalances(ctx, h.tenant, h.user, []bankfeed.ConnectionID{h.source}, bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "EUR"})
	require.ErrorIs(t, err, analysis.ErrNotSuccessful)
}
