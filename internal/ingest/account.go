package ingest

import (
	"context"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// account reads one account from where its progress stands. It returns an end
// when the whole channel has to stop.
func (c *channelRun) account(ctx context.Context, p *bankfeed.Progress) (*channelEnd, error) {
	a := c.accountState(p.Account)
	c.resumeTold(p)
	resource := ""
	for _, x := range a.Access {
		if x.Mode == c.mode && x.Consent == c.consent {
			resource = x.ResourceID
		}
	}
	if resource == "" {
		return nil, c.accountFailed(ctx, p, &connector.Error{Reason: bankfeed.FailAccount, Text: "the account is not part of the present consent"}, nil)
	}
	ref := connector.AccountRef{ResourceID: resource, Currency: a.Currency}

	// What else the bank shows of the account is told of together with its
	// balances: in one event, and before its transactions.
	var d *details
	if p.Step == bankfeed.StepBalances {
		var end *channelEnd
		var err error
		if d, end, err = c.unmask(ctx, p, a, ref); end != nil || err != nil {
			return end, err
		}
		if d != nil {
			defer func(d *details) {
				if !d.handed {
					c.keep(d.calls)
				}
			}(d)
		}
	}
	// Balances come first, unless accesses are short: then transactions must
	// not be the ones that find the quota empty.
	balances := func() (*channelEnd, error) { return c.balances(ctx, p, ref, d) }
	listing := func() (*channelEnd, error) { return c.listing(ctx, p, ref) }
	steps := []func() (*channelEnd, error){balances, listing}
	if n, _ := c.quota.left(a.ID, bankfeed.AccessTransactions); n <= 1 {
		if err := c.storeDetails(ctx, p, d); err != nil {
			return nil, err
		}
		d = nil
		steps = []func() (*channelEnd, error){listing, balances}
	}
	if p.Step != bankfeed.StepBalances { // taken over after the balances
		steps = []func() (*channelEnd, error){listing}
	}
	for _, step := range steps {
		if end, err := step(); end != nil || err != nil || p.Step == bankfeed.StepFailed {
			return end, err
		}
	}
	return nil, nil
}

func (c *channelRun) accountState(id bankfeed.AccountID) bankfeed.Account {
	st := c.snapshot()
	return *st.Account(id)
}

// balances reads the balances of an account and stores them with the account.
// When their quota is empty, or the bank refuses them alone, the stored ones
// stay and the transactions are read all the same. What is new in d is stored
// with them, or by itself.
func (c *channelRun) balances(ctx context.Context, p *bankfeed.Progress, ref connector.AccountRef, d *details) (*channelEnd, error) {
	use, refused, err := c.quota.spend(ctx, c.run, p.Account, bankfeed.AccessBalances)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, c.storeDetails(ctx, p, d)
	}
	planned := p.Step == bankfeed.StepBalances
	if planned {
		p.Step = bankfeed.StepTransactions // stored with what follows
	}
	access, calls := c.recorded()
	found, err := c.bank.Balances(ctx, access, ref)
	if err != nil {
		if ctx.Err() != nil {
			c.keep(*calls)
			return nil, ctx.Err()
		}
		if err := c.storeDetails(ctx, p, d); err != nil {
			c.keep(*calls)
			return nil, err
		}
		e := connector.AsError(err)
		if wholeChannel(e) {
			return &channelEnd{e, *calls, unanswered(use, *calls)}, nil
		}
		c.notePartial(e)
		p.Failure = e.Failure()
		c.keep(*calls)
		return nil, nil
	}
	c.noteRead()
	now := c.now()
	for i := range found {
		found[i].FetchedAt = now
	}
	return nil, c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		a := *st.Account(p.Account)
		learned := c.learn(st, ch, &a, d)
		c.told(st, ch, *calls)
		if planned {
			ch.Progress = []bankfeed.Progress{*p}
		}
		merged, changed := identity.MergeBalances(a.Balances, found)
		a.Balances = merged
		ch.Accounts = []bankfeed.Account{a}
		if changed || learned {
			ch.Events = append(ch.Events, c.accountDraft(bankfeed.EventAccountUpdated, st, a))
		} else {
			ch.Events = append(ch.Events, c.accountSeen(st, a)...)
		}
		return nil
	})
}

// accountRefused sorts a bank's refusal: it ends the channel, or this account
// only.
func (c *channelRun) accountRefused(ctx context.Context, p *bankfeed.Progress, err error, calls []bankfeed.BankCall, use *bankfeed.QuotaUse) (*channelEnd, error) {
	if ctx.Err() != nil {
		c.keep(calls)
		return nil, ctx.Err()
	}
	e := connector.AsError(err)
	if wholeChannel(e) {
		return &channelEnd{e, calls, unanswered(use, calls)}, nil
	}
	return nil, c.accountFailed(ctx, p, e, calls)
}

// accountFailed marks one account as not read; the others go on. An empty quota
// says nothing about the account.
func (c *channelRun) accountFailed(ctx context.Context, p *bankfeed.Progress, e *connector.Error, calls []bankfeed.BankCall) error {
	f := e.Failure()
	c.notePartial(e)
	p.Step, p.Failure = bankfeed.StepFailed, f
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		c.told(st, ch, calls)
		ch.Progress = []bankfeed.Progress{*p}
		if a := *st.Account(p.Account); f.Reason != bankfeed.FailQuota {
			a.Status, a.Failure = bankfeed.AccountFailed, f
			ch.Accounts = []bankfeed.Account{a}
		}
		return nil
	})
}
