package ingest

import (
	"github.com/bankfeed/bankfeed"
)

// Streams with `unchanged: publish` hear of every account and transaction in
// every session that lists it. What changed has an event anyway; account.seen
// and transaction.seen are for the rest: one for each account and session,
// before its transactions, and one for each transaction and listing. Where a
// process dies and another reads a list from its first page again, a
// transaction may be told of twice.

// accountSeen tells of an account that is as it was, unless the session has told
// of it already. It belongs into a commit that decides on the state.
func (c *channelRun) accountSeen(st *bankfeed.ConnectionState, a bankfeed.Account) []bankfeed.Draft {
	if !c.unchanged || c.toldOf[a.ID] {
		return nil
	}
	return []bankfeed.Draft{c.accountDraft(bankfeed.EventAccountSeen, st, a)}
}

// noteTold remembers of which accounts a commit has told.
func (r *run) noteTold(events []bankfeed.Draft) {
	for _, d := range events {
		switch d.Type {
		case bankfeed.EventAccountCreated, bankfeed.EventAccountUpdated, bankfeed.EventAccountSeen:
			r.toldOf[d.Account] = true
		}
	}
}

// listWasTold: the account list was stored by a claim of the session that ended.
func (c *channelRun) listWasTold() {
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	for _, a := range c.st.Accounts {
		for _, x := range a.Access {
			if x.Mode == c.mode && x.Consent == c.consent {
				c.toldOf[a.ID] = true
			}
		}
	}
}

// resumeTold: what was stored of an account by a claim of the session that ended
// began with telling of it.
func (c *channelRun) resumeTold(p *bankfeed.Progress) {
	if c.unchanged && (p.Step != bankfeed.StepBalances || p.Pages > 0 && !p.Carried) {
		c.run.mu.Lock()
		defer c.run.mu.Unlock()
		c.toldOf[p.Account] = true
	}
}

// accountToo is the account's own event where its balances could not be read.
func (l *listing) accountToo(st *bankfeed.ConnectionState) []bankfeed.Draft {
	if !l.unchanged {
		return nil
	}
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	drafts := l.accountSeen(st, *st.Account(l.p.Account))
	l.noteTold(drafts) // one that is not stored is the last of its session
	return drafts
}

// heard are the transactions that a listing has told of, in all its readings;
// nil where nobody wants to hear of unchanged ones.
type heard map[bankfeed.TransactionID]bool

func (c *channelRun) heardOf() heard {
	if !c.unchanged {
		return nil
	}
	return heard{}
}

func (h heard) note(id bankfeed.TransactionID) {
	if h != nil {
		h[id] = true
	}
}

// unchanged adds rows for stored transactions that were not told of.
func (h heard) unchanged(rows []row, same []bankfeed.TransactionID) []row {
	for _, id := range same {
		if !h[id] {
			h[id] = true
			rows = append(rows, row{of: id})
		}
	}
	return rows
}
