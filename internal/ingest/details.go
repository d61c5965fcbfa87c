package ingest

import (
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// details is what a bank showed of one account beyond its list.
type details struct {
	account connector.Account
	calls   []bankfeed.BankCall
	handed  bool // the calls are part of a change
}

// unmask asks the bank for an account whose whole IBAN is not known, where the
// profile says that its details show it. nil is nothing to ask, or nothing that
// came of it: the account stays masked and the next session tries again.
func (c *channelRun) unmask(ctx context.Context, p *bankfeed.Progress, a bankfeed.Account, ref connector.AccountRef) (*details, *channelEnd, error) {
	if c.profile.MaskedIBAN != connector.Unmask || !hidden(a) {
		return nil, nil, nil
	}
	use, refused, err := c.quota.spend(ctx, c.run, a.ID, bankfeed.AccessDetails)
	if refused != nil || err != nil {
		return nil, nil, err
	}
	d, refusal := c.askDetails(ctx, ref)
	if refusal == nil {
		refusal = d.reveals(a)
	}
	switch {
	case refusal == nil:
		return d, nil, nil
	case ctx.Err() != nil:
		c.keep(d.calls)
		return nil, nil, ctx.Err()
	case wholeChannel(refusal):
		return nil, &channelEnd{refusal, d.calls, unanswered(use, d.calls)}, nil
	}
	c.notePartial(refusal)
	p.Failure = refusal.Failure()
	c.keep(d.calls)
	return nil, nil, nil
}

// hidden reports whether the bank has shown the IBAN of an account in part only.
func hidden(a bankfeed.Account) bool {
	return a.IBAN() == "" && a.Identifier(bankfeed.IdentMaskedIBAN) != ""
}

func (c *channelRun) askDetails(ctx context.Context, ref connector.AccountRef) (*details, *connector.Error) {
	bank, ok := c.bank.(connector.Details)
	if !ok {
		return &details{}, &connector.Error{Reason: bankfeed.FailOperator, Text: "the connector reads no single account"}
	}
	access, calls := c.recorded()
	account, err := bank.Account(ctx, access, ref)
	d := &details{account: account, calls: *calls}
	if err != nil {
		return d, connector.AsError(err)
	}
	return d, nil
}

// reveals checks that details show the IBAN of the account they were asked for.
func (d *details) reveals(a bankfeed.Account) *connector.Error {
	text := ""
	if _, same := identity.MatchAccount([]bankfeed.Account{a}, d.account.Account); !same {
		text = "the bank gave the details of another account"
	} else if d.account.IBAN() == "" {
		text = "the account's details do not show its IBAN"
	}
	if text == "" {
		return nil
	}
	return &connector.Error{Reason: bankfeed.FailProtocol, Status: 200, Text: text}
}

// learn puts what the details of an account showed into a change; it is part of
// what the account's next event tells. d may be nil.
func (c *channelRun) learn(st *bankfeed.ConnectionState, ch *bankfeed.Change, a *bankfeed.Account, d *details) (changed bool) {
	if d == nil {
		return false
	}
	c.told(st, ch, d.calls)
	d.handed = true
	c.describe(&d.account.Account, a)
	*a, changed = identity.MergeAccount(*a, d.account.Account, c.mode)
	if k := st.Consent(c.consent); k != nil {
		k.Accounts = slices.Clone(k.Accounts)
		for i := range k.Accounts {
			if k.Accounts[i].ID == a.ID {
				k.Accounts[i].IBAN = a.ShownIBAN()
			}
		}
		ch.Consents = append(ch.Consents, *k)
	}
	return changed
}

// storeDetails commits what the details of an account showed by itself. d may
// be nil.
func (c *channelRun) storeDetails(ctx context.Context, p *bankfeed.Progress, d *details) error {
	if d == nil {
		return nil
	}
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		a := *st.Account(p.Account)
		changed := c.learn(st, ch, &a, d)
		ch.Accounts = []bankfeed.Account{a}
		if changed {
			ch.Events = append(ch.Events, c.accountDraft(bankfeed.EventAccountUpdated, st, a))
		}
		return nil
	})
}

// describe brings a listed account in line with the bank's profile. known is
// the account as it is stored, nil if it is not.
func (c *channelRun) describe(found *bankfeed.Account, known *bankfeed.Account) {
	product := found.Product
	if product == "" && known != nil {
		product = known.Product
	}
	if c.profile.Business(product) {
		yes := true
		found.IsBusiness = &yes
	}
	if c.profile.MaskedIBAN != connector.KeepMasked {
		return
	}
	found.Identifiers = slices.Clone(found.Identifiers)
	for i, n := range found.Identifiers {
		if n.Type == bankfeed.IdentIBAN {
			found.Identifiers[i] = bankfeed.Identifier{Type: bankfeed.IdentMaskedIBAN, Value: bankfeed.MaskIBAN(n.Value)}
		}
	}
}

// tellApart asks for the details of listed accounts that could each be one of
// several stored ones, because the bank hides what differs. Nothing else would
// keep the history of two accounts apart once a new consent has given them new
// names.
func (c *channelRun) tellApart(ctx context.Context, found []connector.Account) ([]bankfeed.BankCall, error) {
	if c.profile.MaskedIBAN != connector.Unmask {
		return nil, nil
	}
	st := c.snapshot()
	var calls []bankfeed.BankCall
	for i := range found {
		f := &found[i]
		if !hidden(f.Account) || !c.ambiguous(st.Accounts, *f) {
			continue
		}
		_, refused, err := c.quota.spend(ctx, c.run, 0, bankfeed.AccessDetails)
		if refused != nil || err != nil {
			return calls, err
		}
		d, refusal := c.askDetails(ctx, connector.AccountRef{ResourceID: f.ResourceID, Currency: f.Currency})
		calls = append(calls, d.calls...)
		if refusal == nil && d.reveals(f.Account) == nil {
			f.Identifiers = d.account.Identifiers
		}
	}
	return calls, ctx.Err()
}

func (c *channelRun) ambiguous(stored []bankfeed.Account, f connector.Account) bool {
	fits := 0
	for i := range stored {
		if _, ok := identity.MatchAccount(stored[i:i+1], f.Account); !ok {
			continue
		}
		if fits++; c.names(stored[i], f.ResourceID) {
			return false
		}
	}
	return fits > 1
}

// names reports whether the bank calls an account so under the present consent.
func (c *channelRun) names(a bankfeed.Account, resource string) bool {
	return slices.ContainsFunc(slices.Concat(a.Access, a.Withheld), func(x bankfeed.AccountAccess) bool {
		return x.Mode == c.mode && x.Consent == c.consent && x.ResourceID == resource && resource != ""
	})
}

// match finds the stored account that an entry of the list is. Of accounts that
// share a mask, each stands for one entry: the one that the bank calls so under
// this consent, else the next in the order of the list.
func (c *channelRun) match(stored []bankfeed.Account, f connector.Account, listed map[bankfeed.AccountID]bool) (index int, ok bool) {
	if !hidden(f.Account) {
		return identity.MatchAccount(stored, f.Account)
	}
	var free []bankfeed.Account
	var at []int
	for i, a := range stored {
		if listed[a.ID] {
			continue
		}
		if _, fits := identity.MatchAccount(stored[i:i+1], f.Account); fits && c.names(a, f.ResourceID) {
			return i, true
		}
		free, at = append(free, a), append(at, i)
	}
	if i, ok := identity.MatchAccount(free, f.Account); ok {
		return at[i], true
	}
	return 0, false
}
