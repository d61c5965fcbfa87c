package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// CheckStreams reports every fault of the streams in a configuration: addresses
// that lead nowhere, two streams on one virtual host, banks without a BIC.
func CheckStreams(c config.Config) error {
	var faults []error
	targets, names := map[string]string{}, map[[2]string]bool{}
	for _, s := range c.Streams {
		fail := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("stream %s: %s", s.Name, fmt.Sprintf(format, args...)))
		}
		if id := [2]string{s.Tenant, s.Name}; names[id] {
			fail("the tenant has two of this name")
		} else {
			names[id] = true
		}
		if s.Tenant == "" && len(c.Streams) > 1 && slices.ContainsFunc(c.Streams, func(o config.Stream) bool { return o.Tenant != "" }) {
			fail("tenant: is needed, as another stream names one")
		}
		target, err := stream.Target(s.AMQPURL)
		if err != nil {
			fail("amqp_url (or BANKFEED_AMQP_URL): %v", err)
			continue
		}
		if other, taken := targets[target]; taken {
			fail("stream %s has the same broker and virtual host: exchange names are fixed, so give each its own", other)
		}
		targets[target] = s.Name
	}
	if len(c.Streams) > 0 {
		for _, b := range c.Banks {
			if b.BIC == "" {
				faults = append(faults, fmt.Errorf("bank %s: bic: is needed while a stream is on, its messages require one", b.ID))
			}
		}
	}
	return errors.Join(faults...)
}

// streamSettings is a stream of the configuration in the relay's words.
func streamSettings(s config.Stream) stream.Settings {
	set := stream.Settings{
		Name: s.Name, Tenant: s.Tenant, URL: s.AMQPURL, Queues: s.Queues, Unchanged: s.Unchanged == "publish", FromNow: s.Start == "now",
		Face:     banqup.Settings{DecimalsAsText: s.Decimals == "string", OmitNulls: s.Nulls == "omitted", AbsoluteAmounts: s.AmountSign == "absolute"},
		Unrouted: map[banqup.Kind]stream.Unrouted{},
	}
	for _, k := range banqup.Kinds {
		if len(s.Messages) == 0 || slices.Contains(s.Messages, string(k)) {
			set.Messages = append(set.Messages, k)
			set.Unrouted[k] = stream.Unrouted(cmp.Or(s.Unrouted[string(k)], string(stream.UnroutedHold)))
		}
	}
	return set
}

// published are the streams that /asyncapi.json tells of: it has no login, and of
// several tenants none may learn of another's broker.
func (a *App) published() (list []stream.Settings) {
	for _, s := range a.cfg.Streams {
		set := streamSettings(s)
		if len(a.cfg.Streams) > 1 {
			set.URL = ""
		}
		list = append(list, set)
	}
	return list
}

// openStreams makes a relay for each stream of the configuration.
func (a *App) openStreams(ctx context.Context) error {
	keep := []stream.Key{}
	for _, s := range a.cfg.Streams {
		tenant, err := a.streamTenant(ctx, s.Tenant)
		switch {
		case err == nil:
			keep = append(keep, stream.Key{Tenant: tenant, Name: s.Name})
		case bankfeed.ErrorKindOf(err) != bankfeed.NotFound: // a tenant that is not there yet may come
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		a.relays = append(a.relays, stream.New(stream.Config{
			Store: a.data.Store, Log: a.data.Store, Subscribe: a.commitsOf, Settings: streamSettings(s), Tenant: a.streamTenant,
			Epoch: a.data.Store.Installation().Epoch, Node: a.node, Build: a.build, Now: a.now, Logger: a.log, Observe: func(k banqup.Kind, routed bool) { a.metrics.Streamed(string(k), routed) },
		}))
	}
	if err := a.data.Store.DisableStreams(ctx, keep, "not in the configuration", a.now()); err != nil {
		return err
	}
	for i, r := range a.relays {
		a.workers = append(a.workers, r)
		a.metrics.Gauge("bankfeed_stream_lag_events", "Events in the log behind the stream's cursor.",
			map[string]string{"tenant": a.cfg.Streams[i].Tenant, "stream": a.cfg.Streams[i].Name}, a.streamLag(a.cfg.Streams[i]))
	}
	return nil
}

// commitsOf wakes a relay.
func (a *App) commitsOf(tenant bankfeed.TenantID) (wake <-chan struct{}, stop func()) {
	return a.hub.Subscribe(tenant, 0)
}

// streamTrouble is why this node's relay of a stream does not get on.
func (a *App) streamTrouble(key stream.Key) string {
	for _, r := range a.relays {
		if r.Key() == key {
			text, _ := r.Trouble()
			return text
		}
	}
	return ""
}

// streamLag counts the events that a stream has not passed yet.
func (a *App) streamLag(s config.Stream) func() (float64, bool) {
	return func() (float64, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		tenant, err := a.streamTenant(ctx, s.Tenant)
		if err != nil {
			return 0, false
		}
		r, err := a.data.Store.Stream(ctx, stream.Key{Tenant: tenant, Name: s.Name})
		if err != nil {
			return 0, false
		}
		lane, err := a.data.Store.Lane(ctx, tenant, r.Lane)
		return float64(lane.Head - r.Progress.Position), err == nil
	}
}

// streamTenant finds the tenant of a stream: NotFound while there is none, a
// Conflict when it must be named.
func (a *App) streamTenant(ctx context.Context, name string) (bankfeed.TenantID, error) {
	id, count, err := a.data.tenant(ctx, name)
	if err == nil && count > 1 {
		err = bankfeed.Errorf(bankfeed.Conflict, "there are %d tenants: describe a stream for each under `streams` in the configuration file, with `tenant` and a broker or virtual host of its own", count)
	}
	if err == nil && count == 0 {
		err = bankfeed.ErrNotFound
	}
	return id, err
}

// asked remembers for a moment which tenants' streams ask for what did not
// change: the answer is needed for each session and seldom differs.
type asked struct {
	store *store.Store
	now   func() time.Time

	mu      sync.Mutex
	until   time.Time
	tenants map[bankfeed.TenantID]bool
}

const askedFor = 10 * time.Second

// Unchanged reports whether a stream of the tenant wants unchanged things too.
func (s *asked) Unchanged(tenant bankfeed.TenantID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.After(s.until) {
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		if list, err := s.store.Streams(ctx, 0); err == nil { // else the last answer holds
			s.tenants = map[bankfeed.TenantID]bool{}
			for _, r := range list {
				if r.Enabled && r.Settings.Unchanged {
					s.tenants[r.Tenant] = true
				}
			}
		}
		s.until = now.Add(askedFor)
	}
	return s.tenants[tenant]
}
