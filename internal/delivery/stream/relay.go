package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Config is what a relay works with.
type Config struct {
	Store    Store
	Log      LogReader
	Settings Settings
	// Subscribe tells of commits of a tenant until stop is called.
	Subscribe func(tenant bankfeed.TenantID) (wake <-chan struct{}, stop func())
	// Tenant finds the tenant that the settings name; bankfeed.ErrNotFound while
	// there is none, and a Conflict when it is not clear which.
	Tenant func(ctx context.Context, name string) (bankfeed.TenantID, error)
	Epoch  bankfeed.Epoch // of the log
	Node   string
	Build  string
	Window int // messages under way at most; DefaultWindow if 0
	Now    func() time.Time
	Logger *slog.Logger
	// Observe is told of confirmed messages; nil: nobody counts.
	Observe func(k banqup.Kind, routed bool)
}

// DefaultWindow is how many messages may wait for their confirm. More does not
// make RabbitMQ faster.
const DefaultWindow = 1000

// Relay publishes one stream. Every node runs one for each stream; one of them
// leads at a time.
type Relay struct {
	c     Config
	log   *slog.Logger
	bus   banqup.Bus
	types []bankfeed.EventType

	mu      sync.Mutex
	key     Key // once the tenant is known
	trouble string
	leading bool
}

// New returns a relay; nothing happens before Run.
func New(c Config) *Relay {
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if len(c.Settings.Messages) == 0 {
		c.Settings.Messages = slices.Clone(banqup.Kinds)
	}
	r := &Relay{c: c, log: c.Logger.With("stream", c.Settings.Name, "tenant", cmp.Or(c.Settings.Tenant, "the only one")), bus: NewBus(c.Settings.URL, c.Settings.Face, c.Node, c.Build)}
	for _, e := range bankfeed.EventTypes {
		if k, ok := banqup.KindOf(e.Type); ok && slices.Contains(c.Settings.Messages, k) && (c.Settings.Unchanged || e.Topic != bankfeed.TopicSeen) {
			r.types = append(r.types, e.Type)
		}
	}
	return r
}

// NewBus names this process as the producer of messages.
func NewBus(address bankfeed.Secret, face banqup.Settings, node, build string) banqup.Bus {
	machine, err := os.Hostname()
	if err != nil {
		machine = node
	}
	base := busAddress(address)
	return banqup.Bus{OmitNulls: face.OmitNulls, Address: base, Source: base + "/" + machine + "_bankfeed_bus_" + node + "?temporary=true", Host: banqup.Host{
		MachineName: machine, ProcessName: "bankfeed", ProcessID: os.Getpid(), Assembly: "bankfeed", AssemblyVersion: build,
		FrameworkVersion: "8.0.0", MassTransitVersion: "8.5.8.0", OperatingSystemVersion: "Unix",
	}}
}

// Name names the worker.
func (r *Relay) Name() string { return "stream " + r.c.Settings.Name }

// Trouble is why this node does not get on with the stream; empty when it leads
// without any, or waits for another node that leads.
func (r *Relay) Trouble() (text string, leading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble, r.leading
}

// Key names the stream once its tenant is known.
func (r *Relay) Key() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.key
}

func (r *Relay) set(trouble string, leading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble, r.leading = trouble, leading
}

const (
	// How long a relay waits before it tries again: first and longest.
	firstPause, longestPause = 200 * time.Millisecond, 15 * time.Second
	// tenantEvery is how often a relay without a tenant looks for it.
	tenantEvery = 2 * time.Second
)

// Run relays until ctx ends. No outage of broker or database ends it.
func (r *Relay) Run(ctx context.Context) error {
	key, ok := r.enable(ctx)
	if !ok {
		return nil
	}
	var pause time.Duration
	last := ""
	for ctx.Err() == nil {
		t := &term{Relay: r, key: key}
		err := t.run(ctx)
		r.set("", false)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to stop, and the term with it
		}
		if t.saved {
			pause, last = 0, "" // it got on
		}
		text := "the term ended"
		if err != nil {
			text = err.Error()
		}
		if !errors.Is(err, bankfeed.ErrFenced) {
			r.set(text, false)
			if cause := causeOf(err); cause != last {
				last = cause
				r.log.WarnContext(ctx, "stream interrupted", "error", text) // once an outage
			}
			t.report(ctx, text)
		}
		pause = min(max(2*pause, firstPause), longestPause)
		if !wait(ctx, pause) {
			return nil
		}
	}
	return nil
}

// causeOf is an error without the port that differs at each try.
func causeOf(err error) string {
	var e *net.OpError
	switch {
	case errors.As(err, &e):
		return e.Op + ": " + e.Err.Error()
	case err != nil:
		return err.Error()
	}
	return ""
}

// enable waits for the tenant and stores what the stream is. ok is false when
// ctx ended first.
func (r *Relay) enable(ctx context.Context) (key Key, ok bool) {
	last, declared := "", false
	for {
		err := func() (err error) {
			key = Key{Name: r.c.Settings.Name}
			if key.Tenant, err = r.c.Tenant(ctx, r.c.Settings.Tenant); err != nil {
				declared = declared || r.declare(ctx) == nil
				return err
			}
			target, err := Target(r.c.Settings.URL)
			if err != nil {
				return err
			}
			start, head, err := r.c.Log.Bounds(ctx, key.Tenant, key.Lane)
			if err != nil {
				return err
			}
			if r.c.Settings.FromNow {
				start = head
			}
			return r.c.Store.EnableStream(ctx, key, r.c.Settings, target, start, r.c.Now())
		}()
		if err == nil {
			r.mu.Lock()
			r.key, r.trouble = key, ""
			r.mu.Unlock()
			return key, true
		}
		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			level := slog.LevelWarn
			if bankfeed.ErrorKindOf(err) == bankfeed.NotFound {
				text, level = "no tenant yet; it begins with the first one", slog.LevelInfo
				if r.c.Settings.Tenant != "" {
					text, level = "there is no tenant of the name in its settings", slog.LevelWarn
				}
			}
			r.set(text, false)
			r.log.Log(ctx, level, "the stream waits", "reason", text)
		}
		if !wait(ctx, tenantEvery) {
			return key, false
		}
	}
}

// declare makes the exchanges for consumers that are there before any tenant.
func (r *Relay) declare(ctx context.Context) error {
	b, err := dial(ctx, r.c.Settings.URL, fmt.Sprintf("bankfeed %s stream %s", r.c.Node, r.c.Settings.Name))
	if err != nil {
		return err
	}
	defer b.close()
	return b.declareExchanges()
}

// wait reports whether ctx is still alive after d.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
