package ingest

import (
	"bytes"
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

const (
	// maxRestarts is how often a listing starts over because it changed while
	// it was being read.
	maxRestarts = 3
	// maxPages ends a listing that never ends.
	maxPages = 1_000_000
	// margin is how many days before its window a listing still recognises
	// transactions, for banks that move a booking day.
	margin = 31
)

// listing reads the transactions of one account page by page. Each page is one
// commit with its events and the cursor of the next; the day from which the
// next session has to read moves only after the last page.
func (c *channelRun) listing(ctx context.Context, p *bankfeed.Progress, ref connector.AccountRef) (*channelEnd, error) {
	if err := c.enterTransactions(ctx); err != nil {
		return nil, err
	}
	for {
		l, refused, err := c.openListing(ctx, p, ref)
		if err != nil {
			return nil, err
		}
		if refused != nil {
			return &channelEnd{err: refused}, nil
		}
		again, end, err := l.read(ctx)
		if !again {
			return end, err
		}
	}
}

// enterTransactions moves the session's stage, the first account to get here.
func (c *channelRun) enterTransactions(ctx context.Context) error {
	if c.snapshot().Session.Stage == bankfeed.StageTransactions {
		return nil
	}
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		if advance(st.Session, bankfeed.StageTransactions) {
			ch.Session = st.Session
		}
		return nil
	})
}

// listing is one reading of one list, from its first page or from a stored
// cursor.
type listing struct {
	*channelRun
	p   *bankfeed.Progress
	ref connector.AccountRef
	ids *identity.Listing
	// newest is the transaction that stands last by day and number.
	newest identity.Known
	// bookedOnly: some page was asked for without its pending items, so that
	// those which are missing say nothing.
	bookedOnly bool
}

// openListing prepares a reading: where it starts, what is known already, and
// the access that it costs. A resumed reading costs none: it is the same one.
func (c *channelRun) openListing(ctx context.Context, p *bankfeed.Progress, ref connector.AccountRef) (*listing, *connector.Error, error) {
	st := c.snapshot()
	a := st.Account(p.Account)
	if p.Cursor != "" && (a.Trust.Withdrawn || p.Unsettled > 0) {
		p.Cursor = "" // what was held back, or counted, is lost: from the first page
	}
	if p.From == "" {
		p.From = c.windowStart(&st, a)
	}
	if p.Cursor == "" {
		refused, err := c.quota.spend(ctx, c.run, a.ID, bankfeed.AccessTransactions)
		if refused != nil || err != nil {
			return nil, refused, err
		}
		p.Pages, p.First, p.FirstAt, p.Unsettled = 0, nil, "", 0
	}
	known, err := c.Store.Known(ctx, c.fence.Tenant, st.User.ID, a.ID, p.From.AddDays(-margin))
	if err != nil {
		return nil, nil, err
	}
	l := &listing{channelRun: c, p: p, ref: ref, ids: identity.NewListing(known, a.Trust, p.From)}
	if len(known) > 0 {
		l.newest = known[len(known)-1]
	}
	return l, nil, nil
}

// windowStart is the first booking day to ask for: as far back as the bank goes
// right after an authorisation, else where the last complete listing started,
// with some days of overlap because banks book late.
func (c *channelRun) windowStart(st *bankfeed.ConnectionState, a *bankfeed.Account) bankfeed.Date {
	today := bankfeed.DateOf(c.now())
	for _, x := range a.Access {
		if x.Mode == c.mode && x.DeltaFrom != "" {
			return max(x.DeltaFrom.AddDays(-c.profile.OverlapDays), today.AddDays(-c.profile.HistoryDays))
		}
	}
	if k := st.Consent(c.consent); k.FreshUntil.After(c.now()) {
		return today.AddDays(-c.profile.HistoryDays)
	}
	return today.AddDays(-c.profile.RecentDays)
}

// page is what a fetch brought.
type page struct {
	connector.TransactionPage
	calls []bankfeed.BankCall
	err   error
}

// fetch asks for a page in the background, so that the bank works on the next
// one while the last one is being stored.
func (l *listing) fetch(ctx context.Context, cursor string) <-chan page {
	out := make(chan page, 1)
	go func() {
		access, calls := l.recorded()
		p, err := l.bank.Transactions(ctx, access, l.ref, connector.TransactionQuery{From: l.p.From, Cursor: cursor})
		out <- page{p, *calls, err}
	}()
	return out
}

// read goes through the pages. again asks for a new reading from the first
// page.
func (l *listing) read(ctx context.Context) (again bool, end *channelEnd, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a fetch whose page nobody wants any more
	next := l.fetch(ctx, l.p.Cursor)
	for {
		got := <-next
		if got.err != nil {
			end, err := l.accountRefused(ctx, l.p, got.err, got.calls)
			return false, end, err
		}
		if got.More {
			if got.Next == l.p.Cursor || l.p.Pages == maxPages {
				end, err := l.accountRefused(ctx, l.p, &connector.Error{Reason: bankfeed.FailProtocol, Text: "the list of transactions does not end"}, got.calls)
				return false, end, err
			}
			next = l.fetch(ctx, got.Next)
		}
		l.noteRead()
		l.bookedOnly = l.bookedOnly || got.BookedOnly
		if l.p.Pages == 0 {
			l.p.First, l.p.FirstAt = identity.PageDigest(got.Transactions), got.First
		}
		d := l.ids.Page(got.Transactions)
		if d.Withdraw != nil {
			return true, nil, l.withdraw(ctx, d.Withdraw, got.calls)
		}
		if err := l.store(ctx, got, d); err != nil {
			return false, nil, err
		}
		if !got.More {
			break
		}
	}
	if l.p.Pages > 1 {
		moved, end, err := l.moved(ctx)
		if end != nil || err != nil {
			return false, end, err
		}
		if moved {
			return l.restart(ctx)
		}
	}
	return l.finish(ctx)
}

// withdraw stops trusting the bank's ids for the account. Nothing of the page
// was stored; rows stored under ids before are recognised by their content from
// now on.
func (l *listing) withdraw(ctx context.Context, trust *bankfeed.IDTrust, calls []bankfeed.BankCall) error {
	l.Logger.WarnContext(ctx, "the bank's transaction ids do not identify transactions", "account", l.p.Account, "reason", trust.Reason)
	return l.commitRows(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Events = append(ch.Events, l.calls(st, calls)...)
		a := *st.Account(l.p.Account)
		a.Trust = *trust
		ch.Accounts = []bankfeed.Account{a}
		l.p.Cursor = ""
		ch.Progress = []bankfeed.Progress{*l.p}
		return nil
	})
}

// moved reads the first page again and compares. Where the bank gives no link
// to it this takes another access; without one the question stays open, and so
// does the window.
func (l *listing) moved(ctx context.Context) (bool, *channelEnd, error) {
	if l.p.FirstAt == "" {
		refused, err := l.quota.spend(ctx, l.run, l.p.Account, bankfeed.AccessTransactions)
		if refused != nil || err != nil {
			l.p.Step = bankfeed.StepVerify
			return false, nil, err
		}
	}
	got := <-l.fetch(ctx, l.p.FirstAt)
	if got.err != nil {
		end, err := l.accountRefused(ctx, l.p, got.err, got.calls)
		return false, end, err
	}
	err := l.commitRows(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Events = l.channelRun.calls(st, got.calls)
		return nil
	})
	return !bytes.Equal(identity.PageDigest(got.Transactions), l.p.First), nil, err
}

// restart begins the listing again, a few times; then the account counts as
// read in part and its window stays where it was.
func (l *listing) restart(ctx context.Context) (again bool, end *channelEnd, err error) {
	if l.p.Restarts == maxRestarts {
		end, err := l.accountRefused(ctx, l.p, &connector.Error{Reason: bankfeed.FailUnstable, Text: "the list kept changing while it was read"}, nil)
		return false, end, err
	}
	l.p.Restarts++
	l.p.Cursor = ""
	return true, nil, l.commitRows(ctx, func(_ *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Progress = []bankfeed.Progress{*l.p}
		return nil
	})
}

// row is one decided transaction: a new one, or the update of a stored one.
type row struct {
	t  *bankfeed.Transaction
	id bankfeed.Identity
	of bankfeed.TransactionID // 0: new
}

// store commits a page. A page of unusual size takes several commits; the
// cursor moves with the last of them.
func (l *listing) store(ctx context.Context, got page, d identity.Decision) error {
	var rows []row
	for _, i := range d.Insert {
		rows = append(rows, row{&got.Transactions[i], d.Identities[i], 0})
	}
	for _, m := range d.Update {
		rows = append(rows, row{&got.Transactions[m.Index], d.Identities[m.Index], m.ID})
	}
	l.p.Pages++
	l.p.Read += len(got.Transactions)
	l.p.Unsettled = d.Unsettled
	return l.commitPage(ctx, rows, got.calls, func(*bankfeed.ConnectionState, *bankfeed.Change) {
		l.p.Cursor = got.Next
		if !got.More {
			l.p.Cursor = "" // a crash before the end reads again from the first page
		}
	})
}

// commitPage commits rows in portions; last runs with the last portion.
func (l *listing) commitPage(ctx context.Context, rows []row, calls []bankfeed.BankCall, last func(*bankfeed.ConnectionState, *bankfeed.Change)) error {
	for {
		portion := rows[:min(len(rows), l.CommitRows)]
		rows = rows[len(portion):]
		var ch bankfeed.TransactionChanges
		if err := l.fill(ctx, portion, &ch); err != nil {
			return err
		}
		err := l.commitRows(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Transactions = ch
			c.Events = append(c.Events, l.calls(st, calls)...)
			c.Events = append(c.Events, l.transactionDrafts(st, bankfeed.EventTransactionCreated, ch.Insert)...)
			c.Events = append(c.Events, l.transactionDrafts(st, bankfeed.EventTransactionUpdated, ch.Update)...)
			if len(rows) == 0 {
				last(st, c)
				c.Progress = []bankfeed.Progress{*l.p}
			}
			return nil
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		calls = nil
	}
}

// fill gives new rows their numbers and carries over what an update keeps.
func (l *listing) fill(ctx context.Context, rows []row, ch *bankfeed.TransactionChanges) error {
	fresh := 0
	for _, r := range rows {
		if r.of == 0 {
			fresh++
		}
	}
	var id int64
	if fresh > 0 {
		var err error
		if id, err = l.Store.NextIDs(ctx, l.fence.Tenant, bankfeed.KindTransaction, fresh); err != nil {
			return err
		}
		ch.Insert = make([]bankfeed.TransactionRow, 0, fresh)
	}
	user, now := l.snapshot().User.ID, l.now()
	for _, r := range rows {
		t := bankfeed.TransactionRow{Transaction: *r.t, Identity: r.id}
		t.Account, t.User, t.ID, t.CreatedAt = l.p.Account, user, r.of, now
		if r.of != 0 {
			old, err := l.Store.Transaction(ctx, l.fence.Tenant, user, r.of)
			if err != nil {
				return err
			}
			t.CreatedAt = old.CreatedAt
			ch.Update = append(ch.Update, t)
		} else {
			t.ID = bankfeed.TransactionID(id)
			id++
			ch.Insert = append(ch.Insert, t)
		}
		if day := t.Day(); day > l.newest.Day || day == l.newest.Day && t.ID > l.newest.ID {
			l.newest = identity.Known{ID: t.ID, Day: day}
		}
	}
	return nil
}

func (l *listing) transactionDrafts(st *bankfeed.ConnectionState, t bankfeed.EventType, rows []bankfeed.TransactionRow) []bankfeed.Draft {
	if len(rows) == 0 {
		return nil
	}
	account, now := st.Account(l.p.Account), l.now()
	drafts := make([]bankfeed.Draft, len(rows))
	for i := range rows {
		drafts[i] = l.scribe.Draft(t, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Account, s.Transaction = l.mode, account, &rows[i].Transaction
		})
	}
	return drafts
}

// finish settles what was held back, drops pending items that are gone, and
// moves the window. Everything of it is one commit.
func (l *listing) finish(ctx context.Context) (again bool, end *channelEnd, err error) {
	d := l.ids.Finish(!l.bookedOnly)
	if d.Withdraw != nil {
		return true, nil, l.withdraw(ctx, d.Withdraw, nil)
	}
	var rows []row
	for i := range d.Insert {
		rows = append(rows, row{&d.Insert[i].Transaction, d.Insert[i].Identity, 0})
	}
	for i := range d.Update {
		rows = append(rows, row{&d.Update[i].Transaction, d.Update[i].Identity, d.Update[i].ID})
	}
	removed, err := l.removed(ctx, d.Remove)
	if err != nil {
		return false, nil, err
	}
	verified := l.p.Step != bankfeed.StepVerify
	return false, nil, l.commitPage(ctx, rows, nil, func(st *bankfeed.ConnectionState, c *bankfeed.Change) {
		now := l.now()
		c.Transactions.Delete = d.Remove
		c.Events = append(c.Events, l.transactionDrafts(st, bankfeed.EventTransactionRemoved, removed)...)
		a := *st.Account(l.p.Account)
		a.Status, a.Failure, a.LastReadAt = bankfeed.AccountOK, nil, now
		a.Access = slices.Clone(a.Access)
		for i := range a.Access {
			if a.Access[i].Mode == l.mode && verified {
				a.Access[i].DeltaFrom = bankfeed.DateOf(now)
			}
		}
		c.Accounts = []bankfeed.Account{a}
		l.p.Step, l.p.Cursor, l.p.Unsettled = bankfeed.StepDone, "", 0
		c.Events = append(c.Events, l.scribe.Draft(bankfeed.EventAccountFinished, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Account, s.LastTransaction = l.mode, &a, l.newest.ID
		}))
	})
}

// removed reads the transactions that are about to go, as their events show
// them: cancelled.
func (l *listing) removed(ctx context.Context, ids []bankfeed.TransactionID) ([]bankfeed.TransactionRow, error) {
	rows := make([]bankfeed.TransactionRow, 0, len(ids))
	for _, id := range ids {
		t, err := l.Store.Transaction(ctx, l.fence.Tenant, l.snapshot().User.ID, id)
		if err != nil {
			return nil, err
		}
		t.Status = bankfeed.TransactionCancelled
		rows = append(rows, bankfeed.TransactionRow{Transaction: t})
	}
	return rows, nil
}
