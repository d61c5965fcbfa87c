package callback

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Config is what an engine works with. Those up to Node are needed.
type Config struct {
	Store     Leading
	Log       Log
	Worlds    Worlds
	Transport Transport
	// Subscribe tells of commits of a tenant until stop is called.
	Subscribe func(tenant bankfeed.TenantID) (wake <-chan struct{}, stop func())
	// Render writes the body of an event: a pure function of the event and of
	// what kind of target it goes to.
	Render func(e *bankfeed.Event, t *Target) ([]byte, error)
	Epoch  bankfeed.Epoch // of the log
	Node   string

	Lanes      int             // of each tenant's log; 1 if 0
	Concurrent int             // attempts at a target at once; DefaultConcurrent if 0
	Jitter     float64         // share of a pause by which it varies to either side; 0 to 1
	Schedule   []time.Duration // Schedule if nil
	// Timeout is how long the transport takes for an attempt at most;
	// DefaultTimeout if 0.
	Timeout time.Duration
	Now     func() time.Time
	Logger  *slog.Logger
	// Observe is told of each attempt, how long after the event's commit it
	// ended, and what became of the delivery; nil: nobody counts.
	Observe func(Observation)
}

// Observation is an attempt as metrics see it.
type Observation struct {
	Subscription bool
	Result       Result
	State        State
	First        bool          // it was the first attempt
	Age          time.Duration // of the event
}

// DefaultConcurrent is how many attempts at one target are made at once.
const DefaultConcurrent = 16

// watchEvery is how often a leader learns of what others did to its target on
// another node. In its own process it learns at once (Changed).
const watchEvery = time.Second

// Engine runs the claimed work of targets on one node.
type Engine struct {
	c   Config
	log *slog.Logger

	mu      sync.Mutex
	leads   map[Key]*lead
	secrets map[bankfeed.TenantID]signing
}

// signing is a tenant's secrets and when they were asked for.
type signing struct {
	secrets []bankfeed.Secret
	at      time.Time
}

const (
	// secretsFor is how long a leader signs with what it knows, and secretsFresh
	// how long it does not ask, so that it need not wait while deliveries flow.
	secretsFor   = 5 * time.Second
	secretsFresh = secretsFor / 2
)

// New returns an engine; nothing happens before Run.
func New(c Config) *Engine {
	c.Lanes, c.Concurrent = cmp.Or(c.Lanes, 1), cmp.Or(c.Concurrent, DefaultConcurrent)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Schedule == nil {
		c.Schedule = Schedule
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(Observation) {}
	}
	return &Engine{c: c, log: c.Logger, leads: map[Key]*lead{}, secrets: map[bankfeed.TenantID]signing{}}
}

// Name names the worker that Watch is.
func (e *Engine) Name() string { return "callback watcher" }

// Watch tells leaders of what others do to their targets, until ctx ends. One
// query serves all that this node leads.
func (e *Engine) Watch(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		keys := e.led()
		if len(keys) == 0 {
			continue
		}
		query, cancel := context.WithTimeout(ctx, queryPatience)
		versions, err := e.c.Store.Versions(query, keys)
		cancel()
		if err != nil {
			continue // each leader says for itself that the database is away
		}
		e.mu.Lock()
		for _, k := range keys {
			if l := e.leads[k]; l != nil && l.version.Load() != versions[k] {
				l.tell()
			}
		}
		e.mu.Unlock()
	}
}

func (e *Engine) led() []Key {
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := make([]Key, 0, len(e.leads))
	for k := range e.leads {
		keys = append(keys, k)
	}
	return keys
}

// Changed tells the leader of a target, if it is on this node, that somebody
// changed it, or made deliveries of it wait. It does not block.
func (e *Engine) Changed(k Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.leads[k]; l != nil {
		l.tell()
	}
}

// Kick makes those who send requests' callbacks look for new ones. It does not
// block.
func (e *Engine) Kick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.leads {
		if !l.sub {
			signal(l.kicked)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run does claimed work. A subscription (bankfeed.WorkSubscription) is led until
// ctx ends or another node has taken over; a target of requests
// (bankfeed.WorkTarget) until nothing is due, and then given back.
func (e *Engine) Run(ctx context.Context, f bankfeed.Fence) error {
	l := newLead(e, f)
	e.mu.Lock()
	e.leads[l.key] = l
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		if e.leads[l.key] == l {
			delete(e.leads, l.key)
		}
		e.mu.Unlock()
	}()
	err := l.run(ctx)
	if ctx.Err() != nil && !errors.Is(err, bankfeed.ErrFenced) {
		return nil
	}
	return err
}

// signWith returns the secrets that a tenant's messages are signed with.
func (e *Engine) signWith(ctx context.Context, tenant bankfeed.TenantID) (signing, error) {
	now := e.c.Now()
	e.mu.Lock()
	s, ok := e.secrets[tenant]
	e.mu.Unlock()
	if ok && now.Before(s.at.Add(secretsFresh)) {
		return s, nil
	}
	list, err := e.c.Store.Secrets(ctx, tenant, NewSecret(), now)
	if err != nil {
		return signing{}, err
	}
	s = signing{list, now}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.secrets) > 10_000 {
		clear(e.secrets)
	}
	e.secrets[tenant] = s
	return s, nil
}
