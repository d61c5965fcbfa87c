package ingest

import (
	"context"
	"errors"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// importRun stores a document in one claim of its session, with the portions,
// commits and drafts of a listing. Its mode is empty: there is no channel.
type importRun struct {
	*channelRun
	i        *importing
	accounts []bankfeed.AccountID // of the document's accounts
}

// all stores everything, and says so in its last commit.
func (w *importRun) all(ctx context.Context) error {
	if !w.snapshot().Session.Open() {
		return bankfeed.ErrConflict
	}
	if err := w.storeAccounts(ctx); err != nil {
		return err
	}
	next := 0 // account whose transactions come next
	var l *importListing
	finish := func() error {
		if l == nil {
			return nil
		}
		return l.finish(ctx)
	}
	// upTo begins an account; those before it have no transactions, or had.
	upTo := func(account int) (err error) {
		for ; next <= account; next++ {
			if err := finish(); err != nil {
				return err
			}
			if l, err = w.listing(ctx, next); err != nil {
				return err
			}
		}
		return nil
	}
	err := w.i.doc.Transactions(ctx, func(account int, t bankfeed.Transaction) error {
		if err := upTo(account); err != nil {
			return err
		}
		return l.take(ctx, t)
	})
	if err == nil {
		err = upTo(len(w.accounts) - 1)
	}
	if err == nil {
		err = finish()
	}
	if err != nil {
		return err
	}
	return w.end(ctx)
}

// storeAccounts recognises the accounts of the document, and stores what is new
// or different of them.
func (w *importRun) storeAccounts(ctx context.Context) error {
	found := w.i.doc.Accounts()
	for len(w.accounts) < len(found) {
		some := found[len(w.accounts):]
		some = some[:min(len(some), importAccounts)]
		first, err := w.Store.NextIDs(ctx, w.fence.Tenant, bankfeed.KindAccount, len(some))
		if err != nil {
			return err
		}
		var ids []bankfeed.AccountID
		err = w.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			if !st.Session.Open() {
				return bankfeed.ErrFenced
			}
			ids = nil
			for n, f := range some {
				ids = append(ids, w.account(st, c, f, bankfeed.AccountID(first)+bankfeed.AccountID(n), slices.Concat(w.accounts, ids)))
			}
			st.Session.Status = bankfeed.SessionInProgress
			if len(w.accounts)+len(some) == len(found) {
				st.Session.Stage = bankfeed.StageTransactions
			}
			c.Session = st.Session
			return nil
		})
		if err != nil {
			return err
		}
		w.accounts = append(w.accounts, ids...)
	}
	return nil
}

// account stores one account of the document, as what it is known as, else as a
// new one.
func (w *importRun) account(st *bankfeed.ConnectionState, c *bankfeed.Change, found bankfeed.Account, fresh bankfeed.AccountID, taken []bankfeed.AccountID) bankfeed.AccountID {
	now := w.now()
	found.Balances = slices.Clone(found.Balances)
	for n := range found.Balances {
		found.Balances[n].FetchedAt = now
	}
	var known []bankfeed.Account
	for _, a := range st.Accounts {
		if a.RemovedAt.IsZero() && !slices.Contains(taken, a.ID) && !slices.Contains(st.Connection.Removing, a.ID) {
			known = append(known, a)
		}
	}
	event := bankfeed.EventAccountUpdated
	var a bankfeed.Account
	if n, ok := identity.MatchAccount(known, found); ok {
		found.Balances = notOlder(known[n].Balances, found.Balances)
		var changed bool
		if a, changed = identity.MergeAccount(known[n], found, ""); !changed {
			event = bankfeed.EventAccountSeen
		}
		*st.Account(a.ID) = a
	} else {
		a = found
		a.ID, a.User, a.Connection, a.CreatedAt = fresh, st.User.ID, st.Connection.ID, now
		a.Balances, _ = identity.MergeBalances(nil, a.Balances)
		a.Trust = bankfeed.IDTrust{Recipe: identity.Recipe}
		event = bankfeed.EventAccountCreated
		st.Accounts = append(st.Accounts, a)
	}
	c.Accounts = append(c.Accounts, a)
	if event == bankfeed.EventAccountSeen {
		c.Events = append(c.Events, w.accountSeen(st, a)...)
	} else {
		c.Events = append(c.Events, w.accountDraft(event, st, a))
	}
	return a.ID
}

// notOlder leaves out balances of days before those that are known: a document
// with earlier data, handed in later, takes nothing back. A balance without a day
// is of today.
func notOlder(known, found []bankfeed.Balance) []bankfeed.Balance {
	return slices.DeleteFunc(found, func(b bankfeed.Balance) bool {
		return b.ReferenceDate != "" && slices.ContainsFunc(known, func(k bankfeed.Balance) bool {
			return k.Type == b.Type && k.Money.Currency == b.Money.Currency && k.ReferenceDate > b.ReferenceDate
		})
	})
}

// importListing is the transactions of one account of the document.
type importListing struct {
	listing
	w     *importRun
	at    int // of the account in the document
	known *identity.Document
	rows  []row
	bytes int
	wrote bool
}

func (w *importRun) listing(ctx context.Context, account int) (*importListing, error) {
	l := &importListing{w: w, at: account, listing: listing{channelRun: w.channelRun, p: &bankfeed.Progress{Account: w.accounts[account]}, heard: w.heardOf()}}
	if account >= len(w.i.documents) {
		return l, nil // without transactions
	}
	l.known = w.i.documents[account]
	first, last, whole := l.known.Window()
	return l, w.Store.EachKnown(ctx, w.fence.Tenant, w.snapshot().User.ID, l.p.Account, first, last, whole, l.known.Know)
}

// take decides about a transaction, and stores what has come together.
func (l *importListing) take(ctx context.Context, t bankfeed.Transaction) error {
	e := l.known.Decide(&t)
	switch {
	case e.Same:
		l.w.i.done.Unchanged++
		if l.heard != nil {
			l.rows = l.heard.unchanged(l.rows, []bankfeed.TransactionID{e.ID})
		}
	case e.ID == 0:
		l.w.i.done.Created++
		l.rows = append(l.rows, row{t: &t, id: e.Identity})
	default:
		l.w.i.done.Updated++
		l.rows = append(l.rows, row{t: &t, id: e.Identity, of: e.ID, named: e.Named})
	}
	if l.bytes += len(t.Raw); len(l.rows) < l.CommitRows && l.bytes < importBytes {
		return nil
	}
	if len(l.rows) == 0 {
		l.bytes = 0
		return nil
	}
	return l.flush(ctx)
}

func (l *importListing) flush(ctx context.Context) error {
	rows := l.rows
	l.rows, l.bytes, l.wrote = nil, 0, true
	return l.portions(ctx, rows, func(ch portion, _ bool) error {
		return l.commitRows(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Transactions, c.Events = ch.TransactionChanges, l.drafts(st, &ch)
			return nil
		})
	})
}

// finish stores the last portion and says that the account is complete.
func (l *importListing) finish(ctx context.Context) error {
	if l.known != nil {
		l.w.i.documents[l.at], l.known = nil, nil
	}
	st := l.snapshot()
	if a := st.Account(l.p.Account); a != nil && l.w.i.resumed && len(l.rows) == 0 && !l.wrote && !a.LastReadAt.Before(st.Session.CreatedAt) {
		return nil // stored whole by a claim of this session that ended, and told of
	}
	user := st.User.ID
	return l.portions(ctx, l.rows, func(ch portion, _ bool) error {
		newest, err := l.Store.Newest(ctx, l.fence.Tenant, user, l.p.Account, nil)
		if err != nil {
			return err
		}
		for _, t := range slices.Concat(ch.Insert, ch.Update) {
			if day := t.Day(); day > newest.Day || day == newest.Day && t.ID > newest.ID {
				newest = bankfeed.TransactionKey{Day: day, ID: t.ID}
			}
		}
		return l.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			now := l.now()
			if st.Account(l.p.Account) == nil {
				return bankfeed.ErrFenced // removed meanwhile
			}
			c.Transactions, c.Events = ch.TransactionChanges, l.drafts(st, &ch)
			a := *st.Account(l.p.Account)
			a.LastReadAt = now
			c.Accounts = []bankfeed.Account{a}
			c.Events = append(c.Events, l.scribe.Draft(bankfeed.EventAccountFinished, now, st, func(s *bankfeed.Snapshot) {
				s.Account, s.LastTransaction = &a, newest.ID
			}))
			return nil
		})
	})
}

// end ends the session. The request that its client hears of ends by itself,
// once the client has its answer.
func (w *importRun) end(ctx context.Context) error {
	id, err := w.Store.NextIDs(ctx, w.fence.Tenant, bankfeed.KindRequest, 1)
	if err != nil {
		return err
	}
	var r bankfeed.Request
	err = w.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if !st.Session.Open() {
			return bankfeed.ErrFenced
		}
		now := w.now()
		st.Session.Status, st.Session.Stage, st.Session.EndedAt = bankfeed.SessionFinished, bankfeed.StageTransactions, &now
		st.Connection.Status = bankfeed.DeriveStatus(nil)
		c.Session, c.Connection = st.Session, &st.Connection
		c.Events = append(c.Events, w.scribe.Draft(bankfeed.EventSyncSucceeded, now, st, nil))
		c.Release = &bankfeed.Release{Done: true}
		if w.i.record != nil {
			done, err := w.stored(ctx, *w.i.record, st)
			if err != nil {
				return err
			}
			done.EndedAt = &now
			c.Import = &done
		}
		r = bankfeed.Request{ID: bankfeed.RequestID(id), User: st.User.ID, Client: w.i.o.Client, Sandbox: w.i.o.Sandbox, Kind: bankfeed.RequestImport,
			Status: string(bankfeed.OutcomeRunning), Handle: w.i.doc.Head().Handle, CreatedAt: now, NotBefore: now.Add(w.CallbackDelay + answerGrace),
			Members: []bankfeed.RequestMember{{Connection: st.Connection.ID, Outcome: &bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded}}}}
		if w.i.callback != nil {
			r.Callbacks = []bankfeed.RequestCallback{*w.i.callback}
		}
		c.Requests = []bankfeed.Request{r}
		c.Ready = []bankfeed.WorkItem{{Tenant: w.fence.Tenant, Kind: bankfeed.WorkRequest, ID: id, ReadyAt: r.NotBefore}}
		return nil
	})
	w.i.done.Connection, w.i.done.Request = w.snapshot().Connection.ID, &r
	return err
}

// stored is the record as it is stored by now, for this session.
func (w *importRun) stored(ctx context.Context, r bankfeed.Import, st *bankfeed.ConnectionState) (bankfeed.Import, error) {
	found, err := w.Store.Import(ctx, w.fence.Tenant, r.User, r.Key)
	if errors.Is(err, bankfeed.ErrNotFound) {
		found, err = r, nil // the session was opened by another document
		found.Version, found.CreatedAt = 0, w.now()
	}
	found.Connection, found.Session = st.Connection.ID, st.Session.ID
	return found, err
}

// giveBack releases the claim of a document that could not be stored whole, for
// whoever hands it in again.
func (w *importRun) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	st := w.snapshot()
	_, err := w.Store.Apply(ctx, &bankfeed.Change{Tenant: w.fence.Tenant, User: st.User.ID, Fence: &w.fence,
		Release: &bankfeed.Release{ReadyAt: st.Session.CreatedAt.Add(importPatience)}})
	if err != nil && !errors.Is(err, bankfeed.ErrFenced) {
		w.Logger.WarnContext(ctx, "giving an import back", "session", w.fence.ID, "error", err) // its lease ends by itself
	}
}

// Abandon ends the claimed session of a document that its client has not handed
// in again: what it stored of a connection that was there before stays, a new
// one is removed.
func (e *Engine) Abandon(ctx context.Context, f bankfeed.Fence, remove func(context.Context, bankfeed.TenantID, bankfeed.UserID, bankfeed.ConnectionID) error) error {
	st, err := e.Store.SessionState(ctx, f.Tenant, bankfeed.SessionID(f.ID))
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil // removed with its connection: the work goes with it
	}
	if err != nil {
		return err
	}
	r := &run{Engine: e, fence: f, scribe: e.scribe(f.Tenant), st: st}
	if wake := st.Session.CreatedAt.Add(importPatience); st.Session.Open() && wake.After(e.now()) {
		return r.commit(ctx, func(_ *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Release = &bankfeed.Release{ReadyAt: wake}
			return nil
		})
	}
	// Of a connection whose first document never came to its end nobody was told.
	untold, err := e.Store.Unfinished(ctx, f.Tenant, st.User.ID, st.Connection.ID)
	if err != nil {
		return err
	}
	if untold && st.Session.Open() {
		return remove(ctx, f.Tenant, st.User.ID, st.Connection.ID)
	}
	return r.commit(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		c.Release = &bankfeed.Release{Done: true}
		if !st.Session.Open() {
			return nil
		}
		now := e.now()
		f := &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the document was not handed in to its end", Retry: true}
		st.Session.Status, st.Session.EndedAt, st.Session.Failure = bankfeed.SessionFailed, &now, f
		st.Connection.Status = bankfeed.DeriveStatus(nil)
		c.Session, c.Connection = st.Session, &st.Connection
		c.Events = append(c.Events, r.scribe.Draft(bankfeed.EventSyncFailed, now, st, func(s *bankfeed.Snapshot) { s.Failure = f }))
		return nil
	})
}
