package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
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
func (r *run) channel(ctx context.Context, m bankfeed.Mode) (*channelRun, error) {
	st := r.snapshot()
	cr := st.Session.Run(m)
	c := &channelRun{run: r, mode: m, consent: cr.Consent}
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
	if ended, err := c.listAccounts(ctx); ended || err != nil {
		return nil, err
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
func (c *channelRun) read(ctx context.Context) error {
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
	fresh, err := c.Store.NextIDs(ctx, c.fence.Tenant, bankfeed.KindAccount, max(1, len(found)))
	if err != nil {
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
	listed := map[bankfeed.AccountID]bool{}
	consent.Accounts = nil
	for _, f := range found {
		access := bankfeed.AccountAccess{Mode: c.mode, ResourceID: f.ResourceID, Consent: c.consent}
		i, known := identity.MatchAccount(st.Accounts, f.Account)
		if known && listed[st.Accounts[i].ID] {
			continue // two entries of one account: the first stands
		}
		event := bankfeed.EventAccountUpdated
		var a bankfeed.Account
		if known {
			var changed bool
			old := st.Accounts[i]
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
			a.Access = []bankfeed.AccountAccess{access}
			a.Trust = bankfeed.IDTrust{Recipe: identity.Recipe, Withdrawn: c.profile.DistrustIDs}
			event = bankfeed.EventAccountCreated
			fresh++
			st.Accounts = append(st.Accounts, a)
		}
		listed[a.ID] = true
		consent.Accounts = append(consent.Accounts, bankfeed.ConsentAccount{ID: a.ID, IBAN: a.IBAN(), Currency: a.Currency})
		ch.Accounts = append(ch.Accounts, a)
		if event != "" {
			ch.Events = append(ch.Events, c.accountDraft(event, st, a))
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

// plan says what is to be read of each account that this channel feeds. One
// that the other channel already reads in this session is left to it, even if
// this channel will feed it from now on.
func (c *channelRun) plan(st *bankfeed.ConnectionState) []bankfeed.Progress {
	var plan []bankfeed.Progress
	for _, a := range st.Accounts {
		taken := slices.ContainsFunc(st.Progress, func(p bankfeed.Progress) bool { return p.Account == a.ID })
		if taken || !a.RemovedAt.IsZero() || a.Source != c.mode || !reachable(a, c.mode) {
			continue
		}
		p := bankfeed.Progress{Account: a.ID, Mode: c.mode, Step: bankfeed.StepBalances}
		for _, x := range a.Access {
			if x.Mode == c.mode && x.Resume != nil && x.Consent == c.consent {
				p.From, p.Cursor, p.First, p.FirstAt, p.Pages, p.Carried = x.Resume.From, x.Resume.Cursor, x.Resume.First, x.Resume.FirstAt, x.Resume.Pages, true
			}
		}
		plan = append(plan, p)
	}
	st.Progress = append(slices.Clone(st.Progress), plan...)
	return plan
}

// readAccounts reads balances and transactions, several accounts at a time, and
// ends the channel.
func (c *channelRun) readAccounts(ctx context.Context) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var ended endOnce
	g, limit := errgroup.Group{}, make(chan struct{}, c.AccountsAtOnce)
	mine := 0
	for _, p := range c.snapshot().Progress {
		if p.Mode != c.mode {
			continue
		}
		mine++
		switch p.Step { // a run that was taken over finds some accounts read
		case bankfeed.StepDone:
			c.noteRead()
			continue
		case bankfeed.StepFailed:
			c.notePartial(&connector.Error{Reason: p.Failure.Reason, Code: p.Failure.Code, Text: p.Failure.Text})
			continue
		}
		g.Go(func() error {
			select {
			case limit <- struct{}{}:
				defer func() { <-limit }()
			case <-reading.Done():
				return nil
			}
			var end *channelEnd
			err := guard(func() (err error) {
				end, err = c.account(reading, &p)
				return err
			})
			c.noteStopped(p)
			if end != nil {
				ended.set(end)
				cancel()
			}
			if err != nil && ended.get() != nil && errors.Is(err, context.Canceled) {
				return nil // stopped because the channel ended
			}
			if err != nil {
				cancel()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if end := ended.get(); end != nil {
		return c.fail(ctx, end)
	}
	if mine == 0 {
		c.noteRead() // nothing to read is no failure
	}
	return c.succeed(ctx)
}

// channelEnd is a refusal that is meant for the whole channel.
type channelEnd struct {
	err    *connector.Error
	calls  []bankfeed.BankCall
	refund *bankfeed.QuotaUse // the access that it was the only answer to
}

// endOnce keeps the first of several.
type endOnce struct {
	mu  sync.Mutex
	end *channelEnd
}

func (o *endOnce) set(e *channelEnd) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		o.end = e
	}
}

func (o *endOnce) get() *channelEnd {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

func (c *channelRun) notePartial(e *connector.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.partial == nil {
		c.partial = e
	}
}

func (c *channelRun) noteRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
}

// noteStopped remembers where a listing stopped that another session can go on
// with.
func (c *channelRun) noteStopped(p bankfeed.Progress) {
	if p.Step == bankfeed.StepDone || p.Cursor == "" || p.Unsettled > 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = append(c.stopped, p)
}

// resumable stores those places with their accounts.
func (c *channelRun) resumable(st *bankfeed.ConnectionState, ch *bankfeed.Change) {
	for _, p := range c.stopped {
		a := st.Account(p.Account)
		if a == nil || a.Trust.Withdrawn {
			continue
		}
		a.Access = slices.Clone(a.Access)
		for i := range a.Access {
			if a.Access[i].Mode == c.mode {
				a.Access[i].Resume = &p
			}
		}
		ch.Accounts = append(ch.Accounts, *a)
	}
}

// keep saves calls whose page nobody wants any more: they were made.
func (c *channelRun) keep(calls []bankfeed.BankCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaved = append(c.unsaved, calls...)
}
