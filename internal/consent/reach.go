package consent

import (
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
)

// settle decides what becomes of the accounts of deleted consents. Those that
// nobody reaches any more are removed here, with how far they were read; only
// their rows stay for a while.
func (r *removal) settle(ctx context.Context) (bankfeed.ConnectionState, error) {
	return r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
		if st.Connection.Status == bankfeed.ConnectionClosed {
			return errMore
		}
		if reading(st.Session) {
			return errReading
		}
		if !slices.ContainsFunc(st.Consents, func(k bankfeed.Consent) bool { return k.DeletedAt != nil }) {
			return errDone
		}
		now := r.s.now()
		c.Connection = &st.Connection // compare-and-set: a consent that is confirmed now is seen
		for i := range st.Accounts {
			a := &st.Accounts[i]
			var lost bankfeed.Mode
			ways := slices.DeleteFunc(slices.Clone(a.Access), func(x bankfeed.AccountAccess) bool {
				dead := deadWay(st, x)
				if dead {
					lost = x.Mode
				}
				return dead
			})
			if len(ways) == len(a.Access) {
				continue
			}
			a.Access = ways
			if len(ways) > 0 {
				a.Source = ways[0].Mode
			} else if a.RemovedAt.IsZero() {
				a.RemovedAt, a.Status = now, bankfeed.AccountGone
				c.Events = append(c.Events, r.draft(bankfeed.EventAccountRemoved, now, st, func(s *bankfeed.Snapshot) {
					s.Channel, s.Account = lost, a
				}))
			}
			c.Accounts = append(c.Accounts, *a)
		}
		return nil
	})
}

// deadWay reports whether a way to an account went with a deleted consent. Each
// listing notes the consent that it was made under, so a consent that never
// listed anything takes nothing along, nor does one that was replaced since. A
// way whose consent is unknown was left by one that was deleted while its
// successor had yet to list: it goes with the successor.
func deadWay(st *bankfeed.ConnectionState, x bankfeed.AccountAccess) bool {
	if st.Confirmed(x.Mode) != nil {
		return false // it lists anew what it reaches
	}
	known := st.Consent(x.Consent)
	if known != nil {
		return known.DeletedAt != nil
	}
	return slices.ContainsFunc(st.Consents, func(k bankfeed.Consent) bool { return k.DeletedAt != nil && k.Mode == x.Mode })
}

// left are the accounts whose rows go with the deleted consents: nobody reaches
// them, and either such a consent was the last to list them or no other that
// listed any is left of their channel. What remains of accounts that were
// removed by request goes with the last consent that could list them.
func left(st *bankfeed.ConnectionState) (ids []bankfeed.AccountID) {
	ids = st.Spent()
	for _, a := range st.Accounts {
		if len(a.Access) > 0 || a.RemovedAt.IsZero() || a.Status == bankfeed.AccountDeleted {
			continue
		}
		listed, last, other := false, false, false
		for _, k := range st.Consents {
			of := k.AccountsListed && k.Mode == a.Source
			if k.DeletedAt == nil {
				other = other || of
				continue
			}
			last = last || of
			listed = listed || slices.ContainsFunc(k.Accounts, func(l bankfeed.ConsentAccount) bool { return l.ID == a.ID })
		}
		if listed || last && !other {
			ids = append(ids, a.ID)
		}
	}
	return ids
}
