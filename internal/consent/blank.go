package consent

import (
	"context"
	"errors"

	"github.com/bankfeed/bankfeed"
)

// blanking is the work that follows a removal: see RunBlanking.
func (r *removal) blanking(st *bankfeed.ConnectionState) bankfeed.WorkItem {
	return bankfeed.WorkItem{Tenant: r.fence.Tenant, Kind: bankfeed.WorkBlanking, ID: int64(st.User.ID), ReadyAt: r.s.now().Add(toldEvery)}
}

// RunBlanking works on claimed work of kind bankfeed.WorkBlanking. What was
// removed is blank in the log by then, but for the deletions themselves, which
// sinks are still to be told of. Once they are, or after DeletionsKept, these are blanked
// too, and with them the lists that name a removed account beside others: they
// tell of a consent that lives. What is to be done is seen from the log, so it
// may stop anywhere.
func (s *Service) RunBlanking(ctx context.Context, f bankfeed.Fence) error {
	user := bankfeed.UserID(f.ID)
	now := s.now()
	upTo := now.Add(-s.DeletionsKept)
	told := s.Told == nil
	if !told {
		var err error
		if told, err = s.Told(ctx, f.Tenant, user); err != nil {
			return err
		}
	}
	if told {
		upTo = now.Add(-toldEvery) // not what was on its way into the log while they were asked
	}
	left, err := s.Log.RedactDeletions(ctx, f.Tenant, user, upTo)
	if err != nil {
		return err
	}
	if !left.IsZero() {
		// The longer it takes the less often they are asked.
		wait := min(max(now.Sub(left), toldEvery), max(left.Add(s.DeletionsKept).Sub(now), toldEvery))
		return s.Store.FinishWork(ctx, f, bankfeed.Release{ReadyAt: now.Add(wait)})
	}
	accounts, err := s.Store.Accounts(ctx, f.Tenant, user, bankfeed.AccountFilter{Removed: true})
	if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
		return err
	}
	if err == nil { // else the user was erased, and all is blank
		known := map[bankfeed.AccountID]bool{}
		for _, a := range accounts {
			known[a.ID] = true
		}
		err := s.Log.RedactLists(ctx, f.Tenant, user, 0, func(snap *bankfeed.Snapshot) bool {
			return names(snap, func(id bankfeed.AccountID) bool { return !known[id] })
		})
		if err != nil {
			return err
		}
	}
	return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
}

// names reports whether a list holds any of some accounts.
func names(snap *bankfeed.Snapshot, which func(bankfeed.AccountID) bool) bool {
	if snap.Consent != nil {
		for _, a := range snap.Consent.Accounts {
			if which(a.ID) {
				return true
			}
		}
	}
	for _, a := range snap.Accounts {
		if which(a.ID) {
			return true
		}
	}
	return false
}
