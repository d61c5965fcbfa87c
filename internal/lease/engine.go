package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Engine claims and runs the work of one kind on one node.
type Engine struct {
	c     Config
	owner string
	kick  chan struct{}

	mu       sync.Mutex
	held     map[bankfeed.Fence]*run
	failures map[key]int // in a row, of work that failed here
}

type key struct {
	tenant bankfeed.TenantID
	id     int64
}

// run is a claim that is being worked on.
type run struct {
	claim  Claim
	cancel context.CancelCauseFunc
	until  time.Time // end of the lease as far as this node knows
}

// ErrLost is why the context of a run ends when its claim was taken over, or
// could not be renewed in time.
var ErrLost = errors.New("the claim is lost")

var errStopped = errors.New("the engine stops")

// maxFailures bounds the memory for back-off; beyond it, counting starts over.
const maxFailures = 10_000

// New returns an engine; nothing happens before Run.
func New(c Config) *Engine {
	c.TTL, c.Heartbeat = cmp.Or(c.TTL, TTL), cmp.Or(c.Heartbeat, Heartbeat)
	c.Poll, c.StopAfter = cmp.Or(c.Poll, Poll), cmp.Or(c.StopAfter, StopAfter)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Backoff == nil {
		c.Backoff = backoff
	}
	if c.Cap == nil {
		c.Cap = func(string) int { return 0 }
	}
	return &Engine{
		c: c,
		// Different in each life of a process: a restarted node must not keep
		// the claims of its former life alive.
		owner: c.Node + "/" + rand.Text()[:8],
		kick:  make(chan struct{}, 1), held: map[bankfeed.Fence]*run{}, failures: map[key]int{},
	}
}

// Name names the worker.
func (e *Engine) Name() string { return "lease " + string(e.c.Kind) }

// Kick makes the engine look for work at once. It does not block.
func (e *Engine) Kick() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// Running is how many claims the engine works on.
func (e *Engine) Running() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.held)
}

// Run claims and works until ctx ends. Then it claims nothing more, ends the
// contexts of its runs, waits for them, but not for ever, and gives back what
// they have not, so that another node goes on at once.
func (e *Engine) Run(ctx context.Context) error {
	// Runs end a moment later than ctx, when no claim can follow any more.
	runs, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errStopped)
	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	var beat, working sync.WaitGroup
	beat.Go(func() { e.beat(beating) })

	e.claimUntil(ctx, runs, &working)

	cancel(errStopped)
	finished := make(chan struct{})
	go func() { working.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(e.c.StopAfter):
	}
	stopBeating()
	beat.Wait()
	e.releaseAll(ctx)
	return nil
}

func (e *Engine) claimUntil(ctx, runs context.Context, working *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-e.kick:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return
		}
		wait, err := e.claim(ctx, runs, working)
		if err != nil && ctx.Err() == nil && !failed {
			e.c.Log.WarnContext(ctx, "looking for work", "kind", e.c.Kind, "err", err) // once an outage
		}
		failed = err != nil
		timer.Reset(wait)
	}
}

// claim looks for work once and returns when to look again. A run that ends
// kicks, so nothing is asked while all slots are taken.
func (e *Engine) claim(ctx, runs context.Context, working *sync.WaitGroup) (wait time.Duration, err error) {
	free := e.c.Slots - e.Running()
	if free <= 0 {
		return e.c.Poll, nil
	}
	next, err := e.c.Store.NextWork(ctx, e.c.Kind)
	if err != nil || next.IsZero() {
		return e.c.Poll, err
	}
	now := e.c.Now()
	if next.After(now) {
		return min(e.c.Poll, next.Sub(now)), nil
	}
	until := now.Add(e.c.TTL)
	claims, err := e.c.Store.ClaimWork(ctx, Request{Kind: e.c.Kind, Owner: e.owner, Now: now, Until: until, Limit: free, Cap: e.c.Cap})
	for _, c := range claims {
		ctx, cancel := context.WithCancelCause(runs)
		r := &run{claim: c, cancel: cancel, until: until}
		e.mu.Lock()
		e.held[c.Fence] = r
		e.mu.Unlock()
		working.Go(func() { e.work(ctx, r) })
	}
	return e.c.Poll, err
}

// work runs a claim and sees to it that it is released.
func (e *Engine) work(ctx context.Context, r *run) {
	err := e.safely(ctx, r.claim)
	lost := errors.Is(context.Cause(ctx), ErrLost)
	stopped := errors.Is(context.Cause(ctx), errStopped)
	r.cancel(nil)
	if stopped {
		return // releaseAll comes
	}
	if !lost {
		e.release(context.WithoutCancel(ctx), r.claim, err)
	}
	e.mu.Lock()
	delete(e.held, r.claim.Fence)
	e.mu.Unlock()
	e.Kick()
}

func (e *Engine) safely(ctx context.Context, c Claim) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return e.c.Run(ctx, c)
}

// release puts work back that its run has left without releasing it.
func (e *Engine) release(ctx context.Context, c Claim, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.c.TTL/2)
	defer cancel()
	wait := e.c.Backoff(e.failed(c))
	released, releaseErr := e.c.Store.ReleaseWork(ctx, e.owner, []Claim{c}, e.c.Now().Add(wait))
	attrs := []any{"kind", c.Kind, "tenant", c.Tenant, "id", c.ID}
	switch {
	case releaseErr != nil: // its lease ends by itself
		e.c.Log.WarnContext(ctx, "giving work back", append(attrs, "err", releaseErr, "run_err", err)...)
	case len(released) > 0:
		e.c.Log.ErrorContext(ctx, "work ended without a result", append(attrs, "err", err, "retry_in", wait)...)
		return
	case err != nil && !errors.Is(err, bankfeed.ErrFenced):
		e.c.Log.ErrorContext(ctx, "work ended with an error", append(attrs, "err", err)...)
	}
	e.mu.Lock()
	delete(e.failures, key{c.Tenant, c.ID})
	e.mu.Unlock()
}

// failed counts a failure in advance; release forgets it if there was none.
func (e *Engine) failed(c Claim) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.failures) >= maxFailures {
		clear(e.failures)
	}
	k := key{c.Tenant, c.ID}
	e.failures[k]++
	return e.failures[k]
}

// beat renews the leases of what is held.
func (e *Engine) beat(ctx context.Context) {
	t := time.NewTicker(e.c.Heartbeat)
	defer t.Stop()
	for failed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := e.renew(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			e.c.Log.WarnContext(ctx, "renewing claims", "kind", e.c.Kind, "err", err)
		}
		failed = err != nil
	}
}

// renew ends those runs whose claim is gone, or whose lease has ended without
// anybody being able to tell.
func (e *Engine) renew(ctx context.Context) error {
	e.mu.Lock()
	claims := make([]Claim, 0, len(e.held))
	for _, r := range e.held {
		claims = append(claims, r.claim)
	}
	e.mu.Unlock()
	if len(claims) == 0 {
		return nil
	}
	until := e.c.Now().Add(e.c.TTL)
	query, cancel := context.WithTimeout(ctx, e.c.Heartbeat)
	held, err := e.c.Store.RenewWork(query, e.owner, claims, until)
	cancel()
	still := make(map[bankfeed.Fence]bool, len(held))
	for _, c := range held {
		still[c.Fence] = true
	}
	now := e.c.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range claims {
		r := e.held[c.Fence]
		switch {
		case r == nil: // ended meanwhile
		case err == nil && still[c.Fence]:
			r.until = until
		case err == nil || !now.Before(r.until):
			// A run that has just released it ends anyway.
			r.cancel(ErrLost)
		}
	}
	return err
}

// releaseAll gives everything back when the engine stops.
func (e *Engine) releaseAll(ctx context.Context) {
	e.mu.Lock()
	var claims []Claim
	for _, r := range e.held {
		claims = append(claims, r.claim)
	}
	clear(e.held)
	e.mu.Unlock()
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.c.Heartbeat)
	defer cancel()
	if _, err := e.c.Store.ReleaseWork(ctx, e.owner, claims, e.c.Now()); err != nil {
		e.c.Log.WarnContext(ctx, "giving work back", "kind", e.c.Kind, "err", err) // the leases end by themselves
	}
}
