package store_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// source stores a connection with one account, and returns both.
func source(t *testing.T, s *store.Store, tenant bankfeed.TenantID, user bankfeed.UserID) (bankfeed.ConnectionID, bankfeed.AccountID) {
	t.Helper()
	ctx := context.Background()
	id, err := s.NextID(ctx, tenant, bankfeed.KindConnection)
	require.NoError(t, err)
	account, err := s.NextID(ctx, tenant, bankfeed.KindAccount)
	require.NoError(t, err)
	_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user,
		NewConnection: &bankfeed.Connection{ID: bankfeed.ConnectionID(id), ProviderID: "200", Status: bankfeed.ConnectionSuccess, CreatedAt: storetest.Now},
		Accounts:      []bankfeed.Account{{ID: bankfeed.AccountID(account), Connection: bankfeed.ConnectionID(id), Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", CreatedAt: storetest.Now}}})
	require.NoError(t, err)
	return bankfeed.ConnectionID(id), bankfeed.AccountID(account)
}

func newCase(t *testing.T, s *store.Store, tenant bankfeed.TenantID, user bankfeed.UserID, sources ...bankfeed.ConnectionID) analysis.Case {
	t.Helper()
	id, err := s.NextID(context.Background(), tenant, bankfeed.KindCase)
	require.NoError(t, err)
	c := analysis.Case{ID: analysis.CaseID(id), User: user, Name: "Ratenkauf Müller", Sources: sources, CreatedAt: storetest.Now}
	require.NoError(t, s.AddCase(context.Background(), tenant, c))
	return c
}

func newReport(t *testing.T, s *store.Store, tenant bankfeed.TenantID, c analysis.Case, kind finapi.ReportType) analysis.Report {
	t.Helper()
	id, err := s.NextID(context.Background(), tenant, bankfeed.KindReport)
	require.NoError(t, err)
	r := analysis.Report{ID: analysis.ReportID(id), Case: c.ID, User: c.User, Type: kind, Status: finapi.ReportPending, CreatedAt: storetest.Now,
		Order: analysis.Order{Client: "app", Handle: "h-1", CallbackURL: "https://receiver.example/cb?secret=1", Days: 90}}
	require.NoError(t, s.AddReport(context.Background(), tenant, r))
	return r
}

func claimReport(t *testing.T, s *store.Store, owner string, now time.Time) []lease.Claim {
	t.Helper()
	c, err := s.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkReport, Owner: owner, Now: now, Until: now.Add(lease.TTL), Limit: 1,
		Cap: func(string) int { return 0 }})
	require.NoError(t, err)
	return c
}

func TestCases(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		tenant, user := storetest.User(t, s)
		_, other := storetest.User(t, s)
		a, _ := source(t, s, tenant, user.ID)
		b, _ := source(t, s, tenant, user.ID)
		foreign, _ := source(t, s, tenant, other.ID)

		first := newCase(t, s, tenant, user.ID, b, a)
		got, err := s.Case(ctx, tenant, user.ID, first.ID)
		require.NoError(t, err)
		require.Equal(t, first, got, "its data sources in the order in which they were named")
		for name, err := range map[string]error{
			"another user":     func() error { _, err := s.Case(ctx, tenant, other.ID, first.ID); return err }(),
			"another tenant":   func() error { _, err := s.Case(ctx, tenant+1, user.ID, first.ID); return err }(),
			"unknown":          func() error { _, err := s.Case(ctx, tenant, user.ID, 999); return err }(),
			"a foreign source": s.AddCase(ctx, tenant, analysis.Case{ID: 500, User: user.ID, Sources: []bankfeed.ConnectionID{a, foreign}, CreatedAt: storetest.Now}),
			"delete another's": s.DeleteCase(ctx, tenant, other.ID, first.ID),
		} {
			require.ErrorIs(t, err, bankfeed.ErrNotFound, name)
		}
		_, err = s.Case(ctx, tenant, user.ID, 500)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "nothing stays of what failed")

		keyed := analysis.Case{ID: 600, User: user.ID, Sources: []bankfeed.ConnectionID{a}, CreatedAt: storetest.Now, Key: []byte("k")}
		require.NoError(t, s.AddCase(ctx, tenant, keyed))
		keyed.ID++
		require.ErrorIs(t, s.AddCase(ctx, tenant, keyed), bankfeed.ErrConflict, "the same key")
		got, err = s.CaseByKey(ctx, tenant, user.ID, []byte("k"))
		require.NoError(t, err)
		require.Equal(t, analysis.CaseID(600), got.ID)
		_, err = s.CaseByKey(ctx, tenant, other.ID, []byte("k"))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		list, err := s.Cases(ctx, tenant, user.ID, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, analysis.CaseID(600), list[0].ID, "newest first")
		list, err = s.Cases(ctx, tenant, user.ID, 600, 10)
		require.NoError(t, err)
		require.Equal(t, []analysis.Case{first}, list)

		newReport(t, s, tenant, first, finapi.ReportBalances)
		require.NoError(t, s.DeleteCase(ctx, tenant, user.ID, first.ID))
		_, err = s.Case(ctx, tenant, user.ID, first.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		n, err := s.Count(ctx, `SELECT (SELECT count(*) FROM reports) + (SELECT count(*) FROM case_sources WHERE case_id = $1)`, int64(first.ID))
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestReportIsStoredWithItsEvent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		tenant, user := storetest.User(t, s)
		a, _ := source(t, s, tenant, user.ID)
		c := newCase(t, s, tenant, user.ID, a)
		kinds := []bankfeed.WorkKind{}
		s.OnReady(func(k bankfeed.WorkKind) { kinds = append(kinds, k) })
		r := newReport(t, s, tenant, c, finapi.ReportBalances)
		require.Equal(t, []bankfeed.WorkKind{bankfeed.WorkReport}, kinds)
		again := r
		again.ID += 100
		require.ErrorIs(t, s.AddReport(ctx, tenant, again), analysis.ErrReportExists)
		again.Case = 999
		require.ErrorIs(t, s.AddReport(ctx, tenant, again), bankfeed.ErrNotFound)
		newReport(t, s, tenant, c, finapi.ReportContracts)

		got, gotCase, err := s.ReportWork(ctx, tenant, r.ID)
		require.NoError(t, err)
		require.Equal(t, r, got)
		require.Equal(t, c, gotCase)
		require.Equal(t, "https://receiver.example/cb?secret=1", string(got.Order.CallbackURL))
		_, _, err = s.ReportWork(ctx, tenant+1, r.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		// A node that stood still writes nothing any more.
		late := claimReport(t, s, "n1", now)[0]
		claim := claimReport(t, s, "n2", now.Add(2*lease.TTL))
		require.Len(t, claim, 1)
		for claim[0].ID != int64(r.ID) {
			claim = claimReport(t, s, "n2", now.Add(2*lease.TTL))
		}
		r.Status, r.EndedAt, r.Result = finapi.ReportSuccessful, now.Add(time.Second), json.RawMessage(`{"accounts":[]}`)
		event := bankfeed.Draft{Type: bankfeed.EventRequestFinished, At: now, Snapshot: &bankfeed.Snapshot{Schema: 1, Request: &bankfeed.RequestRef{Kind: bankfeed.RequestReport}},
			Callbacks: []bankfeed.CallbackOrder{{URL: r.Order.CallbackURL, ReadyAt: now.Add(time.Second)}}}
		end := func(f bankfeed.Fence) error {
			return s.SaveReport(ctx, r, &bankfeed.Change{Tenant: tenant, User: user.ID, Fence: &f, Release: &bankfeed.Release{Done: true}, Events: []bankfeed.Draft{event}})
		}
		if late.ID == int64(r.ID) {
			require.ErrorIs(t, end(late.Fence), bankfeed.ErrFenced)
		}
		events := func() int {
			n, err := s.Count(ctx, `SELECT count(*) FROM events WHERE type = 'request.finished'`)
			require.NoError(t, err)
			return n
		}
		require.Zero(t, events())
		require.NoError(t, end(claim[0].Fence))
		require.Equal(t, 1, events())
		n, err := s.Count(ctx, `SELECT count(*) FROM callback_deliveries WHERE state = 'waiting'`)
		require.NoError(t, err)
		require.Equal(t, 1, n, "the callback waits in the same commit")
		require.ErrorIs(t, end(claim[0].Fence), bankfeed.ErrFenced, "the work is done")
		list, err := s.Reports(ctx, tenant, user.ID, c.ID, finapi.ReportType{})
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, r, list[0])
		list, err = s.Reports(ctx, tenant, user.ID, c.ID, finapi.ReportContracts)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, finapi.ReportContracts, list[0].Type)

		// Nothing of it lies open.
		for _, word := range []string{"receiver.example", "accounts", "Müller", "h-1"} {
			n, err := s.Count(ctx, `SELECT count(*) FROM reports, cases WHERE reports.tenant_id = $1 AND (`+s.Holds("order_data", "$2")+` OR `+s.Holds("result", "$2")+` OR `+s.Holds("name", "$2")+`)`, tenant, []byte(word))
			require.NoError(t, err)
			require.Zero(t, n, word)
		}

		require.NoError(t, s.DeleteReport(ctx, tenant, user.ID, c.ID, r.ID))
		require.ErrorIs(t, s.DeleteReport(ctx, tenant, user.ID, c.ID, r.ID), bankfeed.ErrNotFound)
		require.NoError(t, s.AddReport(ctx, tenant, analysis.Report{ID: r.ID + 50, Case: c.ID, User: user.ID, Type: finapi.ReportBalances, CreatedAt: now}), "there is room for another")
	})
}

// What a report says of several data sources cannot be taken apart, so a case
// goes with any of them, unknown as soon as the removal was asked for.
func TestCaseGoesWithItsDataSource(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		tenant, user := storetest.User(t, s)
		a, accountA := source(t, s, tenant, user.ID)
		b, _ := source(t, s, tenant, user.ID)
		left := func() (n int) {
			n, err := s.Count(ctx, `SELECT (SELECT count(*) FROM cases) + (SELECT count(*) FROM case_sources) + (SELECT count(*) FROM reports)`)
			require.NoError(t, err)
			return n
		}
		both, only := newCase(t, s, tenant, user.ID, a, b), newCase(t, s, tenant, user.ID, b)
		r := newReport(t, s, tenant, both, finapi.ReportBalances)
		newReport(t, s, tenant, only, finapi.ReportBalances)

		conn, err := s.Connection(ctx, tenant, user.ID, a)
		require.NoError(t, err)
		conn.Status = bankfeed.ConnectionClosed
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Connection: &conn})
		require.NoError(t, err)
		_, err = s.Case(ctx, tenant, user.ID, both.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "the removal of a data source was asked for")
		_, err = s.Reports(ctx, tenant, user.ID, both.ID, finapi.ReportType{})
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, _, err = s.ReportWork(ctx, tenant, r.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.ErrorIs(t, s.AddCase(ctx, tenant, analysis.Case{ID: 900, User: user.ID, Sources: []bankfeed.ConnectionID{a}, CreatedAt: storetest.Now}), bankfeed.ErrNotFound)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Delete: &bankfeed.Deletion{Connection: a}})
		require.NoError(t, err)
		require.Equal(t, 3, left(), "the other case, its data source, its report")
		_, err = s.Case(ctx, tenant, user.ID, only.ID)
		require.NoError(t, err)
		r.Status = finapi.ReportSuccessful
		claims := claimReport(t, s, "n1", storetest.Now)
		require.ErrorIs(t, s.SaveReport(ctx, r, &bankfeed.Change{Tenant: tenant, User: user.ID, Fence: &claims[0].Fence}), bankfeed.ErrNotFound)

		// An account alone, and one that is gone with its consent.
		list, err := s.Accounts(ctx, tenant, user.ID, bankfeed.AccountFilter{Connection: b})
		require.NoError(t, err)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Forget: []bankfeed.AccountID{accountA + 10_000}})
		require.NoError(t, err)
		require.Equal(t, 3, left())
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Forget: []bankfeed.AccountID{list[0].ID}})
		require.NoError(t, err)
		require.Zero(t, left())

		c, account := source(t, s, tenant, user.ID)
		newReport(t, s, tenant, newCase(t, s, tenant, user.ID, c), finapi.ReportBalances)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Delete: &bankfeed.Deletion{Connection: c, Consent: 1}})
		require.NoError(t, err)
		require.Equal(t, 3, left(), "no account goes with the consent")
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user.ID, Delete: &bankfeed.Deletion{Connection: c, Consent: 1, Accounts: []bankfeed.AccountID{account}}})
		require.NoError(t, err)
		require.Zero(t, left())
	})
}

func TestErasureTakesCasesAlong(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		tenant, user := storetest.User(t, s)
		a, _ := source(t, s, tenant, user.ID)
		c := newCase(t, s, tenant, user.ID, a)
		r := newReport(t, s, tenant, c, finapi.ReportBalances)
		require.NoError(t, s.DestroyUserKey(ctx, tenant, user.ID))
		_, err := s.Case(ctx, tenant, user.ID, c.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, _, err = s.ReportWork(ctx, tenant, r.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.ErrorIs(t, s.SaveReport(ctx, r, &bankfeed.Change{Tenant: tenant, User: user.ID}), bankfeed.ErrNotFound)

		erase := bankfeed.WorkItem{Tenant: tenant, Kind: bankfeed.WorkErasure, ID: int64(user.ID), ReadyAt: now}
		_, other := storetest.User(t, s)
		_, err = s.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: other.ID, Ready: []bankfeed.WorkItem{erase}})
		require.NoError(t, err)
		claims, err := s.ClaimWork(ctx, lease.Request{Kind: bankfeed.WorkErasure, Owner: "n1", Now: now, Until: now.Add(lease.TTL), Limit: 1, Cap: func(string) int { return 0 }})
		require.NoError(t, err)
		require.NoError(t, s.FinishErasure(ctx, claims[0].Fence, now))
		n, err := s.Count(ctx, `SELECT (SELECT count(*) FROM cases) + (SELECT count(*) FROM case_sources) + (SELECT count(*) FROM reports)`)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}
