package consent

import (
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// endAtBank ends consents at the bank and reports how many of them it could not
// be told. What the bank has been told is remembered by taking the grant away.
func (r *removal) endAtBank(ctx context.Context, st bankfeed.ConnectionState, which func(*bankfeed.Consent) bool) (_ bankfeed.ConnectionState, open int, err error) {
	profile, bank, err := r.s.Banks.Lookup(st.Connection.ProviderID)
	if err != nil {
		return st, 0, nil //nolint:nilerr // a bank that is not configured any more cannot be told
	}
	for _, k := range slices.Clone(st.Consents) {
		if !which(&k) || k.Grant.ConsentID == "" || !mayBeValid(&k) {
			continue
		}
		var calls []bankfeed.BankCall
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			return bank.DeleteConsent(ctx, connector.Access{Profile: profile, Mode: k.Mode, BusinessContext: st.User.BusinessContext, Grant: k.Grant,
				Record: func(c bankfeed.BankCall) { calls = append(calls, c) }})
		}()
		if ctx.Err() != nil {
			return st, open, ctx.Err()
		}
		later := err != nil && busy(connector.AsError(err).Reason)
		if later {
			open++
		} else if err != nil {
			r.s.Logger.WarnContext(ctx, "ending a consent at its bank", "consent", k.ID, "error", err)
		}
		st, err = r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			if now := st.Consent(k.ID); now != nil && !later {
				now.Grant = bankfeed.Grant{}
				c.Consents = append(c.Consents, *now)
			}
			if r.fence.Kind != bankfeed.WorkErasure { // of an erased user only the deletions are told
				c.Events = callDrafts(r.scribe, outside(st), k.Mode, calls)
			}
			return nil
		})
		if err != nil {
			return st, open, err
		}
	}
	return st, open, nil
}

// mayBeValid reports whether a bank may still honour a consent. One that the
// hub gave up on may have been confirmed later, on a page that was still open.
func mayBeValid(k *bankfeed.Consent) bool {
	status := k.Status
	if status == bankfeed.ConsentDeleted {
		status = k.Previous
	}
	switch status {
	case bankfeed.ConsentReceived, bankfeed.ConsentConfirmed, bankfeed.ConsentRejected:
		return true
	case bankfeed.ConsentInvalid: // the bank need not see a replacement as one
		return k.Invalidation != nil && k.Invalidation.Reason == bankfeed.InvalidReplaced
	case bankfeed.ConsentDeleted:
	}
	return false
}
