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
)

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
				p.From, p.Began, p.Cursor, p.First, p.FirstAt, p.Pages, p.Carried = x.Resume.From, x.Resume.Began, x.Resume.Cursor, x.Resume.First, x.Resume.FirstAt, x.Resume.Pages, true
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
				if !ended.set(end) {
					c.keep(end.calls)
				}
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

func (o *endOnce) set(e *channelEnd) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if first = o.end == nil; first {
		o.end = e
	}
	return first
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

// unstored takes the calls that were kept.
func (c *channelRun) unstored() []bankfeed.BankCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.unsaved
	c.unsaved = nil
	return calls
}

// commit is run.commit; the calls of what could not be stored are kept.
func (c *channelRun) commit(ctx context.Context, decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) error {
	var last *bankfeed.Change
	err := c.run.commit(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		last = ch
		return decide(st, ch)
	})
	c.rescue(last, err)
	return err
}

func (c *channelRun) commitRows(ctx context.Context, decide func(*bankfeed.ConnectionState, *bankfeed.Change) error) error {
	var last *bankfeed.Change
	err := c.run.commitRows(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		last = ch
		return decide(st, ch)
	})
	c.rescue(last, err)
	return err
}

func (c *channelRun) rescue(failed *bankfeed.Change, err error) {
	if err == nil || failed == nil {
		return
	}
	for _, d := range failed.Events {
		if d.Type == bankfeed.EventBankCalled {
			c.keep([]bankfeed.BankCall{*d.Snapshot.Call})
		}
	}
}

// saveTimeout is little, because a hub that stops is waiting.
const saveTimeout = 2 * time.Second

// saveCalls stores the calls of a run that comes to no end, because the hub
// stops or fails. Where that fails too, all that is left is their number in the
// hub's own log.
func (c *channelRun) saveCalls(ctx context.Context, end error) {
	if end == nil || errors.Is(end, bankfeed.ErrFenced) {
		return
	}
	calls := c.unstored()
	if len(calls) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := c.commitRows(ctx, func(st *bankfeed.ConnectionState, ch *bankfeed.Change) error {
		ch.Events = c.calls(st, calls)
		return nil
	})
	if err != nil {
		c.Logger.WarnContext(ctx, "calls of an interrupted session could not be written down", "session", c.fence.ID, "calls", len(calls), "error", err)
	}
}
