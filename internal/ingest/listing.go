package ingest

import (
	"cmp"
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
	// maxReadings bounds the readings of one list for all other causes too: a
	// cursor that could not be resumed, ids that turned out to be worthless.
	maxReadings = maxRestarts + 4
	// maxPages ends a listing that never ends.
	maxPages = 1_000_000
)

// listing reads the transactions of one account page by page. Each page is one
// commit with its events and the cursor of the next; the day from which the
// next session has to read moves only after the last page.
func (c *channelRun) listing(ctx context.Context, p *bankfeed.Progress, ref connector.AccountRef) (*channelEnd, error) {
	if err := c.enterTransactions(ctx); err != nil {
		return nil, err
	}
	var before *identity.Listing // what the reading before found out
	heard := c.heardOf()
	for range maxReadings {
		l, refused, err := c.openListing(ctx, p, ref, heard)
		if err != nil {
			return nil, err
		}
		if refused != nil {
			return nil, c.accountFailed(ctx, p, refused, nil)
		}
		l.ids.Confirm(before)
		before = l.ids
		again, end, err := l.read(ctx)
		if !again {
			return end, err
		}
	}
	return nil, c.accountFailed(ctx, p, &connector.Error{Reason: bankfeed.FailUnstable, Text: "the list could not be read to its end"}, nil)
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
	p       *bankfeed.Progress
	ref     connector.AccountRef
	ids     *identity.Listing
	heard   heard
	use     *bankfeed.QuotaUse // the access that this reading costs
	resumed bool               // it goes on at a cursor
	// unstable: the list kept moving; what is certain was stored.
	unstable *bankfeed.Failure
	// bookedOnly: some page was asked for without its pending items, so that
	// those which are missing say nothing.
	bookedOnly bool
}

// openListing prepares a reading: where it starts, what is known already, and
// the access that it costs. A resumed reading costs none: it is the same one.
func (c *channelRun) openListing(ctx context.Context, p *bankfeed.Progress, ref connector.AccountRef, h heard) (*listing, *connector.Error, error) {
	st := c.snapshot()
	a := st.Account(p.Account)
	if p.Cursor != "" && (a.Trust.Withdrawn || p.Unsettled > 0) {
		p.Cursor = "" // what was held back, or counted, is lost: from the first page
	}
	if p.From == "" {
		p.From = c.windowStart(&st, a)
	}
	l := &listing{channelRun: c, p: p, ref: ref, heard: h, resumed: p.Cursor != ""}
	if p.Cursor == "" || p.Carried {
		var refused *connector.Error
		var err error
		if l.use, refused, err = c.quota.spend(ctx, c.run, a.ID, bankfeed.AccessTransactions); refused != nil || err != nil {
			return nil, refused, err
		}
		p.Carried = false
	}
	if p.Cursor == "" {
		p.Pages, p.First, p.FirstAt, p.Unsettled, p.Began = 0, nil, "", 0, bankfeed.DateOf(c.now())
	}
	known, err := c.Store.Known(ctx, c.fence.Tenant, st.User.ID, a.ID, p.From.AddDays(-identity.Margin))
	if err != nil {
		return nil, nil, err
	}
	l.ids = identity.NewListing(known, a.Trust, p.From, p.Cursor != "")
	if h != nil {
		l.ids.NameUnchanged()
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
	if k := st.Consent(c.consent); k != nil && k.FreshUntil.After(c.now()) {
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
	query := connector.TransactionQuery{From: l.p.From, Cursor: cursor}
	go func() {
		access, calls := l.recorded()
		var p connector.TransactionPage
		err := guard(func() (err error) {
			p, err = l.bank.Transactions(ctx, access, l.ref, query)
			return err
		})
		out <- page{p, *calls, err}
	}()
	return out
}

// read goes through the pages. again asks for a new reading from the first
// page.
func (l *listing) read(ctx context.Context) (again bool, end *channelEnd, err error) {
	fetching, cancel := context.WithCancel(ctx)
	next := l.fetch(fetching, l.p.Cursor)
	defer func() { // a page that nobody wants any more; its calls were made all the same
		cancel()
		if next != nil {
			l.keep((<-next).calls)
		}
	}()
	for {
		got := <-next
		next = nil
		if got.err != nil && l.resumed && staleCursor(got.err) {
			l.keep(got.calls)
			return true, nil, l.restart(ctx)
		}
		if got.err != nil {
			end, err := l.accountRefused(ctx, l.p, got.err, got.calls, l.use)
			return false, end, err
		}
		l.use, l.resumed = nil, false // answered
		if got.More {
			if got.Next == l.p.Cursor || l.p.Pages == maxPages {
				end, err := l.accountRefused(ctx, l.p, &connector.Error{Reason: bankfeed.FailProtocol, Text: "the list of transactions does not end"}, got.calls, nil)
				return false, end, err
			}
			next = l.fetch(fetching, got.Next)
		}
		l.noteRead()
		l.bookedOnly = l.bookedOnly || got.BookedOnly
		if l.p.Pages == 0 {
			l.p.First, l.p.FirstAt = l.ids.PageDigest(got.Transactions), got.First
		}
		d, err := l.decide(ctx, got.Transactions)
		if err != nil {
			l.keep(got.calls)
			return false, nil, err
		}
		if d.Withdraw != nil {
			return true, nil, l.withdraw(ctx, d.Withdraw, got.calls)
		}
		if err := l.store(ctx, &got, d); err != nil {
			l.keep(got.calls)
			return false, nil, err
		}
		if !got.More {
			break
		}
	}
	stable := true // a list of one page is a view of one moment
	if l.p.Pages > 1 {
		var moved bool
		var trust *bankfeed.IDTrust
		if stable, moved, trust, end, err = l.verify(ctx); end != nil || err != nil {
			return false, end, err
		}
		if trust != nil {
			return true, nil, l.withdraw(ctx, trust, nil)
		}
		if moved && l.p.Restarts < maxRestarts {
			return true, nil, l.restart(ctx)
		}
		if moved {
			l.unstable = &bankfeed.Failure{Reason: bankfeed.FailUnstable, Text: "the list kept changing while it was read", Retry: true}
			l.notePartial(&connector.Error{Reason: l.unstable.Reason, Text: l.unstable.Text})
		}
	}
	return l.finish(ctx, stable)
}

// staleCursor reports whether a bank may have refused a cursor rather than the
// listing: links to pages do not live for ever.
func staleCursor(err error) bool {
	switch e := connector.AsError(err); e.Reason {
	case bankfeed.FailProtocol, bankfeed.FailInternal, bankfeed.FailAccount:
		return e.Status != 0
	}
	return false
}

// decide asks what a page means. A page may reach further back than what is
// known; then more is read first.
func (l *listing) decide(ctx context.Context, items []bankfeed.Transaction) (identity.Decision, error) {
	for {
		d := l.ids.Page(items)
		if d.Reach == "" {
			return d, nil
		}
		known, err := l.Store.Known(ctx, l.fence.Tenant, l.snapshot().User.ID, l.p.Account, d.Reach)
		if err != nil {
			return d, err
		}
		l.ids.Extend(known, d.Reach)
	}
}

// withdraw stops trusting the bank's ids for the account. Nothing of the page
// was stored; rows stored under ids before are recognised by their content from
// now on.
func (l *listing) withdraw(ctx context.Context, trust *bankfeed.IDTrust, calls []bankfeed.BankCall) error {
	l.Logger.WarnContext(ctx, "the bank's transaction ids do not identify transactions", "account", l.p.Account, "reason", trust.Reason)
	l.p.Cursor = ""
	return l.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		l.told(st, ch, calls)
		a := *st.Account(l.p.Account)
		a.Trust = *trust
		ch.Accounts = []bankfeed.Account{a}
		ch.Progress = []bankfeed.Progress{*l.p}
		return nil
	})
}

// verify reads the first page again and compares. Where the bank gives no link
// to it this takes another access; without one the question stays open, and so
// does the window.
func (l *listing) verify(ctx context.Context) (stable, moved bool, trust *bankfeed.IDTrust, end *channelEnd, err error) {
	if l.p.FirstAt == "" {
		_, refused, err := l.quota.spend(ctx, l.run, l.p.Account, bankfeed.AccessTransactions)
		if refused != nil || err != nil {
			return false, false, nil, nil, err
		}
	}
	got := <-l.fetch(ctx, l.p.FirstAt)
	if got.err != nil {
		end, err := l.accountRefused(ctx, l.p, got.err, got.calls, nil)
		return false, false, nil, end, err
	}
	err = l.commitRows(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Events = l.channelRun.calls(st, got.calls)
		return nil
	})
	moved, trust = l.ids.Moved(l.p.First, got.Transactions)
	return !moved, moved, trust, nil, err
}

// restart begins the listing again.
func (l *listing) restart(ctx context.Context) error {
	l.p.Restarts++
	l.p.Cursor = ""
	return l.commitRows(ctx, func(_ *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Progress = []bankfeed.Progress{*l.p}
		return nil
	})
}

// finish settles what was held back, drops pending items that are gone, and
// moves the window. Everything of it is one commit.
func (l *listing) finish(ctx context.Context, stable bool) (again bool, end *channelEnd, err error) {
	d := l.ids.Finish(identity.End{Pending: !l.bookedOnly, Stable: stable})
	if d.Withdraw != nil {
		return true, nil, l.withdraw(ctx, d.Withdraw, nil)
	}
	if d.Restart {
		return true, nil, l.restart(ctx)
	}
	var rows []row
	for i := range d.Insert {
		rows = append(rows, row{t: &d.Insert[i].Transaction, id: d.Insert[i].Identity})
	}
	for i := range d.Update {
		rows = append(rows, row{t: &d.Update[i].Transaction, id: d.Update[i].Identity, of: d.Update[i].ID})
	}
	rows = l.heard.unchanged(rows, d.Same)
	removed, err := l.removed(ctx, d.Remove)
	if err != nil {
		return false, nil, err
	}
	user := l.snapshot().User.ID
	return false, nil, l.portions(ctx, rows, func(ch portion, last bool) error {
		if !last {
			return l.commitRows(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
				c.Transactions, c.Events = ch.TransactionChanges, l.drafts(st, &ch)
				return nil
			})
		}
		newest, err := l.Store.Newest(ctx, l.fence.Tenant, user, l.p.Account, d.Remove)
		if err != nil {
			return err
		}
		for _, t := range slices.Concat(ch.Insert, ch.Update) {
			if day := t.Day(); day > newest.Day || day == newest.Day && t.ID > newest.ID {
				newest = bankfeed.TransactionKey{Day: day, ID: t.ID}
			}
		}
		l.p.Step, l.p.Cursor, l.p.Unsettled = bankfeed.StepDone, "", 0
		return l.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			now := l.now()
			c.Transactions, c.Events = ch.TransactionChanges, l.drafts(st, &ch)
			c.Transactions.Delete = d.Remove
			c.Events = append(c.Events, l.transactionDrafts(st, bankfeed.EventTransactionRemoved, removed)...)
			l.told(st, c, nil)
			a := *st.Account(l.p.Account)
			a.Status, a.Failure, a.LastReadAt = bankfeed.AccountOK, cmp.Or(l.unstable, l.p.Failure), now
			complete := stable && d.Unsettled == 0
			a.Access = slices.Clone(a.Access)
			for i := range a.Access {
				if a.Access[i].Mode != l.mode {
					continue
				}
				a.Access[i].Resume = nil
				if complete {
					a.Access[i].DeltaFrom = l.p.Began
				}
			}
			c.Accounts, c.Progress = []bankfeed.Account{a}, []bankfeed.Progress{*l.p}
			if d.Unsettled == 0 && l.unstable == nil {
				c.Events = append(c.Events, l.scribe.Draft(bankfeed.EventAccountFinished, now, st, func(s *bankfeed.Snapshot) {
					s.Channel, s.Account, s.LastTransaction = l.mode, &a, newest.ID
				}))
			}
			return nil
		})
	})
}

// removed reads the transactions that are about to go, as their events show
// them: cancelled.
func (l *listing) removed(ctx context.Context, ids []bankfeed.TransactionID) ([]bankfeed.TransactionRow, error) {
	stored, err := l.stored(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows := make([]bankfeed.TransactionRow, 0, len(ids))
	for _, id := range ids {
		t := stored[id]
		t.Status = bankfeed.TransactionCancelled
		rows = append(rows, bankfeed.TransactionRow{Transaction: t})
	}
	return rows, nil
}
