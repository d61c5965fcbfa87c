package ingest

import (
	"slices"

	"github.com/bankfeed/bankfeed"
)

// recognise finds the stored account that an entry of the list is, by match.
// withheld: it was removed by request, and the consent was given before that, so
// it stays away. If this consent is newer, what remained of the account is
// forgotten: its user lists it anew, and it begins anew.
func (c *channelRun) recognise(st *bankfeed.ConnectionState, ch *bankfeed.Change, match func() (int, bool)) (index int, known, withheld bool) {
	for {
		i, known := match()
		if !known || st.Accounts[i].Status != bankfeed.AccountDeleted {
			return i, known, false
		}
		a := st.Accounts[i]
		if slices.ContainsFunc(a.Withheld, func(x bankfeed.AccountAccess) bool { return x.Consent == c.consent }) {
			return i, true, true
		}
		ch.Forget = append(ch.Forget, a.ID)
		st.Accounts = slices.Delete(st.Accounts, i, i+1) // a copy of the decision's own
	}
}

// sweepSpent has the remains of removed accounts taken away that no consent
// could list any more.
func sweepSpent(st *bankfeed.ConnectionState, ch *bankfeed.Change) {
	if len(st.Spent()) > 0 {
		ch.Ready = append(ch.Ready, bankfeed.WorkItem{Tenant: ch.Tenant, Kind: bankfeed.WorkRemoval, ID: int64(st.Connection.ID),
			Group: st.Connection.ProviderID})
	}
}
