package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

type fixture struct {
	*store.Store
	t      *testing.T
	tenant bankfeed.TenantID
	user   bankfeed.User
	conn   bankfeed.Connection
}

// linked makes a user with a connection and an open session that is work.
func linked(t *testing.T, s *store.Store) *fixture {
	f := &fixture{Store: s, t: t}
	f.tenant, f.user = storetest.User(t, s)
	f.conn = bankfeed.Connection{ID: 1, User: f.user.ID, ProviderID: "200", ProviderName: "Test", BIC: "TESTDEFFXXX", Status: bankfeed.ConnectionRunning,
		AutoSync: true, CreatedAt: storetest.Now, Version: 1,
		Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning, LastStatus: bankfeed.ChannelEmpty, Failures: 3}}}
	f.apply(&bankfeed.Change{NewConnection: &f.conn, NewSession: f.session(1),
		Ready: []bankfeed.WorkItem{{Tenant: f.tenant, Kind: bankfeed.WorkSession, ID: 1, Group: "200", ReadyAt: storetest.Now}}})
	return f
}

func (f *fixture) session(id bankfeed.SessionID) *bankfeed.Session {
	return &bankfeed.Session{ID: id, ExternalID: "ext", Status: bankfeed.SessionInitiated, Stage: bankfeed.StageAuthentication, Type: bankfeed.SessionAll,
		Initiator: bankfeed.ByUser, Attended: true, CreatedAt: storetest.Now, User: f.user.ID, Connection: 1, Version: 1, PSU: &bankfeed.PSU{IP: "203.0.113.9"},
		Runs: []bankfeed.ChannelRun{{Mode: bankfeed.Redirect, Phase: bankfeed.PhaseAuth, Deadline: storetest.Now.Add(time.Minute)}}}
}

func (f *fixture) try(c *bankfeed.Change) error {
	c.Tenant, c.User = f.tenant, f.user.ID
	_, err := f.Apply(context.Background(), c)
	return err
}

func (f *fixture) apply(c *bankfeed.Change) {
	f.t.Helper()
	require.NoError(f.t, f.try(c))
}

func (f *fixture) state() bankfeed.ConnectionState {
	st, err := f.ConnectionState(context.Background(), f.tenant, f.user.ID, 1)
	require.NoError(f.t, err)
	return st
}

func TestStateComesBackAsItWasStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		now, day := storetest.Now, bankfeed.Date("2026-08-29")
		yes := true
		consent := bankfeed.Consent{ID: 5, ExternalID: "c-ext", Mode: bankfeed.Redirect, Status: bankfeed.ConsentConfirmed, Previous: bankfeed.ConsentReceived,
			ValidUntil: day, CreatedAt: now, ConfirmedAt: &now, User: f.user.ID, Connection: 1, FrequencyPerDay: 4, AccountsListed: true, FreshUntil: now.Add(time.Hour),
			Grant: bankfeed.Grant{ConsentID: "secret-consent", AccessToken: "token", State: `{"a":1}`, TokenExpiresAt: now}, Session: 1,
			Accounts: []bankfeed.ConsentAccount{{ID: 9, IBAN: "DE89370400440532013000", Currency: "EUR"}}}
		account := bankfeed.Account{ID: 9, Type: bankfeed.AccountCurrent, Status: bankfeed.AccountOK, Currency: "EUR", Name: "Giro", IsBusiness: &yes, Source: bankfeed.Redirect,
			Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}, CreatedAt: now, User: f.user.ID, Connection: 1,
			Balances:   []bankfeed.Balance{{Type: "closingBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount("10.00"), Currency: "EUR"}, FetchedAt: now}},
			LastReadAt: now, Raw: []byte(`{"resourceId": "r"}`), Access: []bankfeed.AccountAccess{{Mode: bankfeed.Redirect, ResourceID: "r", Consent: 5, DeltaFrom: day}},
			Trust: bankfeed.IDTrust{Withdrawn: true, Reason: "duplicate"}}
		progress := bankfeed.Progress{Account: 9, Mode: bankfeed.Redirect, Step: bankfeed.StepTransactions, From: day, Cursor: "next", First: []byte{1, 2}, Pages: 3}
		session := *f.state().Session
		f.apply(&bankfeed.Change{Session: &session, Consents: []bankfeed.Consent{consent}, Accounts: []bankfeed.Account{account}, Progress: []bankfeed.Progress{progress}})

		st := f.state()
		require.Equal(t, f.user, st.User)
		require.Equal(t, f.conn, st.Connection)
		require.Equal(t, "203.0.113.9", st.Session.PSU.IP)
		require.Equal(t, session.Runs, st.Session.Runs)
		consent.Version = 1
		require.Equal(t, []bankfeed.Consent{consent}, st.Consents)
		require.Equal(t, []bankfeed.Account{account}, st.Accounts)
		require.Equal(t, []bankfeed.Progress{progress}, st.Progress)
	})
}

func TestChangesAreCompareAndSet(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		conn, session := f.state().Connection, *f.state().Session
		f.apply(&bankfeed.Change{Connection: &conn})
		require.ErrorIs(t, f.try(&bankfeed.Change{Connection: &conn}), bankfeed.ErrConflict)
		f.apply(&bankfeed.Change{Session: &session})
		require.ErrorIs(t, f.try(&bankfeed.Change{Session: &session}), bankfeed.ErrConflict)

		// What a refused change would have written is not there.
		require.ErrorIs(t, f.try(&bankfeed.Change{Accounts: []bankfeed.Account{{ID: 3, Connection: 1}}, Session: &session}), bankfeed.ErrConflict)
		require.Empty(t, f.state().Accounts)
	})
}

func TestOneOpenSessionPerConnection(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		require.ErrorIs(t, f.try(&bankfeed.Change{NewSession: f.session(2)}), bankfeed.ErrBusy)
		ended := *f.state().Session
		ended.Status = bankfeed.SessionFinished
		f.apply(&bankfeed.Change{Session: &ended, NewSession: f.session(2)})
		require.Equal(t, bankfeed.SessionID(2), f.state().Session.ID)
	})
}

func TestAnotherNodesWorkIsFenced(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		stale := &bankfeed.Fence{Kind: bankfeed.WorkSession, Tenant: f.tenant, ID: 1, Number: 4711}
		require.ErrorIs(t, f.try(&bankfeed.Change{Fence: stale, Accounts: []bankfeed.Account{{ID: 3, Connection: 1}}}), bankfeed.ErrFenced)
		require.Empty(t, f.state().Accounts)
	})
}

func TestForeignAndErasedAreUnknown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		ctx := context.Background()
		_, err := s.ConnectionState(ctx, f.tenant, f.user.ID+1, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = s.Connection(ctx, f.tenant+1, f.user.ID, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = s.Session(ctx, f.tenant, f.user.ID+1, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)

		require.NoError(t, s.Access().EraseUser(ctx, f.tenant, f.user.ID, storetest.Now))
		_, err = s.ConnectionState(ctx, f.tenant, f.user.ID, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		second := f.conn
		second.ID = 2
		require.ErrorIs(t, f.try(&bankfeed.Change{NewConnection: &second}), bankfeed.ErrErased)
	})
}

func TestTransactionsAreListedExactly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		ctx := context.Background()
		row := func(id int64, day, amount string, status bankfeed.TransactionStatus) bankfeed.TransactionRow {
			return bankfeed.TransactionRow{Transaction: bankfeed.Transaction{ID: bankfeed.TransactionID(id), Status: status, BookingDate: bankfeed.Date(day), CreatedAt: storetest.Now,
				Account: bankfeed.AccountID(1 + id%2), User: f.user.ID, Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}, Raw: []byte(`{"x": 1.0}`)},
				Identity: bankfeed.Identity{Key: 1 << 63, Fingerprint: 2, Content: 3}}
		}
		f.apply(&bankfeed.Change{Transactions: bankfeed.TransactionChanges{Insert: []bankfeed.TransactionRow{
			row(1, "2026-01-01", "9.00", bankfeed.TransactionBooked), row(2, "2026-01-02", "10.00", bankfeed.TransactionBooked),
			row(3, "2026-01-02", "-100.10", bankfeed.TransactionPending), row(4, "2026-01-03", "100.1", bankfeed.TransactionBooked)}}})
		ids := func(filter bankfeed.TransactionFilter) (list []int64) {
			if filter.Limit == 0 {
				filter.Limit = 10
			}
			all, err := s.Transactions(ctx, f.tenant, f.user.ID, filter)
			require.NoError(t, err)
			for _, x := range all {
				list = append(list, int64(x.ID))
			}
			return list
		}
		amount := func(a string) *bankfeed.Amount { v := bankfeed.MustAmount(a); return &v }
		require.Equal(t, []int64{4, 3, 2, 1}, ids(bankfeed.TransactionFilter{}))
		require.Equal(t, []int64{3, 2}, ids(bankfeed.TransactionFilter{From: "2026-01-02", To: "2026-01-02"}))
		require.Equal(t, []int64{3, 1}, ids(bankfeed.TransactionFilter{Accounts: []bankfeed.AccountID{2}}))
		require.Equal(t, []int64{3}, ids(bankfeed.TransactionFilter{Statuses: []bankfeed.TransactionStatus{bankfeed.TransactionPending}}))
		require.Equal(t, []int64{4, 2}, ids(bankfeed.TransactionFilter{Min: amount("9.99")}), "as numbers, not as texts")
		require.Equal(t, []int64{4}, ids(bankfeed.TransactionFilter{Min: amount("100.10"), Max: amount("100.10")}), "the scale does not matter")
		require.Equal(t, []int64{2, 1}, ids(bankfeed.TransactionFilter{Before: bankfeed.TransactionKey{Day: "2026-01-02", ID: 3}}))
		require.Equal(t, []int64{3}, ids(bankfeed.TransactionFilter{Offset: 1, Limit: 1}))
		require.Equal(t, []int64{1}, ids(bankfeed.TransactionFilter{Offset: 1, Min: amount("9"), Max: amount("10"), Limit: 5}))

		got, err := s.Transaction(ctx, f.tenant, f.user.ID, 4)
		require.NoError(t, err)
		require.Equal(t, "100.1", got.Money.Amount.String(), "with the bank's scale")
		require.Equal(t, `{"x": 1.0}`, string(got.Raw), "byte for byte")

		update := row(2, "2026-01-05", "10.00", bankfeed.TransactionBooked)
		f.apply(&bankfeed.Change{Transactions: bankfeed.TransactionChanges{Update: []bankfeed.TransactionRow{update}, Delete: []bankfeed.TransactionID{3}}})
		require.Equal(t, []int64{2, 4, 1}, ids(bankfeed.TransactionFilter{}))

		for more := true; more; {
			more, err = s.RemoveTransactions(ctx, f.tenant, f.user.ID, []bankfeed.AccountID{1, 2}, 2)
			require.NoError(t, err)
		}
		require.Empty(t, ids(bankfeed.TransactionFilter{}))
	})
}

func TestLinksWorkOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		ctx := context.Background()
		l := bankfeed.Link{Token: []byte("token-hash"), State: []byte("state-hash"), User: f.user.ID, Connection: 1, Session: 1, Mode: bankfeed.Redirect,
			RedirectURL: "https://client.example/back", Credentials: "user:pass", CreatedAt: storetest.Now, ExpiresAt: storetest.Now.Add(time.Minute)}
		f.apply(&bankfeed.Change{Links: []bankfeed.Link{l}})
		tenant, got, err := s.LinkByState(ctx, []byte("state-hash"))
		require.NoError(t, err)
		require.Equal(t, f.tenant, tenant)
		require.Equal(t, l, got)
		readable, err := s.Count(ctx, `SELECT count(*) FROM links WHERE redirect_url LIKE '%client.example%'`)
		require.NoError(t, err)
		require.Zero(t, readable, "it may hold a secret, as the URL of a web form does")
		require.NoError(t, s.Exec(ctx, `UPDATE links SET redirect_url = $1`, l.RedirectURL))
		_, got, err = s.LinkByState(ctx, []byte("state-hash"))
		require.NoError(t, err)
		require.Equal(t, l, got, "of a hub that did not seal it")
		l.State, l.Credentials = nil, ""
		f.apply(&bankfeed.Change{Links: []bankfeed.Link{l}})
		_, _, err = s.LinkByState(ctx, []byte("state-hash"))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, got, err = s.LinkByToken(ctx, []byte("token-hash"))
		require.NoError(t, err)
		require.Empty(t, got.Credentials)
	})
}

func TestADeletedConnectionLeavesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		f := linked(t, s)
		f.apply(&bankfeed.Change{Consents: []bankfeed.Consent{{ID: 5, Mode: bankfeed.Redirect, Connection: 1, CreatedAt: storetest.Now}},
			Accounts: []bankfeed.Account{{ID: 9, Connection: 1}}, Accesses: []bankfeed.QuotaUse{{Consent: 5, Kind: bankfeed.AccessBalances, At: storetest.Now}}})
		f.apply(&bankfeed.Change{Delete: &bankfeed.Deletion{Connection: 1}, Ended: []bankfeed.WorkItem{{Tenant: f.tenant, Kind: bankfeed.WorkSession, ID: 1}}})
		ctx := context.Background()
		_, err := s.ConnectionState(ctx, f.tenant, f.user.ID, 1)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		uses, err := s.Accesses(ctx, f.tenant, 5, time.Time{})
		require.NoError(t, err)
		require.Empty(t, uses)
		accounts, err := s.Accounts(ctx, f.tenant, f.user.ID, bankfeed.AccountFilter{Removed: true})
		require.NoError(t, err)
		require.Empty(t, accounts)
	})
}
