package ingest

import (
	"context"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// maxAccountPages ends a list that never ends.
const maxAccountPages = 1000

// listAccounts reads the account list and stores what it says in one commit.
func (c *channelRun) listAccounts(ctx context.Context) (ended bool, err error) {
	use, refused, err := c.quota.spend(ctx, c.run, 0, bankfeed.AccessAccounts)
	if err != nil {
		return false, err
	}
	if refused != nil {
		return true, c.fail(ctx, &channelEnd{err: refused})
	}
	access, calls := c.recorded()
	var found []connector.Account
	cursor := ""
	for page := 0; ; page++ {
		p, err := c.bank.Accounts(ctx, access, cursor)
		if err != nil {
			if ctx.Err() != nil {
				c.keep(*calls)
				return true, ctx.Err()
			}
			return true, c.fail(ctx, &channelEnd{connector.AsError(err), *calls, unanswered(use, *calls)})
		}
		found = append(found, p.Accounts...)
		if !p.More {
			break
		}
		if p.Next == cursor || page == maxAccountPages {
			return true, c.fail(ctx, &channelEnd{err: &connector.Error{Reason: bankfeed.FailProtocol, Text: "the account list does not end"}, calls: *calls})
		}
		cursor = p.Next
	}
	more, err := c.tellApart(ctx, found)
	*calls = append(*calls, more...)
	if err != nil {
		c.keep(*calls)
		return true, err
	}
	fresh, err := c.Store.NextIDs(ctx, c.fence.Tenant, bankfeed.KindAccount, max(1, len(found)))
	if err != nil {
		c.keep(*calls)
		return false, err
	}
	return false, c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		if st.Consent(c.consent) == nil {
			return bankfeed.ErrFenced // removed with everything that it reached
		}
		c.told(st, ch, *calls)
		c.mergeAccounts(st, ch, found, bankfeed.AccountID(fresh))
		st.Session.Run(c.mode).Read++
		ch.Session = st.Session
		ch.Events = append(ch.Events, c.scribe.Draft(bankfeed.EventAccountsListSucceeded, c.now(), st, func(s *bankfeed.Snapshot) {
			s.Channel = c.mode
			for _, a := range st.Accounts {
				if a.RemovedAt.IsZero() && reachable(a, c.mode) {
					s.Accounts = append(s.Accounts, a)
				}
			}
		}))
		return nil
	})
}

func reachable(a bankfeed.Account, m bankfeed.Mode) bool {
	return slices.ContainsFunc(a.Access, func(x bankfeed.AccountAccess) bool { return x.Mode == m })
}

// mergeAccounts decides what a complete list means: new accounts, changed ones,
// and those that the bank lists no longer.
func (c *channelRun) mergeAccounts(st *bankfeed.ConnectionState, ch *bankfeed.Change, found []connector.Account, fresh bankfeed.AccountID) {
	now := c.now()
	consent := st.Consent(c.consent)
	listed, entries := map[bankfeed.AccountID]bool{}, map[string]bool{}
	consent.Accounts = nil
	for _, f := range found {
		access := bankfeed.AccountAccess{Mode: c.mode, ResourceID: f.ResourceID, Consent: c.consent}
		c.describe(&f.Account, nil)
		i, known, withheld := c.recognise(st, ch, func() (int, bool) { return c.match(st.Accounts, f, listed) })
		if withheld {
			listed[st.Accounts[i].ID], entries[f.ResourceID] = true, true
			continue
		}
		if known && listed[st.Accounts[i].ID] || hidden(f.Account) && entries[f.ResourceID] {
			continue // two entries of one account: the first stands
		}
		entries[f.ResourceID] = true
		event := bankfeed.EventAccountUpdated
		var a bankfeed.Account
		if known {
			var changed bool
			old := st.Accounts[i]
			c.describe(&f.Account, &old)
			a, changed = identity.MergeAccount(old, f.Account, c.mode)
			back := !old.RemovedAt.IsZero()
			a.RemovedAt = time.Time{}
			if back {
				a.Status = bankfeed.AccountOK
			}
			for _, x := range old.Access {
				if x.Mode == c.mode {
					access.DeltaFrom = x.DeltaFrom
				}
			}
			a.Access = setAccess(old.Access, access)
			if back {
				event = bankfeed.EventAccountCreated
			} else if !changed {
				event = ""
			}
			st.Accounts[i] = a
		} else {
			a = f.Account
			a.ID, a.Status, a.Source, a.CreatedAt = fresh, bankfeed.AccountOK, c.mode, now
			a.User, a.Connection = st.User.ID, st.Connection.ID
			a.Balances, _ = identity.MergeBalances(nil, a.Balances)
			a.Access = []bankfeed.AccountAccess{access}
			a.Trust = bankfeed.IDTrust{Recipe: identity.Recipe, Withdrawn: c.profile.DistrustIDs}
			event = bankfeed.EventAccountCreated
			fresh++
			st.Accounts = append(st.Accounts, a)
		}
		listed[a.ID] = true
		consent.Accounts = append(consent.Accounts, bankfeed.ConsentAccount{ID: a.ID, IBAN: a.ShownIBAN(), Currency: a.Currency})
		ch.Accounts = append(ch.Accounts, a)
		if event != "" {
			ch.Events = append(ch.Events, c.accountDraft(event, st, a))
		} else {
			ch.Events = append(ch.Events, c.accountSeen(st, a)...)
		}
	}
	for i := range st.Accounts {
		a := &st.Accounts[i]
		if listed[a.ID] || !reachable(*a, c.mode) {
			continue
		}
		a.Access = slices.DeleteFunc(slices.Clone(a.Access), func(x bankfeed.AccountAccess) bool { return x.Mode == c.mode })
		if len(a.Access) > 0 {
			a.Source = a.Access[0].Mode
		} else if a.RemovedAt.IsZero() {
			a.RemovedAt, a.Status = now, bankfeed.AccountGone
			ch.Events = append(ch.Events, c.accountDraft(bankfeed.EventAccountRemoved, st, *a))
		}
		ch.Accounts = append(ch.Accounts, *a)
	}
	first := !consent.AccountsListed
	consent.AccountsListed = true
	ch.Consents = append(ch.Consents, *consent)
	if first {
		ch.Events = append(ch.Events, c.scribe.Draft(bankfeed.EventConsentCreated, now, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Consent = c.mode, consent
		}))
	}
}

func setAccess(list []bankfeed.AccountAccess, x bankfeed.AccountAccess) []bankfeed.AccountAccess {
	list = slices.DeleteFunc(slices.Clone(list), func(y bankfeed.AccountAccess) bool { return y.Mode == x.Mode })
	return append(list, x)
}

func (c *channelRun) accountDraft(t bankfeed.EventType, st *bankfeed.ConnectionState, a bankfeed.Account) bankfeed.Draft {
	return c.scribe.Draft(t, c.now(), st, func(s *bankfeed.Snapshot) { s.Channel, s.Account = c.mode, &a })
}
