package consent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// DeleteAccount removes one account with its transactions, in the background
// (RunRemoval); account.removed says when the account is gone, before its
// transactions are. A session that reads is waited for. A consent that has no
// other account left goes too, as by DeleteConsent.
//
// The bank knows nothing of it and lists the account on. It stays away under the
// consents that were confirmed by then; one that the PSU gives later brings it
// back, as a new account with a new number.
func (s *Service) DeleteAccount(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) error {
	known, err := s.Store.Account(ctx, tenant, user, id)
	if err != nil {
		return err
	}
	return s.changeConnection(ctx, tenant, user, known.Connection, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if a := st.Account(id); a == nil || a.Status == bankfeed.AccountDeleted {
			return bankfeed.ErrNotFound
		}
		if st.Connection.Status == bankfeed.ConnectionClosed || slices.Contains(st.Connection.Removing, id) {
			return errDone
		}
		st.Connection.Removing = append(slices.Clone(st.Connection.Removing), id)
		c.Connection = &st.Connection
		c.Ready = append(c.Ready, removalWork(tenant, st, s.now()))
		return nil
	})
}

// endAccounts removes the accounts of a connection that stays whose removal was
// asked for. That they are is settled first, so that no session reads them any
// more; then their transactions go, and what the log says of them.
func (r *removal) endAccounts(ctx context.Context) error {
	st, err := r.withdraw(ctx)
	if errors.Is(err, errDone) {
		return nil
	}
	if err != nil {
		return err
	}
	gone := st.Connection.Removing
	if err := r.transactions(ctx, st, gone); err != nil {
		return err
	}
	if err := r.s.Log.RedactAccounts(ctx, r.fence.Tenant, st.User.ID, r.id, gone); err != nil {
		return err
	}
	_, err = r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if st.Connection.Status == bankfeed.ConnectionClosed {
			return errMore
		}
		st.Connection.Removing = slices.DeleteFunc(slices.Clone(st.Connection.Removing), func(id bankfeed.AccountID) bool { return slices.Contains(gone, id) })
		c.Connection = &st.Connection
		c.Ready = append(c.Ready, r.blanking(st))
		return nil
	})
	return err
}

// withdraw takes the accounts away in one commit, with what was noted of reading
// them. It does nothing to those that are gone already.
func (r *removal) withdraw(ctx context.Context) (bankfeed.ConnectionState, error) {
	return r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		switch {
		case st.Connection.Status == bankfeed.ConnectionClosed:
			return errMore
		case len(st.Connection.Removing) == 0:
			return errDone
		case reading(st.Session):
			return errReading
		}
		now := r.s.now()
		c.Connection = &st.Connection // compare-and-set: a session that begins now is seen
		for _, id := range st.Connection.Removing {
			a := st.Account(id)
			if a == nil || a.Status == bankfeed.AccountDeleted {
				continue
			}
			if a.RemovedAt.IsZero() {
				told := *a
				told.RemovedAt, told.Status = now, bankfeed.AccountGone
				c.Events = append(c.Events, r.draft(bankfeed.EventAccountRemoved, now, st, func(s *bankfeed.Snapshot) {
					s.Channel, s.Account = told.Source, &told
				}))
			}
			*a = remains(st, a, now)
			c.Forget = append(c.Forget, id)
			if len(a.Withheld) > 0 {
				c.Accounts = append(c.Accounts, *a)
			}
		}
		r.leave(st, c, now)
		return nil
	})
}

// remains is what stays of an account that was removed by request: what its bank
// calls it, so that it is recognised when a consent of now lists it again. A
// hash of that would be less to keep, but banks write one number masked here and
// clear there, and a hash knows nothing of masks; it is sealed with the user's
// key as all else. Without identifiers an account is known by its names.
func remains(st *bankfeed.ConnectionState, a *bankfeed.Account, now time.Time) bankfeed.Account {
	left := bankfeed.Account{ID: a.ID, User: a.User, Connection: a.Connection, Type: a.Type, Status: bankfeed.AccountDeleted, Currency: a.Currency,
		Identifiers: a.Identifiers, Source: a.Source, CreatedAt: a.CreatedAt, RemovedAt: now}
	if len(left.Identifiers) == 0 {
		left.Name, left.Product = a.Name, a.Product
	}
	for _, k := range st.Consents {
		if k.Status != bankfeed.ConsentConfirmed {
			continue
		}
		x := bankfeed.AccountAccess{Mode: k.Mode, Consent: k.ID}
		for _, way := range a.Access {
			if way.Consent == k.ID {
				x.ResourceID = way.ResourceID
			}
		}
		left.Withheld = append(left.Withheld, x)
	}
	return left
}

// leave takes removed accounts from the consents that name them. One that has no
// account left goes itself; it keeps its list, which its deletion shows.
func (r *removal) leave(st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time) {
	for i := range st.Consents {
		k := &st.Consents[i]
		named := slices.ContainsFunc(k.Accounts, func(l bankfeed.ConsentAccount) bool { return slices.Contains(c.Forget, l.ID) })
		if !named || k.DeletedAt != nil {
			continue
		}
		if !slices.ContainsFunc(k.Accounts, func(l bankfeed.ConsentAccount) bool { a := st.Account(l.ID); return a != nil && a.RemovedAt.IsZero() }) {
			takeConsent(st, c, k, now)
			continue
		}
		k.Accounts = slices.DeleteFunc(slices.Clone(k.Accounts), func(l bankfeed.ConsentAccount) bool { return slices.Contains(c.Forget, l.ID) })
		c.Consents = append(c.Consents, *k)
	}
}
