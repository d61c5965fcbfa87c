package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector/statement"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// desk is a hub to which documents are handed in.
type desk struct {
	*hub
	config ingest.Config
}

func newDesk(t *testing.T, s *store.Store) *desk {
	d := &desk{hub: &hub{t: t, store: s, now: storetest.Now}}
	d.config = ingest.Config{Store: s, Banks: newBank(), Statements: statement.JSON{}, Installation: s.Installation(), Build: "20260302.1", Node: "0123456789ab",
		Now: func() time.Time { return d.now }, CommitRows: 3}
	d.engine = ingest.New(d.config)
	d.tenant, d.user = storetest.User(t, s)
	return d
}

func (d *desk) importOrder() ingest.ImportOrder {
	return ingest.ImportOrder{Tenant: d.tenant, User: d.user.ID, Client: "client", Sandbox: true,
		Callback: func(url bankfeed.Secret) (*bankfeed.RequestCallback, error) {
			return &bankfeed.RequestCallback{Moment: bankfeed.MomentFinished, URL: url}, nil
		}}
}

// hand hands a document in; change says how.
func (d *desk) hand(body string, change ...func(*ingest.ImportOrder)) (ingest.Imported, error) {
	o := d.importOrder()
	for _, f := range change {
		f(&o)
	}
	return d.engine.Import(context.Background(), o, strings.NewReader(body))
}

func (d *desk) handed(body string, change ...func(*ingest.ImportOrder)) ingest.Imported {
	d.t.Helper()
	done, err := d.hand(body, change...)
	require.NoError(d.t, err)
	return done
}

func to(id bankfeed.ConnectionID) func(*ingest.ImportOrder) {
	return func(o *ingest.ImportOrder) { o.Connection = id }
}

func called(key string) func(*ingest.ImportOrder) {
	return func(o *ingest.ImportOrder) { o.Key = key }
}

func (d *desk) state(id bankfeed.ConnectionID) bankfeed.ConnectionState {
	d.t.Helper()
	st, err := d.store.ConnectionState(context.Background(), d.tenant, d.user.ID, id)
	require.NoError(d.t, err)
	return st
}

// shown is what a client can see of the stored data, in an order of its own.
func (d *desk) shown(id bankfeed.ConnectionID) (list []string) {
	st := d.state(id)
	of := map[bankfeed.AccountID]string{}
	for _, a := range st.Accounts {
		of[a.ID] = fmt.Sprint(a.Identifiers, a.Currency)
		list = append(list, fmt.Sprintln(of[a.ID], a.Name, a.Type, a.Status, len(a.Balances)))
	}
	for _, t := range d.transactions() {
		list = append(list, fmt.Sprintln(of[t.Account], t.BankID, t.BookingDate, t.Money.Amount, t.Remittance))
	}
	slices.Sort(list)
	return list
}

// claims takes work of a kind as the lease engine does.
func (d *desk) claims(kind bankfeed.WorkKind) []lease.Claim {
	claims, err := d.store.ClaimWork(context.Background(), lease.Request{Kind: kind, Owner: "node", Now: d.now, Until: d.now.Add(20 * time.Second), Limit: 10,
		Cap: func(string) int { return 0 }})
	require.NoError(d.t, err)
	return claims
}

func (d *desk) claimed(kind bankfeed.WorkKind) bankfeed.Fence {
	d.t.Helper()
	claims := d.claims(kind)
	require.Len(d.t, claims, 1)
	return claims[0].Fence
}

func (d *desk) finishRequest(id bankfeed.RequestID) {
	d.t.Helper()
	f := d.claimed(bankfeed.WorkRequest)
	r, err := d.store.RequestOf(context.Background(), f)
	require.NoError(d.t, err)
	require.Equal(d.t, id, r.ID)
	require.NoError(d.t, d.engine.RunRequest(context.Background(), f, r))
}

// doc is a document with two accounts and some transactions that look alike.
const doc = `{"name":"ERP","bic":"COBADEFFXXX","bankName":"Commerzbank","callbackHandle":"h-1","callbackUrl":"https://client.example/cb","accounts":[
 {"iban":"` + ibanA + `","accountName":"Giro","accountType":"Checking","accountCurrency":"EUR","balance":"100.500","balanceDate":"2026-03-01","transactions":[
  {"id":"a1","amount":-1.50,"bankBookingDate":"2026-02-27","purpose":"coffee","counterpartName":"Bar"},
  {"amount":"-1.50","bankBookingDate":"2026-02-27","purpose":"coffee","counterpartName":"Bar"},
  {"amount":"-1.50","bankBookingDate":"2026-02-27","purpose":"coffee","counterpartName":"Bar"},
  {"amount":"2000","bankBookingDate":"2026-02-28","purpose":"salary"},
  {"id":"a5","amount":"-9.99","bankBookingDate":"2026-03-01","purpose":"film"}]},
 {"accountNumber":"4711","accountType":"CREDIT_CARD","transactions":[
  {"amount":"-1.50","bankBookingDate":"2026-02-27","purpose":"coffee","counterpartName":"Bar"}]},
 {"accountNumber":"4712","accountType":"SAVINGS"}]}`

func TestADocumentIsStoredAsABanksDataIs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		done := d.handed(doc)
		require.Equal(t, []int{6, 0, 0}, []int{done.Created, done.Updated, done.Unchanged})
		events := d.events()
		require.Equal(t, []string{"connection.created", "sync.started", "account.created", "account.created", "account.created",
			"transaction.created", "transaction.created", "transaction.created", "transaction.created", "transaction.created", "session.account_finished",
			"transaction.created", "session.account_finished", "session.account_finished", "sync.succeeded"}, types(events))

		st := d.state(done.Connection)
		require.Nil(t, st.Session, "it has ended")
		c := st.Connection
		require.Equal(t, []any{bankfeed.ConnectionNone, "Commerzbank", "COBADEFFXXX", bankfeed.ImportProvider, true}, []any{c.Status, c.ProviderName, c.BIC, c.ProviderID, c.Sandbox})
		require.Empty(t, c.Channels)
		require.Zero(t, c.NextSyncAt, "the schedule never touches it")
		require.Equal(t, bankfeed.OutcomeSucceeded, c.Outcome().Status)
		a := st.Accounts[0]
		require.Equal(t, []any{bankfeed.AccountImported, bankfeed.AccountCurrent, "Giro", "100.500", d.now},
			[]any{a.Status, a.Type, a.Name, a.Balances[0].Money.Amount.String(), a.LastReadAt})
		require.Equal(t, "-1.50", events[5].Snapshot.Transaction.Money.Amount.String(), "the document's scale")
		require.Len(t, d.transactions(), 6, "twins included")

		session := events[1].Snapshot.Session
		require.Equal(t, "h-1", session.ExternalID)
		for _, e := range events {
			require.Equal(t, session.ID, e.Snapshot.Session.ID)
			require.Equal(t, bankfeed.ByUser, e.Snapshot.Initiator)
		}
		n, err := s.Session(t.Context(), d.tenant, d.user.ID, session.ID)
		require.NoError(t, err)
		require.Equal(t, []any{bankfeed.SessionFinished, bankfeed.StageTransactions}, []any{n.Status, n.Stage})
		last := events[10].Snapshot
		require.Equal(t, []any{ibanA, events[9].Snapshot.Transaction.ID}, []any{last.Account.IBAN(), last.LastTransaction})

		// The request ends once its client had time to store the answer.
		r, err := s.Request(t.Context(), d.tenant, d.user.ID, done.Request.ID)
		require.NoError(t, err)
		require.Equal(t, []any{bankfeed.RequestImport, "h-1", "client", bankfeed.Secret("https://client.example/cb")}, []any{r.Kind, r.Handle, r.Client, r.Callbacks[0].URL})
		require.Nil(t, r.EndedAt)
		require.NoError(t, d.engine.Answered(t.Context(), d.tenant, r))
		d.now = d.now.Add(ingest.CallbackDelay)
		d.finishRequest(r.ID)
		finished := d.events()
		require.Equal(t, []string{"request.finished"}, types(finished))
		ref := finished[0].Snapshot.Request
		require.Equal(t, []any{bankfeed.RequestImport, "succeeded", "h-1", done.Connection}, []any{ref.Kind, ref.Status, ref.Handle, ref.Sources[0].Connection})

		// A session of its own has nothing to do.
		n, joined, err := d.engine.Synchronize(t.Context(), bankfeed.SyncOrder{Tenant: d.tenant, User: d.user.ID, Connection: done.Connection})
		require.NoError(t, err)
		require.Equal(t, []any{false, bankfeed.SessionFinished}, []any{joined, n.Status})
		require.Equal(t, []string{"sync.started", "sync.succeeded"}, types(d.events()))
		require.Equal(t, bankfeed.ConnectionNone, d.state(done.Connection).Connection.Status)

		// It takes part in a synchronization, and no bank is called.
		sync, err := d.engine.Request(t.Context(), ingest.RequestOrder{Tenant: d.tenant, User: d.user.ID})
		require.NoError(t, err)
		require.Equal(t, []bankfeed.RequestMember{{Connection: done.Connection}}, sync.Members)
	})
}

func TestAFaultyDocumentLeavesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		for _, body := range []string{
			strings.Replace(doc, `"amount":"2000"`, `"amount":"2,000"`, 1),
			strings.Replace(doc, `"id":"a5"`, `"id":"a1"`, 1),
			doc[:len(doc)-2], doc + "x", "", "null",
		} {
			_, err := d.hand(body)
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		}
		refused := errors.New("refused")
		_, err := d.hand(doc, func(o *ingest.ImportOrder) {
			o.Callback = func(bankfeed.Secret) (*bankfeed.RequestCallback, error) { return nil, refused }
		})
		require.ErrorIs(t, err, refused)
		_, err = d.hand(doc, to(4711))
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		require.Empty(t, d.events())
		all, err := s.Connections(t.Context(), d.tenant, d.user.ID)
		require.NoError(t, err)
		require.Empty(t, all)
	})
}

func TestARepeatedRequestGivesTheSame(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		first := d.handed(doc)
		d.events()
		again := d.handed(doc)
		require.Equal(t, ingest.Imported{Connection: first.Connection, Repeated: true}, again, "an equal body")
		other := strings.Replace(doc, "ERP", "Shop", 1)
		second := d.handed(other, called("k1"))
		require.NotEqual(t, first.Connection, second.Connection)
		require.Equal(t, second.Connection, d.handed(other, called("k1")).Connection)
		require.Equal(t, second.Connection, d.handed(other).Connection, "an equal body whose request had a key")
		_, err := d.hand(doc, called("k1"))
		require.ErrorIs(t, err, ingest.ErrKeyReused)
		third := d.handed(doc, called("k2"))
		require.NotEqual(t, first.Connection, third.Connection, "another key is another request")

		// A key counts for its user, and for what it was used for.
		tenant, u := storetest.User(t, s)
		stranger := d.handed(doc, called("k1"), func(o *ingest.ImportOrder) { o.Tenant, o.User = tenant, u.ID })
		require.NotContains(t, []bankfeed.ConnectionID{first.Connection, second.Connection, third.Connection}, stranger.Connection)
		require.False(t, d.handed(doc, called("k1"), to(first.Connection)).Repeated)
		require.True(t, d.handed(doc, called("k1"), to(first.Connection)).Repeated)
	})
}

func TestLaterDataIsAdded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		first := d.handed(doc)
		d.events()
		before := d.shown(first.Connection)

		same := d.handed(doc, to(first.Connection))
		require.Equal(t, []int{0, 0, 6}, []int{same.Created, same.Updated, same.Unchanged})
		require.Equal(t, before, d.shown(first.Connection))
		require.Equal(t, []string{"sync.started", "session.account_finished", "session.account_finished", "session.account_finished", "sync.succeeded"}, types(d.events()),
			"nothing changed, and that is all there is to tell")

		later := `{"accounts":[{"iban":"` + ibanA + `","balance":"90.51","transactions":[
		  {"amount":"2000.00","bankBookingDate":"2026-02-28","purpose":"SALARY"},
		  {"id":"a5","amount":"-9.90","bankBookingDate":"2026-03-02","purpose":"film"},
		  {"amount":"-1.50","bankBookingDate":"2026-03-02","purpose":"coffee"}]},
		  {"iban":"` + ibanB + `"}]}`
		added := d.handed(later, to(first.Connection))
		require.Equal(t, []int{1, 2, 0}, []int{added.Created, added.Updated, added.Unchanged}, "the last day again, a correction by id, a new one")
		require.Equal(t, []string{"sync.started", "account.updated", "account.created", "transaction.created", "transaction.updated", "transaction.updated",
			"session.account_finished", "session.account_finished", "sync.succeeded"}, types(d.events()))
		require.Len(t, d.transactions(), 7, "nothing is removed")
		require.Len(t, d.state(first.Connection).Accounts, 4)

		// What was said in between counts when the first document comes again.
		back := d.handed(doc, to(first.Connection))
		require.Equal(t, []int{0, 2, 4}, []int{back.Created, back.Updated, back.Unchanged})
	})
}

// Earlier data that is handed in later adds its transactions and takes the
// balance nowhere back.
func TestEarlierDataKeepsTheLaterBalance(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		id := d.handed(doc).Connection
		d.events()
		balance := func() string {
			b := d.state(id).Accounts[0].Balances
			require.Len(t, b, 1)
			return string(b[0].ReferenceDate) + " " + b[0].Money.Amount.String()
		}
		add := func(balance string) {
			d.handed(`{"accounts":[{"iban":"`+ibanA+`","accountName":"Giro","accountType":"Checking",`+balance+`,"transactions":[{"amount":-7,"bankBookingDate":"2026-01-07"}]}]}`, to(id))
		}
		add(`"balance":"1.00","balanceDate":"2026-01-31"`)
		require.Equal(t, "2026-03-01 100.500", balance())
		require.Empty(t, only(d.events(), "account.updated"))
		add(`"balance":"2.00","balanceDate":"2026-03-01"`)
		require.Equal(t, "2026-03-01 2.00", balance(), "a correction")
		add(`"balance":"3.00"`)
		require.Equal(t, " 3.00", balance(), "as of now")
	})
}

func TestOnlyADataSourceOfItsOwnTakesData(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		linked := newHub(t, s, newBank(ibanA))
		_, err := d.hand(doc, to(linked.conn), func(o *ingest.ImportOrder) { o.Tenant, o.User = linked.tenant, linked.user.ID })
		require.ErrorIs(t, err, ingest.ErrBankConnection)

		mine := d.handed(doc)
		tenant, u := storetest.User(t, s)
		for _, who := range []bankfeed.TenantID{tenant, tenant + 1} {
			_, err = d.hand(doc, to(mine.Connection), func(o *ingest.ImportOrder) { o.Tenant, o.User = who, u.ID })
			require.ErrorIs(t, err, bankfeed.ErrNotFound)
		}
		_, err = d.hand(doc, func(o *ingest.ImportOrder) { o.User = 4711 })
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}
