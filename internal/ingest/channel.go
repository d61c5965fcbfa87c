package ingest

import (
	"context"
	"slices"
	"sync"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// channelRun reads one channel in one session.
type channelRun struct {
	*run
	mode    bankfeed.Mode
	consent bankfeed.ConsentID
	profile *connector.Profile
	bank    connector.Connector
	access  connector.Access
	quota   *ledger

	mu      sync.Mutex
	reads   int
	reached bool                // the bank has answered
	partial *connector.Error    // the first account that could not be read
	unsaved []bankfeed.BankCall // of pages that were not stored
	stopped []bankfeed.Progress // listings that stopped on their way
}

// channel begins a channel's run, or takes it up again, up to its account list.
// It returns nil when the channel has ended. Errors are the hub's own; what the
// bank refuses becomes the channel's state.
func (r *run) channel(ctx context.Context, m bankfeed.Mode) (_ *channelRun, err error) {
	st := r.snapshot()
	cr := st.Session.Run(m)
	c := &channelRun{run: r, mode: m, consent: cr.Consent}
	defer func() { c.saveCalls(ctx, err) }()
	profile, bank, err := r.Banks.Lookup(st.Connection.ProviderID)
	if err != nil {
		return nil, c.refuse(ctx, bankfeed.FailOperator, "the bank is not configured any more")
	}
	c.profile, c.bank = profile, bank
	consent := st.Consent(cr.Consent)
	if consent == nil || consent.Status != bankfeed.ConsentConfirmed {
		return nil, c.refuse(ctx, bankfeed.FailConsentInvalid, "there is no valid consent")
	}
	if consent.ValidUntil != "" && consent.ValidUntil < bankfeed.DateOf(r.now()) {
		return nil, c.refuse(ctx, bankfeed.FailConsentExpired, "the consent has expired")
	}
	c.access = connector.Access{Profile: profile, Mode: m, BusinessContext: st.User.BusinessContext, PSU: st.Session.PSU, Grant: consent.Grant}
	if c.quota, err = r.openLedger(ctx, consent, st.Session.PSU != nil); err != nil {
		return nil, err
	}
	if cr.Phase == bankfeed.PhaseReady {
		// A list read once under a consent is not read again without need:
		// some banks serve it only right after the authorisation.
		if consent.AccountsListed && st.Session.Type != bankfeed.SessionListAccounts {
			return c, nil
		}
		if err := c.begin(ctx, bankfeed.PhaseAccounts, bankfeed.StageAccounts); err != nil {
			return nil, err
		}
	}
	if cr.Phase == bankfeed.PhaseTransactions {
		return c, nil
	}
	if cr.Read == 0 {
		if ended, err := c.listAccounts(ctx); ended || err != nil {
			return nil, err
		}
	} else { // a run that was taken over has stored the list, and told of it
		c.listWasTold()
	}
	if st.Session.Type == bankfeed.SessionListAccounts {
		return nil, c.succeed(ctx)
	}
	return c, nil
}

func (c *channelRun) refuse(ctx context.Context, r bankfeed.FailureReason, text string) error {
	return c.fail(ctx, &channelEnd{err: &connector.Error{Reason: r, Text: text}})
}

// read reads balances and transactions, and ends the channel.
func (c *channelRun) read(ctx context.Context) (err error) {
	defer func() { c.saveCalls(ctx, err) }()
	st := c.snapshot()
	if st.Session.Run(c.mode).Phase != bankfeed.PhaseTransactions {
		if err := c.begin(ctx, bankfeed.PhaseTransactions, bankfeed.StageAccountBalances); err != nil {
			return err
		}
	}
	return c.readAccounts(ctx)
}

var listStarted = map[bankfeed.Phase]bankfeed.EventType{
	bankfeed.PhaseAccounts:     bankfeed.EventAccountsListStarted,
	bankfeed.PhaseTransactions: bankfeed.EventTransactionsStarted,
}

// begin enters a phase.
func (c *channelRun) begin(ctx context.Context, p bankfeed.Phase, stage bankfeed.Stage) error {
	return c.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Session = st.Session
		st.Session.Status = bankfeed.SessionInProgress
		st.Session.Run(c.mode).Phase = p
		advance(st.Session, stage)
		ch.Events = append(ch.Events, c.draft(listStarted[p], st))
		if p == bankfeed.PhaseTransactions {
			ch.Progress = c.plan(st)
		}
		return nil
	})
}

var stageOrder = []bankfeed.Stage{bankfeed.StageAuthentication, bankfeed.StageAccounts, bankfeed.StageAccountBalances, bankfeed.StageTransactions}

// advance moves the session's stage forward, never back: its channels are not
// in step.
func advance(n *bankfeed.Session, to bankfeed.Stage) bool {
	if slices.Index(stageOrder, to) <= slices.Index(stageOrder, n.Stage) {
		return false
	}
	n.Stage = to
	return true
}

func (c *channelRun) draft(t bankfeed.EventType, st *bankfeed.ConnectionState) bankfeed.Draft {
	return c.scribe.Draft(t, c.now(), st, func(s *bankfeed.Snapshot) { s.Channel = c.mode })
}

// calls turns recorded exchanges with the bank into events.
func (c *channelRun) calls(st *bankfeed.ConnectionState, calls []bankfeed.BankCall) []bankfeed.Draft {
	drafts := make([]bankfeed.Draft, 0, len(calls))
	for i := range calls {
		drafts = append(drafts, c.scribe.Draft(bankfeed.EventBankCalled, calls[i].At, st, func(s *bankfeed.Snapshot) {
			s.Channel, s.Call = c.mode, &calls[i]
		}))
		if calls[i].Status >= 200 && calls[i].Status < 300 {
			c.mu.Lock()
			c.reached = true
			c.mu.Unlock()
		}
	}
	return drafts
}

// told is calls for a commit that may change the session: the first answer of
// a channel also tells that the bank was reached.
func (c *channelRun) told(st *bankfeed.ConnectionState, ch *bankfeed.Change, calls []bankfeed.BankCall) {
	ch.Events = append(ch.Events, c.calls(st, calls)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if cr := st.Session.Run(c.mode); c.reached && !cr.Connected {
		cr.Connected = true
		ch.Session = st.Session
		ch.Events = append(ch.Events, c.draft(bankfeed.EventProviderConnected, st))
	}
}

// recorded gives an access that collects its calls.
func (c *channelRun) recorded() (connector.Access, *[]bankfeed.BankCall) {
	var calls []bankfeed.BankCall
	a := c.access
	a.Record = func(b bankfeed.BankCall) { calls = append(calls, b) }
	return a, &calls
}
