package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/bankfeed/bankfeed"
)

const (
	// window bounds what a leader holds in memory: sent or to be sent, and not
	// committed.
	window = 4096
	// dueBatch is how many due deliveries are read at once.
	dueBatch = 256
	// fewLeft is how few read ahead make a leader read again.
	fewLeft = 64
	// commitEvery is how often results are stored while deliveries flow: what a
	// crash repeats.
	commitEvery = 50 * time.Millisecond
	// orderedEvery is the same where a connection catches up in order: the next of
	// it is not due before the one in front of it is stored.
	orderedEvery = 5 * time.Millisecond
	// cursorEvery is how often a cursor alone is stored.
	cursorEvery = 2 * time.Second
	// parkAfter is how long an attempt may hold the cursor. Then its delivery
	// becomes a row, and the cursor passes it.
	parkAfter = 500 * time.Millisecond
	// parkMargin is added to the timeout of a parked attempt: if its leader is
	// gone by then, it is made again.
	parkMargin = 5 * time.Second
	// lookEvery is how often a leader that sends looks for deliveries that
	// nobody told it of.
	lookEvery = time.Second
	// queryPatience bounds a query, and commitPatience a commit.
	queryPatience  = 10 * time.Second
	commitPatience = 10 * time.Second
	// retryFirst and retryLongest are the pauses while the database is away.
	retryFirst, retryLongest = 100 * time.Millisecond, 3 * time.Second
	// stopPatience is how long a leader that stops waits for answers.
	stopPatience = 2 * time.Second
)

// lead is one claim of a target's work. Its fields belong to the goroutine of
// run, but for version and the channels.
type lead struct {
	*Engine
	fence   bankfeed.Fence
	key     Key
	sub     bool // a subscription; else the target of requests
	version atomic.Int64
	changed chan struct{} // somebody did something to the target
	kicked  chan struct{} // there may be new deliveries

	t       Target
	log     *slog.Logger
	began   bool // t is known
	policy  policy
	limiter *rate.Limiter // nil: no limit
	signing signing
	ctx     context.Context // of queries and attempts: ends with the run
	working sync.WaitGroup  // everything that run has started
	news    chan func()     // what they have found, to be taken in by run

	// what is to be sent, oldest first
	rows  []*item              // deliveries with a row
	known map[DeliveryID]*item // all of them that are in memory
	fresh []*item              // events that have no row
	lanes []*lane

	inflight  int
	allowed   int // attempts at once, from one up after failures
	lastStart time.Time
	failing   []bankfeed.UUID // a few that failed since the last success
	parking   []*item
	order     order

	loading   bool
	nextDue   time.Time // when to look for due deliveries; zero: nothing is due
	loadedAt  time.Time
	soon      time.Time // the same, told of since the read under way began
	probing   bool
	forgotten []DeliveryID // of known, once no query that began before they were stored is under way
	nothing   bool         // there was nothing to probe with
	leaving   bool         // the work is being given back
	fresher   bool         // the target is to be read again
	reading   bool         // it is being read

	in      chan batch // from the lanes
	life    int        // of the lanes' readers
	follows bool       // they read
	halt    context.CancelFunc
	checks  bool // a batch is being looked at: which connections wait
	byRow   bool // the next to be sent is one with a row, if there is one

	store saver
	err   error // ends the run
	quiet bool  // an outage of the database was logged
	fails int   // queries in a row that failed
	pause time.Time
}

// item is a delivery in memory.
type item struct {
	Delivery
	event   *bankfeed.Event
	read    time.Time // when event was read: what is old may have been erased meanwhile
	entry   *entry    // its place in the log; nil for a row, and once it was committed
	began   time.Time
	flying  bool
	probe   bool
	parked  bool     // it has, or will have, a row although the attempt goes on
	outcome *outcome // of a parked attempt whose row has no number yet
}

func newLead(e *Engine, f bankfeed.Fence) *lead {
	return &lead{
		Engine: e, fence: f, key: Key{f.Tenant, TargetID(f.ID)}, sub: f.Kind == bankfeed.WorkSubscription,
		log: e.log, changed: make(chan struct{}, 1), kicked: make(chan struct{}, 1), news: make(chan func(), 64),
		known: map[DeliveryID]*item{}, order: newOrder(), in: make(chan batch),
	}
}

// tell makes the leader read its target again. It does not block.
func (l *lead) tell() { signal(l.changed) }

// run leads until ctx ends, the claim is lost, or there is nothing to do.
func (l *lead) run(ctx context.Context) error {
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		l.stopLanes()
		go func() { l.working.Wait(); close(l.news) }()
		for range l.news { // nobody takes it in any more
		}
	}()
	if err := l.begin(ctx); err != nil || l.t.Status == Deleted {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l.err == nil && !l.store.released {
		if ctx.Err() != nil {
			return l.stop()
		}
		now := l.c.Now()
		wake := l.turn(now)
		if l.err != nil {
			break
		}
		timer.Reset(max(wake.Sub(now), 0))
		select {
		case f := <-l.news:
			f()
			l.takeNews()
		case b := <-l.batches():
			l.take(b)
		case <-l.changed:
			l.fresher = true
		case <-l.kicked:
			l.due(now)
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return l.err
}

// takeNews takes in what else is there already.
func (l *lead) takeNews() {
	for range cap(l.news) {
		select {
		case f := <-l.news:
			f()
		default:
			return
		}
	}
}

// begin reads the target and finds where to go on.
func (l *lead) begin(ctx context.Context) error {
	query, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	t, err := l.c.Store.Target(query, l.key)
	if bankfeed.ErrorKindOf(err) == bankfeed.NotFound || err == nil && t.Status == Deleted {
		_, _, err = l.c.Store.Commit(query, Commit{Fence: l.fence, Key: l.key, Now: l.c.Now(), Release: &bankfeed.Release{Done: true}})
		l.t.Status = Deleted
		return err
	}
	if err != nil {
		return fmt.Errorf("reading target %d: %w", l.key.ID, err)
	}
	if l.signing, err = l.signWith(query, l.key.Tenant); err != nil {
		return fmt.Errorf("reading the secrets of callbacks: %w", err)
	}
	l.log = l.c.Logger.With("tenant", l.key.Tenant, "target", l.key.ID, "origin", t.Origin)
	l.apply(t)
	l.began, l.allowed = true, l.most()
	now := l.c.Now()
	if h := &l.t.Health; h.Failures > 0 {
		l.allowed = 1
		if !h.OutageSince.IsZero() && h.Version != t.Version {
			h.ProbeAt = now
		}
	}
	l.t.Health.Version = t.Version
	l.nextDue = now
	if l.sub {
		if err := l.beginLanes(query); err != nil {
			return err
		}
	}
	return nil
}

// apply takes in what clients say about the target.
func (l *lead) apply(t Target) {
	old := l.t
	if l.began { // what belongs to the leader stays
		t.Health, t.Cursors, t.Notes = l.t.Health, l.t.Cursors, l.t.Notes
		if l.store.disable != "" || l.store.flying != nil && l.store.flying.Disable != "" {
			t.Status, t.Reason = Disabled, l.t.Reason // as will be stored
		}
	}
	l.t = t
	l.version.Store(t.Version)
	l.policy = policy{schedule: l.c.Schedule, jitter: l.c.Jitter, subscription: l.sub}
	limit := 0
	if s := t.Subscription; s != nil {
		l.policy.retries, limit = s.Retries, s.PerSecond
		l.order.on = s.Ordered
	}
	switch {
	case limit <= 0:
		l.limiter = nil
	case l.limiter == nil || l.limiter.Limit() != rate.Limit(limit):
		l.limiter = rate.NewLimiter(rate.Limit(limit), max(1, limit/20)) // a twentieth of a second at once
	}
	if l.follows && old.Subscription != nil && t.Subscription != nil && !sameFilter(old.Subscription, t.Subscription) {
		l.stopLanes() // and again with the new ones
	}
}

// most is how many attempts may be under way at a receiver in good health.
func (l *lead) most() int {
	if s := l.t.Subscription; s != nil && s.Concurrent > 0 {
		return s.Concurrent
	}
	return l.c.Concurrent
}

// concurrent is how many attempts may be under way now.
func (l *lead) concurrent() int { return min(l.most(), l.allowed) }

// background runs a query beside the loop; taken is called by the loop.
func (l *lead) background(do func(ctx context.Context) (taken func())) {
	l.working.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, queryPatience)
		defer cancel()
		l.news <- do(ctx)
	})
}

// failedQuery notes that a query failed, and makes the leader wait a little.
func (l *lead) failedQuery(what string, err error) {
	if errors.Is(err, bankfeed.ErrFenced) {
		l.err = err
		return
	}
	l.fails++
	l.pause = l.c.Now().Add(min(retryFirst<<min(l.fails-1, 8), retryLongest))
	if !l.quiet { // once an outage
		l.quiet = true
		l.log.LogAttrs(l.ctx, slog.LevelWarn, "callbacks wait for the database", slog.String("at", what), slog.Any("error", err))
	}
}

func (l *lead) queryDone() { l.fails, l.quiet, l.pause = 0, false, time.Time{} }

// turn does all that can be done now and returns when to look again.
func (l *lead) turn(now time.Time) (wake time.Time) {
	wake = now.Add(time.Minute)
	until := func(t time.Time) {
		if t.Before(wake) {
			wake = t
		}
	}
	until(l.park(now))
	switch {
	case l.pause.After(now):
		until(l.pause)
	case l.leaving:
		until(l.commit(now))
	default:
		if l.fresher && !l.reading {
			l.refresh()
		}
		l.lookSecrets(now)
		l.follow(now)
		until(l.sendAll(now))
		until(l.load(now))
		until(l.commit(now))
		l.rest(now)
	}
	return wake
}

// refresh reads the target again.
func (l *lead) refresh() {
	l.reading, l.fresher = true, false
	l.background(func(ctx context.Context) func() {
		t, err := l.c.Store.Target(ctx, l.key)
		return func() {
			l.reading = false
			switch {
			case bankfeed.ErrorKindOf(err) == bankfeed.NotFound, err == nil && t.Status == Deleted:
				l.err = bankfeed.ErrFenced // its work was taken away with it
			case err != nil:
				l.fresher = true
				l.failedQuery("reading the target", err)
			default:
				l.queryDone()
				if t.Version != l.t.Version {
					l.changedTo(t)
				}
			}
		}
	})
}

// changedTo takes in what others did to the target.
func (l *lead) changedTo(t Target) {
	l.apply(t)
	now := l.c.Now()
	l.t.Health.Version, l.store.health = t.Version, true
	if !l.t.Health.OutageSince.IsZero() {
		l.t.Health.ProbeAt = now // whoever changed something wants to know
	}
	l.due(now)
}

// lookSecrets keeps the secrets fresh while deliveries flow.
func (l *lead) lookSecrets(now time.Time) {
	l.mu.Lock()
	s, ok := l.Engine.secrets[l.key.Tenant]
	l.mu.Unlock()
	if ok {
		l.signing = s
	}
	if l.inflight > 0 || len(l.rows)+len(l.fresh) > 0 {
		l.askSecrets(now)
	}
}

// askSecrets asks for secrets, unless those that are known are fresh.
func (l *lead) askSecrets(now time.Time) {
	if l.reading || now.Before(l.signing.at.Add(secretsFresh)) {
		return
	}
	l.reading = true
	l.background(func(ctx context.Context) func() {
		s, err := l.signWith(ctx, l.key.Tenant)
		return func() {
			l.reading = false
			if err != nil {
				l.failedQuery("reading secrets", err)
				return
			}
			l.queryDone()
			l.signing = s
		}
	})
}

// signs reports whether the secrets are good to sign with; if not, they are asked
// for: one of them may have been retired.
func (l *lead) signs(now time.Time) bool {
	if now.Before(l.signing.at.Add(secretsFor)) {
		return true
	}
	l.askSecrets(now)
	return false
}

// rest ends the run of a target of requests that has nothing to do for now.
func (l *lead) rest(now time.Time) {
	if l.sub || l.inflight > 0 || l.loading || l.probing || l.reading || l.fresher || l.store.flying != nil || l.store.released {
		return
	}
	h := &l.t.Health
	next := l.nextDue
	switch {
	case l.t.Status != Active:
		next = now.Add(idle)
	case !h.OutageSince.IsZero() && l.nothing:
		next = now.Add(idle)
	case !h.OutageSince.IsZero():
		if next = h.ProbeAt; h.NotBefore.After(next) {
			next = h.NotBefore
		}
	case h.NotBefore.After(now):
		next = h.NotBefore
	case len(l.rows) > 0 || l.uncommitted() > 0 && !l.nextDue.IsZero() && !l.nextDue.After(now):
		return
	case next.IsZero():
		next = now.Add(idle) // whoever has something puts the work up
	}
	for n := range l.store.changed {
		if d := &l.store.changed[n].Delivery; l.t.Status == Active && h.OutageSince.IsZero() && d.State == Waiting {
			next = earlier(next, d.NextAt)
		}
	}
	if next.Sub(now) < briefly || !l.store.recovered.IsZero() {
		return
	}
	l.leaving, l.store.release = true, &bankfeed.Release{ReadyAt: next}
	l.commit(now)
}

const (
	// idle is when work without anything to do is looked at again.
	idle = 24 * time.Hour
	// briefly is not worth giving work back for.
	briefly = time.Second
)

// stop waits for the answers that come soon and stores what is known.
func (l *lead) stop() error {
	l.leaving = true
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	for l.err == nil && (l.inflight > 0 || l.store.flying != nil) {
		select {
		case f := <-l.news:
			f()
			continue
		case <-patience.C:
		}
		break
	}
	if l.err != nil || l.store.flying != nil {
		return l.err
	}
	c, ok := l.collect(l.c.Now())
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), stopPatience)
	defer cancel()
	_, _, err := l.c.Store.Commit(ctx, c)
	return err
}
