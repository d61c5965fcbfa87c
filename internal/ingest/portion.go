package ingest

import (
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// row is one decided transaction: a new one, the update of a stored one, or one
// that is listed as it is stored.
type row struct {
	t  *bankfeed.Transaction // nil: as it is stored
	id bankfeed.Identity
	of bankfeed.TransactionID // 0: new
	// named: it has no id, but the stored one has, which stays.
	named bool
}

// portion is what one commit stores and tells of.
type portion struct {
	bankfeed.TransactionChanges
	seen []bankfeed.TransactionRow // as they are stored
}

// store commits a page. A page of unusual size takes several commits; the
// cursor moves with the last of them.
func (l *listing) store(ctx context.Context, got *page, d identity.Decision) error {
	var rows []row
	for _, i := range d.Insert {
		rows = append(rows, row{t: &got.Transactions[i], id: d.Identities[i]})
	}
	for _, m := range d.Update {
		rows = append(rows, row{t: &got.Transactions[m.Index], id: d.Identities[m.Index], of: m.ID})
	}
	rows = l.heard.unchanged(rows, d.Same)
	l.p.Pages++
	l.p.Read += len(got.Transactions)
	l.p.Unsettled = d.Unsettled
	l.p.Cursor = got.Next
	if !got.More {
		l.p.Cursor = "" // a crash before the end reads again from the first page
	}
	return l.portions(ctx, rows, func(ch portion, last bool) error {
		return l.commitRows(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			c.Transactions = ch.TransactionChanges
			c.Events = slices.Concat(l.calls(st, got.calls), l.accountToo(st), l.drafts(st, &ch))
			if last {
				c.Progress = []bankfeed.Progress{*l.p}
			}
			got.calls = nil
			return nil
		})
	})
}

// portions hands out decided rows in amounts for one commit each.
func (l *listing) portions(ctx context.Context, rows []row, commit func(ch portion, last bool) error) error {
	for {
		n := min(len(rows), l.CommitRows)
		ch, err := l.fill(ctx, rows[:n])
		if err != nil {
			return err
		}
		rows = rows[n:]
		if err := commit(ch, len(rows) == 0); err != nil || len(rows) == 0 {
			return err
		}
	}
}

// fill gives new rows their numbers and carries over what an update keeps.
func (l *listing) fill(ctx context.Context, rows []row) (ch portion, err error) {
	fresh := 0
	var old []bankfeed.TransactionID
	for _, r := range rows {
		if r.of == 0 {
			fresh++
		} else {
			old = append(old, r.of)
		}
	}
	stored, err := l.stored(ctx, old)
	if err != nil {
		return ch, err
	}
	var id int64
	if fresh > 0 {
		if id, err = l.Store.NextIDs(ctx, l.fence.Tenant, bankfeed.KindTransaction, fresh); err != nil {
			return ch, err
		}
		ch.Insert = make([]bankfeed.TransactionRow, 0, fresh)
	}
	user, now := l.snapshot().User.ID, l.now()
	for _, r := range rows {
		if r.t == nil {
			ch.seen = append(ch.seen, bankfeed.TransactionRow{Transaction: stored[r.of]})
			continue
		}
		t := bankfeed.TransactionRow{Transaction: *r.t, Identity: r.id}
		t.Account, t.User, t.ID, t.CreatedAt = l.p.Account, user, r.of, now
		if r.of == 0 {
			t.ID = bankfeed.TransactionID(id)
			id++
			l.heard.note(t.ID)
			ch.Insert = append(ch.Insert, t)
			continue
		}
		old := stored[r.of]
		t.CreatedAt = old.CreatedAt
		if r.named {
			t.BankID, t.EntryReference = old.BankID, old.EntryReference
		}
		l.heard.note(t.ID)
		ch.Update = append(ch.Update, t)
	}
	return ch, nil
}

// stored reads transactions by their numbers; all of them must be there.
func (l *listing) stored(ctx context.Context, ids []bankfeed.TransactionID) (map[bankfeed.TransactionID]bankfeed.Transaction, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	list, err := l.Store.TransactionsByID(ctx, l.fence.Tenant, l.snapshot().User.ID, ids)
	if err != nil {
		return nil, err
	}
	m := make(map[bankfeed.TransactionID]bankfeed.Transaction, len(list))
	for _, t := range list {
		m[t.ID] = t
	}
	for _, id := range ids {
		if _, ok := m[id]; !ok {
			return nil, bankfeed.ErrNotFound
		}
	}
	return m, nil
}

// drafts are the events of rows that are stored.
func (l *listing) drafts(st *bankfeed.ConnectionState, ch *portion) []bankfeed.Draft {
	drafts := l.transactionDrafts(st, bankfeed.EventTransactionCreated, ch.Insert)
	drafts = append(drafts, l.transactionDrafts(st, bankfeed.EventTransactionUpdated, ch.Update)...)
	return append(drafts, l.transactionDrafts(st, bankfeed.EventTransactionSeen, ch.seen)...)
}

func (l *listing) transactionDrafts(st *bankfeed.ConnectionState, t bankfeed.EventType, rows []bankfeed.TransactionRow) []bankfeed.Draft {
	if len(rows) == 0 {
		return nil
	}
	// The drafts of a page differ in their transaction only.
	draft := l.scribe.Draft(t, l.now(), st, func(s *bankfeed.Snapshot) { s.Channel, s.Account = l.mode, st.Account(l.p.Account) })
	drafts, snapshots := make([]bankfeed.Draft, len(rows)), make([]bankfeed.Snapshot, len(rows))
	for i := range rows {
		snapshots[i] = *draft.Snapshot
		snapshots[i].Transaction = &rows[i].Transaction
		drafts[i] = draft
		drafts[i].Snapshot = &snapshots[i]
	}
	return drafts
}
